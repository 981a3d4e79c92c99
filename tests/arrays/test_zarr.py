"""What we write as Zarr metadata, TensorStore opens; what it writes, we parse."""

import json

import numpy as np
import pytest
import tensorstore as ts
from google_crc32c import value as crc32c
from hypothesis import given
from hypothesis import strategies as st

from sealwax.arrays import dtypes, zarr
from sealwax.arrays.zarr import Codec, Tail, ZarrFormat
from sealwax.errors import CorruptionError, UnsupportedLeafError

from .test_dtypes import CARRIED, EVERY

shapes = st.lists(st.integers(1, 9), max_size=4).map(tuple)


def open_in_memory(metadata):
    context = ts.Context()
    store = ts.KvStore.open({"driver": "memory"}, context=context).result()
    store.write(zarr.metadata_key("w"), metadata).result()
    spec = {"driver": "zarr3", "kvstore": {"driver": "memory", "path": "w/"}}
    return store, ts.open(spec, context=context, open=True)


@given(shapes, shapes, st.sampled_from(EVERY), st.sampled_from(Codec))
def test_v3_metadata_is_parsed_to_what_it_was_made_from(shape, chunk, name, codec):
    parsed = zarr.parse_zarr3(zarr.zarr3_metadata(shape, chunk, name, codec))
    assert parsed == zarr.ZarrArray(
        shape=shape,
        chunk_shape=chunk,
        dtype=dtypes.from_name(name),
        codec=codec,
        format=ZarrFormat.V3,
        tail=Tail.CHECKSUM,
        checksummed=True,
    )


@given(shapes, shapes, st.sampled_from(sorted(set(EVERY) - CARRIED)), st.sampled_from(Codec))
def test_v2_metadata_is_parsed_to_what_it_was_made_from(shape, chunk, name, codec):
    parsed = zarr.parse_zarr2(zarr.zarr2_metadata(shape, chunk, name, codec))
    assert parsed == zarr.ZarrArray(
        shape=shape,
        chunk_shape=chunk,
        dtype=dtypes.from_name(name),
        codec=codec,
        format=ZarrFormat.V2,
    )


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("name", ["float32", "bfloat16", "bool", "complex64", "int4", "uint4"])
def test_tensorstore_writes_and_reads_by_our_v3_metadata(name, codec):
    metadata = zarr.zarr3_metadata((4, 6), (2, 3), name, codec)
    store, opening = open_in_memory(metadata)
    array = opening.result()
    storage = dtypes.storage_dtype(name)
    values = (np.arange(24).reshape(4, 6) % 2).astype(storage.dtype)
    array.write(storage.encode(values)).result()
    chunk = store.read(zarr.chunk_key("w", (1, 1))).result().value
    payload, checksum = chunk[:-4], int.from_bytes(chunk[-4:], "little")
    assert checksum == crc32c(payload)
    if codec is Codec.RAW:
        assert payload == np.ascontiguousarray(values[2:, 3:]).tobytes()
    damaged = chunk[:-1] + bytes([chunk[-1] ^ 1])
    store.write(zarr.chunk_key("w", (1, 1)), damaged).result()
    with pytest.raises(ValueError, match="Digest mismatch"):
        array.read().result()


@pytest.mark.parametrize("name", [n for n in EVERY if n not in CARRIED])
@pytest.mark.parametrize("codec", Codec)
def test_our_v3_metadata_is_byte_for_byte_what_tensorstore_writes(name, codec):
    ours = zarr.zarr3_metadata((8, 8), (2, 4), name, codec)
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "memory"},
        "metadata": {k: v for k, v in json.loads(ours).items() if k != "attributes"},
    }
    array = ts.open(spec, create=True).result()
    assert array.kvstore.read("zarr.json").result().value == ours


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("name", ["float32", "bfloat16", "bool", "complex64", "int4"])
def test_our_v2_metadata_is_byte_for_byte_what_tensorstore_writes(name, codec):
    ours = zarr.zarr2_metadata((8, 8), (2, 4), name, codec)
    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "memory"},
        "metadata": json.loads(ours),
    }
    array = ts.open(spec, create=True).result()
    assert array.kvstore.read(".zarray").result().value == ours


def test_rank_zero_has_one_chunk_of_no_extent():
    metadata = zarr.zarr3_metadata((), (), "int64", Codec.RAW)
    store, opening = open_in_memory(metadata)
    opening.result().write(np.int64(7)).result()
    assert store.read(zarr.chunk_key("w", ())).result().value[:8] == np.int64(7).tobytes()


@pytest.mark.parametrize(
    ("name", "index", "format", "expected"),
    [
        ("params.w", (1, 20), ZarrFormat.V3, "params.w/c/1/20"),
        ("step", (), ZarrFormat.V3, "step/c"),
        ("", (3,), ZarrFormat.V3, "c/3"),
        ("params.w", (1, 20), ZarrFormat.V2, "params.w/1.20"),
        ("step", (), ZarrFormat.V2, "step/0"),
        ("", (), ZarrFormat.V2, "0"),
    ],
)
def test_chunk_keys(name, index, format, expected):
    assert zarr.chunk_key(name, index, format) == expected


