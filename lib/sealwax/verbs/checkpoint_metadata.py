"""What ``metadata`` tells of a checkpoint, as values."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, Generic, TypeVar

import numpy as np

from sealwax.arrays import sharding_record
from sealwax.arrays.leafkinds import LeafKind
from sealwax.errors import LeafMismatchError
from sealwax.options import PyTreeOptions
from sealwax.planning.composites import described, group
from sealwax.planning.contents import Contents, StoredArray, StoredLeaf, empty_value
from sealwax.planning.pipeline import raised

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StorageMetadata:
    """How an array lies in the store: the shapes of what was written at once, and of a chunk."""

    chunk_shape: tuple[int, ...]
    write_shape: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ArrayMetadata:
    """A JAX array in a checkpoint; fit to be a leaf of a template.

    Attributes:
      shape: Its shape; for typed keys that of the keys.
      dtype: Its dtype; for typed keys that of the keys.
      sharding_metadata: The recorded sharding as JSON, or ``None``.
      storage_metadata: How it lies in the store.
    """

    shape: tuple[int, ...]
    dtype: Any
    sharding_metadata: str | None = None
    storage_metadata: StorageMetadata | None = None

    @property
    def sharding(self) -> Any:
        """The recorded sharding, on the devices of this process.

        Raises:
          LeafMismatchError: These devices cannot form it.
        """
        import jax as _jax

        jax: Any = _jax
        text = self.sharding_metadata
        record = None if text is None else sharding_record.from_json(text)
        if record is None:
            return None
        made = sharding_record.rebuild(record, jax.devices())
        if made is None:
            raise LeafMismatchError(
                "The devices of this process cannot form the recorded sharding",
                found=f"{jax.device_count()} devices",
                hint="Pass a template of jax.ShapeDtypeStruct with a sharding of your own, or "
                "without one for JAX's default placement.",
            )
        return made


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NumpyMetadata:
    """A NumPy array in a checkpoint; fit to be a leaf of a template."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    storage_metadata: StorageMetadata | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointMetadata(Generic[T]):
    """What is known of a checkpoint without reading its arrays.

    Attributes:
      path: Where it is, as the class that ``ctx.file.path_class`` names.
      metadata: The tree with metadata in place of its arrays, and zeros in place of its scalars.
      init_timestamp_nsecs: When the save began, in nanoseconds since the epoch.
      commit_timestamp_nsecs: When it was sealed.
      custom_metadata: The caller's own metadata.
      settings: The plain-data part of the settings that wrote it; empty for Orbax's.
    """

    path: Any = dataclasses.field(kw_only=False)
    metadata: T
    init_timestamp_nsecs: int | None = None
    commit_timestamp_nsecs: int | None = None
    custom_metadata: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    settings: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any])

    @property
    def init_timestamp(self) -> datetime.datetime | None:
        """When the save began, in UTC."""
        return _datetime(self.init_timestamp_nsecs)

    @property
    def commit_timestamp(self) -> datetime.datetime | None:
        """When the checkpoint was sealed, in UTC."""
        return _datetime(self.commit_timestamp_nsecs)


def _datetime(nsecs: int | None) -> datetime.datetime | None:
    if nsecs is None:
        return None
    return datetime.datetime.fromtimestamp(nsecs / 1e9, tz=datetime.UTC)


def leaf_metadata(leaf: StoredLeaf) -> object:
    """What stands for a leaf in the tree of metadata.

    Raises:
      CorruptionError: The leaf is damaged.
    """
    array = leaf.array
    if leaf.damage is not None:
        raise leaf.damage
    if leaf.parts is not None:
        return described(leaf, [leaf_metadata(part) for part in leaf.parts.leaves])
    if array is None:
        return _small(leaf)
    storage = StorageMetadata(chunk_shape=array.chunk_shape, write_shape=leaf.entry.write_shape)
    match leaf.kind:
        case LeafKind.JAX_ARRAY:
            return ArrayMetadata(
                shape=array.shape,
                dtype=array.dtype,
                sharding_metadata=array.sharding,
                storage_metadata=storage,
            )
        case LeafKind.JAX_KEY:
            return _keys(array, storage)
        case LeafKind.NUMPY_ARRAY:
            return NumpyMetadata(shape=array.shape, dtype=array.dtype, storage_metadata=storage)
        case LeafKind.NUMPY_SCALAR:
            return array.dtype.type(0)
        case LeafKind.BYTES:
            return b""
        case LeafKind.BOOL:
            return False
        case LeafKind.FLOAT:
            return 0.0
        case LeafKind.COMPLEX:
            return 0j
        case _:
            return 0


def _small(leaf: StoredLeaf) -> object:
    match leaf.kind:
        case LeafKind.EMPTY_NODE:
            return empty_value(leaf)
        case LeafKind.STRING:
            return "string"
        case LeafKind.BYTES:
            return b""
        case _:
            return 0


def _keys(array: StoredArray, storage: StorageMetadata) -> ArrayMetadata:
    import jax

    one = jax.random.key(0, impl=array.key_impl)
    rank = len(array.shape) - len(jax.random.key_data(one).shape)
    return ArrayMetadata(
        shape=array.shape[:rank],
        dtype=one.dtype,
        sharding_metadata=array.sharding,
        storage_metadata=storage,
    )


def tree_metadata(contents: Contents, options: PyTreeOptions) -> Any:
    """The tree of metadata of an item, as far as leaf handlers are known with leaves of theirs."""
    whole: Contents = raised(group(contents, options, lenient=True))
    return raised(whole.tree([leaf_metadata(leaf) for leaf in whole.leaves]))
