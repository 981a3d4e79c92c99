"""OCDBT databases: TensorStore reads what we encode, and we read what it writes."""

import itertools
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealwax.checksum import trailer
from sealwax.errors import NameCollisionError, OptionValueError, UnsupportedLeafError
from sealwax.layouts import ocdbt
from sealwax.layouts.ocdbt_format import NODE_MAGIC, DataRef, Value
from sealwax.layouts.ocdbt_keys import common_prefix
from tests.layouts.ocdbt_tools import (
    NODES,
    TIME,
    UUID,
    contents,
    decode,
    dump_tree,
    encode,
    latest,
    store,
    write,
)

PROPERTY = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

names = st.lists(
    st.sampled_from(["params", "layer", "layer_0", "k", "", "é", "\0", "c/0/0", "zarr.json"]),
    max_size=6,
).map(lambda parts: ".".join(parts).encode())
keys = st.one_of(names, st.binary(max_size=12), st.text(max_size=8).map(str.encode))
refs = st.builds(
    DataRef,
    file=st.sampled_from(["d/v", "d/w", "d/ww", "é"]),
    base=st.sampled_from(["", "ocdbt.process_0/", "ocdbt.process_01/", "d/"]),
    offset=st.integers(0, 2**62),
    length=st.integers(0, 2**62),
)
values = st.one_of(st.binary(max_size=40), st.just(bytes(1024)), refs)
sizes = st.sampled_from([1, 200, 1000, 8 << 20])


# Laws.


@PROPERTY
@given(st.dictionaries(keys, values, max_size=40), sizes)
def test_decoding_gives_back_what_was_encoded(entries: dict[bytes, Value], size: int) -> None:
    assert decode(encode(entries, max_node_bytes=size)) == sorted(entries.items())


@PROPERTY
@given(st.dictionaries(keys, values, max_size=40), sizes, st.randoms(use_true_random=False))
def test_order_of_the_entries_does_not_matter(
    entries: dict[bytes, Value], size: int, rng: random.Random
) -> None:
    shuffled = list(entries.items())
    rng.shuffle(shuffled)
    made = encode(entries, max_node_bytes=size)
    assert encode(dict(shuffled), max_node_bytes=size) == made


@PROPERTY
@given(st.dictionaries(keys, st.tuples(st.binary(max_size=60), st.integers(0, 4)), max_size=40))
@pytest.mark.parametrize("size", [1, 300, 8 << 20])
def test_tensorstore_reads_what_we_encode(
    tmp_path: Path, size: int, entries: dict[bytes, tuple[bytes, int]]
) -> None:
    homes = [("", "d/v"), ("", "d/w"), ("ocdbt.process_0/", "d/v"), ("ocdbt.process_1/", "x")]
    files = {base + file: bytearray(b"padding") for base, file in homes}
    stored: dict[bytes, Value] = {}
    for key, (value, home) in entries.items():
        stored[key] = value
        if home:
            base, file = homes[home - 1]
            at = len(files[base + file])
            files[base + file] += value
            stored[key] = DataRef(base=base, file=file, offset=at, length=len(value))
    shutil.rmtree(tmp_path)
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    write(tmp_path, encode(stored, max_node_bytes=size))
    assert contents(store(tmp_path)) == {key: value for key, (value, _) in entries.items()}


@PROPERTY
@given(st.dictionaries(keys, st.binary(max_size=60), min_size=1, max_size=30))
def test_a_single_node_is_byte_for_byte_what_tensorstore_writes(
    tmp_path: Path, entries: dict[bytes, bytes]
) -> None:
    shutil.rmtree(tmp_path)
    opened = store(tmp_path, config={"compression": None})
    with ts.Transaction() as transaction:
        for key, value in entries.items():
            opened.with_transaction(transaction)[key] = value
    root = latest((tmp_path / "manifest.ocdbt").read_bytes()).root
    assert root is not None
    written = (tmp_path / root.path).read_bytes()[root.offset : root.offset + root.length]
    assert encode(dict(entries)).nodes == written


@given(st.binary(max_size=8), st.binary(max_size=8), st.binary(max_size=8))
def test_common_prefix(start: bytes, a: bytes, b: bytes) -> None:
    size = common_prefix(start + a, start + b)
    assert (start + a)[:size] == (start + b)[:size]
    rest = ((start + a)[size : size + 1], (start + b)[size : size + 1])
    assert rest[0] != rest[1] or rest == (b"", b"")


# Shapes of databases.


def test_an_empty_database(tmp_path: Path) -> None:
    made = encode({})
    assert made.nodes == b""
    assert decode(made) == []
    write(tmp_path, made)
    assert contents(store(tmp_path)) == {}


