"""Why a value has no JSON, and what to do about it."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import enum
import pathlib

from sealwax.errors import InvalidCheckpointableError

_EXPECTED = "strings, numbers, booleans, None, and lists, tuples and dicts of these"
_HINTS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (enum.Enum, "Save its `.name` or `.value`."),
    (collections.abc.Set, "Save `sorted(...)` of it."),
    ((bytes, bytearray, memoryview), "Save it in a tree, or as text: `base64.b64encode(...)`."),
    (complex, "Save `[x.real, x.imag]`, or save it in a tree."),
    ((datetime.date, datetime.time), "Save its `.isoformat()`."),
    (datetime.timedelta, "Save its `.total_seconds()`."),
    (pathlib.PurePath, "Save `str(...)` of it."),
    (collections.abc.Mapping, "Save `dict(...)` of it."),
)


def is_enum(value: object) -> bool:
    """Whether a value is of an enumeration, although it may pass for a number or a string."""
    return isinstance(value, enum.Enum)


def refused(value: object, where: str) -> InvalidCheckpointableError:
    """The error for a value of a type that JSON does not have."""
    return _error(where, f"a value of type {_type(value)}", _hint(value))


def wrong_key(key: object, where: str) -> InvalidCheckpointableError:
    """The error for a key that is neither a string nor a number."""
    return InvalidCheckpointableError(
        f"A key of {where} cannot be stored as JSON",
        expected="a string, a number, a boolean or None",
        found=f"a key of type {_type(key)}: {key!r:.80}",
        hint="Make it a string, or save the object as a tree.",
    )


def same_key(text: str, where: str) -> InvalidCheckpointableError:
    """The error for two keys that JSON does not tell apart."""
    return InvalidCheckpointableError(
        f"Two keys of {where} are both {text!r} in JSON", hint="Rename one of them."
    )


def too_long(value: int, where: str) -> InvalidCheckpointableError:
    """The error for an integer that Python will not write in decimal digits."""
    return _error(where, f"an integer of {value.bit_length()} bits", "Save `hex(...)` of it.")


def cycle(where: str) -> InvalidCheckpointableError:
    """The error for a container inside itself."""
    return _error(
        where,
        "a container that holds itself",
        "Remove the reference that leads back to a container further up.",
    )


def too_deep(name: str) -> InvalidCheckpointableError:
    """The error for containers in containers in containers, and so on."""
    return InvalidCheckpointableError(
        f"JSON cannot hold {name}: it is nested too deeply to be read again",
        hint="Keep long chains in a list instead of nesting each link in the one before.",
    )


def _error(where: str, found: str, hint: str) -> InvalidCheckpointableError:
    return InvalidCheckpointableError(
        f"JSON cannot hold {where}", expected=_EXPECTED, found=found, hint=hint
    )


def _hint(value: object) -> str:
    if hasattr(value, "_asdict"):
        return "Save its `._asdict()`."
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return "Save `dataclasses.asdict(...)` of it."
    shape: object = getattr(value, "shape", None)
    if shape == ():
        return "Save its `.item()`."
    if shape is not None:
        return "Save its `.tolist()`, or save it in a tree."
    for kinds, hint in _HINTS:
        if isinstance(value, kinds):
            return hint
    return "Convert it first, or save it with a handler of its own."


def _type(value: object) -> str:
    kind = type(value)
    plain = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if plain else f"{kind.__module__}.{kind.__qualname__}"
