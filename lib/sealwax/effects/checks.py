"""Effects that hold stored bytes against what was recorded of them, and bring nothing back.

Their answers list what does not agree, all of it, so that one damaged place hides no other.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import NamedTuple


class Fault(enum.Enum):
    """What can be wrong with something that is stored."""

    MISSING = "missing"
    NOT_A_FILE = "not a file"
    SIZE = "of another size"
    CHANGED = "changed"
    MIXED = "of another checkpoint or place"
    UNREADABLE = "unreadable"
    INVALID = "not understood"


class Extent(NamedTuple):
    """A range of a file, in bytes, and the CRC-32C of what it must hold.

    The last ``trailer`` bytes of the range repeat the checksum of those before them. ``crc32`` is
    another checksum of the same bytes, if there is one.
    """

    file: str
    offset: int
    length: int
    crc32c: int
    trailer: int = 0
    crc32: int | None = None

    @classmethod
    def whole(cls, file: str, digest: tuple[int, ...]) -> Extent:
        """All of a file, by its size, its CRC-32C and where it is known its CRC-32."""
        size, crc, *more = digest
        return cls(file, 0, size, crc, crc32=more[0] if more else None)


class StoredBoxes(NamedTuple):
    """An array to be read in boxes of whole chunks: its key in the store, shapes, element size."""

    key: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    itemsize: int


class Mismatch(NamedTuple):
    """What does not agree: which of the effect's parts, in what way, and what is there.

    Of an array, ``start`` is the first element of the box that could not be read.
    """

    number: int
    fault: Fault
    found: str = ""
    start: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckExtents:
    """Reads ranges of files below ``directory``; the answer is a list of ``Mismatch``."""

    directory: str
    extents: tuple[Extent, ...]
    nbytes: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckArrays:
    """Reads whole foreign arrays, about ``piece`` bytes at a time; answers with ``Mismatch``es."""

    directory: str
    database: bool
    driver: str
    arrays: tuple[StoredBoxes, ...]
    fill_missing: bool
    piece: int
    nbytes: int
