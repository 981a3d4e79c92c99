"""The vocabulary of TensorStore's OCDBT key-value database, and what all its parts share.

A database is a manifest, which names the root of a B+tree, and data files, which hold the nodes
of the tree and the values that are too large to lie in a node. This module has the values that
encoder and decoder exchange, the frame around manifest and nodes, and the table of file names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import zstandard
from msgspec import Struct

from sealwax.checksum import crc32c, extend, trailer
from sealwax.errors import CorruptionError, InvalidLayoutError
from sealwax.layouts import varint
from sealwax.layouts.ocdbt_keys import common_prefix

MANIFEST_NAME = "manifest.ocdbt"
MANIFEST_MAGIC = 0x0CDB3A2A
NODE_MAGIC = 0x0CDB20DE
MAX_INLINE_BYTES = 1 << 20
MAX_KEY_BYTES = 65535
MAX_PATH_BYTES = 65535
MAX_NODE_ENTRIES = 1 << 20
UINT64_MAX = (1 << 64) - 1  # also offset and length of the root of an empty database

_HEADER = struct.Struct("<4sQ")
_TRAILER_BYTES = 4
_MAX_DECODED_BYTES = 1 << 27  # Orbax lets a node have 100 MB


class DataRef(Struct, frozen=True, gc=False):
    """A byte range of a data file.

    Attributes:
      file: Path of the file below ``base``.
      offset: Where the range starts, in bytes.
      length: Its size in bytes.
      base: Directory of the file below the database's root, empty or ending in ``/``. References
        inside a node are relative to the base that the node itself was reached by.
    """

    file: str
    offset: int
    length: int
    base: str = ""

    @property
    def path(self) -> str:
        """Path of the file below the database's root."""
        return self.base + self.file


