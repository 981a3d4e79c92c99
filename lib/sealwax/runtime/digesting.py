"""Summing up files that somebody else wrote, and bringing them to stable storage."""

from __future__ import annotations

import os
import stat
import zlib
from typing import Any, cast

import numpy as np

from sealwax.checksum import extend
from sealwax.effects import DigestTree
from sealwax.errors import InvalidHandlerError
from sealwax.layouts.manifest import Digest
from sealwax.runtime import files

_PIECE = 1 << 20
_LINK = "a symbolic link"


def digest_tree(effect: DigestTree) -> dict[str, Digest]:
    """Size and checksums of every file below a directory, by relative name.

    Raises:
      InvalidHandlerError: Something there is neither a file nor a directory, so that no checksum
        could say what it holds, or has a name that is no text.
    """
    if stat.S_ISLNK(os.lstat(effect.path).st_mode):
        raise _unfit(effect.path, _LINK)  # What is in there would be outside the checkpoint.
    found: dict[str, Digest] = {}
    piece = np.empty(_PIECE, np.uint8)
    for directory, _, _ in os.walk(effect.path, onerror=_raise):
        for name in sorted(os.listdir(directory)):
            path = os.path.join(directory, name)
            mode = os.lstat(path).st_mode
            if not _is_text(name):
                raise _unfit(path, "a name that is not UTF-8")
            if stat.S_ISREG(mode):
                relative = os.path.relpath(path, effect.path)
                with files.naming(path):
                    found[relative] = _digest(path, piece, effect.sync)
            elif not stat.S_ISDIR(mode):
                raise _unfit(path, _LINK if stat.S_ISLNK(mode) else "a special file")
    return found


def _digest(path: str, piece: np.ndarray[Any, np.dtype[np.uint8]], sync: bool) -> Digest:
    size, crc, other = 0, 0, 0
    view = memoryview(cast(Any, piece))
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if sync:
            files.sync(descriptor)
        while count := os.readv(descriptor, [view]):
            crc = extend(crc, piece[:count])
            other = zlib.crc32(view[:count], other)
            size += count
    finally:
        os.close(descriptor)
    return size, crc, other


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _raise(error: OSError) -> None:
    raise error


def _unfit(path: str, found: str) -> InvalidHandlerError:
    return InvalidHandlerError(
        "A handler put something into its directory that a checkpoint cannot vouch for",
        path=path,
        expected="files and directories with names in UTF-8",
        found=found,
        hint="Let the handler copy what it leads to."
        if found is _LINK
        else "Let the handler write something else.",
    )
