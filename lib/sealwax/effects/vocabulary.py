"""What an operation may do to the world, as values.

An effect says *what* is to happen, never *how*: handlers in ``sealwax.runtime`` give it its
meaning. Its granularity follows cost: a thousand small arrays are one ``WriteBatch``, one huge
array is several. A field of type ``Later`` holds either the value itself or a ``From`` that
names the step of the plan whose result it will be; handlers only ever see the value.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from sealwax.effects.checks import CheckArrays, CheckExtents
from sealwax.effects.handling import DigestTree, HandlerEffect
from sealwax.effects.later import From as From
from sealwax.effects.later import Later as Later
from sealwax.effects.parts import Hold, LinkFiles, MergeDatabases, ReadMatching


class Entry(enum.Enum):
    """What a path names."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    OTHER = "special file"


class Slab(NamedTuple):
    """A run of chunks of one shard of one leaf: the unit in which array data moves.

    ``first`` and ``last`` (exclusive) count the chunks of the shard in C order.
    """

    leaf: int
    shard: int
    first: int
    last: int


class Stored(NamedTuple):
    """Where one chunk was written: chunk ``place`` of the grid of ``leaf``, in ``file``."""

    leaf: int
    place: tuple[int, ...]
    file: str
    offset: int
    length: int
    crc32c: int


class Fetch(NamedTuple):
    """One chunk to be read: ``length`` bytes at ``offset`` of ``file``.

    The last ``trailer`` bytes repeat the checksum; ``crc32c`` is what the manifest says of those
    before them. ``target`` counts the buffers of the batch; ``payload`` is the size of the chunk
    when it is stored as it is, and 0 when it is compressed. ``source`` and
    ``destination`` select the part of the chunk and of the target that correspond; both are
    ``None`` when the payload is a contiguous run that starts at byte ``start`` of the target.
    ``chunk`` is its place in the grid, empty for the only one of an array.
    """

    target: int
    file: str
    offset: int
    length: int
    crc32c: int
    trailer: int
    payload: int
    start: int
    chunk_shape: tuple[int, ...] = ()
    source: tuple[slice, ...] | None = None
    destination: tuple[slice, ...] | None = None
    chunk: tuple[int, ...] = ()


class Buffer(NamedTuple):
    """A host buffer to be filled: one shard of one leaf."""

    leaf: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


# Effects that only look.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is at ``path``; the answer is an ``Entry``, or ``None`` for nothing."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ListDirectory:
    """The names in the directory ``path``, sorted."""

    path: str


class Present(NamedTuple):
    """What a name in a directory stands for; a symbolic link for what it leads to."""

    entry: Entry
    nbytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ListTree:
    """All that is below the directory ``path``: a ``Present`` for each name relative to it."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadFile:
    """The bytes of the file ``path``, or ``None`` when there is none."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """The time, in nanoseconds since the epoch."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Thirty-two random hexadecimal digits."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadEntries:
    """The values of ``keys`` in the key-value database in ``directory``; ``None`` if absent."""

    directory: str
    keys: tuple[str, ...]
    database: bool


# Effects that act on files and directories.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MakeDirectory:
    """A new directory. ``lease`` marks it as in use until the operation ends or dies."""

    path: str
    mode: int | None = None
    parents: bool = False
    lease: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WriteFile:
    """A new file with these bytes, on stable storage when ``sync``."""

    path: str
    content: Later[bytes]
    sync: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WriteFiles:
    """New files below ``directory``, by name, with the directories that they need in between."""

    directory: str
    contents: Later[Mapping[str, bytes]]
    sync: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SyncDirectory:
    """The entries of a directory are brought to stable storage."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SyncTree:
    """The entries of a directory and of all below it are brought to stable storage, last first."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """``source`` becomes ``target``, which must not exist."""

    source: str
    target: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """``first`` and ``second`` change places in one step; if there is no second, first gets it."""

    first: str
    second: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """The file ``source`` takes the place of the file ``target`` in one step."""

    source: str
    target: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFile:
    """A file is removed; one that is gone already is fine."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RemoveTree:
    """A directory and everything below it is removed.

    ``abandoned`` spares one that is in use, ``replaced`` one that is not a checkpoint.
    """

    path: str
    abandoned: bool = False
    replaced: bool = False


