"""What is read: boxes of stored arrays, and the effects that bring each into a buffer."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct

from sealwax.arrays.chunks import overlaps
from sealwax.arrays.regions import Region
from sealwax.arrays.zarr import Codec, chunk_key
from sealwax.effects import Allocate, Buffer, ChunkStream, Fetch, ReadBatch, ReadRegions
from sealwax.options import Options
from sealwax.planning.builder import Builder, result
from sealwax.planning.contents import Contents, Foreign, Native, StoredArray

_READ_BYTES = 16 << 20
_STREAM_BYTES = 1 << 20


class Read(Struct, frozen=True, gc=False):
    """A box of a stored array that will be one buffer.

    Attributes:
      leaf: Name of the leaf.
      array: The stored array.
      region: The box.
      dtype: What its elements are to become.
      padded: Its shape once zeros have been put behind it, or ``None`` where none are.
    """

    leaf: str
    array: StoredArray
    region: Region
    dtype: np.dtype[Any]
    padded: tuple[int, ...] | None = None

    @property
    def as_stored(self) -> bool:
        """Whether the buffer is used as it was read."""
        return self.padded is None and self.dtype == self.array.dtype

    @property
    def made_bytes(self) -> int:
        """Bytes of what is made of the buffer, where it is not used as it was read."""
        shape = self.region.shape if self.padded is None else self.padded
        return 0 if self.as_stored else math.prod(shape) * self.dtype.itemsize


def read_of(
    leaf: str,
    array: StoredArray,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    region: Region | None = None,
) -> Read:
    """The read that gives a box of an array that is cut or padded to ``shape``.

    >>> from sealwax.planning.contents import Foreign
    >>> kind = np.dtype("int8")
    >>> place = Foreign(driver="zarr3", key="w")
    >>> array = StoredArray(shape=(3,), dtype=kind, chunk_shape=(3,), place=place)
    >>> read = read_of("w", array, kind, (4,), Region(start=(2,), shape=(2,)))
    >>> read.region.shape, read.padded
    ((1,), (2,))
    """
    wanted = _whole(shape) if region is None else region
    if shape == array.shape:
        return Read(leaf, array, wanted, dtype)
    stored = wanted.intersect(Region.whole(array.shape))
    if stored is None:
        nothing = (0,) * len(shape)
        stored = Region(start=nothing, shape=nothing)
    padded = None if stored.shape == wanted.shape else wanted.shape
    return Read(leaf, array, stored, dtype, padded)


@functools.lru_cache(maxsize=1024)
def _whole(shape: tuple[int, ...]) -> Region:
    return Region.whole(shape)


def add_reads(
    build: Builder,
    options: Options,
    contents: Contents,
    reads: Sequence[Read],
    *,
    stays: bool = True,
) -> tuple[tuple[int, ...], int]:
    """Adds the steps that read; returns those that fill the buffers, and the one that has them.

    ``stays`` says that buffers which are used as they were read become what is returned.
    """
    loading, most = options.array.loading, options.memory.read_concurrent_bytes
    buffers = tuple([Buffer(r.leaf, r.region.shape, r.array.dtype) for r in reads])
    nbytes = sum([math.prod(each.shape) * each.dtype.itemsize for each in buffers])
    # They are one block, which is there as long as any of them is.
    keeps = nbytes if stays and any(read.as_stored for read in reads) else 0
    allocated = build.add(Allocate(buffers=buffers), holds=nbytes - keeps, keeps=keeps)
    leaves = tuple([read.leaf for read in reads])
    steps: list[int] = []
    for batch in _cut(_native(contents, reads), min(_READ_BYTES, most or _READ_BYTES)):
        nbytes = sum([fetch.length for fetch in batch])
        effect = ReadBatch(
            directory=contents.directory,
            fetches=tuple(batch),
            leaves=leaves,
            buffers=result(allocated),
            nbytes=nbytes,
            verify=loading.verify == "always",
            fill_missing=not loading.raise_array_data_missing_error,
        )
        steps.append(build.add(effect, reads=nbytes))
    steps += _add_foreign(build, options, contents, reads, allocated)
    return tuple(steps), allocated


def _native(contents: Contents, reads: Iterable[Read]) -> Iterator[Fetch]:
    files, trailer = contents.files, contents.trailer
    for target, read in enumerate(reads):
        array = read.array
        place, shape = array.place, array.chunk_shape
        if not isinstance(place, Native):
            continue
        if len(place.chunks) != 4 or not read.region.shape == array.shape == shape:
            yield from _fetches(contents, target, read, place)
            continue
        # Most arrays are one chunk, and read as a whole.
        file, offset, length, crc = place.chunks
        raw = array.nbytes if place.codec is Codec.RAW else 0
        yield Fetch(target, files[file], offset, length, crc, trailer, raw, 0, shape)


def _fetches(contents: Contents, target: int, read: Read, place: Native) -> Iterator[Fetch]:
    array = read.array
    size = array.dtype.itemsize
    raw = math.prod(array.chunk_shape) * size if place.codec is Codec.RAW else 0
    chunks = place.chunks
    grid = tuple(n // c for n, c in zip(array.shape, array.chunk_shape, strict=True))
    for part in overlaps(read.region, array.chunk_shape):
        number = 0
        for extent, index in zip(grid, part.index, strict=True):
            number = number * extent + index
        file, offset, length, crc = chunks[4 * number : 4 * number + 4]
        run = part.target.run_in(read.region.shape) if part.whole else None
        yield Fetch(
            target,
            contents.files[file],
            offset,
            length,
            crc,
            contents.trailer,
            raw,
            0 if run is None else run[0] * size,
            array.chunk_shape,
            None if run is not None else part.source.slices,
            None if run is not None else part.target.slices,
            part.index,
        )


def _cut(fetches: Iterator[Fetch], most: int) -> Iterator[list[Fetch]]:
    """Cuts reads into batches, so that several threads share the work."""
    batch: list[Fetch] = []
    total = 0
    for fetch in fetches:
        if batch and total + fetch.length > most:
            yield batch
            batch, total = [], 0
        batch.append(fetch)
        total += fetch.length
    if batch:
        yield batch


class _Box(NamedTuple):
    """A box of a foreign array, and the number of the read that it belongs to."""

    number: int
    place: Foreign
    region: Region
    nbytes: int
    stream: ChunkStream | None = None


def _add_foreign(
    build: Builder,
    options: Options,
    contents: Contents,
    reads: Sequence[Read],
    allocated: int,
) -> Iterator[int]:
    most = options.memory.read_concurrent_bytes
    piece = min(_READ_BYTES, most or _READ_BYTES)
    boxes = list(_boxes(reads))
    whole = [box for box in boxes if box.stream is None]
    streamed = [box for box in boxes if box.stream is not None]
    # The driver has threads of its own; chunks that are decoded here are spread over ours.
    for group in (*_groups(whole, most), *_groups(streamed, piece)):
        nbytes = sum([box.nbytes for box in group])
        effect = ReadRegions(
            directory=contents.directory,
            database=contents.database,
            driver=group[0].place.driver,
            leaves=tuple([box.place.key for box in group]),
            regions=tuple([box.region.slices for box in group]),
            targets=tuple([box.number for box in group]),
            buffers=result(allocated),
            fill_missing=not options.array.loading.raise_array_data_missing_error,
            nbytes=nbytes,
            piece=piece,
            streams=tuple([box.stream for box in group if box.stream is not None]),
        )
        yield build.add(effect, reads=nbytes)


def _boxes(reads: Iterable[Read]) -> Iterator[_Box]:
    """Foreign reads, cut into chunks where these are large and can be decoded as they are read."""
    for number, read in enumerate(reads):
        array, region = read.array, read.region
        place, size = array.place, array.dtype.itemsize
        if not isinstance(place, Foreign) or 0 in region.shape:
            continue
        if place.codec is None or math.prod(array.chunk_shape) * size < _STREAM_BYTES:
            yield _Box(number, place, region, region.size * size)
            continue
        for part in overlaps(region, array.chunk_shape):
            start = tuple([a + b for a, b in zip(region.start, part.target.start, strict=True)])
            yield _Box(
                number,
                place,
                Region(start=start, shape=part.target.shape),
                part.target.size * size,
                ChunkStream(
                    key=chunk_key(place.key, part.index, place.format),
                    shape=array.chunk_shape,
                    source=part.source.slices,
                    into=part.target.slices,
                    compressed=place.codec is Codec.ZSTD,
                    indexed=place.indexed,
                ),
            )


def _groups(boxes: Sequence[_Box], most: int | None) -> Iterator[list[_Box]]:
    """Boxes that go together: of one driver, and of so many bytes unless one has more."""
    groups: dict[str, list[_Box]] = {}
    sizes: dict[str, int] = {}
    for box in boxes:
        driver = box.place.driver
        if most is not None and driver in groups and sizes[driver] + box.nbytes > most:
            yield groups.pop(driver)
            sizes[driver] = 0
        groups.setdefault(driver, []).append(box)
        sizes[driver] = sizes.get(driver, 0) + box.nbytes
    yield from groups.values()
