"""Zstandard, as TensorStore's Zarr driver speaks it.

The standard library has no Zstandard before Python 3.14 and TensorStore exposes none, but an
array in its memory store is encoded by the very codec that will decode it later.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import tensorstore

from sealwax.arrays.zarr import ZSTD_LEVEL

ts: Any = tensorstore  # Half of its own types are unknown to a strict checker.

_Bytes = np.ndarray[Any, np.dtype[np.uint8]]
_CHUNK = "c/0"
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
    array = _array(data.size)
    array.write(data).result()
    return np.frombuffer(array.kvstore.read(_CHUNK).result().value, np.uint8)


def decompress(frame: _Bytes, size: int) -> _Bytes:
    """The ``size`` bytes that a Zstandard frame holds.

    Raises:
      ValueError: The frame is broken, or holds another number of bytes.
    """
    array = _array(size)
    array.kvstore.write(_CHUNK, frame.tobytes()).result()
    return np.asarray(array.read().result())


def _array(size: int) -> Any:
    return ts.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "memory"},
            "store_data_equal_to_fill_value": True,
            "fill_missing_data_reads": False,
            "metadata": {
                "shape": [size],
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [size]}},
                "data_type": "uint8",
                "codecs": [
                    {"name": "bytes"},
                    {"name": "zstd", "configuration": {"level": ZSTD_LEVEL}},
                ],
            },
        },
        create=True,
        # A context of its own is a memory store of its own.
        context=ts.Context(),
    ).result()
