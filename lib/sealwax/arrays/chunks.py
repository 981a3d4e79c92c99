"""Walking the chunks of an array: those of a shard to write, those that a read touches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from sealwax.arrays.regions import Region
from sealwax.errors import InternalError

_Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One chunk of a shard.

    Attributes:
      index: Its place in the array's grid, as its key spells it.
      within: Its box, counted from where the shard starts.
    """

    index: _Shape
    within: Region


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What one chunk contributes to a region that is read.

    Attributes:
      index: The chunk's place in the array's grid.
      source: The box to take, counted from where the chunk starts.
      target: The box to fill, counted from where the region starts.
      whole: Whether all of the chunk is taken.
    """

    index: _Shape
    source: Region
    target: Region
    whole: bool


def chunk_count(shard: Region, chunk_shape: _Shape) -> int:
    """Number of chunks in a shard."""
    return math.prod(_grid(shard, chunk_shape)[1])


def chunks_of(shard: Region, chunk_shape: _Shape, ordinals: range | None = None) -> Iterator[Chunk]:
    """The chunks of a shard in C order, or those with the given ordinal numbers.

    Args:
      shard: The shard's box in the array; its edges lie on the chunk grid.
      chunk_shape: Shape of every chunk, in elements.
      ordinals: Which chunks, counted in C order within the shard; all by default.

    >>> shard = Region(start=(2, 0), shape=(2, 4))
    >>> [(c.index, c.within.start) for c in chunks_of(shard, (1, 4))]
    [((2, 0), (0, 0)), ((3, 0), (1, 0))]
    """
    for index, place in _places(shard, chunk_shape, ordinals):
        start = tuple(p * n for p, n in zip(place, chunk_shape, strict=True))
        yield Chunk(index=index, within=Region(start=start, shape=chunk_shape))


def pieces(count: int, chunk_nbytes: int, max_bytes: int) -> tuple[range, ...]:
    """Groups of consecutive chunks of at most ``max_bytes``, and of at least one chunk each.

    >>> pieces(5, 100, 250)
    (range(0, 2), range(2, 4), range(4, 5))
    """
    step = max(1, max_bytes // max(1, chunk_nbytes))
    return tuple(range(at, min(at + step, count)) for at in range(0, count, step))


def overlaps(wanted: Region, chunk_shape: _Shape) -> Iterator[Overlap]:
    """The chunks that hold a region, and how each maps into the region's own buffer.

    Args:
      wanted: A box in the array, anywhere on the chunk grid.
      chunk_shape: Shape of every chunk, in elements.

    >>> wanted = Region(start=(1,), shape=(3,))
    >>> [(o.index, o.source.slices, o.target.slices) for o in overlaps(wanted, (2,))]
    [((0,), (slice(1, 2, None),), (slice(0, 1, None),)), ((1,), (slice(0, 2, None),), \
(slice(1, 3, None),))]
    """
    if 0 in wanted.shape:
        return
    touched = (
        range(start // size, (start + extent - 1) // size + 1)
        for start, extent, size in zip(wanted.start, wanted.shape, chunk_shape, strict=True)
    )
    for index in itertools.product(*touched):
        start = tuple(i * n for i, n in zip(index, chunk_shape, strict=True))
        chunk = Region(start=start, shape=chunk_shape)
        common = wanted.intersect(chunk)
        if common is None:
            raise InternalError("A chunk was taken for one that holds part of the region")
        yield Overlap(
            index=index,
            source=common.relative_to(chunk),
            target=common.relative_to(wanted),
            whole=common.shape == chunk_shape,
        )


def _places(
    shard: Region, chunk_shape: _Shape, ordinals: range | None
) -> Iterator[tuple[_Shape, _Shape]]:
    origin, counts = _grid(shard, chunk_shape)
    places: Iterator[_Shape] = itertools.product(*map(range, counts))
    if ordinals is not None:
        places = (_unravel(number, counts) for number in ordinals)
    for place in places:
        yield tuple(o + p for o, p in zip(origin, place, strict=True)), place


def _unravel(number: int, counts: _Shape) -> _Shape:
    place: list[int] = []
    for count in reversed(counts):
        number, remainder = divmod(number, count)
        place.append(remainder)
    return tuple(reversed(place))


def _grid(shard: Region, chunk_shape: _Shape) -> tuple[_Shape, _Shape]:
    for start, extent, size in zip(shard.start, shard.shape, chunk_shape, strict=True):
        if start % size or extent % size:
            raise InternalError(
                "A shard does not end where a chunk does",
                expected=f"edges at multiples of {chunk_shape}",
                found=f"shape {shard.shape} at {shard.start}",
            )
    return _divide(shard.start, chunk_shape), _divide(shard.shape, chunk_shape)


def _divide(numbers: _Shape, by: _Shape) -> _Shape:
    return tuple(number // size for number, size in zip(numbers, by, strict=True))
