"""Cutting arrays: which form each takes, one for all that are alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np

from sealwax.arrays import dtypes, sharding_record
from sealwax.arrays.forms import PINNED, WHOLE, Form, Shard, Source
from sealwax.arrays.hostarrays import HostArray
from sealwax.arrays.leafforms import array_value_type, host_array, orbax_value_type
from sealwax.arrays.leafkinds import LeafKind, key_impl
from sealwax.arrays.regions import Region
from sealwax.errors import OptionError, OptionUnavailableError
from sealwax.options import ArrayOptions
from sealwax.planning.storage import (
    Chooser,
    Cut,
    StorageOptions,
    chunks,
    stored_dtype,
    write_shape,
)
from sealwax.trees.flatten import Leaf

CHUNK_BYTES = 4 << 20
"""The largest chunk: what is checked as one, and the least that a slice must read."""

_NONE = StorageOptions()


class Cutter:
    """Makes forms, one for all arrays that are alike."""

    def __init__(
        self,
        saving: ArrayOptions.Saving,
        key_paths: Sequence[tuple[object, ...]],
        chunk_bytes: int,
    ) -> None:
        self._saving = saving
        self._everywhere = saving.storage_options
        self._choose = Chooser(saving, key_paths).choose
        self._chooses = saving.scoped_storage_options_creator is not None
        self._chunk_bytes = chunk_bytes
        self._file_size = saving.ocdbt_target_data_file_size if saving.use_ocdbt else None
        self._forms: dict[Any, Form] = {}
        # Most arrays are like another, to the very object that is their sharding.
        self._kind: type | None = None
        self._same: dict[tuple[Any, ...], tuple[Form, object]] = {}

    def alike(self, value: object) -> Form | None:
        """The form of a JAX array like one that was cut before; ``None`` for anything else."""
        if type(value) is not self._kind:
            return None
        array: Any = value
        if array.is_deleted():
            return None
        known = self._same.get((array.shape, array.dtype, id(array.sharding)))
        return None if known is None else known[0]

    def cut(self, number: int, leaf: Leaf, kind: LeafKind) -> Source:
        """The data of a leaf and its form.

        Raises:
          OptionError: It cannot be stored as the settings ask.
        """
        value: Any = leaf.value
        try:
            if kind is LeafKind.JAX_ARRAY:
                if self._chooses:
                    return Source(value, self._jax(value, None, self._choose(number, value)))
                return Source(value, self._remembered(value))
            if kind is LeafKind.JAX_KEY:
                return self._keys(value, self._choose(number, value) if self._chooses else None)
            array = host_array(kind, value)
            chooses = self._chooses and kind is LeafKind.NUMPY_ARRAY
            own = self._choose(number, value) if chooses else None
            key = (kind, array.shape, array.dtype, array.flags.c_contiguous, own)
            form = self._forms.get(key)
            if form is None:
                form = self._forms[key] = self._host(kind, value, array, own)
            return Source(array, form)
        except OptionError as error:
            raise error.located(leaf=leaf.name) from error.__cause__

    def _keys(self, value: Any, own: StorageOptions | None) -> Source:
        import jax

        data: Any = value if isinstance(value, HostArray) else jax.random.key_data(value)
        return Source(data, self._jax(data, key_impl(value), own))

    def _host(
        self, kind: LeafKind, value: Any, array: np.ndarray[Any, Any], own: StorageOptions | None
    ) -> Form:
        as_array = kind is LeafKind.NUMPY_ARRAY
        everywhere = self._everywhere if as_array else _NONE
        options = everywhere if own is None else own
        storage = dtypes.storage_dtype(stored_dtype(array.dtype, options))
        shards = (Shard(WHOLE, Region.whole(array.shape)),)
        return Form(
            shape=array.shape,
            storage=storage,
            chunk_shape=self._chunks(array.shape, array.shape, storage, options),
            shards=shards,
            on_host=array.flags.c_contiguous and array.dtype == storage.dtype,
            value_type=array_value_type("np.ndarray", storage, array.ndim)
            if as_array
            else orbax_value_type(kind, value),
        )

    def _remembered(self, value: Any) -> Form:
        form = self._jax(value, None, None)
        if not isinstance(value, HostArray):
            self._kind, sharding = cast("type[object]", type(value)), value.sharding
            # What is told apart by identity has to stay.
            self._same[value.shape, value.dtype, id(sharding)] = form, sharding
        return form

    def _jax(self, value: Any, impl: str | None, own: StorageOptions | None) -> Form:
        key = (value.shape, value.dtype, value.sharding, impl, own)
        form = self._forms.get(key)
        if form is None:
            form = self._forms[key] = self._sharded(value, impl, own)
        return form

    def _sharded(self, value: Any, impl: str | None, own: StorageOptions | None) -> Form:
        options = self._everywhere if own is None else own
        dtype = value.dtype if impl is not None else stored_dtype(value.dtype, options)
        storage = dtypes.storage_dtype(dtype)
        check_whole(value)
        shards = shards_of(value)
        written = self._write_shape(value, shards)
        record = sharding_record.describe(value.sharding)
        host = isinstance(value, HostArray)
        pinned = not host and bool(self._saving.enable_pinned_host_transfer)
        if pinned:
            check_pinned(value.devices())
        on_cpu = host or all(device.platform == "cpu" for device in value.devices())
        return Form(
            shape=value.shape,
            storage=storage,
            chunk_shape=self._chunks(value.shape, written, storage, options),
            shards=shards,
            on_host=on_cpu and not pinned and value.dtype == storage.dtype,
            value_type=array_value_type("jax.Array", storage, len(value.shape)),
            key_impl=impl,
            sharding=None if record is None else sharding_record.to_json(record),
            write_shape=written,
            pinned=pinned,
            immutable=True,
        )

    def _write_shape(self, value: Any, shards: Sequence[Shard]) -> tuple[int, ...]:
        alone = shards[0].position == WHOLE
        replicas = 1 if alone else len(value.sharding.device_set) // len(shards)
        return write_shape(shards[0].region.shape, replicas, value.dtype.itemsize, self._saving)

    def _chunks(
        self,
        shape: tuple[int, ...],
        written: tuple[int, ...],
        storage: dtypes.Storage,
        options: StorageOptions,
    ) -> tuple[int, ...]:
        array = Cut(
            shape=shape,
            write_shape=written,
            itemsize=storage.carrier.itemsize,
            most=self._chunk_bytes,
            file_size=self._file_size,
        )
        return chunks(array, options)


def check_whole(value: Any) -> None:
    """Refuses an array of which this process has only a part.

    Raises:
      OptionUnavailableError: Some of its shards lie in other processes.
    """
    if not value.is_fully_addressable:
        raise OptionUnavailableError(
            "A save by several processes together is not there yet",
            found="an array with shards in other processes",
            hint="Gather the state in one process that runs alone, for now.",
        )


def check_pinned(devices: Iterable[Any]) -> None:
    """Refuses pinned transfers from devices that have no pinned host memory.

    Raises:
      OptionUnavailableError: One of the devices has none.
    """
    for device in devices:
        kinds = [memory.kind for memory in device.addressable_memories()]
        if PINNED not in kinds:
            raise OptionUnavailableError(
                "Option 'array.saving.enable_pinned_host_transfer' needs devices with memory of "
                f"kind {PINNED!r}",
                found=f"{device} with {', '.join(kinds) or 'none'}",
                hint="Set it to None, which leaves the choice to sealwax.",
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
