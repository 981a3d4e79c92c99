"""How one array is cut for storage: its shards, its chunks, and the bytes of each.

Thousands of leaves share a handful of forms, so a form is made once and everything that depends
only on it is computed once.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct

from sealwax.arrays.chunks import Chunk, chunks_of, pieces
from sealwax.arrays.dtypes import Storage
from sealwax.arrays.grid import is_row_range
from sealwax.arrays.regions import Region

PINNED = "pinned_host"
"""JAX's name for page-locked host memory."""

WHOLE = -1
"""The position of a shard that is the whole array, wherever its parts lie."""


class Shard(NamedTuple):
    """A box of an array that is written in one go.

    Attributes:
      position: Its place among ``jax.Array.addressable_shards``, or ``WHOLE``.
      region: The box.
    """

    position: int
    region: Region


class Cut(NamedTuple):
    """A run of chunks of one shard, ``first`` to ``last`` (exclusive), and its size in bytes."""

    shard: int
    first: int
    last: int
    nbytes: int


@dataclasses.dataclass(frozen=True, eq=False)
class Form:
    """How an array is stored.

    Attributes:
      shape: Shape of the whole array, in elements.
      storage: How its elements lie in the store.
      chunk_shape: Shape of a chunk; divides the shape of every shard.
      shards: The boxes to be written, each once however often it is replicated.
      on_host: Whether the data lies in host memory as it will be stored, in C order.
      value_type: What Orbax calls this kind of leaf.
      write_shape: Shape of what one process of many would write, where that is not a whole shard;
        chunks divide it too.
      pinned: Whether the data is brought to the host through pinned memory.
      immutable: Whether nobody can change the data in place, as that of a JAX array.
      key_impl: Implementation of the PRNG keys, when the elements are key data.
      sharding: The sharding as Orbax records it, or ``None``.
    """

    shape: tuple[int, ...]
    storage: Storage
    chunk_shape: tuple[int, ...]
    shards: tuple[Shard, ...]
    on_host: bool
    value_type: str
    key_impl: str | None = None
    sharding: str | None = None
    write_shape: tuple[int, ...] | None = None
    pinned: bool = False
    immutable: bool = False

    @functools.cached_property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return math.prod(self.shape) * self.storage.carrier.itemsize

    @functools.cached_property
    def chunk_count(self) -> int:
        """Number of all its chunks."""
        return sum(map(len, self.chunks))

    @property
    def written(self) -> tuple[int, ...]:
        """Shape of what one process of many would write."""
        return self.shards[0].region.shape if self.write_shape is None else self.write_shape

    @functools.cached_property
    def chunk_bytes(self) -> int:
        """Bytes of one chunk, before compression."""
        return math.prod(self.chunk_shape) * self.storage.carrier.itemsize

    @functools.cached_property
    def rows(self) -> bool:
        """Whether every chunk is one run of bytes of its shard."""
        return all(is_row_range(self.chunk_shape, shard.region.shape) for shard in self.shards)

    @functools.cached_property
    def chunks(self) -> tuple[tuple[Chunk, ...], ...]:
        """The chunks of each shard, in C order."""
        return tuple(tuple(chunks_of(s.region, self.chunk_shape)) for s in self.shards)

    def cuts(self, limit: int) -> tuple[Cut, ...]:
        """Cuts the array into runs of chunks of at most ``limit`` bytes, or of one chunk."""
        known = self._cuts.get(limit)
        if known is None:
            known = self._cuts[limit] = tuple(
                [
                    Cut(number, piece.start, piece.stop, len(piece) * self.chunk_bytes)
                    for number, chunks in enumerate(self.chunks)
                    for piece in pieces(len(chunks), self.chunk_bytes, limit)
                ]
            )
        return known

    @functools.cached_property
    def _cuts(self) -> dict[int, tuple[Cut, ...]]:
        return {}

    @functools.cached_property
    def plain(self) -> bool:
        """Whether the whole array is one run of bytes of host memory, as it will be stored."""
        return self.on_host and self.rows and [shard.position for shard in self.shards] == [WHOLE]


class Source(Struct, frozen=True):
    """A leaf's data, a ``jax.Array``, ``HostArray`` or ``np.ndarray``, and how to cut it."""

    value: Any
    form: Form


_BYTE = np.dtype(np.uint8)


def as_bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The bytes of a C-contiguous array, as a flat view."""
    return array.ravel().view(_BYTE)