def test_metadata_keys():
    assert zarr.metadata_key("a/b") == "a/b/zarr.json"
    assert zarr.metadata_key("", ZarrFormat.V2) == ".zarray"


def changed(**parts):
    data = json.loads(zarr.zarr3_metadata((4,), (2,), "float32", Codec.RAW))
    return json.dumps({**data, **parts}).encode()


BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
ZSTD = {"name": "zstd", "configuration": {"level": 3}}


def shard(**parts):
    """A shard of one chunk, as Orbax writes each of its chunks."""
    index = [BYTES, {"name": "crc32c"}]
    whole = {"chunk_shape": [2], "codecs": [BYTES], "index_codecs": index}
    return {"name": "sharding_indexed", "configuration": whole | parts}


SHARD = shard()


@pytest.mark.parametrize(
    ("codecs", "codec", "tail"),
    [
        ([BYTES], Codec.RAW, Tail.NOTHING),
        ([BYTES, ZSTD], Codec.ZSTD, Tail.NOTHING),
        ([SHARD], Codec.RAW, Tail.INDEX),
        ([shard(codecs=[BYTES, ZSTD], index_location="end")], Codec.ZSTD, Tail.INDEX),
    ],
)
def test_what_orbax_writes_is_recognised(codecs, codec, tail):
    parsed = zarr.parse_zarr3(changed(codecs=codecs))
    assert (parsed.codec, parsed.tail) == (codec, tail)


@given(st.integers(0, 2**64 - 1), st.data())
def test_the_index_of_a_shard_tells_how_long_its_chunk_is(length, data):
    numbers = bytes(8) + length.to_bytes(8, "little")
    index = bytearray(numbers + crc32c(numbers).to_bytes(4, "little"))
    assert zarr.payload_bytes(bytes(index)) == length
    index[data.draw(st.integers(0, 19))] ^= data.draw(st.integers(1, 255))
    for wrong in (bytes(index), bytes(index[:-1]), b""):
        with pytest.raises(CorruptionError):
            zarr.payload_bytes(wrong)


@pytest.mark.parametrize(
    "parts",
    [
        {"codecs": [BYTES, {"name": "gzip", "configuration": {"level": 1}}, {"name": "crc32c"}]},
        {"codecs": [BIG, {"name": "crc32c"}]},
        {"codecs": [{"name": "sharding_indexed", "configuration": {}}]},
        {"codecs": [BYTES, SHARD]},
        {"codecs": [SHARD, {"name": "crc32c"}]},
        {"codecs": [shard(chunk_shape=[1])]},
        {"codecs": [shard(index_location="start")]},
        {"codecs": [shard(index_codecs=[BYTES])]},
        {"codecs": [shard(codecs=[BYTES, {"name": "crc32c"}])]},
        {"codecs": [shard(codecs=[BIG])]},
        {"codecs": [shard(codecs=[SHARD])]},
        {"codecs": []},
        {"chunk_key_encoding": {"name": "v2"}},
        {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}}},
    ],
)
def test_foreign_encodings_are_left_to_tensorstore(parts):
    parsed = zarr.parse_zarr3(changed(**parts))
    assert (parsed.shape, parsed.chunk_shape, parsed.codec) == ((4,), (2,), None)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("order", "F"),
        ("compressor", {"id": "blosc"}),
        ("dimension_separator", "/"),
        ("dtype", ">f4"),
        ("filters", [{"id": "delta"}]),
    ],
)
def test_foreign_v2_encodings_are_left_to_tensorstore(part, value):
    data = json.loads(zarr.zarr2_metadata((4,), (2,), "float32", Codec.RAW))
    assert zarr.parse_zarr2(json.dumps({**data, part: value}).encode()).codec is None


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"null", b'{"shape": 3}'])
def test_what_is_not_metadata_is_corruption(data):
    for parse in (zarr.parse_zarr3, zarr.parse_zarr2):
        with pytest.raises(CorruptionError, match="metadata of an array cannot be read"):
            parse(data)


def test_irregular_grids_and_unknown_dtypes_are_refused():
    with pytest.raises(CorruptionError):
        zarr.parse_zarr3(changed(chunk_grid={"name": "rectilinear"}))
    with pytest.raises(UnsupportedLeafError, match="'r16'"):
        zarr.parse_zarr3(changed(data_type="r16"))


def test_thousands_of_leaves_share_one_encoding():
    first = zarr.zarr3_metadata((3, 5), (3, 5), "float32", Codec.RAW)
    assert zarr.zarr3_metadata((3, 5), (3, 5), "float32", Codec.RAW) is first
