"""Choosing the chunks of an array.

Every chunk shape chosen here divides the shape of what one process writes (a shard, or a slice
of one), axis by axis, so that a chunk belongs to exactly one writer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

from sealwax.errors import OptionValueError

_Shape = tuple[int, ...]

_LARGE_ENOUGH = 1 << 20
"""Bytes from which on a chunk's own cost no longer shows beside that of its data."""


def is_row_range(part: Sequence[int], whole: Sequence[int]) -> bool:
    """Whether a box of shape ``part`` is one run of bytes in a C-ordered box of shape ``whole``.

    >>> is_row_range((2, 8), (4, 8)), is_row_range((1, 4), (4, 8)), is_row_range((2, 4), (4, 8))
    (True, True, False)
    """
    axis = next((i for i, extent in enumerate(part) if extent != 1), len(part))
    return tuple(part[axis + 1 :]) == tuple(whole[axis + 1 :])


@lru_cache(maxsize=4096)
def chunk_shape(write_shape: _Shape, itemsize: int, target_bytes: int) -> _Shape:
    """The chunk shape that sealwax chooses by itself.

    What fits in the target is one chunk. Otherwise the largest chunks within the target win, as
    long as they have an eighth of it, or 1 MiB, where that is less: first those that are ranges of
    rows, each one run of bytes in the C-ordered buffer of the shard, then boxes with one more axis
    cut. Where the divisors of the shape allow neither, as for a vector of prime length, a chunk
    beyond the target is better than thousands of tiny ones.

    Args:
      write_shape: Shape of what one process writes of the array, in elements.
      itemsize: Bytes per element.
      target_bytes: Desired upper bound for the bytes of one chunk.

    >>> chunk_shape((1024, 1024), 4, 2**20)
    (256, 1024)
    """
    if math.prod(write_shape) * itemsize <= target_bytes:
        return tuple(max(1, extent) for extent in write_shape)
    most = max(itemsize, target_bytes)
    least = min(most / 8, _LARGE_ENOUGH)

    def preference(shape: _Shape) -> tuple[int, int, int]:
        nbytes = math.prod(shape) * itemsize
        torn = not is_row_range(shape, write_shape)
        if nbytes > most:
            return 1, nbytes, torn
        return (0, torn, -nbytes) if nbytes >= least else (2, 0, 0)

    candidates = _candidates(write_shape, most // itemsize)
    return min(candidates, key=preference, default=write_shape)


def _candidates(write_shape: _Shape, elements: int) -> Iterator[_Shape]:
    """Boxes with leading axes of 1 and one axis cut, just within ``elements`` and just beyond."""
    rank = len(write_shape)
    divisors = [_divisors(extent) for extent in write_shape]
    for first in range(rank):
        box = [1] * first + list(write_shape[first:])
        for axis in range(first, rank):
            room = elements * write_shape[axis] / math.prod(box)
            within = max((d for d in divisors[axis] if d <= room), default=None)
            beyond = min((d for d in divisors[axis] if d > room), default=None)
            for divisor in (within, beyond):
                if divisor is not None:
                    yield (*box[:axis], divisor, *box[axis + 1 :])


def orbax_chunk_shape(
    global_shape: _Shape,
    write_shape: _Shape,
    itemsize: int,
    target_bytes: int | None,
    shard_axes: Sequence[int] = (),
) -> _Shape:
    """The chunk shape that Orbax chooses for the same array and options.

    Axes that are split already are split further, largest first, then all axes, until a chunk
    has at most ``target_bytes``.

    Args:
      global_shape: Shape of the whole array, in elements.
      write_shape: Shape of what one process writes of it.
      itemsize: Bytes per element.
      target_bytes: Upper bound for the bytes of one chunk; ``None`` for no bound.
      shard_axes: Axes to cut down to single elements first.

    Raises:
      OptionValueError: One element has more than ``target_bytes``.

    >>> orbax_chunk_shape((8, 8), (8, 8), 4, 64)
    (4, 4)
    """
    chunk = [max(1, extent) for extent in write_shape]
    split = [whole != part for whole, part in zip(global_shape, write_shape, strict=True)]
    for axis in shard_axes:
        split[axis] |= chunk[axis] > 1
        chunk[axis] = 1
    if target_bytes is None:
        return tuple(chunk)
    if target_bytes < itemsize:
        raise OptionValueError(
            "A chunk cannot be smaller than one element",
            expected=f"a chunk_byte_size of at least {itemsize}",
            found=str(target_bytes),
        )
    size = math.prod(chunk)
    while size > target_bytes // itemsize:
        axis = max(range(len(chunk)), key=lambda i: chunk[i] if split[i] else 0)
        if not split[axis] or chunk[axis] == 1:
            split = [True] * len(chunk)
            continue
        smaller = max(d for d in _divisors(write_shape[axis]) if d < chunk[axis])
        size = size // chunk[axis] * smaller
        chunk[axis] = smaller
    return tuple(chunk)


@lru_cache(maxsize=4096)
def _divisors(number: int) -> tuple[int, ...]:
    low = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return (*low, *(number // d for d in reversed(low) if d * d != number))
