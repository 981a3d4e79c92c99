"""Data files: chunks one after another, each followed by its CRC-32C."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from sealwax.arrays.forms import Form, as_bytes
from sealwax.arrays.zarr import ZarrFormat
from sealwax.checksum import crc32c_flat
from sealwax.effects import Allocate, Fetch, ReadBatch, Stored, WriteBatch, WriteChunks
from sealwax.errors import CorruptionError
from sealwax.runtime import files, garbage
from sealwax.runtime.codecs import compress, decompress
from sealwax.runtime.filesystem import LOCAL, FileSystem, Readable, Writable, write_all

_ALIGNMENT = 64
_FEW_BYTES = 1 << 20
_SMALL_BYTES = 64 << 10
_FEW_ENCODED_BYTES = 4 << 10
_MOST_PARTS = 512
_MOST_AXES = 64  # of an array of NumPy
_Array = np.ndarray[Any, Any]


def write_batch(effect: WriteBatch, target: FileSystem = LOCAL) -> list[Stored]:
    """Writes slabs into a new file and tells where each chunk went."""
    stored, file = begin_batch(effect, target)
    end_batch(effect, file)
    return stored


def begin_batch(effect: WriteBatch, target: FileSystem = LOCAL) -> tuple[list[Stored], Writable]:
    """Writes slabs into a new file, and tells where each chunk went; the file is open still.

    Whoever closed it might miss that the disk refused what it took.
    """
    file = target.create(effect.path)
    try:
        with garbage.paused(len(effect.slabs)):
            stored = _append(effect, file)
        if effect.sync:
            file.start_sync()
        return stored, file
    except BaseException:
        file.close()
        raise


def end_batch(effect: WriteBatch, file: Writable) -> None:
    """Brings a batch to stable storage, where that is asked, and closes its file."""
    try:
        if effect.sync:
            file.sync()
    finally:
        file.close()


def _append(effect: WriteBatch, file: Writable) -> list[Stored]:
    out = _Appender(file)
    stored: list[Stored] = []
    name = effect.name
    # Constant chunks are encoded alike: thousands of them lie in one place.
    places: dict[bytes, int] = {}
    sharing = any(effect.compressed)
    for leaf, index, payload, trailer, crc in encoded(effect):
        offset, length = out.offset, payload.nbytes + len(trailer)
        if sharing and length <= _FEW_ENCODED_BYTES:
            offset = places.setdefault(payload.tobytes(), offset)
        if offset == out.offset:
            out.append(payload, trailer)
        stored.append(Stored(leaf, index, name, offset, length, crc))
    out.flush()
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
        leaf, first, last = slab.leaf, slab.first, slab.last
        form = forms[leaf]
        size = form.chunk_bytes
        squeeze = leaf in compressed
        for place, number in enumerate(range(first, last)):
            payload = buffer if last - first == 1 else buffer[place * size : (place + 1) * size]
            if squeeze:
                payload = compress(payload)
            crc = crc32c_flat(payload)
            trailer = crc.to_bytes(4, "little")[:trailing]
            yield leaf, form.chunks[slab.shard][number].index, payload, trailer, crc


class _Appender:
    """Gathers small parts into few writes, and passes large ones on without copying them."""

    def __init__(self, file: Writable) -> None:
        self._file = file
        self.offset = 0
        self._parts: list[Any] = []
        self._pending = 0

    def append(self, payload: _Array, trailer: bytes) -> None:
        nbytes = payload.nbytes + len(trailer)
        self._parts += (payload, trailer)
        self._pending += nbytes
        self.offset += nbytes
        if self._pending >= _FEW_BYTES or (len(self._parts) >= _MOST_PARTS and self._pending):
            self.flush()

    def flush(self) -> None:
        parts, self._parts = self._parts, []
        few = len(parts) > 4
        self._pending = 0
        write_all(
            self._file,
            [memoryview(b"".join(parts))] if few else [memoryview(part) for part in parts],
        )


def allocate(effect: Allocate) -> list[_Array]:
    """Makes uninitialised buffers, aligned so that a CPU device can take them as they are.

    A large one is memory of its own; small ones that are alike share blocks of 1 MiB, which are
    there as long as any of those is.
    """
    made: list[Any] = [None] * len(effect.buffers)
    alike: dict[tuple[tuple[int, ...], np.dtype[Any]], list[int]] = {}
    for number, buffer in enumerate(effect.buffers):
        alike.setdefault((buffer.shape, buffer.dtype), []).append(number)
    for (shape, dtype), numbers in alike.items():
        for number, buffer in zip(numbers, _buffers(shape, dtype, len(numbers)), strict=True):
            made[number] = buffer
    return made


def _buffers(shape: tuple[int, ...], dtype: np.dtype[Any], count: int) -> Iterator[_Array]:
    size = math.prod(shape) * dtype.itemsize
    padded = max(-(-size // _ALIGNMENT), 1) * _ALIGNMENT
    together = max(_FEW_BYTES // padded, 1) if size <= _SMALL_BYTES else 1
    for start in range(0, count, together):
        rows = min(together, count - start)
        block = _aligned(rows * padded).reshape(rows, padded)[:, :size].view(dtype)
        # What is taken out of a vector is no array, and a block has one axis more than may be left.
        at_once = 0 < len(shape) < _MOST_AXES
        yield from block.reshape(rows, *shape) if at_once else [r.reshape(shape) for r in block]


def _aligned(size: int) -> _Array:
    block = np.empty(size + _ALIGNMENT, np.uint8)
    return block[-block.ctypes.data % _ALIGNMENT :][:size]


def read_batch(effect: ReadBatch, origin: FileSystem = LOCAL) -> None:
    """Reads chunks into the buffers they belong to, and checks them.

    Raises:
      CorruptionError: A chunk is cut short or differs from its checksum.
    """
    with garbage.paused(len(effect.fetches)):
        _read_batch(effect, origin)


def _read_batch(effect: ReadBatch, origin: FileSystem) -> None:
    buffers: Sequence[_Array] = effect.buffers  # pyright: ignore[reportAssignmentType]
    opened: dict[str, Readable] = {}
    most = files.most_open()
    try:
        for run in _runs(effect.fetches):
            file = run[0].file
            if file not in opened:
                if len(opened) == most:
                    opened.pop(next(iter(opened))).close()
                try:
                    opened[file] = origin.open(f"{effect.directory}/{file}")
                except FileNotFoundError as error:
                    if not effect.fill_missing:
                        raise _damaged("A data file is missing", effect, run[0]) from error
                    for fetch in run:
                        _fill(fetch, buffers[fetch.target])
                    continue
            with files.naming(f"{effect.directory}/{file}"):
                if len(run) > 1 and _fetch_run(run, buffers, opened[file], effect):
                    continue
                for fetch in run:
                    _fetch(fetch, buffers[fetch.target], opened[file], effect)
    finally:
        for file in opened.values():
            file.close()


def _runs(fetches: Sequence[Fetch]) -> Iterator[list[Fetch]]:
    """Small chunks that follow one another in a file and go where they belong as they are."""
    run: list[Fetch] = []
    end, total = -1, 0
    for fetch in fetches:
        length = fetch.length
        follows = fetch.offset == end and fetch.payload and fetch.destination is None
        if run and not (
            follows
            and total + length <= _FEW_BYTES
            and 2 * len(run) < _MOST_PARTS
            and run[0].payload
            and run[0].destination is None
            and fetch.file == run[0].file
        ):
            yield run
            run, total = [], 0
        run.append(fetch)
        total += length
        end = fetch.offset + length
    if run:
        yield run


def _fetch_run(
    run: Sequence[Fetch], buffers: Sequence[_Array], file: Readable, effect: ReadBatch
) -> bool:
    """Reads a run at once; ``False`` where one of its chunks is not what it should be."""
    size = run[0].trailer
    trailers = bytearray(size * len(run))
    view = memoryview(trailers)
    payloads: list[_Array] = []
    parts: list[memoryview] = []
    for number, fetch in enumerate(run):
        payload = as_bytes(buffers[fetch.target])
        if fetch.start or fetch.payload != payload.size:
            payload = payload[fetch.start : fetch.start + fetch.payload]
        payloads.append(payload)
        trailer = view[size * number : size * (number + 1)]
        parts += (memoryview(cast(Any, payload)), trailer)
    if file.read(parts, run[0].offset) != sum([fetch.length for fetch in run]):
        return False
    if not effect.verify:
        return True
    found = [crc32c_flat(payload) for payload in payloads]
    expected = [fetch.crc32c for fetch in run]
    stored = b"".join([crc.to_bytes(size, "little") for crc in expected]) if size else b""
    return found == expected and bytes(trailers) == stored


def _fill(fetch: Fetch, buffer: _Array) -> None:
    """Zeros in place of a chunk that is not there."""
    if fetch.destination is not None:
        buffer[fetch.destination] = np.zeros((), buffer.dtype)
    else:
        size = math.prod(fetch.chunk_shape) * buffer.dtype.itemsize
        as_bytes(buffer)[fetch.start : fetch.start + size] = 0


def _fetch(fetch: Fetch, buffer: _Array, file: Readable, effect: ReadBatch) -> None:
    trailer = bytearray(fetch.trailer)
    direct = fetch.payload and fetch.destination is None
    if direct:
        payload = as_bytes(buffer)[fetch.start : fetch.start + fetch.payload]
    else:
        payload = np.empty(fetch.length - fetch.trailer, np.uint8)
    _read_exactly(file, [memoryview(cast(Any, payload)), memoryview(trailer)], fetch, effect)
    if effect.verify:
        _check(crc32c_flat(payload), trailer, effect, fetch)
    if direct:
        return
    size = math.prod(fetch.chunk_shape) * buffer.dtype.itemsize
    run = fetch.destination is None
    if fetch.payload:
        whole = payload
    else:
        place = as_bytes(buffer)[fetch.start : fetch.start + size] if run else None
        whole = np.empty(size, np.uint8) if place is None else place
        decompress(payload, whole)
    if not run:
        chunk = whole.view(buffer.dtype).reshape(fetch.chunk_shape)
        buffer[fetch.destination] = chunk[fetch.source]


def _check(found: int, trailer: bytearray, effect: ReadBatch, fetch: Fetch) -> None:
    """Holds a chunk against its own checksum and the manifest's: another chunk has another."""
    recorded = int.from_bytes(trailer, "little") if fetch.trailer else fetch.crc32c
    if found == recorded == fetch.crc32c:
        return
    if found == fetch.crc32c:
        what, other = "The checksum behind a chunk changed", recorded
    elif found == recorded:
        what, other = "A chunk is not the one that the manifest describes", found
    else:
        what, other = "A chunk differs from its checksum: stored bytes changed", found
    error = _damaged(what, effect, fetch)
    error.expected, error.found = f"CRC-32C {fetch.crc32c:08x}", f"{other:08x}"
    raise error


def _read_exactly(file: Readable, parts: list[memoryview], fetch: Fetch, effect: ReadBatch) -> None:
    offset = fetch.offset
    while parts:
        done = file.read(parts, offset)
        if done == 0:
            raise _damaged("A data file ends too early", effect, fetch)
        offset += done
        while parts and done >= parts[0].nbytes:
            done -= parts.pop(0).nbytes
        if done:
            parts[0] = parts[0][done:]


def _damaged(what: str, effect: ReadBatch, fetch: Fetch) -> CorruptionError:
    chunk = f"chunk {fetch.chunk}, " if fetch.chunk else ""
    return CorruptionError(
        f"{what}, at {chunk}bytes {fetch.offset} to {fetch.offset + fetch.length}",
        leaf=effect.leaves[fetch.target],
        path=f"{effect.directory}/{fetch.file}",
        hint="The checkpoint is damaged: load an earlier one, or restore this file from a copy.",
    )
