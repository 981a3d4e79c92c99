"""Which names the files of an item can have, and which directories they need."""

from __future__ import annotations

from collections.abc import Iterable

from sealwax.errors import InvalidHandlerError, SealwaxError
from sealwax.layouts import manifest

_MOST_BYTES = 255


def file_names_problem(listed: Iterable[object]) -> SealwaxError | None:
    """The error for the first name that is no path below an item, or in the way of another.

    >>> file_names_problem(["words.txt", "deep/er/x"])
    >>> file_names_problem(["../words.txt"]).what
    "A file of a checkpointable cannot be named '../words.txt': it has the component '..'"
    """
    known = list(listed)
    for name in known:
        reason = _why_not(name)
        if reason is not None:
            return InvalidHandlerError(
                f"A file of a checkpointable cannot be named {name!r}: {reason}",
                expected="a path below the checkpointable's directory, such as 'words.txt'",
                hint="Let the handler name files below its own directory.",
            )
    both = sorted({*map(str, known)} & {*directories(map(str, known))})
    if both:
        return InvalidHandlerError(
            f"A handler wants {both[0]!r} to be a file and a directory",
            hint="Let it give one of them another name.",
        )
    return None


def directories(listed: Iterable[str]) -> tuple[str, ...]:
    """The directories in which these files are, those above before those below.

    >>> directories(["x", "a/b/y", "a/z"])
    ('a', 'a/b')
    """
    above: set[str] = set()
    for name in listed:
        parts = name.split("/")
        above |= {"/".join(parts[:end]) for end in range(1, len(parts))}
    return tuple(sorted(above))


def _why_not(name: object) -> str | None:
    if not isinstance(name, str):
        return "it is not a string"
    parts = name.split("/")
    wrong = [part for part in parts if part in ("", ".", "..")]
    if wrong:
        return f"it has the component {wrong[0]!r}"
    if "\0" in name:
        return "it holds a null character"
    if name == manifest.NAME or name.startswith(f"{manifest.NAME}/"):
        return "that is the file of sealwax itself"
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        return "it is no text"
    return None if longest <= _MOST_BYTES else f"a component has more than {_MOST_BYTES} bytes"