Value: TypeAlias = bytes | DataRef
Read: TypeAlias = Callable[[DataRef], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """The bytes of a database.

    Attributes:
      nodes: B+tree nodes, one after the other; empty if the database is.
      manifest: Contents of ``manifest.ocdbt``.
    """

    nodes: bytes
    manifest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings that a manifest records.

    Attributes:
      uuid: Identifier of the database, 16 bytes.
      max_inline_value_bytes: Size up to which a value lies in its node.
      max_node_bytes: Size that a node has at most when decoded.
      arity_log2: Base-2 logarithm of the number of versions that a manifest lists.
      numbered: Whether the versions are in other files, ``manifest.<generation>``.
      zstd_level: Level at which nodes are compressed, or ``None`` if they are not.
    """

    uuid: bytes
    max_inline_value_bytes: int = 1024
    max_node_bytes: int = 8 << 20
    arity_log2: int = 4
    numbered: bool = False
    zstd_level: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a subtree holds: keys, bytes of its nodes, and bytes of values outside them."""

    keys: int = 0
    tree_bytes: int = 0
    indirect_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One state of the database.

    Attributes:
      generation: Number of the version, from 1.
      commit_time_ns: Nanoseconds since the Unix epoch.
      root: Where the root node lies, or ``None`` if the database is empty.
      height: Height of the root; that of a leaf is 0.
      statistics: What the tree holds.
    """

    generation: int
    commit_time_ns: int
    root: DataRef | None
    height: int
    statistics: Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A decoded manifest: the settings, and the latest versions, oldest first."""

    config: Config
    versions: tuple[Version, ...]


def seal(magic: int, columns: Sequence[bytes]) -> bytes:
    """Puts uncompressed columns between the header and the checksum of a manifest or node."""
    length = _HEADER.size + 2 + sum(map(len, columns)) + _TRAILER_BYTES
    header = _HEADER.pack(magic.to_bytes(4, "big"), length) + b"\0\0"
    checksum = crc32c(header)
    for column in columns:
        checksum = extend(checksum, column)
    return b"".join((header, *columns, checksum.to_bytes(4, "little")))


@dataclass(slots=True)
class Reader:
    """A position in the contents of a manifest or node.

    Every method moves it past what it reads, and raises `CorruptionError` with the file's path
    where the contents make no sense.
    """

    data: bytes
    path: str
    at: int = 0

    def broken(self, found: str) -> CorruptionError:
        """Returns the error for contents that no writer makes."""
        return CorruptionError(
            "the key-value database is damaged",
            path=self.path,
            expected="a well-formed record",
            found=found,
        )

    def take(self, size: int) -> bytes:
        """Reads ``size`` bytes."""
        end = self.at + size
        if end > len(self.data):
            raise self.broken(f"{len(self.data) - self.at} bytes where {size} belong")
        start, self.at = self.at, end
        return self.data[start:end]

    def column(self, count: int) -> list[int]:
        """Reads ``count`` integers."""
        try:
            values, self.at = varint.decode(self.data, self.at, count)
        except ValueError as error:
            raise self.broken(str(error)) from error
        return values.tolist()

    def integer(self) -> int:
        """Reads one integer."""
        return self.column(1)[0]

    def finish(self) -> None:
        """Checks that nothing is left."""
        if self.at != len(self.data):
            raise self.broken(f"{len(self.data) - self.at} bytes after the last field")


def open_frame(data: bytes, magic: int, path: str) -> Reader:
    """Checks the frame of a manifest or node, and decompresses what is in it.

    Returns:
      A reader of the contents.

    Raises:
      CorruptionError: The bytes are not those that were written.
      InvalidLayoutError: They are in a version of the format that came later.
    """
    whole = len(data) >= _HEADER.size + 2 + _TRAILER_BYTES and (
        _HEADER.unpack_from(data) == (magic.to_bytes(4, "big"), len(data))
    )
    body = data[:-_TRAILER_BYTES]
    if not whole or trailer(body) != data[len(body) :]:
        raise CorruptionError(
            "the key-value database is damaged",
            path=path,
            expected="a record with a matching length and checksum",
            found="another checksum" if whole else f"{len(data)} bytes that are no such record",
            hint="Restore the file from a copy, or load an earlier step.",
        )
    reader = Reader(data=body, path=path, at=_HEADER.size)
    match reader.integer(), reader.integer():
        case 0, 0:
            return reader
        case 0, 1:
            return Reader(data=_decompress(reader), path=path)
        case version, compression:
            raise InvalidLayoutError(
                "the key-value database has a format that this version does not know",
                path=path,
                expected="format 0 with compression 0 or 1",
                found=f"format {version} with compression {compression}",
            )


def _decompress(reader: Reader) -> bytes:
    compressed = reader.data[reader.at :]
    try:
        declared = zstandard.frame_content_size(compressed)
        if declared > _MAX_DECODED_BYTES:
            raise reader.broken(f"a record of {declared} bytes")
        return zstandard.ZstdDecompressor().decompress(compressed, _MAX_DECODED_BYTES)
    except zstandard.ZstdError as error:
        raise reader.broken("a record that cannot be decompressed") from error


def encode_files(files: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Encodes the table of data files, pairs of base and relative path in ascending order."""
    shared = [0]
    for (base, file), (next_base, next_file) in pairwise(files):
        # A reader rebuilds the base first, so what two paths share may only go past it if it is
        # one and the same.
        same = common_prefix(file, next_file) if base == next_base else 0
        shared.append(common_prefix(base, next_base) + same)
    paths = [base + file for base, file in files]
    suffixes = [path[skip:] for path, skip in zip(paths, shared, strict=False)]
    lengths, bases = [len(suffix) for suffix in suffixes], [len(base) for base, _ in files]
    columns = map(varint.encode, ([len(files)], shared[1:], lengths, bases))
    return b"".join((*columns, *suffixes))


def decode_files(reader: Reader, base: str) -> list[tuple[str, str]]:
    """Reads a table of data files; ``base`` is that of the node which has it."""
    count = reader.integer()
    shared = [0, *reader.column(max(count - 1, 0))]
    lengths = reader.column(count)
    bases = reader.column(count)
    files: list[tuple[str, str]] = []
    path = b""
    for prefix, length, split in zip(shared, lengths, bases, strict=False):
        if prefix > len(path) or split > prefix + length:
            raise reader.broken("a file name that is longer than its parts")
        path = path[:prefix] + reader.take(length)
        try:
            files.append((base + path[:split].decode(), path[split:].decode()))
        except UnicodeDecodeError as error:
            raise reader.broken("a file name that is not UTF-8") from error
    return files
