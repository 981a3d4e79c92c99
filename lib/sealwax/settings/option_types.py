"""What settings hold that is more than plain data: enums, markers, and the shape of objects."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Protocol, final, runtime_checkable


class CheckpointLayout(enum.Enum):
    """How a checkpoint's files are laid out.

    Attributes:
      ORBAX: The layout of Orbax Checkpoint v1.
      SAFETENSORS: One or more ``.safetensors`` files.
      AUTO: Detected when loading; ``ORBAX`` when saving.
    """

    ORBAX = "orbax"
    SAFETENSORS = "safetensors"
    AUTO = "auto"


class AtomicityMode(enum.StrEnum):
    """How a checkpoint becomes visible all at once.

    Attributes:
      AUTO: By rename where the file system has one, by commit file elsewhere.
      COMMIT_FILE: Written in place; complete once a commit file exists.
      ATOMIC_RENAME: Written beside its place and renamed into it.
    """

    AUTO = "auto"
    COMMIT_FILE = "commit_file"
    ATOMIC_RENAME = "atomic_rename"


class CheckpointingImpl(enum.Enum):
    """Who moves array data on a Pathways backend."""

    COLOCATED_PYTHON = "colocated_python"
    PERSISTENCE = "persistence"
    NO_DISPATCHER = "no_dispatcher"


class TransferPriority(enum.Enum):
    """When a leaf is brought to the host: what ``key_priority`` of a status callback returns."""

    SYNCHRONOUS = 0
    ASYNCHRONOUS_PRIORITIZED = 1
    ASYNCHRONOUS_DEPRIORITIZED = 2
    UNKNOWN = 3


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ArrayMetadataStore:
    """Says that per-process array metadata is kept; ``None`` in its place says that it is not."""


@runtime_checkable
class CheckpointableHandlerRegistry(Protocol):
    """What is read of a registry of handlers; values, our handles and Orbax's all have it."""

    def get(self, checkpointable_name: str) -> Any:
        """Returns the handler class registered for a checkpointable's name."""
        ...

    def has(self, checkpointable_name: str) -> bool:
        """Whether a handler class is registered for the name."""
        ...

    def get_all_entries(self) -> Any:
        """Returns the handler classes, each with its name or ``None``."""
        ...


@runtime_checkable
class SerializationStatusCallback(Protocol):
    """Is told what happens to each leaf of a save, and may say when it is brought to the host."""

    def key_priority(self, keypath: Any) -> Any:
        """Returns the ``TransferPriority`` of the leaf at ``keypath``."""
        ...

    def on_transfer_end(self, keypath: Any) -> Any:
        """Called when the leaf is on the host."""
        ...

    def on_write_end(self, keypath: Any) -> Any:
        """Called when the leaf is written."""
        ...


@runtime_checkable
class MemoryProfiler(Protocol):
    """Measures host memory around the blocking phase of a save."""

    @property
    def peak_usage_bytes(self) -> int:
        """Peak host memory between the last start and end, in bytes."""
        ...

    def profiler_start(self) -> None:
        """Starts measuring."""
        ...

    def profiler_end(self) -> None:
        """Stops measuring."""
        ...
