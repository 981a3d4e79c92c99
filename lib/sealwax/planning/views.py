"""Reading a part of one stored array."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from sealwax.arrays.regions import Region
from sealwax.effects import Plan
from sealwax.errors import LeafError
from sealwax.options import Options
from sealwax.planning.builder import Builder, result
from sealwax.planning.contents import Contents, StoredLeaf
from sealwax.planning.reads import Read, add_reads


class Box(NamedTuple):
    """What an index selects of an array: a box that is read, and the index into that box."""

    region: Region
    inner: tuple[int | slice, ...]


def box(index: object, shape: tuple[int, ...]) -> Box:
    """Resolves an index of integers, slices and ``...`` as NumPy does.

    Raises:
      IndexError: The index is out of range, has too many parts, or parts of another kind.

    >>> box((-1, slice(None, None, -2)), (4, 5)).region
    Region(start=(3, 0), shape=(1, 5))
    """
    parts = _expanded(index, len(shape))
    starts: list[int] = []
    extents: list[int] = []
    inner: list[int | slice] = []
    for part, extent in zip(parts, shape, strict=True):
        if isinstance(part, slice):
            chosen = range(extent)[part]
            low, high = (min(chosen), max(chosen) + 1) if chosen else (0, 0)
            inner.append(slice(None, None, chosen.step) if chosen else slice(0, 0))
        else:
            if not -extent <= part < extent:
                axis = len(starts)
                raise IndexError(f"Index {part} is out of bounds for axis {axis} of size {extent}")
            low = part % extent
            high = low + 1
            inner.append(0)
        starts.append(low)
        extents.append(high - low)
    return Box(Region(start=tuple(starts), shape=tuple(extents)), tuple(inner))


def _expanded(index: object, rank: int) -> list[int | slice]:
    given = cast("tuple[Any, ...]", index) if isinstance(index, tuple) else (index,)
    dots = [number for number, part in enumerate(given) if part is ...]
    parts: list[Any] = [
        part if part is ... or isinstance(part, slice) else _integer(part) for part in given
    ]
    if len(dots) > 1 or len(parts) - len(dots) > rank:
        raise IndexError(f"The array has {rank} axes; the index has parts for more: {index!r}")
    at = dots[0] if dots else len(parts)
    rest = [slice(None)] * (rank - len(parts) + len(dots))
    return [*parts[:at], *rest, *parts[at + len(dots) :]]


def _integer(part: object) -> int:
    if not isinstance(part, (bool, np.bool_)):
        try:
            return operator.index(cast("Any", part))
        except TypeError:
            pass
    raise IndexError(
        f"Arrays in a checkpoint are indexed by integers, slices and ..., not by {part!r}; "
        "load the array first, or the part of it that has all that is needed"
    )


def plan_box(
    path: str, options: Options, contents: Contents, leaf: StoredLeaf, chosen: Box
) -> Plan:
    """Plans to read a box of one array; the result is a NumPy array.

    Raises:
      LeafError: The leaf is not an array.
    """
    array = leaf.array
    if array is None:
        raise LeafError("The leaf is not an array", leaf=leaf.entry.name, path=path)
    build = Builder()
    read = Read(leaf.entry.name, array, chosen.region, array.dtype)
    filled, buffers = add_reads(build, options, contents, [read])
    pick = functools.partial(_pick, inner=chosen.inner)
    final = build.derive("the part", pick, result(buffers), after=filled)
    return Plan(
        title="read",
        path=path,
        steps=tuple(build.steps),
        result=final,
        names=(leaf.entry.name,),
    )


def _pick(
    buffers: Sequence[np.ndarray[Any, Any]], *, inner: tuple[int | slice, ...]
) -> np.ndarray[Any, Any]:
    # An array of rank 0 and not a scalar, as every other part.
    return buffers[0][(*inner, ...)]
