"""Paths as callers give them, and as operations use them."""

from __future__ import annotations

import os
from typing import cast

from sealwax.errors import InvalidPathError


def absolute(path: object) -> str:
    """A path as an absolute string, with ``~`` expanded and no trailing slash.

    Relative paths start at the working directory of the moment of the call.

    Raises:
      InvalidPathError: ``path`` is not a path, is empty, or is the root of the file system.
    """
    if isinstance(path, bytes) or not isinstance(path, (str, os.PathLike)):
        raise InvalidPathError(
            "This is not a path", expected="a string or a path object", found=repr(path)
        )
    given = str(os.fspath(cast("str | os.PathLike[str]", path)))
    if not given:
        raise InvalidPathError("The path is empty", hint="Name a directory for the checkpoint.")
    if "\0" in given:
        raise InvalidPathError("The path holds a null character, which no path can", path=given)
    if "://" in given:
        raise InvalidPathError("Only paths of the local file system can be used yet", path=given)
    try:
        os.fsencode(given)
    except UnicodeEncodeError as error:
        raise InvalidPathError(
            "The path holds characters that file names cannot", found=ascii(given)
        ) from error
    expanded = os.path.expanduser(given)
    if expanded.startswith("~"):
        raise InvalidPathError(
            "The path starts with ~, but there is no such user",
            path=given,
            hint=f"For a directory of that name write {f'./{given}'!r}.",
        )
    made = f"/{_resolved(expanded, given).lstrip('/')}"  # POSIX gives a meaning to two slashes.
    if made == "/":
        raise InvalidPathError("The root of the file system cannot be a checkpoint", path=made)
    return made


def _resolved(path: str, given: str) -> str:
    parts = path.split("/")
    # What is above a symbolic link is above what it leads to, as it is for every other program.
    above = len(parts) - parts[::-1].index("..") if ".." in parts else 0
    try:
        start = os.path.realpath("/".join(parts[:above])) if above else ""
        return os.path.abspath("/".join((start, *parts[above:])) if above else path)
    except FileNotFoundError as error:
        raise InvalidPathError(
            "A relative path starts at the working directory, which was removed",
            path=given,
            hint="Name an absolute path.",
        ) from error
