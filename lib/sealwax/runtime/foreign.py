"""Reading arrays that sealwax did not write, through TensorStore.

TensorStore reads every encoding that Orbax ever wrote; each operation opens its own context, so
that no cache outlives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorstore

from sealwax.effects import ReadEntries, ReadRegions
from sealwax.errors import CorruptionError

ts: Any = tensorstore  # Half of its own types are unknown to a strict checker.
_CACHE_BYTES = 100_000_000
_CONCURRENCY = 128


def read_entries(effect: ReadEntries) -> tuple[bytes | None, ...]:
    """The values of keys in a database, or in files below a directory.

    Raises:
      CorruptionError: The database is damaged.
    """
    store = ts.KvStore.open(_base(effect.directory, effect.database), context=_context()).result()
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


def read_regions(effect: ReadRegions) -> None:
    """Reads regions of arrays into buffers.

    Raises:
      CorruptionError: Data is missing, cut short or fails its checksum.
    """
    context = _context()
    buffers: Sequence[Any] = effect.buffers  # pyright: ignore[reportAssignmentType]
    opened = [ts.open(_spec(effect, leaf), context=context) for leaf in effect.leaves]
    arrays: list[Any] = []
    for leaf, future in zip(effect.leaves, opened, strict=True):
        arrays.append(_checked(future, leaf, effect))
    reads = [array[region].read() for array, region in zip(arrays, effect.regions, strict=True)]
    for leaf, future, target in zip(effect.leaves, reads, effect.targets, strict=True):
        data = np.asarray(_checked(future, leaf, effect))
        # Carried dtypes come back as the unsigned integers that stand for them.
        buffer = buffers[target]
        buffer[...] = data if data.dtype == buffer.dtype else data.view(buffer.dtype)


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


def _spec(effect: ReadRegions, leaf: str) -> dict[str, Any]:
    store = _base(effect.directory, effect.database)
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


def _base(directory: str, database: bool) -> dict[str, Any]:
    files = {"driver": "file", "path": f"{directory}/"}
    return {"driver": "ocdbt", "base": files} if database else files


def _context() -> Any:
    return ts.Context(
        {
            "cache_pool": {"total_bytes_limit": _CACHE_BYTES},
            "file_io_concurrency": {"limit": _CONCURRENCY},
        }
    )
