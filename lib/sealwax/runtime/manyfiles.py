"""Many files of one effect: a file for each chunk, and the metadata of each array.

What is written is synced in groups: the first sync of a group brings most of the others along.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from sealwax.arrays.zarr import ZarrFormat, chunk_key
from sealwax.effects import Stored, WriteChunks, WriteFiles
from sealwax.runtime import files
from sealwax.runtime.datafiles import encoded

_GROUP = 64
_File: TypeAlias = tuple[str, tuple[Any, ...]]
"""A name below a directory, and the buffers that make up the content."""


def write_files(effect: WriteFiles) -> None:
    """Writes new files, and makes the directories that they need."""
    contents: Mapping[str, bytes] = effect.contents  # pyright: ignore[reportAssignmentType]
    made = ((name, (content,)) for name, content in contents.items())
    _write(effect.directory, made, durable=effect.sync)


def write_chunks(effect: WriteChunks) -> list[Stored]:
    """Writes every chunk of slabs into a file of its own and tells which."""
    format = ZarrFormat(effect.zarr)
    stored: list[Stored] = []

    def chunks() -> Iterator[_File]:
        for leaf, index, payload, trailer, crc in encoded(effect):
            name = chunk_key(effect.names[leaf], index, format)
            stored.append(Stored(leaf, index, name, 0, payload.nbytes + len(trailer), crc))
            yield name, (payload, trailer)

    _write(effect.directory, chunks(), durable=effect.sync)
    return stored


def _write(directory: str, contents: Iterable[_File], *, durable: bool) -> None:
    made: set[str] = set()
    unsynced: list[int] = []
    try:
        for name, parts in contents:
            path = f"{directory}/{name}"
            above = path.rpartition("/")[0]
            if above not in made:
                os.makedirs(above, exist_ok=True)
                made.add(above)
            unsynced.append(files.create(path))
            files.write(unsynced[-1], parts)
            if len(unsynced) == _GROUP:
                _finish(unsynced, durable)
        _finish(unsynced, durable)
    finally:
        for descriptor in unsynced:
            os.close(descriptor)


def _finish(unsynced: list[int], durable: bool) -> None:
    while unsynced:
        if durable:
            files.sync(unsynced[-1])
        os.close(unsynced.pop())
