"""CRC-32C, the checksum that Zarr chunks and OCDBT nodes end with.

Arrays are summed in C order, as they would be written. A buffer that is contiguous is read where
it lies, with the GIL released; only a strided one is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import google_crc32c
import numpy as np
import numpy.typing as npt

Buffer: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[Any]

# The package has no types.
_extend = cast(
    "Callable[[int, bytes | npt.NDArray[np.uint8]], int]",
    google_crc32c.extend,  # pyright: ignore[reportUnknownMemberType]
)

crc32c_flat = cast(
    "Callable[[npt.NDArray[np.uint8]], int]",
    google_crc32c.value,  # pyright: ignore[reportUnknownMemberType]
)
"""``crc32c`` of a contiguous vector of bytes, for those who have thousands of them."""


def crc32c(data: Buffer) -> int:
    """Returns the CRC-32C of the bytes of ``data``.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    return extend(0, data)


def extend(checksum: int, data: Buffer) -> int:
    """Returns the CRC-32C of what ``checksum`` was computed from, followed by ``data``.

    >>> extend(crc32c(b"1234"), b"56789") == crc32c(b"123456789")
    True
    """
    return _extend(checksum, _readable(data))


def trailer(data: Buffer) -> bytes:
    """Returns the four bytes, little-endian, that follow ``data`` in Zarr's and OCDBT's files.

    >>> trailer(b"123456789").hex()
    '839206e3'
    """
    return crc32c(data).to_bytes(4, "little")


def _readable(data: Buffer) -> bytes | npt.NDArray[np.uint8]:
    """Presents ``data`` as something that the extension takes without copying it.

    It refuses a bytearray or memoryview, also a read-only one, but takes an array over the same
    memory.
    """
    if isinstance(data, bytes):
        return data
    array: npt.NDArray[Any] = data if isinstance(data, np.ndarray) else np.asarray(memoryview(data))
    if array.ndim == 1 and array.dtype == np.uint8 and array.flags.c_contiguous:
        return array
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
