"""Reading arrays that sealwax did not write, through TensorStore.

TensorStore reads every encoding that Orbax ever wrote; each operation opens its own context, so
that no cache outlives it.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import tensorstore

from sealwax.effects import (
    CheckArrays,
    Fault,
    Mismatch,
    ReadEntries,
    ReadRegions,
    StoredBoxes,
)
from sealwax.errors import CorruptionError
from sealwax.runtime.streams import read_chunk
from sealwax.runtime.values import Values

ts: Any = tensorstore  # Half of its own types are unknown to a strict checker.
_NODE_CACHE_BYTES = 100_000_000
_CONCURRENCY = 128
_MOST_MISMATCHES = 16

Held: TypeAlias = Mapping[str, bytes]
"""Files in memory, by name, that stand for those of the directory that an effect names."""


def read_entries(effect: ReadEntries, held: Held | None = None) -> tuple[bytes | None, ...]:
    """The values of keys in a database, or in files below a directory.

    Raises:
      CorruptionError: The database is damaged.
    """
    files, context = location(effect.directory, held)
    store = ts.KvStore.open(_base(files, effect.database), context=context).result()
    pending = [store.read(key) for key in effect.keys]
    try:
        results = [future.result() for future in pending]
    except ValueError as error:
        raise CorruptionError(
            "The database of the arrays is damaged",
            path=effect.directory,
            hint="The checkpoint is not complete: load an earlier one, or restore it from a copy.",
        ) from error
    return tuple(r.value if r.state == "value" else None for r in results)


def read_regions(
    effect: ReadRegions,
    values: Values,
    held: Callable[[], Held | None] = lambda: None,
) -> None:
    """Reads regions of arrays into buffers.

    Args:
      effect: What is read.
      values: Where chunks lie that are decoded as they are read.
      held: Gives the files of the directory, where they are in memory.

    Raises:
      CorruptionError: Data is missing, cut short or fails its checksum.
    """
    buffers: Sequence[Any] = effect.buffers  # pyright: ignore[reportAssignmentType]
    into = [buffers[target] for target in effect.targets]
    if effect.streams:
        pairs = zip(into, effect.streams, strict=True)
        into = [buffer[(*stream.into, ...)] for buffer, stream in pairs]
    wanted = list(zip(effect.leaves, effect.regions, into, strict=True))
    if effect.streams:
        pairs = zip(wanted, effect.streams, strict=True)
        wanted = [part for part, stream in pairs if not read_chunk(values, effect, stream, part[2])]
    if wanted:
        _read_by_driver(wanted, effect, held())


def _read_by_driver(
    wanted: list[tuple[str, tuple[slice, ...], Any]], effect: ReadRegions, held: Held | None
) -> None:
    files, context = location(effect.directory, held)
    opened = [ts.open(_spec(effect, leaf, files), context=context) for leaf, _, _ in wanted]
    arrays = [
        _checked(future, leaf, effect) for future, (leaf, _, _) in zip(opened, wanted, strict=True)
    ]
    under_way: collections.deque[tuple[int, str, Any]] = collections.deque()
    total = 0
    for array, (leaf, region, buffer) in zip(arrays, wanted, strict=True):
        for box, part in _pieces(array, region, effect.piece):
            into = buffer[part]
            while under_way and total + into.nbytes > effect.piece:
                total -= _finish(under_way, effect)
            # Carried dtypes are stored as the unsigned integers that stand for them.
            into = into.view(array.dtype.numpy_dtype)
            future = ts.array(into, copy=False, write=True).write(array[box])
            under_way.append((into.nbytes, leaf, future))
            total += into.nbytes
    while under_way:
        _finish(under_way, effect)


def _finish(under_way: collections.deque[tuple[int, str, Any]], effect: ReadRegions) -> int:
    nbytes, leaf, future = under_way.popleft()
    _checked(future, leaf, effect)
    return nbytes


def _pieces(
    array: Any, region: tuple[slice, ...], most: int
) -> Iterator[tuple[tuple[slice, ...], tuple[Any, ...]]]:
    """Cuts a region into runs of whole rows of chunks: each in the array, and in the region."""
    if not region:
        yield (), (...,)
        return
    first, *others = region
    row = math.prod([s.stop - s.start for s in others]) * array.dtype.numpy_dtype.itemsize
    rows = array.chunk_layout.read_chunk.shape[0] or 1
    rows *= max(1, most // max(1, row * rows))
    start = first.start
    while start < first.stop:
        stop = min(first.stop, (start // rows + 1) * rows)
        whole = slice(start - first.start, stop - first.start)
        yield (slice(start, stop), *others), (whole,)
        start = stop


def _checked(future: Any, leaf: str, effect: ReadRegions) -> Any:
    try:
        return future.result()
    except ValueError as error:
        kind = "missing" if "NOT_FOUND" in str(error) else "damaged"
        raise CorruptionError(
            f"Stored data is {kind}",
            leaf=leaf,
            path=effect.directory,
            hint="The checkpoint is not complete: load an earlier one, or restore it from a copy.",
        ) from error


def check_arrays(effect: CheckArrays, held: Held | None = None) -> list[Mismatch]:
    """Reads arrays box by box, keeps nothing, and tells what could not be read."""
    files, context = location(effect.directory, held)
    opened = [ts.open(_spec(effect, array.key, files), context=context) for array in effect.arrays]
    found: list[Mismatch] = []
    for number, (array, future) in enumerate(zip(effect.arrays, opened, strict=True)):
        try:
            store = future.result()
        except (ValueError, OSError) as error:
            found.append(Mismatch(number, _fault(error)))
            continue
        wrong = 0
        for box in boxes(array, effect.piece):
            try:
                store[box].read().result()
            except (ValueError, OSError) as error:
                found.append(Mismatch(number, _fault(error), start=tuple(s.start for s in box)))
                wrong += 1
            if wrong == _MOST_MISMATCHES:
                break
    return found


def boxes(array: StoredBoxes, most: int) -> Iterator[tuple[slice, ...]]:
    """Cuts an array into boxes of whole chunks, of at most so many bytes if a chunk has no more.

    >>> array = StoredBoxes("w", (4, 6), (1, 3), 1)
    >>> [box[0] for box in boxes(array, 12)]
    [slice(0, 2, None), slice(2, 4, None)]
    """
    sizes = zip(array.chunk_shape, array.shape, strict=True)
    box = [max(1, min(chunk, extent)) for chunk, extent in sizes]
    for axis in reversed(range(len(box))):
        fitting = max(1, most // (math.prod(box) * array.itemsize))
        box[axis] = min(array.shape[axis], fitting * box[axis]) or 1
        if box[axis] < array.shape[axis]:
            break
    grid = [-(-extent // size) for extent, size in zip(array.shape, box, strict=True)]
    for left in range(math.prod(grid)):
        place: list[slice] = []
        for extent, size, many in zip(array.shape[::-1], box[::-1], grid[::-1], strict=True):
            left, at = divmod(left, many)
            place.append(slice(at * size, min((at + 1) * size, extent)))
        yield tuple(place[::-1])


def _fault(error: Exception) -> Fault:
    return Fault.MISSING if "NOT_FOUND" in str(error) else Fault.CHANGED


def _spec(effect: ReadRegions | CheckArrays, leaf: str, files: dict[str, Any]) -> dict[str, Any]:
    store = _base(files, effect.database)
    store["path"] = (
        leaf if effect.database else f"{store['path']}{leaf}/" if leaf else store["path"]
    )
    return {
        "driver": effect.driver,
        "kvstore": store,
        "open": True,
        "fill_missing_data_reads": effect.fill_missing,
        "recheck_cached_data": False,
        "recheck_cached_metadata": False,
    }


def _base(files: dict[str, Any], database: bool) -> dict[str, Any]:
    if not database:
        return dict(files)
    return {"driver": "ocdbt", "base": files, "cache_pool": "cache_pool#nodes"}


def location(directory: str, held: Held | None) -> tuple[dict[str, Any], Any]:
    """Where TensorStore finds the files of a directory, and the context to open them in."""
    context = ts.Context(
        {
            # Chunks are read once; what pays is to keep the nodes of the database.
            "cache_pool": {"total_bytes_limit": 0},
            "cache_pool#nodes": {"total_bytes_limit": _NODE_CACHE_BYTES},
            "file_io_concurrency": {"limit": _CONCURRENCY},
        }
    )
    if held is None:
        return {"driver": "file", "path": f"{directory}/"}, context
    files = {"driver": "memory", "path": "held/"}
    store = ts.KvStore.open(files, context=context).result()
    for name, content in held.items():
        store[name] = content
    return files, context
