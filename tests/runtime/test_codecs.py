"""Zstandard frames hold what they were made of; what repeats is encoded once and stored once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
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
    assert decompress(compress(data), data.size).tobytes() == data.tobytes()


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