# Effects on array data.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Brings slabs to the host. ``copy`` makes buffers that the caller cannot change."""

    slabs: tuple[Slab, ...]
    leaves: Later[Sequence[Any]]
    copy: bool
    nbytes: int
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Looks at staged data and tells which of the candidate leaves it pays to compress."""

    slabs: tuple[Slab, ...]
    candidates: frozenset[int]
    buffers: Later[Sequence[np.ndarray[Any, Any]]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WriteBatch:
    """Encodes slabs chunk by chunk into one new file; the answer is a list of ``Stored``.

    ``forms`` says how each leaf is cut, and nothing of its data. In version 3 of Zarr, ``zarr``,
    each chunk ends in its checksum.
    """

    path: str
    name: str
    slabs: tuple[Slab, ...]
    forms: tuple[Any, ...]
    buffers: Later[Sequence[np.ndarray[Any, Any]]]
    compressed: tuple[Later[frozenset[int]], ...]
    nbytes: int
    zarr: int = 3
    sync: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WriteChunks:
    """Encodes slabs as ``WriteBatch`` does, but each chunk into a file of its own.

    The files lie below ``directory``, where Zarr looks for the chunks of an array of that name;
    ``names`` has one for each leaf.
    """

    directory: str
    names: tuple[str, ...]
    slabs: tuple[Slab, ...]
    forms: tuple[Any, ...]
    buffers: Later[Sequence[np.ndarray[Any, Any]]]
    compressed: tuple[Later[frozenset[int]], ...]
    nbytes: int
    zarr: int = 3
    sync: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Allocate:
    """Makes host buffers to read into."""

    buffers: tuple[Buffer, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadBatch:
    """Reads chunks into buffers, checking each against its checksum when ``verify``.

    With ``fill_missing``, chunks whose file is not there are zeros.
    """

    directory: str
    fetches: tuple[Fetch, ...]
    leaves: tuple[str, ...]
    buffers: Later[Sequence[np.ndarray[Any, Any]]]
    nbytes: int
    verify: bool = True
    fill_missing: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadRegions:
    """Reads regions of foreign arrays into buffers, through the driver that knows them.

    At most ``piece`` bytes are read at once, or one row of chunks where that is more.
    """

    directory: str
    database: bool
    driver: str
    leaves: tuple[str, ...]
    regions: tuple[tuple[slice, ...], ...]
    targets: tuple[int, ...]
    buffers: Later[Sequence[np.ndarray[Any, Any]]]
    fill_missing: bool
    nbytes: int
    piece: int = 16 << 20


class Placement(NamedTuple):
    """One JAX array: its shape, dtype, sharding and the buffer that each device takes.

    ``layout`` is a ``Format`` of JAX, or ``None`` for the default.
    """

    leaf: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sharding: Any
    parts: tuple[tuple[int, Any], ...]
    key_impl: str | None = None
    layout: Any = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Puts filled buffers on devices, one list of (buffer, device) for each array."""

    arrays: tuple[Placement, ...]
    buffers: Later[Sequence[np.ndarray[Any, Any]]]
    default_device: Any = None
    x64: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Derive:
    """A pure function of earlier results. It touches nothing, and no handler sees it."""

    name: str
    function: Callable[..., Any]
    inputs: tuple[Later[Any], ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function of the user's, called with ``inputs``."""

    name: str
    function: Callable[..., object]
    inputs: tuple[Later[Any], ...] = ()


Observation: TypeAlias = (
    Look | ListDirectory | ListTree | ReadFile | ReadMatching | Now | Token | ReadEntries
)
FileEffect: TypeAlias = (
    MakeDirectory
    | WriteFile
    | WriteFiles
    | SyncDirectory
    | SyncTree
    | Rename
    | Exchange
    | Replace
    | RemoveFile
    | RemoveTree
    | DigestTree
    | LinkFiles
)
DataEffect: TypeAlias = (
    Stage
    | Probe
    | WriteBatch
    | WriteChunks
    | MergeDatabases
    | Allocate
    | ReadBatch
    | ReadRegions
    | CheckExtents
    | CheckArrays
    | Place
)
Effect: TypeAlias = Observation | FileEffect | DataEffect | HandlerEffect | Hold | Derive | Call