@pytest.mark.parametrize("size", [300, 2000, 8 << 20])
def test_awkward_keys(tmp_path: Path, size: int) -> None:
    awkward = [
        b"",
        b"\0",
        b"\0\0",
        b"a",
        b"a\0",
        b"a\0b",
        b"aa",
        b"\xff",
        b"\xff\xff",
        "é".encode(),
    ]
    long = [b"a" * 65535, b"a" * 65534 + b"b", b"b" * 30000]
    entries: dict[bytes, Value] = {key: key[-3:] for key in awkward + long}
    made = encode(entries, max_node_bytes=size)
    assert decode(made) == sorted(entries.items())
    write(tmp_path, made)
    assert contents(store(tmp_path)) == entries


def test_one_long_key_among_many_short_ones() -> None:
    entries: dict[bytes, Value] = {f"{i:04}".encode(): b"" for i in range(500)}
    entries[b"0250" + b"x" * 60000] = b"long"
    assert decode(encode(entries)) == sorted(entries.items())


@pytest.mark.parametrize("size", [300, 1000])
def test_trees_of_many_levels(tmp_path: Path, size: int) -> None:
    entries: dict[bytes, Value] = {
        f"opt_state.0.mu.layers_{i // 100}.{name}/c/{i % 100}".encode(): b"%d" % i * (i % 5)
        for i, name in itertools.product(range(1000), ("kernel", "bias", "bias_2"))
    }
    entries[b"zz"] = DataRef(file="d/other", offset=3, length=5)
    made = encode(entries, max_node_bytes=size)
    assert decode(made) == sorted(entries.items())
    write(tmp_path, made)
    (tmp_path / "d/other").write_bytes(b"...12345...")
    version = latest(made.manifest)
    assert version.height >= 2
    assert contents(store(tmp_path)) == {**entries, b"zz": b"12345"}
    assert store(tmp_path)[b"opt_state.0.mu.layers_7.bias/c/7"] == b"707707"
    prefix = ts.KvStore.KeyRange(b"opt_state.0.mu.layers_3.", b"opt_state.0.mu.layers_3/")
    assert len(store(tmp_path).list(range=prefix).result()) == 300


@pytest.mark.parametrize("size", [300, 5000, 8 << 20])
def test_the_dump_agrees_with_the_statistics(tmp_path: Path, size: int) -> None:
    entries: dict[bytes, Value] = {f"layer_{i:04}/zarr.json".encode(): b"{}" for i in range(400)}
    entries |= {
        f"layer_{i:04}/c".encode(): DataRef(file="d/v", base="p/", offset=i * 8, length=8)
        for i in range(400)
    }
    made = encode(entries, max_node_bytes=size)
    write(tmp_path, made)
    base = ts.KvStore.open(f"file://{tmp_path}/").result()
    manifest = ts.ocdbt.dump(base).result()
    assert manifest["config"] == {
        "compression": None,
        "max_decoded_node_bytes": size,
        "max_inline_value_bytes": 1024,
        "uuid": UUID.hex(),
        "version_tree_arity_log2": 4,
    }
    nodes = list(dump_tree(tmp_path))
    leaves = [entry for node in nodes if node["height"] == 0 for entry in node["entries"]]
    version = latest(made.manifest)
    (shown,) = manifest["versions"]
    assert shown["generation_number"] == version.generation == 1
    assert shown["commit_time"] == version.commit_time_ns == TIME
    assert shown["root_height"] == version.height
    assert shown["root"]["statistics"]["num_keys"] == version.statistics.keys == 800
    assert len(leaves) == 800
    assert shown["root"]["statistics"]["num_tree_bytes"] == len(made.nodes)
    assert version.statistics.tree_bytes == len(made.nodes)
    assert shown["root"]["statistics"]["num_indirect_value_bytes"] == 400 * 8
    assert len(nodes) == made.nodes.count(NODE_MAGIC.to_bytes(4, "big"))
    outside = [entry["indirect_value"] for entry in leaves if "indirect_value" in entry]
    assert outside == [f"value:p/:d/v:{i * 8}:8" for i in range(400)]


@pytest.mark.parametrize("size", [1, 8 << 20])
def test_statistics_stop_at_the_largest_integer(tmp_path: Path, size: int) -> None:
    entries: dict[bytes, Value] = {
        bytes([i]): DataRef(file="d/v", offset=0, length=2**63 - 1) for i in range(9)
    }
    made = encode(entries, max_node_bytes=size)
    assert decode(made) == sorted(entries.items())
    assert latest(made.manifest).statistics.indirect_bytes == 2**64 - 1
    write(tmp_path, made)
    assert len(store(tmp_path).list().result()) == 9


