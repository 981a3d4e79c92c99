"""Boxes inside an array, and where they lie in a C-ordered buffer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sealwax.arrays.grid import is_row_range


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A box: where it starts and how far it reaches on each axis, in elements.

    >>> region = Region.of((slice(2, 4), slice(None)), (4, 6))
    >>> region.start, region.shape
    ((2, 0), (2, 6))
    """

    start: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, index: Sequence[slice], shape: Sequence[int]) -> Region:
        """The box that ``index``, as of ``jax.Shard.index``, selects from ``shape``."""
        bounds = [part.indices(extent) for part, extent in zip(index, shape, strict=True)]
        return cls(
            start=tuple(low for low, _, _ in bounds),
            shape=tuple(max(0, high - low) for low, high, _ in bounds),
        )

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Region:
        """All of an array of this shape."""
        return cls(start=(0,) * len(shape), shape=tuple(shape))

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index for NumPy."""
        return tuple(slice(a, a + n) for a, n in zip(self.start, self.shape, strict=True))

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def relative_to(self, other: Region) -> Region:
        """The same box, counted from where ``other`` starts."""
        start = tuple(a - b for a, b in zip(self.start, other.start, strict=True))
        return Region(start=start, shape=self.shape)

    def intersect(self, other: Region) -> Region | None:
        """What lies in both boxes; ``None`` if nothing does."""
        start: list[int] = []
        shape: list[int] = []
        for a, n, b, m in zip(self.start, self.shape, other.start, other.shape, strict=True):
            low, high = max(a, b), min(a + n, b + m)
            if low >= high:
                return None
            start.append(low)
            shape.append(high - low)
        return Region(start=tuple(start), shape=tuple(shape))

    def run_in(self, shape: Sequence[int]) -> tuple[int, int] | None:
        """Where the box lies in a C-ordered buffer of ``shape``, if in one piece.

        Returns:
          The first element and the number of elements; ``None`` if the box is scattered.
        """
        if not is_row_range(self.shape, shape):
            return None
        first = 0
        for start, extent in zip(self.start, shape, strict=True):
            first = first * extent + start
        return first, self.size
