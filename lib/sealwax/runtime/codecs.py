"""Zstandard, as TensorStore's Zarr driver speaks it.

The standard library has no Zstandard before Python 3.14 and TensorStore exposes none, but an
array in its memory store is encoded by the very codec that will decode it later.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorstore

from sealwax.arrays.zarr import ZSTD_LEVEL

ts: Any = tensorstore  # Half of its own types are unknown to a strict checker.

_Bytes = np.ndarray[Any, np.dtype[np.uint8]]
_CHUNK = "c/0"


def compress(data: _Bytes) -> _Bytes:
    """One Zstandard frame that holds ``data``, a flat array of bytes."""
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
