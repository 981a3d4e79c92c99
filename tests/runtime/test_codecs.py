"""Zstandard frames hold what they were made of; what repeats is encoded once and stored once."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
from hypothesis import given
from hypothesis import strategies as st

import sealwax
from sealwax.layouts import manifest
from sealwax.runtime.codecs import compress, decompress

CHUNK = 4 << 20


@given(
    pattern=st.binary(min_size=1, max_size=24),
    repeats=st.integers(1, 2000),
    changed=st.none() | st.integers(0, 1 << 16),
)
def test_a_frame_holds_its_data(pattern: bytes, repeats: int, changed: int | None) -> None:
    data = np.frombuffer(pattern * repeats, np.uint8).copy()
    if changed is not None:
        data[changed % data.size] ^= 1
    found = np.zeros_like(data)
    decompress(compress(data), found)
    assert found.tobytes() == data.tobytes()


@pytest.mark.parametrize("size", [0, 1, 999, 1001, 5000])
def test_a_frame_of_another_size_is_refused_and_nothing_beyond_is_written(size: int) -> None:
    frame = compress(np.arange(1000, dtype=np.uint16).view(np.uint8)[:1000])
    around = np.full(size + 16, 7, np.uint8)
    with pytest.raises(ValueError, match=f"does not hold {size} bytes"):
        decompress(frame, around[8 : size + 8])
    assert (around[:8] == 7).all()
    assert (around[-8:] == 7).all()


@given(at=st.integers(0, 1 << 16), bit=st.integers(0, 7))
def test_a_broken_frame_is_refused_or_stays_within_its_bounds(at: int, bit: int) -> None:
    data = np.random.default_rng(0).integers(0, 4, 4000).astype(np.uint8)
    frame = compress(data).copy()
    frame[at % frame.size] ^= 1 << bit
    around = np.full(data.size + 128, 7, np.uint8)
    # Whatever the frame says of its size; what it held is for the checksum of the chunk to tell.
    with contextlib.suppress(ValueError):
        decompress(frame, around[64:-64])
    assert (around[:64] == 7).all()
    assert (around[-64:] == 7).all()


def test_tensorstore_decodes_what_is_encoded_here() -> None:
    data = np.random.default_rng(0).integers(0, 4, 4096).astype(np.uint8)
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "memory"},
        "metadata": {
            "shape": [data.size],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [data.size]}},
            "data_type": "uint8",
            "codecs": [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1}}],
        },
    }
    array = ts.open(spec, create=True, context=ts.Context()).result()
    array.kvstore.write("c/0", compress(data).tobytes()).result()
    assert np.array_equal(array.read().result(), data)


def rows(path: Path) -> list[manifest.Row]:
    body = (path / "state" / manifest.NAME).read_bytes()
    return manifest.decode(body, manifest.Item, "x").rows


class TestConstantArrays:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        tree = {"ones": np.ones(3 * CHUNK // 4, np.float32), "zeros": np.zeros(CHUNK // 2)}
        sealwax.save(tmp_path / "c", tree)
        return tmp_path / "c"

    def test_share_the_place_of_chunks_that_are_alike(self, path: Path) -> None:
        for row in rows(path):
            places = set(zip(row.chunks[::4], row.chunks[1::4], strict=True))
            assert len(row.chunks) > 4
            assert len(places) == 1
        assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) < 16 << 10

    def test_are_loaded_and_verified(self, path: Path) -> None:
        loaded = sealwax.load(path)
        assert np.array_equal(loaded["ones"], np.ones(3 * CHUNK // 4, np.float32))
        assert not loaded["zeros"].any()
        sealwax.verify(path)

    def test_are_read_by_orbax(self, path: Path) -> None:
        import orbax.checkpoint.experimental.v1 as orbax

        loaded = orbax.load(str(path))
        assert np.array_equal(loaded["ones"], np.ones(3 * CHUNK // 4, np.float32))


def test_what_is_not_compressed_is_not_shared(tmp_path: Path) -> None:
    off = sealwax.Context().replace({"array.saving.use_compression": False})
    sealwax.save(tmp_path / "c", {"a": np.ones(3), "b": np.ones(3)}, context=off)
    offsets = [row.chunks[1] for row in rows(tmp_path / "c")]
    assert len(set(offsets)) == 2
