"""Data files: chunks one after another, each followed by its CRC-32C."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from sealwax.arrays.forms import Form, as_bytes
from sealwax.arrays.zarr import ZarrFormat
from sealwax.checksum import crc32c
from sealwax.effects import Allocate, Fetch, ReadBatch, Stored, WriteBatch, WriteChunks
from sealwax.errors import CorruptionError
from sealwax.runtime import files
from sealwax.runtime.codecs import compress, decompress

_ALIGNMENT = 64
_FEW_BYTES = 1 << 20
_MOST_PARTS = 512
_MOST_OPEN = 32
_Array = np.ndarray[Any, Any]


def write_batch(effect: WriteBatch) -> list[Stored]:
    """Writes slabs into a new file and tells where each chunk went."""
    out = _Appender(files.create(effect.path))
    stored: list[Stored] = []
    try:
        for leaf, index, payload, trailer, crc in encoded(effect):
            offset = out.offset
            out.append(payload, trailer)
            stored.append(Stored(leaf, index, effect.name, offset, out.offset - offset, crc))
        out.flush()
        if effect.sync:
            files.sync(out.descriptor)
    finally:
        os.close(out.descriptor)
    return stored


Encoded: TypeAlias = tuple[int, tuple[int, ...], _Array, bytes, int]
"""A chunk: its leaf, its place in the grid, its payload, what follows that, and its checksum."""


def encoded(effect: WriteBatch | WriteChunks) -> Iterator[Encoded]:
    """The chunks of slabs, as they will be stored."""
    forms: Sequence[Form] = effect.forms
    buffers: Sequence[_Array] = effect.buffers  # pyright: ignore[reportAssignmentType]
    chosen: Iterable[frozenset[int]] = effect.compressed  # pyright: ignore[reportAssignmentType]
    compressed = frozenset[int]().union(*chosen)
    trailing = ZarrFormat(effect.zarr).trailer
    for slab, buffer in zip(effect.slabs, buffers, strict=True):
        form = forms[slab.leaf]
        size = form.chunk_bytes
        squeeze = slab.leaf in compressed
        for place, chunk in enumerate(form.chunks[slab.shard][slab.first : slab.last]):
            payload = buffer[place * size : (place + 1) * size]
            if squeeze:
                payload = compress(payload)
            crc = crc32c(payload)
            trailer = crc.to_bytes(4, "little")[:trailing]
            yield slab.leaf, chunk.index, payload, trailer, crc


class _Appender:
    """Gathers small parts into few writes, and passes large ones on without copying them."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.offset = 0
        self._parts: list[Any] = []
        self._pending = 0

    def append(self, payload: _Array, trailer: bytes) -> None:
        self._parts += (payload, trailer)
        self._pending += payload.nbytes + len(trailer)
        self.offset += payload.nbytes + len(trailer)
        if self._pending >= _FEW_BYTES or (len(self._parts) >= _MOST_PARTS and self._pending):
            self.flush()

    def flush(self) -> None:
        parts, self._parts = self._parts, []
        few = len(parts) > 4
        pending = [memoryview(b"".join(parts))] if few else [memoryview(part) for part in parts]
        self._pending = 0
        while pending:
            done = os.writev(self.descriptor, pending)
            while pending and done >= pending[0].nbytes:
                done -= pending.pop(0).nbytes
            if done:
                pending[0] = pending[0][done:]


