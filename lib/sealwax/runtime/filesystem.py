"""Where the bytes of data effects go: the little that encoding needs of a file system.

What is written is decided once, in ``datafiles`` and ``manyfiles``; the local file system and the
one in memory only take it.
"""

from __future__ import annotations

import contextlib
import os
from typing import Protocol

from sealwax.runtime import files


class Writable(Protocol):
    """A new file, which grows at its end."""

    def write(self, parts: list[memoryview]) -> int:
        """Appends buffers, or the first bytes of them, and tells how many bytes that were."""
        ...

    def start_sync(self) -> None:
        """Lets what was written go to stable storage, without waiting for it."""
        ...

    def sync(self) -> None:
        """Brings what was written to stable storage."""
        ...

    def close(self) -> None:
        """Ends the writing."""
        ...


class Readable(Protocol):
    """A file that is there."""

    def read(self, parts: list[memoryview], offset: int) -> int:
        """Fills buffers, or the first bytes of them, and tells how many bytes that were."""
        ...

    def take(self, nbytes: int, offset: int) -> bytes:
        """At most so many bytes; none at the end."""
        ...

    def size(self) -> int:
        """How many bytes it has."""
        ...

    def close(self) -> None:
        """Ends the reading."""
        ...


class FileSystem(Protocol):
    """What holds the files."""

    def create(self, path: str) -> Writable:
        """Makes a file, which must not exist."""
        ...

    def open(self, path: str) -> Readable:
        """Opens a file for reading."""
        ...

    def ensure_directory(self, path: str) -> None:
        """Makes a directory, unless it is there."""
        ...


def write_all(file: Writable, parts: list[memoryview]) -> None:
    """Writes all of several buffers, however many calls it takes."""
    while parts:
        done = file.write(parts)
        while parts and done >= parts[0].nbytes:
            done -= parts.pop(0).nbytes
        if done:
            parts[0] = parts[0][done:]


class _LocalFile:
    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, parts: list[memoryview]) -> int:
        return os.writev(self._descriptor, parts)

    def read(self, parts: list[memoryview], offset: int) -> int:
        return os.preadv(self._descriptor, parts, offset)

    def take(self, nbytes: int, offset: int) -> bytes:
        return os.pread(self._descriptor, nbytes, offset)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def start_sync(self) -> None:
        files.start_sync(self._descriptor)

    def sync(self) -> None:
        files.sync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class _Local:
    def create(self, path: str) -> Writable:
        return _LocalFile(files.create(path))

    def open(self, path: str) -> Readable:
        return _LocalFile(files.open_regular(path))

    def ensure_directory(self, path: str) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)


LOCAL: FileSystem = _Local()
"""The file system of this machine."""
