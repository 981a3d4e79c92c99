"""Chunks of foreign arrays, decoded while they are read, straight into where they belong.

A chunk of Orbax's is often a whole shard. It is read and decoded piece by piece, so that however
large it is, no more than a piece of it is held beside the array.
"""

from __future__ import annotations

import math
from typing import Any, Protocol, cast

import numpy as np
import zstandard

from sealwax.arrays.forms import as_bytes
from sealwax.arrays.zarr import INDEX_BYTES, payload_bytes
from sealwax.effects import ChunkStream, ReadRegions
from sealwax.errors import CorruptionError
from sealwax.runtime.values import EndOfValue, Value, Values
from sealwax.runtime.zstdframes import FrameEnd

zstd: Any = zstandard  # Its own types know of no reader but files.
_PIECE_BYTES = 1 << 20
_ROWS_BYTES = 1 << 20
_Array = np.ndarray[Any, Any]


def read_chunk(values: Values, effect: ReadRegions, stream: ChunkStream, target: _Array) -> bool:
    """Decodes a chunk and puts the part of it that is wanted into ``target``.

    Args:
      values: Where the chunk lies.
      effect: What it is read for.
      stream: How the chunk is encoded, and which part of it is wanted.
      target: What is filled: an array of the shape of that part, of the stored dtype.

    Returns:
      Whether it was decoded. What is missing, damaged or only unusual is not, and is left to
      TensorStore, which knows what may be so and what is an error.
    """
    try:
        value = values.open(effect, stream.key)
    except OSError:
        return False
    if value is None:
        return False
    try:
        size = math.prod(stream.shape) * target.dtype.itemsize
        length = _payload(value) if stream.indexed else value.length
        decoded = (_Zstd if stream.compressed else _Raw)(value, length, size)
        _fill(decoded, target, stream.source, stream.shape)
        decoded.finish()
    except (_Unusual, EndOfValue, zstandard.ZstdError, CorruptionError, OSError):
        return False
    finally:
        value.close()
    return True


class _Unusual(Exception):
    """A chunk is not what its metadata makes one expect."""


class _Decoded(Protocol):
    """The bytes of a chunk, in order."""

    def read_into(self, view: memoryview) -> None: ...

    def skip(self, nbytes: int) -> None: ...

    def finish(self) -> None:
        """Makes sure that the chunk ends here."""
        ...


def _payload(value: Value) -> int:
    """How many bytes the index at the end of a shard says that its only chunk has."""
    length = payload_bytes(value.take(INDEX_BYTES, max(0, value.length - INDEX_BYTES)))
    if length > value.length - INDEX_BYTES:
        raise _Unusual
    return length


def _fill(
    decoded: _Decoded, target: _Array, source: tuple[slice, ...], shape: tuple[int, ...]
) -> None:
    """Takes the box ``source`` of an array of ``shape`` that is decoded in C order."""
    if not shape:
        decoded.read_into(memoryview(cast(Any, as_bytes(target))))
        return
    (first, *inner), below = source, shape[1:]
    row = math.prod(below) * target.dtype.itemsize
    decoded.skip(first.start * row)
    if target.shape[1:] == below and target.flags.c_contiguous:
        decoded.read_into(memoryview(cast(Any, as_bytes(target))))
    elif row > _ROWS_BYTES and below:
        for part in target:
            _fill(decoded, part, tuple(inner), below)
    else:
        _fill_rows(decoded, target, tuple(inner), below, max(1, _ROWS_BYTES // max(1, row)))
    decoded.skip((shape[0] - first.stop) * row)


def _fill_rows(
    decoded: _Decoded,
    target: _Array,
    inner: tuple[slice, ...],
    below: tuple[int, ...],
    rows: int,
) -> None:
    scratch = np.empty((min(rows, len(target)), *below), target.dtype)
    for at in range(0, len(target), rows):
        into = target[at : at + rows]
        some = scratch[: len(into)]
        decoded.read_into(memoryview(cast(Any, as_bytes(some))))
        into[...] = some[(slice(None), *inner)]


class _Raw:
    def __init__(self, value: Value, length: int, size: int) -> None:
        if length != size:
            raise _Unusual
        self._value = value
        self._at = 0

    def read_into(self, view: memoryview) -> None:
        self._value.read_into(view, self._at)
        self._at += view.nbytes

    def skip(self, nbytes: int) -> None:
        self._at += nbytes

    def finish(self) -> None:
        """It has as many bytes as it should."""


class _Zstd:
    def __init__(self, value: Value, length: int, _: int) -> None:
        self._value = value
        self._length = length
        self._at = 0
        self._frame = FrameEnd()
        self._decoder = zstd.ZstdDecompressor().stream_reader(
            self, read_size=_PIECE_BYTES, closefd=False
        )

    def read(self, nbytes: int) -> bytes:
        """What the decoder asks for when it has nothing left to decode."""
        data = self._value.take(min(nbytes, self._length - self._at), self._at)
        self._at += len(data)
        self._frame.feed(data)
        return data

    def read_into(self, view: memoryview) -> None:
        while view.nbytes:
            done = self._decoder.readinto(view)
            if not done:
                raise _Unusual
            view = view[done:]

    def skip(self, nbytes: int) -> None:
        if nbytes:
            scratch = memoryview(bytearray(min(nbytes, _ROWS_BYTES)))
            for at in range(0, nbytes, _ROWS_BYTES):
                self.read_into(scratch[: nbytes - at])

    def finish(self) -> None:
        # The decoder stops where the frame does, and tells neither what it lacks nor what follows.
        more = self._decoder.read(1)
        if more or self._frame.end != self._length:
            raise _Unusual