def allocate(effect: Allocate) -> list[_Array]:
    """Makes uninitialised buffers, aligned so that a CPU device can take them as they are."""
    sizes = [buffer.nbytes for buffer in effect.buffers]
    starts: list[int] = []
    total = 0
    for size in sizes:
        starts.append(total)
        total += -(-size // _ALIGNMENT) * _ALIGNMENT
    block = _aligned(total)
    return [
        block[start : start + size].view(buffer.dtype).reshape(buffer.shape)
        for start, size, buffer in zip(starts, sizes, effect.buffers, strict=True)
    ]


def _aligned(size: int) -> _Array:
    block = np.empty(size + _ALIGNMENT, np.uint8)
    return block[-block.ctypes.data % _ALIGNMENT :][:size]


def read_batch(effect: ReadBatch) -> None:
    """Reads chunks into the buffers they belong to, and checks them.

    Raises:
      CorruptionError: A chunk is cut short or differs from its checksum.
    """
    buffers: Sequence[_Array] = effect.buffers  # pyright: ignore[reportAssignmentType]
    opened: dict[str, int] = {}
    try:
        for fetch in effect.fetches:
            if fetch.file not in opened:
                if len(opened) == _MOST_OPEN:
                    os.close(opened.pop(next(iter(opened))))
                try:
                    opened[fetch.file] = _open(effect, fetch)
                except FileNotFoundError as error:
                    if not effect.fill_missing:
                        raise _damaged("A data file is missing", effect, fetch) from error
                    _fill(fetch, buffers[fetch.target])
                    continue
            _fetch(fetch, buffers[fetch.target], opened[fetch.file], effect)
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def _open(effect: ReadBatch, fetch: Fetch) -> int:
    return os.open(f"{effect.directory}/{fetch.file}", os.O_RDONLY | os.O_CLOEXEC)


def _fill(fetch: Fetch, buffer: _Array) -> None:
    """Zeros in place of a chunk that is not there."""
    if fetch.destination is not None:
        buffer[fetch.destination] = np.zeros((), buffer.dtype)
    else:
        size = math.prod(fetch.chunk_shape) * buffer.dtype.itemsize
        as_bytes(buffer)[fetch.start : fetch.start + size] = 0


def _fetch(fetch: Fetch, buffer: _Array, descriptor: int, effect: ReadBatch) -> None:
    trailer = bytearray(fetch.trailer)
    direct = fetch.payload and fetch.destination is None
    if direct:
        payload = as_bytes(buffer)[fetch.start : fetch.start + fetch.payload]
    else:
        payload = np.empty(fetch.length - fetch.trailer, np.uint8)
    _read_exactly(descriptor, [memoryview(cast(Any, payload)), memoryview(trailer)], fetch, effect)
    if effect.verify:
        _check(crc32c(payload), trailer, effect, fetch)
    if direct:
        return
    size = math.prod(fetch.chunk_shape) * buffer.dtype.itemsize
    whole = payload if fetch.payload else decompress(payload, size)
    chunk = whole.view(buffer.dtype).reshape(fetch.chunk_shape)
    if fetch.source is None or fetch.destination is None:
        as_bytes(buffer)[fetch.start : fetch.start + size] = as_bytes(chunk)
    else:
        buffer[fetch.destination] = chunk[fetch.source]


def _check(found: int, trailer: bytearray, effect: ReadBatch, fetch: Fetch) -> None:
    """Holds a chunk against its own checksum and the manifest's: another chunk has another."""
    recorded = int.from_bytes(trailer, "little") if fetch.trailer else fetch.crc32c
    if found != recorded:
        raise _damaged("A chunk differs from its checksum: stored bytes changed", effect, fetch)
    if found != fetch.crc32c:
        raise _damaged("A chunk is not the one that the manifest describes", effect, fetch)


def _read_exactly(
    descriptor: int, parts: list[memoryview], fetch: Fetch, effect: ReadBatch
) -> None:
    offset = fetch.offset
    while parts:
        done = os.preadv(descriptor, parts, offset)
        if done == 0:
            raise _damaged("A data file ends too early", effect, fetch)
        offset += done
        while parts and done >= parts[0].nbytes:
            done -= parts.pop(0).nbytes
        if done:
            parts[0] = parts[0][done:]


def _damaged(what: str, effect: ReadBatch, fetch: Fetch) -> CorruptionError:
    return CorruptionError(
        f"{what}, at bytes {fetch.offset} to {fetch.offset + fetch.length}",
        leaf=effect.leaves[fetch.target],
        path=f"{effect.directory}/{fetch.file}",
        hint="The checkpoint is damaged: load an earlier one, or restore this file from a copy.",
    )
