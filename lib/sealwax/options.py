"""Every setting, as frozen values: twelve groups below one root, ``Options``.

Names and defaults are those of Orbax Checkpoint v1; fields of our own stand beside them. What each
field does is told in one place, ``docs/options.md``. Annotations are evaluated here, because they
are also what checks the values: see ``checks``.

>>> ArrayOptions.Saving(use_zarr3=False)
ArrayOptions.Saving(use_zarr3=False)
>>> import dataclasses
>>> dataclasses.replace(FileOptions(), durability="atomic")
FileOptions(durability='atomic')
"""

import pathlib
from collections.abc import Callable, Sequence, Set
from typing import Annotated, Any, Literal, Protocol, cast

import ml_dtypes
import numpy as np
import numpy.typing as npt

from sealwax.errors import OptionValueError
from sealwax.leaf_handlers import LeafHandlers
from sealwax.settings.checks import Check, Convert, above, at_least, at_most
from sealwax.settings.frozen import Group, group
from sealwax.settings.option_types import (
    ArrayMetadataStore,
    AtomicityMode,
    CheckpointableHandlerRegistry,
    CheckpointingImpl,
    CheckpointLayout,
    MemoryProfiler,
    SerializationStatusCallback,
    TransferPriority,
)
from sealwax.settings.regulator import GIB, Regulator, Tuning
from sealwax.standard_leaves import STANDARD

__all__ = [
    "ArrayMetadataStore",
    "ArrayOptions",
    "AsyncOptions",
    "AtomicityMode",
    "AtomicityOptions",
    "CheckpointLayout",
    "CheckpointableHandlerRegistry",
    "CheckpointablesOptions",
    "CheckpointingImpl",
    "DeletionOptions",
    "FileOptions",
    "MemoryOptions",
    "MemoryProfiler",
    "MultiprocessingOptions",
    "Options",
    "PathwaysOptions",
    "PyTreeMetadataOptions",
    "PyTreeOptions",
    "SafetensorsOptions",
    "SerializationStatusCallback",
    "TransferPriority",
]


def __dir__() -> list[str]:
    return __all__


def _as_dtype(value: object) -> np.dtype[Any]:
    named = getattr(ml_dtypes, value, value) if isinstance(value, str) else value
    made: np.dtype[Any] = np.dtype(named)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if made.kind not in "biufcV" or made.type is np.void:
        raise ValueError("no array of numbers has this dtype")
    return made.newbyteorder("=")


def _as_inexact(value: object) -> np.dtype[Any]:
    made = _as_dtype(value)
    if not made.name.startswith(("float", "bfloat", "complex")):
        raise ValueError("arrays of integers keep their own dtype")
    return made


def _is_relative_path(path: str) -> bool:
    return bool(path) and not (
        "://" in path or "\0" in path or path[0] == "/" or ".." in path.split("/")
    )


DType = Annotated[npt.DTypeLike, Convert(make=_as_inexact, expected="a floating or complex dtype")]
Bytes = Annotated[int, at_least(1)]
Count = Annotated[int, at_least(1)]
Index = Annotated[int, at_least(0)]
Fraction = Annotated[float, above(0), at_most(1)]
Processes = Annotated[Set[Index], Check(holds=bool, expected="not empty")]
PermissionMode = Annotated[int, at_least(0), at_most(0o7777)]
RelativePath = Annotated[str, Check(holds=_is_relative_path, expected="that is a relative path")]


@group("pytree.saving.pytree_metadata_options")
class PyTreeMetadataOptions(Group):
    """What is recorded of a tree's structure."""

    support_rich_types: bool = False


@group("pytree")
class PyTreeOptions(Group):
    """How trees are saved and loaded."""

    @group("pytree.saving")
    class Saving(Group):
        """How trees are saved."""

        pytree_metadata_options: PyTreeMetadataOptions = PyTreeMetadataOptions()

    @group("pytree.loading")
    class Loading(Group):
        """How trees are loaded."""

        partial_load: bool = False
        unregistered_leaves: Literal["error", "parts"] = "error"

    saving: Saving = Saving()
    loading: Loading = Loading()
    leaf_handlers: LeafHandlers = STANDARD


