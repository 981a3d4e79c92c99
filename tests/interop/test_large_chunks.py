"""Large chunks that Orbax wrote are decoded as they are read, and only what is sound."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as v0
import pytest
import tensorstore as ts
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as orbax

import sealwax
from sealwax.effect_handlers import memory, record
from sealwax.effects import ReadRegions
from sealwax.errors import CorruptionError
from sealwax.planning import reads
from sealwax.runtime import foreign, streams
from tests.strategies import assert_placed, assert_same, mesh, noise

ROOT = Path(__file__).parents[2]
BOTH = [True, False]
DTYPES = ["float32", "bfloat16", "int8", "uint16", "float16", "complex64", "float8_e4m3fn"]


@pytest.fixture(autouse=True)
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Chunks of 1 KiB count as large; gives the keys that are left to TensorStore."""
    monkeypatch.setattr(reads, "_STREAM_BYTES", 1 << 10)
    monkeypatch.setattr(streams, "_PIECE_BYTES", 1 << 9)
    monkeypatch.setattr(streams, "_ROWS_BYTES", 1 << 8)
    keys: list[str] = []
    driver = foreign._read_by_driver

    def watch(wanted: list[Any], *rest: Any) -> None:
        keys.extend(leaf for leaf, _, _ in wanted)
        driver(wanted, *rest)

    monkeypatch.setattr(foreign, "_read_by_driver", watch)
    return keys


def state() -> dict[str, Any]:
    on = NamedSharding(mesh(4, 2), PartitionSpec("x", "y"))
    arrays: dict[str, Any] = {name: noise(name, (64, 48), 1) for name in DTYPES}
    return arrays | {
        "sharded": jax.device_put(noise("float32", (64, 64), 2), on),
        "cube": jax.device_put(noise("bfloat16", (8, 32, 32), 3), on),
        "vector": jax.numpy.arange(3000.0),
        "zeros": np.zeros((50, 50), np.int32),
    }


def save_v1(path: Path, tree: Any, ocdbt: bool, zarr3: bool, compressed: bool) -> None:
    context = orbax.Context()
    saving = context.array.saving
    saving.use_ocdbt, saving.use_zarr3, saving.use_compression = ocdbt, zarr3, compressed
    with context:
        orbax.save(path, tree)


def save_v0(path: Path, tree: Any, ocdbt: bool, zarr3: bool, compressed: bool) -> None:
    handler = v0.PyTreeCheckpointHandler(
        use_ocdbt=ocdbt, use_zarr3=zarr3, use_compression=compressed
    )
    with v0.Checkpointer(handler) as checkpointer:
        checkpointer.save(path, args=v0.args.PyTreeSave(tree))


GRID = pytest.mark.parametrize(
    ("ocdbt", "zarr3", "compressed"),
    [(o, z, c) for o in BOTH for z in BOTH for c in BOTH],
    ids=lambda on: "yes" if on else "no",
)


@GRID
@pytest.mark.parametrize("save", [save_v1, save_v0])
class TestEveryCombinationIsDecodedHere:
    def test_whole_and_as_it_was_placed(self, tmp_path, left, save, ocdbt, zarr3, compressed):
        tree = state()
        save(tmp_path / "ckpt", tree, ocdbt, zarr3, compressed)
        assert_same(sealwax.load(tmp_path / "ckpt"), tree)
        loaded = sealwax.load(tmp_path / "ckpt", tree)
        assert_same(loaded, tree)
        assert_placed(loaded, tree)
        # Zeros are so few bytes that they lie in the database's nodes.
        assert set(left) == ({"zeros"} if ocdbt and compressed else set())

    def test_in_other_shards_and_in_parts(self, tmp_path, left, save, ocdbt, zarr3, compressed):
        data = noise("float32", (64, 64), 4)
        on = NamedSharding(mesh(4, 2), PartitionSpec("x", "y"))
        save(tmp_path / "ckpt", {"w": jax.device_put(data, on)}, ocdbt, zarr3, compressed)
        for spec in [(None, "x"), ("y", "x"), (("x", "y"),), ()]:
            other = NamedSharding(mesh(4, 2), PartitionSpec(*spec))
            like = {"w": jax.ShapeDtypeStruct((64, 64), np.float32, sharding=other)}
            loaded = sealwax.load(tmp_path / "ckpt", like)
            assert_same(loaded, {"w": jax.device_put(data, other)})
        handle = sealwax.open(tmp_path / "ckpt")["w"]
        for index in [np.s_[3:60:7, 5:50], np.s_[17], np.s_[:, 40], np.s_[16:32, 32:]]:
            np.testing.assert_array_equal(np.asarray(handle[index]), data[index])
        assert left == []


