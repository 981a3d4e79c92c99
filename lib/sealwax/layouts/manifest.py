"""The manifest: what sealwax keeps beside Orbax's files.

Every item has one, with the structure of its tree, where each chunk lies and its checksum; the
checkpoint has one, with the settings that wrote it and the size and checksum of every other
metadata file. Both are one line of JSON followed by a line with its own CRC-32C, so that a
manifest that was cut or changed is noticed at any byte.
"""

from __future__ import annotations

import zlib
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from sealwax.checksum import crc32c
from sealwax.errors import CorruptionError, InvalidLayoutError
from sealwax.layouts.orbax import DAMAGED

NAME = "_SEALWAX"
UNFINISHED = f"{NAME}_UNFINISHED"
"""Says that its directory is being made in place by us, until there is a commit file."""
VERSION = 1

Digest: TypeAlias = Annotated[tuple[int, ...], msgspec.Meta(min_length=2, max_length=3)]
"""Size in bytes, CRC-32C and CRC-32 of a file; the last is not there in the oldest manifests.

The files of an OCDBT database are made of records that end in their own CRC-32C, and for such a
file that of the whole says nothing but its size: any other one of that size has the same.
"""


class Form(msgspec.Struct, array_like=True, frozen=True):
    """How arrays of one kind are stored; leaves refer to it by number."""

    value_type: str
    dtype: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    codec: str
    key_impl: str | None = None
    sharding: str | None = None
    write_shape: tuple[int, ...] | None = None


class Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One leaf.

    Attributes:
      name: Its name in the store.
      kind: What it was: a value of ``LeafKind``.
      form: Number of its form, or -1 when its data is in this row.
      chunks: File number, offset, length and CRC-32C of each chunk, in C order of the grid.
      data: A string, or the inline record of a value that Orbax cannot hold.
    """

    name: str
    kind: str
    form: int = -1
    chunks: list[int] = []
    data: Any = None


class Composite(msgspec.Struct, array_like=True, frozen=True):
    """A leaf that a leaf handler took apart into rows.

    Attributes:
      first: The number of its first row.
      count: How many rows it has.
      depth: How many keys lead to it.
      type_name: What the handler calls its type.
      data: The plain data beside the rows, as JSON, and the notes on that; see ``json_codec``.
      notes: The notes.
    """

    first: int
    count: int
    depth: int
    type_name: str
    data: str | None = None
    notes: str | None = None


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of one item.

    Attributes:
      format: Version of this format.
      structure: The tree's containers; see ``sealwax.trees.structure_json``.
      forms: The forms that rows refer to.
      rows: The leaves, in the order of the structure.
      files: The data files that chunks refer to, by number.
      digests: Size and checksums of the item's other files.
      zarr: Version of Zarr; in version 3 each chunk ends in its checksum.
      composites: The leaves that were taken apart, in order; absent where none was.
    """

    format: int = VERSION
    structure: Any
    forms: list[Form]
    rows: list[Row]
    files: list[str]
    digests: dict[str, Digest]
    zarr: int = 3
    composites: list[Composite] | msgspec.UnsetType = msgspec.UNSET


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of a checkpoint.

    Attributes:
      format: Version of this format.
      writer: Name and version of the writer.
      settings: The plain-data part of the settings that wrote it.
      digests: Size and checksums of its metadata files, by path below the checkpoint.
      parts: The parts of which it was put together; absent where it was saved as a whole.
    """

    format: int = VERSION
    writer: str
    settings: dict[str, Any]
    digests: dict[str, Digest]
    parts: list[str] | msgspec.UnsetType = msgspec.UNSET


_T = TypeVar("_T", Item, Checkpoint)


def digest(data: bytes) -> Digest:
    """Size and checksums of a file's content."""
    return len(data), crc32c(data), zlib.crc32(data)


def agrees(recorded: Digest, data: bytes) -> bool:
    """Whether a file has the content that a digest was made of.

    >>> agrees(digest(b"data"), b"data"), agrees(digest(b"data"), b"date")
    (True, False)
    """
    return tuple(recorded) == digest(data)[: len(recorded)]


def encode(manifest: Item | Checkpoint) -> bytes:
    """The bytes of a manifest's file."""
    data = msgspec.json.encode(manifest) + b"\n"
    return data + b"%08x\n" % crc32c(data)


def _version(body: bytes, path: str) -> int:
    try:
        return msgspec.json.decode(body, type=_Version).format
    except (msgspec.DecodeError, RecursionError) as error:
        raise CorruptionError("The manifest cannot be read", path=path, hint=DAMAGED) from error


def decode(data: bytes, kind: type[_T], path: str) -> _T:
    """Reads a manifest.

    Raises:
      CorruptionError: It was cut short or changed.
      InvalidLayoutError: A newer version of sealwax wrote it.
    """
    body, trailer = data[:-9], data[-9:]
    if trailer != b"%08x\n" % crc32c(body):
        raise CorruptionError(
            "The manifest differs from its checksum",
            path=path,
            hint=DAMAGED,
        )
    version = _version(body, path)
    if version > VERSION:
        raise InvalidLayoutError(
            "A newer version of sealwax wrote this checkpoint",
            path=path,
            expected=f"format {VERSION} or less",
            found=f"format {version}",
            hint="Update sealwax to load it.",
        )
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise CorruptionError(
            "The manifest is not the one that belongs here",
            path=path,
            expected=f"that of {'an item' if kind is Item else 'a checkpoint'}",
            found=f"another: {error}",
            hint="Files of two checkpoints were mixed: restore this file from a copy.",
        ) from error


class _Version(msgspec.Struct):
    format: int
