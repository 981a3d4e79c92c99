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
    expanded = os.path.expanduser(given)
    if expanded.startswith("~"):
        raise InvalidPathError(
            "The path starts with ~, but there is no such user",
            path=given,
            hint=f"For a directory of that name write {f'./{given}'!r}.",
        )
    made = f"/{os.path.abspath(expanded).lstrip('/')}"  # POSIX gives a meaning to two slashes.
    if made == "/":
        raise InvalidPathError("The root of the file system cannot be a checkpoint", path=made)
    return made
