"""Effects on array data, and the units in which it moves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct

from sealwax.effects.later import Later


class Slab(Struct, frozen=True, gc=False):
    """A run of chunks of one shard of one leaf: the unit in which array data moves.

    ``first`` and ``last`` (exclusive) count the chunks of the shard in C order.
    """

    leaf: int
    shard: int
    first: int
    last: int


class Stored(Struct, frozen=True, gc=False):
    """Where one chunk was written: chunk ``place`` of the grid of ``leaf``, in ``file``."""

    leaf: int
    place: tuple[int, ...]
    file: str
    offset: int
    length: int
    crc32c: int


class Fetch(Struct, frozen=True, gc=False):
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


class Buffer(Struct, frozen=True, gc=False):
    """A host buffer to be filled: one shard of one leaf."""

    leaf: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


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


class ChunkStream(NamedTuple):
    """A foreign chunk that can be decoded as it is read.

    ``key`` is that of the object in the store, ``shape`` that of the chunk, whose part ``source``
    goes to the part ``into`` of the buffer. The bytes are ``compressed``, with Zstandard, or lie as
    they are; when ``indexed``, the index of a shard follows them.
    """

    key: str
    shape: tuple[int, ...]
    source: tuple[slice, ...]
    into: tuple[slice, ...]
    compressed: bool
    indexed: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadRegions:
    """Reads regions of foreign arrays into buffers, through the driver that knows them.

    At most ``piece`` bytes are read at once, or one row of chunks where that is more. ``streams``,
    where there are any, has one for each region; the driver then serves what is unusual.
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
    streams: tuple[ChunkStream, ...] = ()


class Placement(Struct, frozen=True, gc=False):
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
