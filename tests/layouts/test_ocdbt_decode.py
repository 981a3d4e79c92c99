"""Decoding OCDBT databases: those of TensorStore, those of others, and damaged ones."""

import contextlib
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import tensorstore as ts
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from sealwax.checksum import trailer
from sealwax.errors import CorruptionError, InvalidLayoutError
from sealwax.layouts import ocdbt_decode
from sealwax.layouts.ocdbt_format import (
    MANIFEST_MAGIC,
    NODE_MAGIC,
    DataRef,
    Manifest,
    Value,
    seal,
)
from tests.layouts.ocdbt_tools import (
    NODES,
    contents,
    decode,
    encode,
    files_below,
    latest,
    reader,
    store,
    write,
)

SMALL: dict[bytes, Value] = {
    b"params.a/zarr.json": b"{}",
    b"params.b/zarr.json": b"{ }",
    b"params.b/c": DataRef(base="p/", file="d/v", offset=300, length=5),
}


@pytest.mark.parametrize("size", [300, 8 << 20])
def test_a_merge_takes_our_databases(tmp_path: Path, size: int) -> None:
    expected: dict[bytes, bytes] = {}
    target = store(tmp_path, config={"compression": None, "max_inline_value_bytes": 1024})
    for process in range(2):
        below = tmp_path / f"ocdbt.process_{process}"
        entries: dict[bytes, Value] = {b"p%d.%03d" % (process, i): b"%d" % i for i in range(100)}
        expected |= {key: bytes(value) for key, value in entries.items()}
        large = bytes([process]) * 3000
        expected[b"p%d.big" % process] = large
        entries[b"p%d.big" % process] = DataRef(file="d/values", offset=7, length=len(large))
        write(below, encode(entries, max_node_bytes=size))
        (below / "d/values").write_bytes(bytes(7) + large)
        store(below).experimental_copy_range_to(target).result()
    assert contents(store(tmp_path)) == expected
    version = latest((tmp_path / "manifest.ocdbt").read_bytes())
    merged = dict(ocdbt_decode.entries(version, files_below(tmp_path)))
    assert merged[b"p0.007"] == b"7"
    assert merged[b"p1.big"] == DataRef(
        base="ocdbt.process_1/", file="d/values", offset=7, length=3000
    )
    assert merged.keys() == expected.keys()


@pytest.mark.parametrize("size", [500, 8 << 20])
@pytest.mark.parametrize("commits", [1, 40])
def test_databases_that_tensorstore_wrote(tmp_path: Path, size: int, commits: int) -> None:
    config = {"compression": None, "max_inline_value_bytes": 100, "max_decoded_node_bytes": size}
    opened = store(tmp_path, config=config)
    expected = {b"layer_%04d" % i: bytes([i % 256]) * (i % 150) for i in range(400)}
    for start in range(commits):
        with ts.Transaction() as transaction:
            for key in list(expected)[start::commits]:
                opened.with_transaction(transaction)[key] = expected[key]
    manifest = ocdbt_decode.decode_manifest((tmp_path / "manifest.ocdbt").read_bytes())
    assert manifest.config.max_node_bytes == size
    assert manifest.config.max_inline_value_bytes == 100
    base = ts.KvStore.open(f"file://{tmp_path}/").result()
    shown = ts.ocdbt.dump(base).result()["versions"]
    assert [v["generation_number"] for v in shown] == [v.generation for v in manifest.versions]
    assert shown[-1]["commit_time"] == manifest.versions[-1].commit_time_ns
    assert manifest.versions[-1].generation >= commits
    assert manifest.versions[-1].statistics.keys == 400
    read = files_below(tmp_path)
    found = dict(ocdbt_decode.entries(manifest.versions[-1], read))
    assert any(isinstance(value, DataRef) for value in found.values())
    resolved = {k: read(v) if isinstance(v, DataRef) else v for k, v in found.items()}
    assert resolved == expected


def test_references_are_relative_to_the_base_of_their_node() -> None:
    made = encode(SMALL, max_node_bytes=1)
    version = latest(made.manifest)
    assert version.root is not None
    moved = replace(version, root=structs.replace(version.root, base="a/"))
    asked: list[str] = []

    def read(ref: DataRef) -> bytes:
        asked.append(ref.path)
        return reader(made.nodes)(ref)

    found = dict(ocdbt_decode.entries(moved, read))
    assert set(asked) == {"a/" + NODES}
    assert found[b"params.b/c"] == DataRef(base="a/p/", file="d/v", offset=300, length=5)


def test_a_database_that_was_emptied(tmp_path: Path) -> None:
    opened = store(tmp_path, config={"compression": None})
    opened[b"a"] = b"1"
    del opened[b"a"]
    version = latest((tmp_path / "manifest.ocdbt").read_bytes())
    assert version.root is None
    assert list(ocdbt_decode.entries(version, files_below(tmp_path))) == []


def test_a_compressed_record_that_is_damaged_inside_is_noticed(tmp_path: Path) -> None:
    store(tmp_path)[b"a"] = b"1"
    data = (tmp_path / "manifest.ocdbt").read_bytes()
    head, frame = data[:14], data[14:-4]
    assert frame.startswith(b"\x28\xb5\x2f\xfd")
    broken = head + b"\0" + frame[1:]
    with pytest.raises(CorruptionError, match="decompressed"):
        ocdbt_decode.decode_manifest(broken + trailer(broken))


