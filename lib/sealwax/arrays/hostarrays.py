"""Arrays that lie on the host in shards: what a compiled program hands out while it runs.

A checkpoint of them is the one that a ``jax.Array`` of the same sharding gives, without any work
of JAX: inside a callback of a running program that could wait for the program itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Set
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class HostShard:
    """A part of an array, as ``jax.Array.addressable_shards`` gives them.

    Attributes:
      index: The slices of the whole array that it is.
      data: Its elements.
    """

    index: tuple[slice, ...]
    data: np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HostArray:
    """An array whose elements are on the host; nobody changes them.

    Attributes:
      shape: Shape of the whole array; for typed keys that of their data.
      dtype: Its dtype; for typed keys that of their data.
      sharding: The sharding that is recorded.
      addressable_shards: Parts that make up the whole, each once.
      key_impl: Implementation of the typed keys that it holds the data of.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sharding: Any
    addressable_shards: tuple[HostShard, ...]
    key_impl: str | None = None

    @property
    def is_fully_addressable(self) -> bool:
        """Whether all of it is in this process."""
        return True

    def is_deleted(self) -> bool:
        """Whether it was donated or deleted."""
        return False

    def devices(self) -> Set[Any]:
        """The devices that it lay on."""
        return self.sharding.device_set

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if len(self.addressable_shards) == 1:
            return np.array(self.addressable_shards[0].data, dtype, copy=copy)
        whole = np.empty(self.shape, self.dtype)
        for shard in self.addressable_shards:
            whole[shard.index] = shard.data
        return whole if dtype is None else whole.astype(dtype)
