"""The metadata and keys of Zarr arrays, versions 3 and 2, as TensorStore spells them."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from sealwax.arrays import dtypes
from sealwax.checksum import trailer
from sealwax.errors import CorruptionError

_DType: TypeAlias = "np.dtype[Any]"
_Shape: TypeAlias = tuple[int, ...]

_LOGICAL_NAME = "sealwax_dtype"
ZSTD_LEVEL = 3
_ZSTD_LEVEL_V2 = 1


class Codec(enum.Enum):
    """How the bytes of a chunk are encoded; in what we write under Zarr v3 a CRC-32C follows."""

    RAW = "raw"
    ZSTD = "zstd"


class Tail(enum.Enum):
    """What follows the encoded bytes in the object that holds a chunk."""

    NOTHING = "nothing"
    CHECKSUM = "checksum"
    INDEX = "index"  # of a shard, which has this one chunk


INDEX_BYTES = 20
"""Size of the index of a shard of one chunk: offset, length, and CRC-32C of these."""


class ZarrFormat(enum.Enum):
    """The version of the Zarr specification."""

    V3 = 3
    V2 = 2

    @property
    def trailer(self) -> int:
        """Bytes of the CRC-32C that ends each chunk; version 2 has no place for one."""
        return 4 if self is ZarrFormat.V3 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrArray:
    """What the metadata of one stored array says.

    Attributes:
      shape: Shape of the array, in elements.
      chunk_shape: Shape of every stored object.
      dtype: The dtype; for a carried one the true one.
      codec: How chunks are encoded; ``None`` if in a way that only TensorStore decodes.
      format: Version of Zarr.
      tail: What follows an encoded chunk, where the codec is known.
      checksummed: Whether each chunk, or each part of one, carries a CRC-32C.
    """

    shape: _Shape
    chunk_shape: _Shape
    dtype: _DType
    codec: Codec | None
    format: ZarrFormat
    tail: Tail = Tail.NOTHING
    checksummed: bool = False


def metadata_key(name: str, format: ZarrFormat = ZarrFormat.V3) -> str:
    """The key of an array's metadata in the store.

    >>> metadata_key("params.w"), metadata_key("")
    ('params.w/zarr.json', 'zarr.json')
    """
    return _inside(name, "zarr.json" if format is ZarrFormat.V3 else ".zarray")


def chunk_key(name: str, index: Sequence[int], format: ZarrFormat = ZarrFormat.V3) -> str:
    """The key of one chunk in the store.

    >>> chunk_key("w", (0, 2)), chunk_key("step", ()), chunk_key("w", (0, 2), ZarrFormat.V2)
    ('w/c/0/2', 'step/c', 'w/0.2')
    """
    if format is ZarrFormat.V3:
        file = "/".join(["c", *map(str, index)])
    else:
        file = ".".join(map(str, index)) or "0"
    return _inside(name, file)


def _inside(name: str, file: str) -> str:
    # TensorStore takes "w" and "w/" for the same place.
    place = name.removesuffix("/")
    return f"{place}/{file}" if place else file


@lru_cache(maxsize=4096)
def zarr3_metadata(shape: _Shape, chunk_shape: _Shape, dtype: str, codec: Codec) -> bytes:
    """The ``zarr.json`` of an array whose chunks carry a CRC-32C.

    Args:
      shape: Shape of the array, in elements.
      chunk_shape: Shape of every chunk.
      dtype: Name of the dtype; a dtype that TensorStore lacks is carried, its name kept as an
        attribute.
      codec: How the bytes of each chunk are encoded.
    """
    storage = dtypes.storage_dtype(dtype)
    data = {
        "chunk_grid": {
            "configuration": {"chunk_shape": list(chunk_shape)},
            "name": "regular",
        },
        "chunk_key_encoding": {"name": "default"},
        "codecs": _codecs(codec, storage.carrier.itemsize),
        "data_type": storage.zarr_name,
        "fill_value": dtypes.fill_value(storage.zarr_name),
        "node_type": "array",
        "shape": list(shape),
        "zarr_format": 3,
    }
    if storage.carried:
        data["attributes"] = {_LOGICAL_NAME: storage.logical}
    return _dump(data)


@lru_cache(maxsize=4096)
def zarr2_metadata(shape: _Shape, chunk_shape: _Shape, dtype: str, codec: Codec) -> bytes:
    """The ``.zarray`` of an array, for readers of Zarr v2; arguments as for Zarr v3.

    Version 2 has no place for a checksum, nor for the name of a carried dtype.
    """
    return _dump(
        {
            "chunks": [max(1, extent) for extent in chunk_shape],
            "compressor": {"id": "zstd", "level": _ZSTD_LEVEL_V2} if codec is Codec.ZSTD else None,
            "dimension_separator": ".",
            "dtype": dtypes.storage_dtype(dtype).zarr2_name,
            "fill_value": None,
            "filters": None,
            "order": "C",
            "shape": list(shape),
            "zarr_format": 2,
        }
    )


@lru_cache(maxsize=4096)
def parse_zarr3(data: bytes) -> ZarrArray:
    """Reads a ``zarr.json``.

    Raises:
      CorruptionError: It is not the metadata of an array.
      UnsupportedLeafError: The array's dtype is not known here.
    """
    try:
        parsed = json.loads(data)
        shape, chunk_shape = _shape(parsed["shape"]), _chunk_shape(parsed["chunk_grid"])
        name = str(parsed["data_type"])
        attributes: dict[str, Any] = parsed.get("attributes") or {}
        logical = str(attributes.get(_LOGICAL_NAME, name))
        codec, tail = _recognise(parsed["codecs"], chunk_shape)
        codec = codec if _is_default_grid(parsed) else None
        checksummed = _has_checksum(parsed["codecs"])
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _unreadable("zarr.json") from error
    return ZarrArray(
        shape=shape,
        chunk_shape=chunk_shape,
        dtype=dtypes.from_name(logical),
        codec=codec,
        format=ZarrFormat.V3,
        tail=tail,
        checksummed=checksummed,
    )


@lru_cache(maxsize=4096)
def parse_zarr2(data: bytes) -> ZarrArray:
    """Reads a ``.zarray``; raises as ``parse_zarr3`` does."""
    try:
        parsed = json.loads(data)
        shape, chunks = _shape(parsed["shape"]), _shape(parsed["chunks"])
        compressor, name = parsed["compressor"], str(parsed["dtype"])
        plain = (
            parsed["order"] == "C"
            and not parsed.get("filters")
            and parsed.get("dimension_separator", ".") == "."
            and not name.startswith(">")
        )
        zstd = compressor is not None and compressor["id"] == "zstd"
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _unreadable(".zarray") from error
    codec = Codec.ZSTD if zstd else Codec.RAW if compressor is None else None
    dtype = dtypes.from_zarr2_name(name)
    return ZarrArray(
        shape=shape,
        chunk_shape=chunks,
        dtype=dtypes.from_name(name) if dtype is None else dtype,
        codec=codec if plain else None,
        format=ZarrFormat.V2,
    )


def _codecs(codec: Codec, itemsize: int) -> list[dict[str, Any]]:
    # TensorStore names no byte order where elements are single bytes.
    order = {"configuration": {"endian": "little"}} if itemsize > 1 else {}
    compress: dict[str, Any] = {
        "configuration": {"checksum": False, "level": ZSTD_LEVEL},
        "name": "zstd",
    }
    middle = [compress] if codec is Codec.ZSTD else []
    return [{**order, "name": "bytes"}, *middle, {"name": "crc32c"}]


def _recognise(codecs: list[dict[str, Any]], chunk: _Shape) -> tuple[Codec | None, Tail]:
    if codecs and codecs[0]["name"] == "sharding_indexed":
        shard = codecs[0].get("configuration", {})
        inner = _only_chunk(shard, chunk) if len(codecs) == 1 else []
        codec, tail = _recognise(inner, chunk)
        return (codec if tail is Tail.NOTHING else None), Tail.INDEX
    # No configuration means single bytes.
    if any(entry.get("configuration", {}).get("endian") == "big" for entry in codecs):
        return None, Tail.NOTHING
    match [entry["name"] for entry in codecs]:
        case ["bytes"]:
            return Codec.RAW, Tail.NOTHING
        case ["bytes", "zstd"]:
            return Codec.ZSTD, Tail.NOTHING
        case ["bytes", "crc32c"]:
            return Codec.RAW, Tail.CHECKSUM
        case ["bytes", "zstd", "crc32c"]:
            return Codec.ZSTD, Tail.CHECKSUM
        case _:
            return None, Tail.NOTHING


def _only_chunk(shard: dict[str, Any], chunk: _Shape) -> list[dict[str, Any]]:
    """The codecs of the chunk in a shard of one, its index at the end; nothing of other shards."""
    alone = _shape(shard.get("chunk_shape", [])) == chunk
    raw = _recognise(shard.get("index_codecs", []), chunk) == (Codec.RAW, Tail.CHECKSUM)
    at_end = shard.get("index_location", "end") == "end"
    return shard.get("codecs", []) if alone and raw and at_end else []


def payload_bytes(index: bytes) -> int:
    """Size of the only chunk of a shard, which lies at its start, by the index at its end.

    Raises:
      CorruptionError: The bytes are not such an index.

    >>> numbers = (0).to_bytes(8, "little") + (52).to_bytes(8, "little")
    >>> payload_bytes(numbers + trailer(numbers))
    52
    """
    numbers, offset = index[:-4], int.from_bytes(index[:8], "little")
    if len(index) != INDEX_BYTES or trailer(numbers) != index[-4:] or offset:
        raise CorruptionError(
            "The index of a shard is not that of one chunk at its start",
            hint="The checkpoint is damaged: load an earlier one, or restore it from a copy.",
        )
    return int.from_bytes(numbers[8:], "little")


def _has_checksum(codecs: list[dict[str, Any]]) -> bool:
    return any(
        codec["name"] == "crc32c"
        or _has_checksum(codec.get("configuration", {}).get("codecs", []))  # of shards
        for codec in codecs
    )


def _is_default_grid(parsed: dict[str, Any]) -> bool:
    encoding = parsed["chunk_key_encoding"]
    separator = encoding.get("configuration", {}).get("separator", "/")
    return (
        encoding["name"] == "default"
        and separator == "/"
        and not parsed.get("storage_transformers")
    )


def _chunk_shape(grid: dict[str, Any]) -> _Shape:
    if grid["name"] != "regular":
        raise KeyError(grid["name"])
    return _shape(grid["configuration"]["chunk_shape"])


def _shape(values: list[int]) -> _Shape:
    return tuple(map(int, values))


def _unreadable(file: str) -> CorruptionError:
    return CorruptionError(
        "The metadata of an array cannot be read",
        expected=f"a Zarr {file}",
        found="something else",
        hint="The checkpoint is damaged, or was written by a newer version.",
    )


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
