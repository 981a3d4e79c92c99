"""Zstandard frames: a chunk is one, and is decoded straight into where it belongs."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import zstandard

from sealwax.arrays.zarr import ZSTD_LEVEL

zstd: Any = zstandard  # Its own types know of no reader but files.

_Bytes = np.ndarray[Any, np.dtype[np.uint8]]
_PATTERN = 16
_FEW_BYTES = 4 << 10


def compress(data: _Bytes) -> _Bytes:
    """One Zstandard frame that holds ``data``, a flat array of bytes."""
    pattern = _repeated(data)
    return _encode(data) if pattern is None else _constant(pattern, data.size)


def _repeated(data: _Bytes) -> bytes | None:
    """The sixteen bytes that ``data`` repeats from its start to its end, if it does."""
    if data.size < _FEW_BYTES or data.size % _PATTERN:
        return None
    words = data.view(np.uint64)
    # Most data differs here, and need not be gone through.
    if words[0] != words[-2] or words[1] != words[-1]:
        return None
    return data[:_PATTERN].tobytes() if np.array_equal(words[2:], words[:-2]) else None


@functools.lru_cache(maxsize=32)
def _constant(pattern: bytes, size: int) -> _Bytes:
    """The frame of a repeated pattern: zeros have thousands of chunks, and they are all alike."""
    return _encode(np.tile(np.frombuffer(pattern, np.uint8), size // _PATTERN))


def _encode(data: _Bytes) -> _Bytes:
    frame = zstd.ZstdCompressor(level=ZSTD_LEVEL).compress(data)
    # A copy, since the frame was cut to its size where there was room for all of the data.
    return np.frombuffer(frame, np.uint8).copy()


def decompress(frame: _Bytes, into: _Bytes) -> None:
    """Decodes a Zstandard frame that holds as many bytes as there are to be filled.

    Raises:
      ValueError: The frame is broken, or holds another number of bytes.
    """
    rest = memoryview(into)  # pyright: ignore[reportArgumentType]
    try:
        with zstd.ZstdDecompressor().stream_reader(frame) as reader:
            while rest and (done := reader.readinto(rest)):
                rest = rest[done:]
            over = reader.read(1)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    if rest or over:
        raise ValueError(f"the frame does not hold {into.size} bytes")