def test_a_compressed_record_that_claims_to_be_endless_is_not_believed() -> None:
    frame = bytes.fromhex("28b52ffde0") + (1 << 40).to_bytes(8, "little") + bytes(9)
    body = bytes.fromhex("0cdb3a2a") + (18 + len(frame)).to_bytes(8, "little") + b"\0\1" + frame
    with pytest.raises(CorruptionError, match="1099511627776 bytes"):
        ocdbt_decode.decode_manifest(body + trailer(body))


def test_numbered_manifests_have_no_versions(tmp_path: Path) -> None:
    store(tmp_path, config={"compression": None, "manifest_kind": "numbered"})[b"a"] = b"1"
    manifest = ocdbt_decode.decode_manifest((tmp_path / "manifest.ocdbt").read_bytes())
    assert isinstance(manifest, Manifest)
    assert manifest.config.numbered
    assert manifest.versions == ()


@pytest.mark.parametrize("size", [1, 8 << 20])
def test_any_flipped_byte_is_noticed(size: int) -> None:
    made = encode(SMALL, max_node_bytes=size)
    for at, bit in itertools.product(range(len(made.nodes)), (1, 0x80)):
        flipped = bytearray(made.nodes)
        flipped[at] ^= bit
        with pytest.raises(CorruptionError) as caught:
            decode(replace(made, nodes=bytes(flipped)))
        assert caught.value.path == NODES
    for at, bit in itertools.product(range(len(made.manifest)), (1, 0x80)):
        flipped = bytearray(made.manifest)
        flipped[at] ^= bit
        with pytest.raises(CorruptionError) as caught:
            ocdbt_decode.decode_manifest(bytes(flipped), path="step_1/manifest.ocdbt")
        assert caught.value.path == "step_1/manifest.ocdbt"


@pytest.mark.parametrize("name", [NODES, "manifest.ocdbt"])
def test_tensorstore_notices_flipped_bytes_too(tmp_path: Path, name: str) -> None:
    write(tmp_path, encode(SMALL, max_node_bytes=1))
    data = (tmp_path / name).read_bytes()
    for at in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[at] ^= 0x10
        (tmp_path / name).write_bytes(flipped)
        with pytest.raises(ValueError, match=r"Error (decoding|reading)"):
            store(tmp_path).list().result()


@given(st.data())
def test_any_missing_end_is_noticed(data: st.DataObject) -> None:
    made = encode(SMALL, max_node_bytes=1)
    nodes = made.nodes[: data.draw(st.integers(0, len(made.nodes) - 1))]
    manifest = made.manifest[: data.draw(st.integers(0, len(made.manifest) - 1))]
    with pytest.raises(CorruptionError):
        decode(replace(made, nodes=nodes))
    with pytest.raises(CorruptionError):
        ocdbt_decode.decode_manifest(manifest)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_nonsense_with_a_valid_checksum_is_an_error_and_nothing_worse(data: st.DataObject) -> None:
    made = encode(SMALL, max_node_bytes=data.draw(st.sampled_from([1, 8 << 20])))
    root = latest(made.manifest).root
    assert root is not None
    target, magic = data.draw(
        st.sampled_from([(made.manifest, MANIFEST_MAGIC), (made.nodes[root.offset :], NODE_MAGIC)])
    )
    body = bytearray(target[14:-4])
    for at in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=3)):
        body[at] = data.draw(st.integers(0, 255))
    broken = seal(magic, [bytes(body)])
    if magic == NODE_MAGIC:
        made = replace(made, nodes=made.nodes[: root.offset] + broken)
    else:
        made = replace(made, manifest=broken)
    with contextlib.suppress(CorruptionError, InvalidLayoutError):
        manifest = ocdbt_decode.decode_manifest(made.manifest)
        for version in manifest.versions if isinstance(manifest, Manifest) else ():
            list(ocdbt_decode.entries(version, reader(made.nodes)))


@pytest.mark.parametrize(
    ("written", "found", "where"), [(b"ac", b"af", "a later"), (b"eg", b"bg", "an earlier")]
)
def test_a_node_that_has_keys_of_its_neighbour_is_not_believed(
    written: bytes, found: bytes, where: str
) -> None:
    made = encode(dict.fromkeys([b"ka", b"kc", b"ke", b"kg"], b""), max_node_bytes=40)
    at = made.nodes.index(written)  # what is left of the keys of one of the two leaves
    start = made.nodes.rindex(NODE_MAGIC.to_bytes(4, "big"), 0, at)
    end = start + made.nodes[start + 4]
    node = made.nodes[start:end].replace(written, found)
    broken = made.nodes[:start] + seal(NODE_MAGIC, [node[14:-4]]) + made.nodes[end:]
    with pytest.raises(CorruptionError, match=f"keys that belong into {where} node"):
        decode(replace(made, nodes=broken))


def test_a_later_format_is_said_to_be_one() -> None:
    node = b"\x0c\xdb\x3a\x2a" + (20).to_bytes(8, "little") + b"\x01\x00" + b"\0\0"
    with pytest.raises(InvalidLayoutError, match="found format 1 with compression 0"):
        ocdbt_decode.decode_manifest(node + trailer(node))
