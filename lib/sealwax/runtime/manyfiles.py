"""New files: one, or many of one effect, such as a file for each chunk.

What is written is synced in groups: the first sync of a group brings most of the others along.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from sealwax.arrays.zarr import ZarrFormat, chunk_key
from sealwax.effects import Stored, WriteChunks, WriteFile, WriteFiles
from sealwax.runtime import files
from sealwax.runtime.datafiles import encoded
from sealwax.runtime.files import naming
from sealwax.runtime.filesystem import LOCAL, FileSystem, Writable, write_all

_File: TypeAlias = tuple[str, tuple[Any, ...]]
"""A name below a directory, and the buffers that make up the content."""


def write_file(effect: WriteFile, target: FileSystem = LOCAL) -> None:
    """Writes a new file."""
    directory, _, name = effect.path.rpartition("/")
    _write(target, directory, [(name, (effect.content,))], durable=effect.sync)


def write_files(effect: WriteFiles, target: FileSystem = LOCAL) -> None:
    """Writes new files, and makes the directories that they need."""
    contents: Mapping[str, bytes] = effect.contents  # pyright: ignore[reportAssignmentType]
    made = ((name, (content,)) for name, content in contents.items())
    _write(target, effect.directory, made, durable=effect.sync)


def write_chunks(effect: WriteChunks, target: FileSystem = LOCAL) -> list[Stored]:
    """Writes every chunk of slabs into a file of its own and tells which."""
    format = ZarrFormat(effect.zarr)
    stored: list[Stored] = []

    def chunks() -> Iterator[_File]:
        for leaf, index, payload, trailer, crc in encoded(effect):
            name = chunk_key(effect.names[leaf], index, format)
            stored.append(Stored(leaf, index, name, 0, payload.nbytes + len(trailer), crc))
            yield name, (payload, trailer)

    _write(target, effect.directory, chunks(), durable=effect.sync)
    return stored


def _write(target: FileSystem, directory: str, contents: Iterable[_File], *, durable: bool) -> None:
    made: set[str] = set()
    unsynced: list[tuple[str, Writable]] = []
    most = files.most_open()
    with contextlib.ExitStack() as opened:
        for name, parts in contents:
            path = f"{directory}/{name}"
            for above in _above(name):
                if above not in made:
                    target.ensure_directory(f"{directory}/{above}")
                    made.add(above)
            file = target.create(path)
            opened.callback(_close, path, file)
            with naming(path):
                write_all(file, [memoryview(part) for part in parts])
            if durable:
                file.start_sync()
            unsynced.append((path, file))
            if len(unsynced) == most:
                _sync(unsynced, durable)
                opened.close()
        _sync(unsynced, durable)


def _above(name: str) -> Iterator[str]:
    """The directories that lead to a file, from the uppermost on."""
    end = name.find("/")
    while end >= 0:
        yield name[:end]
        end = name.find("/", end + 1)


def _sync(unsynced: list[tuple[str, Writable]], durable: bool) -> None:
    while unsynced:
        path, file = unsynced.pop()
        if durable:
            with naming(path):
                file.sync()


def _close(path: str, file: Writable) -> None:
    with naming(path):
        file.close()
