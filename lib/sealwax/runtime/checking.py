"""Holding files against what was recorded of them, in a little memory, whatever their size.

A file is read through a window, so that thousands of small ranges cost a few reads and a huge one
is summed piece by piece. Nothing here raises for damage: it is the answer.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import zlib
from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from sealwax.checksum import extend
from sealwax.effects import CheckExtents, Entry, Extent, Fault, Mismatch, Present
from sealwax.runtime.filesystem import LOCAL, FileSystem, Readable

_WINDOW = 1 << 20
_Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def check_extents(effect: CheckExtents, origin: FileSystem = LOCAL) -> list[Mismatch]:
    """Reads ranges of files, those of one file one after another, and tells which do not agree."""
    window = _Window()
    found: list[Mismatch] = []
    numbered = enumerate(effect.extents)
    for file, group in itertools.groupby(numbered, key=lambda each: each[1].file):
        try:
            opened = origin.open(f"{effect.directory}/{file}")
        except OSError as error:
            found += [_failed(number, error) for number, _ in group]
            continue
        with contextlib.closing(opened):
            window.move_to(opened)
            for number, extent in group:
                try:
                    mismatch = _check(number, extent, window)
                except OSError as error:
                    mismatch = _failed(number, error)
                if mismatch is not None:
                    found.append(mismatch)
    return found


def _failed(number: int, error: OSError) -> Mismatch:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return Mismatch(number, Fault.MISSING)
    return Mismatch(number, Fault.UNREADABLE, error.strerror or str(error))


def _check(number: int, extent: Extent, window: _Window) -> Mismatch | None:
    payload = extent.length - extent.trailer
    crc, other, there = 0, 0, 0
    for piece in window.pieces(extent.offset, payload):
        crc = extend(crc, piece)
        if extent.crc32 is not None:
            other = zlib.crc32(memoryview(cast(Any, piece)), other)
        there += piece.size
    trailer = b"".join(
        piece.tobytes() for piece in window.pieces(extent.offset + payload, extent.trailer)
    )
    there += len(trailer)
    if there < extent.length:
        return Mismatch(number, Fault.SIZE, f"{there} bytes")
    repeated = int.from_bytes(trailer, "little") if extent.trailer else extent.crc32c
    if crc == extent.crc32c == repeated:
        same = extent.crc32 in (None, other)
        return None if same else Mismatch(number, Fault.MIXED, f"CRC-32 {other:08x}")
    if crc == extent.crc32c:
        return Mismatch(number, Fault.CHANGED, f"CRC-32C {repeated:08x} stored behind it")
    # Whole, but of something else: a checksum of its own tells that from a change.
    mixed = extent.trailer and crc == repeated
    return Mismatch(number, Fault.MIXED if mixed else Fault.CHANGED, f"CRC-32C {crc:08x}")


class _Window:
    """The part of one file that was read last."""

    def __init__(self) -> None:
        self._buffer: _Bytes = np.empty(_WINDOW, np.uint8)

    def move_to(self, file: Readable) -> None:
        """Turns to another file."""
        self._file = file
        self._start = self._size = 0

    def pieces(self, offset: int, length: int) -> Iterator[_Bytes]:
        """The bytes of a range, in pieces that are good until the next one; fewer at the end."""
        while length:
            within = offset - self._start
            if not 0 <= within < self._size:
                self._fill(offset)
                within = 0
                if not self._size:
                    return
            piece = self._buffer[within : min(self._size, within + length)]
            offset, length = offset + piece.size, length - piece.size
            yield piece

    def _fill(self, offset: int) -> None:
        self._start, self._size = offset, 0
        view = memoryview(cast(Any, self._buffer))
        while self._size < _WINDOW:
            try:
                done = self._file.read([view[self._size :]], offset + self._size)
            except OSError:
                # Who asked may need no more than what is there already.
                if not self._size:
                    raise
                return
            if not done:
                return
            self._size += done


def list_tree(path: str) -> dict[str, Present]:
    """All that is below a directory, by relative path; symbolic links are followed."""
    found: dict[str, Present] = {}
    pending = [("", frozenset[tuple[int, int]]())]
    while pending:
        below, above = pending.pop()
        with os.scandir(f"{path}/{below}") as entries:
            for entry in entries:
                name = below + entry.name
                try:
                    status = entry.stat()
                except FileNotFoundError:  # A link to nothing.
                    found[name] = Present(Entry.SYMLINK)
                    continue
                identity = status.st_dev, status.st_ino
                if stat.S_ISREG(status.st_mode):
                    found[name] = Present(Entry.FILE, status.st_size)
                elif not stat.S_ISDIR(status.st_mode):
                    found[name] = Present(Entry.OTHER)
                else:
                    found[name] = Present(Entry.DIRECTORY)
                    if identity not in above:
                        pending.append((f"{name}/", above | {identity}))
    return found