@pytest.mark.parametrize("ocdbt", BOTH)
def test_from_files_in_memory(tmp_path, left, ocdbt):
    tree = {"w": noise("float32", (64, 64), 15)}
    save_v1(tmp_path / "ckpt", tree, ocdbt, True, True)
    with memory({"ckpt": contents(tmp_path / "ckpt")}):
        assert_same(sealwax.load("/ckpt"), tree)
    assert left == []
    damaged = contents(tmp_path / "ckpt", without=b"\x28\xb5\x2f\xfd")
    with memory({"ckpt": damaged}), pytest.raises(CorruptionError):
        sealwax.load("/ckpt")


def contents(path: Path, without: bytes = b"") -> dict[str, Any]:
    """A directory as a value; data files without these bytes in what comes first in them."""
    found: dict[str, Any] = {}
    for below in path.iterdir():
        if below.is_dir():
            found[below.name] = contents(below, without)
        else:
            data = below.read_bytes()
            frame = without and data.startswith(without)
            found[below.name] = bytes(len(without)) + data[len(without) :] if frame else data
    return found


def test_chunks_that_do_not_divide_the_shape(tmp_path, left):
    """No writer of Orbax makes them, but its readers take them."""
    path, data = tmp_path / "ckpt", noise("float32", (50, 45), 5)
    save_v1(path, {"w": np.zeros((50, 45), np.float32)}, False, True, True)
    array = ts.open(
        {
            "driver": "zarr3",
            "kvstore": f"file://{path}/state/w/",
            "metadata": {
                "shape": [50, 45],
                "data_type": "float32",
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [20, 20]}},
                "codecs": [{"name": "bytes"}, {"name": "zstd"}],
            },
        },
        create=True,
        delete_existing=True,
    ).result()
    array.write(data).result()
    assert_same(sealwax.load(path), {"w": data})
    assert left == []


@pytest.mark.parametrize(
    "metadata",
    [
        {"compressor": {"id": "blosc"}},
        {"compressor": {"id": "zlib", "level": 1}},
        {"compressor": {"id": "zstd", "level": 1}, "order": "F"},
        {"compressor": None, "dtype": ">f4"},
    ],
    ids=["blosc", "zlib", "order", "endian"],
)
def test_other_encodings_are_tensorstores(tmp_path, left, metadata):
    path, data = tmp_path / "ckpt", noise("float32", (64, 64), 6)
    save_v1(path, {"w": np.zeros((64, 64), np.float32)}, False, False, True)
    given = {"shape": [64, 64], "chunks": [32, 64], "dtype": "<f4"} | metadata
    spec = {"driver": "zarr", "kvstore": f"file://{path}/state/w/", "metadata": given}
    ts.open(spec, create=True, delete_existing=True).result().write(data).result()
    np.testing.assert_array_equal(np.asarray(sealwax.load(path)["w"]), data)
    assert left == ["w"]


def test_elements_that_fill_no_byte_are_tensorstores(tmp_path, left):
    tree = {"mask": noise("bool", (64, 64), 7), "int4": noise("int4", (64, 64), 8)}
    save_v1(tmp_path / "ckpt", tree, True, True, True)
    assert_same(sealwax.load(tmp_path / "ckpt"), tree)
    assert sorted(left) == ["int4", "mask"]


def test_missing_chunks_are_zeros_on_request(tmp_path, left):
    path, data = tmp_path / "ckpt", noise("float32", (64, 64), 9)
    on = NamedSharding(mesh(8, 1), PartitionSpec("x"))
    save_v1(path, {"w": jax.device_put(data, on)}, False, True, True)
    (path / "state" / "w" / "c" / "3" / "0").unlink()
    with pytest.raises(CorruptionError, match="missing"):
        sealwax.load(path)
    lenient = sealwax.Context().at.array.loading.raise_array_data_missing_error.set(False)
    loaded = sealwax.load(path, context=lenient)
    data[24:32] = 0
    np.testing.assert_array_equal(np.asarray(loaded["w"]), data)