def test_nodes_are_split_by_size() -> None:
    entries: dict[bytes, Value] = {b"%05d" % i: bytes(100) for i in range(1000)}
    for size in (1000, 10_000):
        made = encode(entries, max_node_bytes=size)
        starts = made.nodes.split(NODE_MAGIC.to_bytes(4, "big"))[1:]
        assert max(map(len, starts)) <= size
        assert len(starts) > 121_000 // size


def test_tensorstore_goes_on_from_our_version(tmp_path: Path) -> None:
    write(tmp_path, encode({b"a": b"1", b"b": b"2"}))
    opened = store(tmp_path)
    opened[b"c"] = b"3"
    del opened[b"a"]
    assert contents(store(tmp_path)) == {b"b": b"2", b"c": b"3"}


# Arrays, as a checkpoint holds them.


def zarr_database(root: Path, array: np.ndarray) -> bytearray:
    """Writes one two-dimensional float32 array the way a checkpoint holds it."""
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": array.shape,
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": array.shape}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0.0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "crc32c"},
        ],
    }
    chunk = bytearray(array.tobytes() + trailer(array))
    entries: dict[bytes, Value] = {
        b"params.w/zarr.json": json.dumps(metadata).encode(),
        b"params.w/c/0/0": DataRef(file="d/values", offset=0, length=len(chunk)),
    }
    write(root, encode(entries))
    (root / "d/values").write_bytes(chunk)
    return chunk


def read_zarr(root: Path) -> np.ndarray:
    kvstore = {"driver": "ocdbt", "base": f"file://{root}/", "path": "params.w/"}
    return ts.open({"driver": "zarr3", "kvstore": kvstore}).result().read().result()


def test_zarr_arrays_and_their_checksums(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    chunk = zarr_database(tmp_path, array)
    np.testing.assert_array_equal(read_zarr(tmp_path), array)
    for at in (0, 1000, len(chunk) - 1):
        broken = chunk.copy()
        broken[at] ^= 1
        (tmp_path / "d/values").write_bytes(broken)
        with pytest.raises(ValueError, match=r"(?i)digest|checksum|crc"):
            read_zarr(tmp_path)


# What must be refused.


def test_a_key_given_twice() -> None:
    entries = [(b"b", b"1"), (b"a", b""), (b"b", b"2")]
    with pytest.raises(NameCollisionError, match="'b'") as caught:
        ocdbt.encode(entries, nodes_file=NODES, uuid=UUID, commit_time_ns=TIME)
    assert isinstance(caught.value, ValueError)


def test_a_key_that_is_too_long() -> None:
    with pytest.raises(UnsupportedLeafError, match="at most 65535 bytes, found 65536 bytes"):
        encode({b"x" * 65536: b""})


@pytest.mark.parametrize("limit", [0, 10, 1024])
def test_a_value_that_is_too_large_to_lie_inline(limit: int) -> None:
    encode({b"a": bytes(limit)}, max_inline_value_bytes=limit)
    with pytest.raises(OptionValueError, match=rf"'a'.*at most {limit} bytes.*DataRef"):
        encode({b"a": bytes(limit + 1)}, max_inline_value_bytes=limit)


@pytest.mark.parametrize(
    "wrong",
    [
        {"uuid": b"short"},
        {"commit_time_ns": -1},
        {"max_node_bytes": 0},
        {"max_node_bytes": 1 << 32},
        {"max_inline_value_bytes": (1 << 20) + 1},
        {"nodes_file": "/absolute"},
        {"nodes_file": "d/../../outside"},
        {"nodes_file": ""},
    ],
)
def test_arguments_out_of_range(wrong: dict[str, object]) -> None:
    fine = {"nodes_file": NODES, "uuid": UUID, "commit_time_ns": TIME}
    with pytest.raises(OptionValueError, match="cannot be encoded with this"):
        ocdbt.encode([(b"a", b"")], **{**fine, **wrong})


@pytest.mark.parametrize(
    "ref",
    [
        DataRef(file="d/v", offset=-1, length=1),
        DataRef(file="d/v", offset=0, length=-1),
        DataRef(file="d/v", offset=2**62, length=2**62),
        DataRef(file="../v", offset=0, length=1),
        DataRef(file="v" * 65536, offset=0, length=1),
        DataRef(base="p//", file="v", offset=0, length=1),
    ],
)
def test_references_that_no_store_could_follow(ref: DataRef) -> None:
    with pytest.raises(OptionValueError, match="cannot be encoded with this"):
        encode({b"a": ref})
