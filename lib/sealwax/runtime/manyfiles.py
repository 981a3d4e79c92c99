"""Many files of one effect: a file for each chunk, and the metadata of each array.

What is written is synced in groups: the first sync of a group brings most of the others along.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from sealwax.arrays.zarr import ZarrFormat, chunk_key
from sealwax.effects import Stored, WriteChunks, WriteFiles
from sealwax.runtime.datafiles import encoded
from sealwax.runtime.filesystem import LOCAL, FileSystem, Writable, naming, write_all

_GROUP = 64
_File: TypeAlias = tuple[str, tuple[Any, ...]]
"""A name below a directory, and the buffers that make up the content."""


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
    try:
        for name, parts in contents:
            path = f"{directory}/{name}"
            for above in _above(name):
                if above not in made:
                    target.ensure_directory(f"{directory}/{above}")
                    made.add(above)
            file = target.create(path)
            unsynced.append((path, file))
            with naming(path):
                write_all(file, [memoryview(part) for part in parts])
            if durable:
                file.start_sync()
            if len(unsynced) == _GROUP:
                _finish(unsynced, durable)
        _finish(unsynced, durable)
    finally:
        for _, file in unsynced:
            file.close()


def _above(name: str) -> Iterator[str]:
    """The directories that lead to a file, from the uppermost on."""
    end = name.find("/")
    while end >= 0:
        yield name[:end]
        end = name.find("/", end + 1)


def _finish(unsynced: list[tuple[str, Writable]], durable: bool) -> None:
    while unsynced:
        path, file = unsynced[-1]
        if durable:
            with naming(path):
                file.sync()
        unsynced.pop()
        file.close()