class TestDamage:
    @GRID
    def test_a_data_file_that_is_cut_short(self, tmp_path, ocdbt, zarr3, compressed):
        path = tmp_path / "ckpt"
        save_v1(path, {"w": noise("float32", (64, 64), 10)}, ocdbt, zarr3, compressed)
        file = largest(path)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(CorruptionError, match="leaf 'w'"):
            sealwax.load(path)

    @pytest.mark.parametrize(("zarr3", "ocdbt"), [(a, b) for a in BOTH for b in BOTH])
    def test_a_frame_with_a_wrong_start(self, tmp_path, zarr3, ocdbt):
        path = tmp_path / "ckpt"
        save_v1(path, {"w": noise("float32", (64, 64), 11)}, ocdbt, zarr3, True)
        file = largest(path)
        data = bytearray(file.read_bytes())
        at = data.index(b"\x28\xb5\x2f\xfd")
        for changed in (at, at + 5):  # the magic number, and the size of the content
            wrong = data.copy()
            wrong[changed] ^= 0xFF
            file.write_bytes(wrong)
            with pytest.raises(CorruptionError, match="leaf 'w'"):
                sealwax.load(path)

    def test_a_shard_whose_index_changed(self, tmp_path):
        path = tmp_path / "ckpt"
        save_v1(path, {"w": noise("float32", (64, 64), 12)}, False, True, True)
        file = largest(path)
        data = bytearray(file.read_bytes())
        data[-10] ^= 1
        file.write_bytes(data)
        with pytest.raises(CorruptionError, match="leaf 'w'"):
            sealwax.load(path)


def largest(path: Path) -> Path:
    files = (file for file in (path / "state").rglob("*") if file.is_file())
    return max(files, key=lambda file: file.stat().st_size)


class TestThePlan:
    def test_large_chunks_are_spread_over_effects_and_small_ones_go_together(self, tmp_path):
        tree = {f"small{n}": np.arange(8.0) for n in range(5)}
        on = NamedSharding(mesh(8, 1), PartitionSpec("x"))
        tree["big"] = jax.device_put(noise("float32", (4096, 2048), 13), on)
        save_v1(tmp_path / "ckpt", tree, True, True, True)
        with record() as trace:
            sealwax.load(tmp_path / "ckpt")
        found = [effect for effect in trace.effects if isinstance(effect, ReadRegions)]
        assert sorted(len(effect.leaves) for effect in found if not effect.streams) == [5]
        streamed = [effect for effect in found if effect.streams]
        assert [effect.leaves for effect in streamed] == [("big",) * 4, ("big",) * 4]


PROGRAM = """
import ctypes, gc, sys
import jax, numpy as np
import sealwax

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))

context = sealwax.Context().at.memory.read_concurrent_bytes.set(int(sys.argv[3]))
sealwax.load(sys.argv[1], context=context)
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
before = status("VmRSS")
# Begins the kernel's record of the peak anew, which would hide a smaller one.
open("/proc/self/clear_refs", "w").write("5")
loaded = sealwax.load(sys.argv[2], context=context)
print(status("VmHWM") - before)
"""
MIB = 1 << 20
BUDGET = 16 * MIB


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
@pytest.mark.parametrize(
    ("ocdbt", "zarr3", "compressed"),
    [(True, True, True), (True, False, True), (False, True, False)],
)
def test_a_load_of_one_chunk_takes_the_array_and_no_more_than_its_budget(
    tmp_path, ocdbt, zarr3, compressed
):
    for name, rows in (("small", 64), ("large", 160 * 256)):
        tree = {"w": jax.numpy.asarray(noise("float32", (rows, 1024), 14))}
        save_v1(tmp_path / name, tree, ocdbt, zarr3, compressed)
    command = [sys.executable, "-c", PROGRAM, tmp_path / "small", tmp_path / "large", str(BUDGET)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "lib"), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert 160 * MIB <= int(done.stdout) < 1.1 * 160 * MIB + BUDGET