@group("array")
class ArrayOptions(Group):
    """How arrays are stored and restored."""

    @group("array.saving")
    class Saving(Group):
        """How arrays are stored."""

        @group("array.saving.storage_options")
        class StorageOptions(Group):
            """How one array, or every array, is cast and cut; ``chunk_byte_size`` is in bytes."""

            dtype: DType | None = None
            chunk_byte_size: Bytes | None = None
            shard_axes: Sequence[Index] | None = None

        class ScopedStorageOptionsCreator(Protocol):
            """Chooses the storage options of one leaf, or ``None`` for those of every leaf."""

            def __call__(
                self, key: Any, value: Any, /
            ) -> "ArrayOptions.Saving.StorageOptions | None":
                """Is given the leaf's JAX key path and the leaf."""
                ...

        storage_options: StorageOptions = StorageOptions()
        use_ocdbt: bool = True
        use_zarr3: bool = True
        use_compression: bool = True
        compression: Literal["auto", "always"] = "auto"
        ocdbt_target_data_file_size: Annotated[int, at_least(0)] | None = None
        enable_pinned_host_transfer: bool | None = None
        enable_post_merge_validation: bool = True
        use_replica_parallel: bool | None = None
        min_slice_bytes_for_replica_parallel: Bytes | None = None
        max_replicas_for_replica_parallel: Count | None = None
        enable_replica_parallel_separate_folder: bool = False
        enable_write_sharding_file: bool = True
        array_metadata_store: ArrayMetadataStore | None = ArrayMetadataStore()
        scoped_storage_options_creator: Callable[[Any, Any], StorageOptions | None] | None = None

    @group("array.loading")
    class Loading(Group):
        """How arrays are restored."""

        @group("array.loading.load_and_broadcast_options")
        class LoadAndBroadcastOptions(Group):
            """Which replica reads, and how much memory the others' copies may take."""

            replica_axis_index: Index | None = 0
            primary_replica_id: Index | None = 0
            broadcast_memory_limit_bytes: Bytes | None = None
            broadcast_memory_scaling_factor: Fraction | None = 0.75

        enable_padding_and_truncation: bool = False
        raise_array_data_missing_error: bool = True
        use_load_and_broadcast: bool = False
        load_and_broadcast_options: LoadAndBroadcastOptions = LoadAndBroadcastOptions()
        verify: Literal["always", "never"] = "always"
        saved_shardings: Literal["ignore", "restore"] = "ignore"
        casting: Literal["safe", "unsafe"] = "safe"

    saving: Saving = Saving()
    loading: Loading = Loading()


@group("asynchronous")
class AsyncOptions(Group):
    """How background work behaves; ``timeout_secs`` is in seconds, ``None`` for no limit."""

    timeout_secs: Annotated[int | float, above(0)] | None = 1200
    post_finalization_callback: Callable[[], None] | None = None
    create_directories_asynchronously: bool = True


@group("multiprocessing")
class MultiprocessingOptions(Group):
    """Which processes take part, and which one leads."""

    primary_host: Index | None = 0
    active_processes: Processes | None = None
    barrier_sync_key_prefix: str | None = None


@group("file")
class FileOptions(Group):
    """How directories and files are made."""

    path_permission_mode: PermissionMode | None = None
    path_class: type[Any] = pathlib.Path
    skip_sync_file_validations: bool = False
    durability: Literal["durable", "atomic"] = "durable"


@group("checkpointables")
class CheckpointablesOptions(Group):
    """Which handlers save and load checkpointables; ``None`` stands for the standard registry."""

    registry: CheckpointableHandlerRegistry | None = None


@group("pathways")
class PathwaysOptions(Group):
    """How a Pathways backend is used."""

    checkpointing_impl: CheckpointingImpl | None = None


