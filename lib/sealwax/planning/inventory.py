"""What there is to save: the leaves of a tree, sorted by where they will be stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from returns.result import Failure, Result, Success

from sealwax.arrays import dtypes, sharding_record
from sealwax.arrays.forms import WHOLE, Form, Shard, Source
from sealwax.arrays.grid import chunk_shape
from sealwax.arrays.leafforms import (
    Placement,
    host_array,
    inline_record,
    orbax_value_type,
    placement,
)
from sealwax.arrays.leafkinds import LeafKind, classify, key_impl
from sealwax.arrays.regions import Region
from sealwax.errors import SealwaxError
from sealwax.layouts import orbax
from sealwax.trees.flatten import Flat
from sealwax.trees.structure import EmptyKind

CHUNK_BYTES = 4 << 20
"""The largest chunk: what is checked as one, and the least that a slice must read."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inventory:
    """The leaves of a tree and where each will be stored.

    Attributes:
      flat: The tree's leaves and structure.
      kinds: The kind of every leaf; ``EMPTY_NODE`` for what the structure says by itself.
      array_of: For every leaf, the number of its array, or -1.
      arrays: The forms of the arrays, in the order of the leaves.
      inline: Records of leaves that only the manifest holds, by number of the leaf.
      strings: The document in which Orbax keeps string leaves.
    """

    flat: Flat
    kinds: tuple[LeafKind, ...]
    array_of: tuple[int, ...]
    arrays: tuple[Form, ...]
    inline: dict[int, Any]
    strings: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays."""
        leaves = self.flat.leaves
        return tuple(leaves[n].name for n, array in enumerate(self.array_of) if array >= 0)


def take_inventory(
    flat: Flat, chunk_bytes: int = CHUNK_BYTES
) -> Result[tuple[Inventory, tuple[Source, ...]], SealwaxError]:
    """Sorts leaves by where they go, and cuts the arrays among them.

    Returns:
      The inventory, and for each of its arrays the data; a ``LeafError`` for the first leaf that
      cannot be stored.
    """
    kinds: list[LeafKind] = []
    array_of: list[int] = []
    sources: list[Source] = []
    inline: dict[int, Any] = {}
    strings: dict[str, Any] = {}
    cutter = _Cutter(chunk_bytes)
    for number, leaf in enumerate(flat.leaves):
        value: Any = leaf.value
        if isinstance(value, EmptyKind):
            kinds.append(LeafKind.EMPTY_NODE)
            array_of.append(-1)
            continue
        verdict = classify(value)
        if isinstance(verdict, Failure):
            return Failure(verdict.failure().located(leaf=leaf.name))
        kind = verdict.unwrap()
        kinds.append(kind)
        match placement(kind, value):
            case Placement.ARRAY:
                array_of.append(len(sources))
                sources.append(cutter.cut(kind, value))
                continue
            case Placement.STRING if orbax.place_string(strings, leaf.name, str(value)):
                inline[number] = str(value)
            case Placement.STRING:
                inline[number] = {"hidden": str(value)}
            case Placement.INLINE | Placement.STRUCTURE:
                inline[number] = inline_record(value)
        array_of.append(-1)
    inventory = Inventory(
        flat=flat,
        kinds=tuple(kinds),
        array_of=tuple(array_of),
        arrays=tuple(source.form for source in sources),
        inline=inline,
        strings=strings,
    )
    return Success((inventory, tuple(sources)))


class _Cutter:
    """Makes forms, one for all arrays that are alike."""

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._forms: dict[Any, Form] = {}

    def cut(self, kind: LeafKind, value: Any) -> Source:
        if kind is LeafKind.JAX_ARRAY:
            return Source(value, self._jax(value, None))
        if kind is LeafKind.JAX_KEY:
            import jax

            return Source(data := jax.random.key_data(value), self._jax(data, key_impl(value)))
        array = host_array(kind, value)
        key = (kind, array.shape, array.dtype, array.flags.c_contiguous)
        form = self._forms.get(key)
        if form is None:
            form = self._forms[key] = self._host(kind, value, array)
        return Source(array, form)

    def _host(self, kind: LeafKind, value: Any, array: np.ndarray[Any, Any]) -> Form:
        storage = dtypes.storage_dtype(array.dtype)
        return Form(
            shape=array.shape,
            storage=storage,
            chunk_shape=chunk_shape(array.shape, storage.carrier.itemsize, self._chunk_bytes),
            shards=(Shard(WHOLE, Region.whole(array.shape)),),
            on_host=array.flags.c_contiguous and array.dtype == storage.dtype,
            value_type=orbax_value_type(kind, value),
        )

    def _jax(self, value: Any, impl: str | None) -> Form:
        key = (value.shape, value.dtype, value.sharding, impl)
        form = self._forms.get(key)
        if form is None:
            form = self._forms[key] = self._sharded(value, impl)
        return form

    def _sharded(self, value: Any, impl: str | None) -> Form:
        storage = dtypes.storage_dtype(value.dtype)
        shards = shards_of(value)
        record = sharding_record.describe(value.sharding)
        return Form(
            shape=value.shape,
            storage=storage,
            chunk_shape=chunk_shape(
                shards[0].region.shape, storage.carrier.itemsize, self._chunk_bytes
            ),
            shards=shards,
            on_host=all(device.platform == "cpu" for device in value.devices()),
            value_type="None" if storage.carried else "jax.Array",
            key_impl=impl,
            sharding=None if record is None else sharding_record.to_json(record),
        )


def shards_of(value: Any) -> tuple[Shard, ...]:
    """The boxes of a JAX array that make it up, each once.

    Where shards differ in shape no chunk grid fits all of them, and the array is one box.
    """
    whole = (Shard(WHOLE, Region.whole(value.shape)),)
    devices = value.sharding.device_set
    if len(devices) == 1:
        return whole
    shards: Sequence[Any] = value.addressable_shards
    first = {
        Region.of(shard.index, value.shape): position
        for position, shard in reversed(list(enumerate(shards)))
    }
    if len({region.shape for region in first}) > 1:
        return whole
    return tuple(
        Shard(position, region) for region, position in sorted(first.items(), key=_by_start)
    )


def _by_start(item: tuple[Region, int]) -> tuple[int, ...]:
    return item[0].start
