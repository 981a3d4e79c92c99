"""How each array is to be stored: what the options say of its dtype, its chunks, its writers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from sealwax.arrays import dtypes
from sealwax.arrays.grid import chunk_shape, orbax_chunk_shape
from sealwax.errors import OptionTypeError, OptionValueError
from sealwax.options import ArrayOptions
from sealwax.settings.checks import shown

StorageOptions: TypeAlias = ArrayOptions.Saving.StorageOptions
_Shape: TypeAlias = tuple[int, ...]

EVERYWHERE = "array.saving.storage_options"
CREATOR = "array.saving.scoped_storage_options_creator"


class Chooser:
    """Chooses the storage options of each array.

    Args:
      saving: The settings.
      key_paths: JAX's key path of every leaf; needed where the settings have a creator.
    """

    def __init__(
        self, saving: ArrayOptions.Saving, key_paths: Sequence[tuple[object, ...]] = ()
    ) -> None:
        self._everywhere = saving.storage_options
        self._creator = saving.scoped_storage_options_creator
        self._key_paths = key_paths

    def choose(self, number: int, value: object) -> StorageOptions | None:
        """The options of the leaf that has this number; ``None`` for those of every leaf.

        Raises:
          OptionValueError: The creator's answer cannot be followed for this leaf.
          OptionTypeError: Its answer is something else.
        """
        if self._creator is None:
            return None
        own: Any = self._creator(self._key_paths[number], value)
        if own is None:
            return None
        if not isinstance(own, StorageOptions):
            raise OptionTypeError(
                f"Option {CREATOR!r} gave no storage options",
                expected="ArrayOptions.Saving.StorageOptions or None",
                found=shown(own),
            )
        _check_axes(own, value)
        changes = {
            field.name: given
            for field in dataclasses.fields(own)
            if (given := getattr(own, field.name)) is not None
        }
        return dataclasses.replace(self._everywhere, **changes)


def _check_axes(options: StorageOptions, value: Any) -> None:
    if any(axis >= value.ndim for axis in options.shard_axes or ()):
        raise OptionValueError(
            f"Option {CREATOR!r} gave axes that this leaf does not have",
            expected=f"axes below {value.ndim}",
            found=f"shard_axes={options.shard_axes}",
        )


def _rank(dtype: np.dtype[Any]) -> int:
    """1 for floating, 2 for complex, 0 for all other dtypes."""
    name = dtypes.storage_dtype(dtype).logical
    return 2 if name.startswith("complex") else int(name.startswith(("float", "bfloat")))


def stored_dtype(dtype: np.dtype[Any], options: StorageOptions) -> np.dtype[Any]:
    """The dtype in which an array is stored: another one only where no part of it is dropped.

    >>> half = StorageOptions(dtype="float16")
    >>> stored_dtype(np.dtype("float32"), half), stored_dtype(np.dtype("int32"), half)
    (dtype('float16'), dtype('int32'))
    """
    if options.dtype is None:
        return dtype
    wanted = np.dtype(options.dtype)
    return wanted if 1 <= _rank(dtype) <= _rank(wanted) else dtype


def write_shape(shard: _Shape, replicas: int, itemsize: int, saving: ArrayOptions.Saving) -> _Shape:
    """What one of several processes would write of a shard that so many devices hold.

    In one process nobody shares the work, and slices are only cut when they are asked for.
    """
    if saving.max_replicas_for_replica_parallel is not None:
        replicas = min(replicas, saving.max_replicas_for_replica_parallel)
    if not saving.use_replica_parallel or replicas <= 1:
        return shard
    axis = next((i for i, extent in enumerate(shard) if extent % replicas == 0), None)
    if axis is None:
        return shard
    part = (*shard[:axis], shard[axis] // replicas, *shard[axis + 1 :])
    least = saving.min_slice_bytes_for_replica_parallel or 0
    return part if math.prod(part) * itemsize >= least else shard


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What is known of an array when its chunks are chosen: shapes in elements, sizes in bytes."""

    shape: _Shape
    write_shape: _Shape
    itemsize: int
    most: int
    file_size: int | None


def chunks(array: Cut, options: StorageOptions) -> _Shape:
    """The shape of an array's chunks: Orbax's choice where the options ask for any, else ours.

    Raises:
      OptionValueError: An element has more bytes than a chunk may have.
    """
    target, axes = options.chunk_byte_size, options.shard_axes
    if target is not None and target < array.itemsize:
        raise OptionValueError(
            f"Option '{EVERYWHERE}.chunk_byte_size' is less than one element of a leaf",
            expected=f"at least {array.itemsize}",
            found=str(target),
            hint=f"Raise it, or give this leaf another in {CREATOR!r}.",
        )
    # A value that is larger than a data file would make one of its own.
    limit = max(array.itemsize, array.file_size) if array.file_size else None
    written = math.prod(array.write_shape) * array.itemsize
    if target is None and axes is None:
        ours = chunk_shape(array.write_shape, array.itemsize, array.most)
        if limit is None or math.prod(ours) * array.itemsize <= limit:
            return ours
    if limit is not None and (target is not None or written > limit):
        target = limit if target is None else min(target, limit)
    there = [axis for axis in axes or () if axis < len(array.shape)]
    return orbax_chunk_shape(array.shape, array.write_shape, array.itemsize, target, there)