@group("deletion")
class DeletionOptions(Group):
    """How checkpoints are deleted."""

    @group("deletion.gcs_deletion_options")
    class GcsDeletionOptions(Group):
        """How checkpoints are deleted on Google Cloud Storage."""

        todelete_full_path: RelativePath | None = None

    gcs_deletion_options: GcsDeletionOptions = GcsDeletionOptions()
    todelete_subdir: RelativePath | None = None


class _Regulated(Group):
    """What holds a regulator beside its fields; it is no part of the value."""

    __slots__ = ("_regulator",)
    _regulator: Regulator


@group("memory")
class MemoryOptions(Group):
    """How much host memory saving and loading may take beside the arrays, in bytes."""

    @group("memory.regulator_options")
    class RegulatorOptions(_Regulated):
        """A controller of the transfer budget that follows measured memory; limits in GiB.

        Each value has a controller of its own, which all contexts that hold the value share.
        """

        max_memory_limit_gib: Annotated[float, above(0)]
        profiler: MemoryProfiler
        target_ratio: Fraction = 0.80
        min_memory_limit_gib: Annotated[float, above(0)] = 10.0
        kp: float = 0.4
        ki: float = 0.05
        kd: float = 0.1

        def __check__(self) -> None:
            most = self.max_memory_limit_gib * self.target_ratio
            if self.min_memory_limit_gib >= most:
                raise OptionValueError(
                    "Option 'memory.regulator_options.min_memory_limit_gib' is too large",
                    expected=f"below max_memory_limit_gib * target_ratio = {most:g}",
                    found=f"{self.min_memory_limit_gib:g}",
                )
            tuning = Tuning(
                least=self.min_memory_limit_gib * GIB,
                most=self.max_memory_limit_gib * GIB,
                target_ratio=self.target_ratio,
                kp=self.kp,
                ki=self.ki,
                kd=self.kd,
            )
            object.__setattr__(self, "_regulator", Regulator(tuning))

        @property
        def regulator(self) -> Regulator:
            """The controller: its ``current_limit_bytes`` is the budget that it gave last."""
            return cast("MemoryOptions.RegulatorOptions", self.__plain__())._regulator

    write_concurrent_bytes: Bytes | None = None
    read_concurrent_bytes: Bytes | None = None
    transfer_concurrent_bytes: Bytes | None = None
    regulator_options: RegulatorOptions | None = None
    expected_surge_bytes: Annotated[int | float, at_least(0)] | None = None
    is_prioritized_key_fn: Callable[[Any], bool] | None = None
    serialization_status_callback: SerializationStatusCallback | None = None
    deepcopy_host_arrays: bool = True


@group("safetensors")
class SafetensorsOptions(Group):
    """How safetensors files are read."""

    max_over_read_ratio: Annotated[float, at_least(1)] | None = None
    read_chunk_bytes: Bytes | None = None


@group("atomicity")
class AtomicityOptions(Group):
    """How a checkpoint becomes visible all at once."""

    mode: AtomicityMode = AtomicityMode.AUTO
    allow_legacy_atomic_rename: bool = False


@group("")
class Options(Group):
    """All settings: one snapshot of a ``Context``."""

    pytree: PyTreeOptions = PyTreeOptions()
    array: ArrayOptions = ArrayOptions()
    asynchronous: AsyncOptions = AsyncOptions()
    multiprocessing: MultiprocessingOptions = MultiprocessingOptions()
    file: FileOptions = FileOptions()
    checkpointables: CheckpointablesOptions = CheckpointablesOptions()
    pathways: PathwaysOptions = PathwaysOptions()
    checkpoint_layout: CheckpointLayout = CheckpointLayout.ORBAX
    deletion: DeletionOptions = DeletionOptions()
    memory: MemoryOptions = MemoryOptions()
    safetensors: SafetensorsOptions = SafetensorsOptions()
    atomicity: AtomicityOptions = AtomicityOptions()


DEFAULTS = Options()
