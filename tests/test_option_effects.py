"""Every option of writing does something: one test or more for each, at the files and the effects.

``docs/options.md`` names these tests. What Orbax makes of the files is in ``interop``.
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import stat
from pathlib import Path
from typing import Any

import anyio
import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
import tensorstore as ts
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

import sealwax as ocp
from sealwax import effects as e
from sealwax import errors
from sealwax.arrays.grid import orbax_chunk_shape
from sealwax.effect_handlers import Handler, inject, record
from sealwax.layouts import manifest
from sealwax.options import ArrayOptions
from sealwax.planning.cutter import check_pinned
from sealwax.planning.inventory import take_inventory
from sealwax.trees.flatten import flatten
from tests.gates import gate
from tests.strategies import assert_same, mesh

StorageOptions = ArrayOptions.Saving.StorageOptions
NOISE = np.random.default_rng(0).normal(size=1 << 16).astype(np.float32)
ZEROS = np.zeros(1 << 16, np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


def context(**changes: Any) -> ocp.Context:
    """A context with these options; ``__`` in a name stands for a dot."""
    return ocp.Context().replace({key.replace("__", "."): v for key, v in changes.items()})


def saving(**changes: Any) -> ocp.Context:
    return context(**{f"array.saving.{key}": value for key, value in changes.items()})


def item(path: Path) -> manifest.Item:
    where = path / "state" / manifest.NAME
    return manifest.decode(where.read_bytes(), manifest.Item, str(where))


def forms(path: Path) -> dict[str, manifest.Form]:
    found = item(path)
    return {row.name: found.forms[row.form] for row in found.rows if row.form >= 0}


def entries(path: Path) -> dict[str, Any]:
    """What Orbax's metadata says of each leaf."""
    found = json.loads((path / "state" / "_METADATA").read_bytes())["tree_metadata"]
    return {
        ".".join(key["key"] for key in record["key_metadata"]): record["value_metadata"]
        for record in found.values()
    }


def data_files(path: Path) -> list[int]:
    """The sizes of the data files; the last file holds the nodes of the database."""
    files = sorted((path / "state" / "d").iterdir())
    return [file.stat().st_size for file in files[:-1]]


class InFlight(Handler):
    """Measures how many bytes are between two kinds of effects, and the largest piece.

    None goes on before ``filled`` bytes have been there at once.
    """

    def __init__(self, begin: type[Any], end: type[Any], filled: int = 0) -> None:
        self._begin, self._end, self._filled = begin, end, filled
        self.now = self.peak = self.largest = self.pieces = 0

    async def perform(self, effect: Any, forward: Any) -> Any:
        if isinstance(effect, self._begin):
            self.now += effect.nbytes
            self.peak = max(self.peak, self.now)
            self.largest = max(self.largest, effect.nbytes)
            self.pieces += 1
            with anyio.fail_after(60):
                while self.peak < self._filled:  # noqa: ASYNC110 other tasks fill it
                    await anyio.sleep(0.001)
            await anyio.sleep(0.01)  # for more than that, if nothing keeps them
        answer = await forward(effect)
        if isinstance(effect, self._end):
            self.now -= effect.nbytes
        return answer


# ---------------------------------------------------------------- compression


def test_use_compression_off_stores_bytes_as_they_are(path: Path) -> None:
    ocp.save(path, {"w": ZEROS}, context=saving(use_compression=False, compression="always"))
    assert forms(path)["w"].codec == "raw"
    assert data_files(path) == [ZEROS.nbytes + 4]


def test_compression_is_decided_by_looking_or_forced(path: Path) -> None:
    tree = {"noise": NOISE, "small": np.zeros(8), "zeros": ZEROS}
    ocp.save(path / "auto", tree)
    ocp.save(path / "always", tree, context=saving(compression="always"))
    found = {how: [f.codec for f in forms(path / how).values()] for how in ("auto", "always")}
    assert found == {"auto": ["raw", "raw", "zstd"], "always": ["zstd", "zstd", "zstd"]}
    assert NOISE.nbytes < sum(data_files(path / "auto")) < NOISE.nbytes + 1000
    for how in ("auto", "always"):
        assert_same(ocp.load(path / how), tree)


# ---------------------------------------------------------------- how arrays lie in the store


def test_target_data_file_size_splits_files_and_caps_chunks(path: Path) -> None:
    tree = {"large": np.arange(4096, dtype=np.float32).reshape(64, 64)}
    tree |= {f"w{n}": np.full(256, n, np.float32) for n in range(10)}
    limit = 3000
    ocp.save(path / "split", tree, context=saving(ocdbt_target_data_file_size=limit))
    sizes = data_files(path / "split")
    assert len(sizes) > sum(a.nbytes for a in tree.values()) / limit
    assert max(sizes) <= limit + 4 * 2
    assert forms(path / "split")["large"].chunk_shape == (16, 32)
    assert_same(ocp.load(path / "split"), tree)
    for unlimited in (0, None):
        where = path / str(unlimited)
        ocp.save(where, tree, context=saving(ocdbt_target_data_file_size=unlimited))
        assert len(data_files(where)) == 1
        assert forms(where)["large"].chunk_shape == (64, 64)


@pytest.mark.parametrize("zarr3", [True, False])
@pytest.mark.parametrize("ocdbt", [True, False])
def test_use_zarr3_and_use_ocdbt_choose_the_files(path: Path, zarr3: bool, ocdbt: bool) -> None:
    tree = {"": 7, "a": {"b/c": np.arange(12, dtype=np.int16).reshape(3, 4)}}
    ocp.save(path, tree, context=saving(use_zarr3=zarr3, use_ocdbt=ocdbt))
    keys = {"": ["zarr.json", "c"], "a.b/c/": ["zarr.json", "c/0/0"]}
    if not zarr3:
        keys = {"": [".zarray", "0"], "a.b/c/": [".zarray", "0.0"]}
    wanted = {prefix + key for prefix, found in keys.items() for key in found}
    base = {"driver": "file", "path": f"{path}/state/"}
    store = {"driver": "ocdbt", "base": base} if ocdbt else base
    listed = {key.decode() for key in ts.KvStore.open(store).result().list().result()}
    assert listed >= wanted
    assert (path / "state" / "manifest.ocdbt").exists() == ocdbt == (path / "state/d").exists()
    about = json.loads((path / "state" / "_METADATA").read_bytes())
    assert (about["use_zarr3"], about["use_ocdbt"]) == (zarr3, ocdbt)
    assert_same(ocp.load(path), tree)


@pytest.mark.parametrize("ocdbt", [True, False])
def test_a_chunk_without_a_trailer_is_still_checked(path: Path, ocdbt: bool) -> None:
    ocp.save(path, {"w": NOISE}, context=saving(use_zarr3=False, use_ocdbt=ocdbt))
    file = path / "state" / item(path).files[0]
    data = bytearray(file.read_bytes())
    assert len(data) == NOISE.nbytes
    data[999] ^= 1
    file.write_bytes(data)
    with pytest.raises(errors.CorruptionError, match="checksum") as caught:
        ocp.load(path)
    assert caught.value.leaf == "w"


@pytest.mark.parametrize("zarr3", [True, False])
def test_carried_dtypes_come_back_from_either_version(path: Path, zarr3: bool) -> None:
    tree = {"u": np.arange(6).astype(jnp.uint4), "f": np.ones(3, jnp.float8_e4m3)}
    ocp.save(path, tree, context=saving(use_zarr3=zarr3))
    assert_same(ocp.load(path), tree)


UNSAFE = ["..", "a/../b", "/a", "a//b", "a/", "./a", "x" * 256, "a\0b", "a\\b", "_METADATA"]
UNSAFE += ["_sharding/x", "array_metadatas", "manifest.ocdbt", "_strings.json", "_SEALWAX"]
UNSAFE += ["/".join("ab" * 2000)]


@pytest.mark.parametrize("name", UNSAFE, ids=range(len(UNSAFE)))
def test_a_name_that_cannot_be_a_directory_is_refused_before_anything_is_written(
    path: Path, name: str
) -> None:
    with pytest.raises(errors.UnsupportedLeafError, match="cannot be a directory") as caught:
        ocp.save(path, {"fine": 1, name: 2}, context=saving(use_ocdbt=False))
    assert caught.value.leaf == name
    assert os.listdir(path.parent) == []
    ocp.save(path, {"fine": 1, name: 2})


@pytest.mark.parametrize(
    ("zarr3", "one", "two"),
    [(True, "a", "a/c"), (True, "a", "a/c/x"), (True, "a", "a/zarr.json"), (False, "a", "a/0/b")],
)
def test_a_leaf_whose_directory_is_another_ones_file_is_refused(
    path: Path, zarr3: bool, one: str, two: str
) -> None:
    with pytest.raises(errors.NameCollisionError, match="where leaf 'a' has a file") as caught:
        ocp.save(path, {one: 1, two: 2}, context=saving(use_ocdbt=False, use_zarr3=zarr3))
    assert caught.value.leaf == two
    assert os.listdir(path.parent) == []


def test_names_that_only_look_dangerous_are_directories(path: Path) -> None:
    tree = {"d": 1, "..x": 2, "a/b": np.arange(4), "a/b/d": 3, "é ": 4, "c": np.ones((2, 2))}
    ocp.save(path, tree, context=saving(use_ocdbt=False))
    assert_same(ocp.load(path), tree)


def test_thousands_of_directories_are_a_handful_of_effects(path: Path) -> None:
    tree = {f"w{n}": np.full(4, n, np.int32) for n in range(1500)}
    options = {"array.saving.use_ocdbt": False, "file.durability": "atomic"}
    with record() as trace:
        ocp.save(path, tree, context=ocp.Context().replace(options))
    assert len(trace.effects) < 40
    assert_same(ocp.load(path), tree)


def test_a_failure_at_any_effect_leaves_nothing_or_everything(path: Path) -> None:
    tree = {"w": np.arange(64.0), "n": {"b": 1}}
    separate = saving(use_ocdbt=False)
    path.mkdir()
    with record() as trace:
        ocp.save(path / "whole", tree, context=separate)
    kinds = trace.kinds()
    assert {"WriteChunks", "WriteFiles", "SyncTree"} <= set(kinds)
    sealed = kinds.index("Rename")
    for number in range(len(kinds)):
        where = path / str(number)
        failing = inject(number, error=OSError(28, "No space left on device"))
        with failing, pytest.raises(errors.StorageError):
            ocp.save(where, tree, context=separate)
        assert failing.hits == 1
        assert where.exists() == (number > sealed)
        if where.exists():
            assert_same(ocp.load(where), tree)
    assert len(os.listdir(path)) == 1 + len(kinds) - sealed - 1


@pytest.mark.parametrize("durability", ["durable", "atomic"])
def test_every_file_and_directory_of_a_leaf_is_synced(
    path: Path, durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), path.parent))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    options = {"array.saving.use_ocdbt": False, "file.durability": durability}
    ocp.save(path, {"w": np.zeros((4, 4)), "b": 1}, context=ocp.Context().replace(options))
    inside = {name.partition("/")[2] for name in synced}
    everything = {str(found.relative_to(path)) for found in path.rglob("*")}
    assert inside >= everything if durability == "durable" else not synced


# ---------------------------------------------------------------- storage options


def test_dtype_casts_floating_and_complex_arrays_and_nothing_else(path: Path) -> None:
    keys = jax.random.key(0)
    tree = {
        "float": np.linspace(0, 1, 5, dtype=np.float32),
        "jax": jnp.linspace(0, 1, 5, dtype=jnp.float32),
        "narrow": np.ones(3, jnp.float8_e5m2),
        "complex": np.ones(2, np.complex64),
        "int": np.arange(3) + 2**40,
        "bool": np.array([True, False]),
        "keys": keys,
        "step": 12345,
        "rate": 0.1,
        "scalar": np.float64(0.1),
    }
    ocp.save(path, tree, context=saving(**{"storage_options.dtype": "bfloat16"}))
    half = jnp.bfloat16
    wanted = tree | {
        "float": tree["float"].astype(half),
        "jax": tree["jax"].astype(half),
        "narrow": tree["narrow"].astype(half),
    }
    assert_same(ocp.load(path), wanted)
    assert forms(path)["float"].dtype == "bfloat16"
    assert_same(
        ocp.load(path, {"float": tree["float"], **{k: ... for k in tree if k != "float"}})["float"],
        tree["float"].astype(half).astype(np.float32),
    )
    wide = path / "wide"
    ocp.save(wide, tree, context=saving(**{"storage_options.dtype": np.complex128}))
    assert {name for name, f in forms(wide).items() if f.dtype == "complex128"} == {
        *("float", "jax", "narrow", "complex")
    }


def test_a_cast_goes_piece_by_piece(path: Path) -> None:
    tree = {"w": np.arange(1 << 18, dtype=np.float64)}
    options = {
        "array.saving.storage_options.dtype": np.float32,
        "array.saving.storage_options.chunk_byte_size": 1 << 17,
        "memory.transfer_concurrent_bytes": 1 << 17,
        "array.saving.use_compression": False,
    }
    plan = ocp.plan_save(path, tree, context=ocp.Context().replace(options))
    assert plan.bytes == 1 << 20
    assert plan.peak_host_bytes == 1 << 17
    ocp.save(path, tree, context=ocp.Context().replace(options))
    assert_same(ocp.load(path), {"w": tree["w"].astype(np.float32)})


@pytest.mark.parametrize(
    ("stored", "value"),
    [("float16", 7e4), ("bfloat16", -3.4e38), ("float8_e4m3fn", 500.0), ("float4_e2m1fn", 8.0)],
)
@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
def test_a_value_beyond_the_range_of_the_stored_dtype_is_refused(
    path: Path, stored: str, value: float, make: Any
) -> None:
    tree = {"small": make(np.ones(3, np.float32)), "w": make(np.array([1, value], np.float32))}
    with pytest.raises(errors.LeafRangeError, match=stored) as caught:
        ocp.save(path, tree, context=saving(**{"storage_options.dtype": stored}))
    assert caught.value.leaf == "w"
    assert str(np.float32(value)) in str(caught.value.found)
    assert isinstance(caught.value, ValueError)
    assert os.listdir(path.parent) == []


def test_what_is_not_finite_and_what_rounds_down_to_the_largest_value_is_stored(path: Path) -> None:
    values = np.array([np.inf, -np.inf, np.nan, 65519.0, -0.0, 1e-9], np.float32)
    ocp.save(path, {"w": values}, context=saving(**{"storage_options.dtype": "float16"}))
    assert_same(ocp.load(path), {"w": values.astype(np.float16)})


def test_chunk_byte_size_bounds_chunks(path: Path) -> None:
    tree = {"w": np.zeros((8, 8), np.float32), "odd": np.zeros((7, 11), np.float32), "step": 3}
    ocp.save(path, tree, context=saving(**{"storage_options.chunk_byte_size": 64}))
    assert {n: f.chunk_shape for n, f in forms(path).items()} == {
        "odd": (7, 1),
        "step": (),
        "w": (4, 4),
    }
    assert_same(ocp.load(path), tree)


def test_a_chunk_smaller_than_an_element_is_refused(path: Path) -> None:
    tree = {"a": np.zeros(4, np.int8), "b": {"w": np.zeros(4, np.float32)}, "step": 1}
    with pytest.raises(errors.OptionValueError, match="chunk_byte_size") as caught:
        ocp.save(path, tree, context=saving(**{"storage_options.chunk_byte_size": 3}))
    assert caught.value.leaf == "b.w"
    assert os.listdir(path.parent) == []


def test_shard_axes_are_cut_first(path: Path) -> None:
    tree = {"w": np.zeros((512, 512), np.float32), "b": np.zeros(512, np.float32)}
    for axes, wanted in (((0,), (1, 512)), ((1,), (512, 1)), (None, (512, 512))):
        where = path / str(axes)
        ocp.save(where, tree, context=saving(**{"storage_options.shard_axes": axes}))
        assert forms(where)["w"].chunk_shape == wanted
        assert_same(ocp.load(where), tree)
    both = {"storage_options.shard_axes": (1,), "storage_options.chunk_byte_size": 64}
    ocp.save(path / "both", tree, context=saving(**both))
    assert forms(path / "both")["w"].chunk_shape == (16, 1)


SHAPES = st.lists(st.integers(1, 24), min_size=1, max_size=3).map(tuple)


@given(SHAPES, st.none() | st.integers(8, 400), st.none() | st.integers(8, 400), st.data())
def test_chunks_are_those_that_orbax_would_choose(
    shape: Any, target: Any, file_size: Any, data: Any
) -> None:
    axes = data.draw(st.none() | st.lists(st.integers(0, len(shape) - 1), unique=True).map(tuple))
    options = ArrayOptions.Saving(
        storage_options=StorageOptions(chunk_byte_size=target, shard_axes=axes),
        ocdbt_target_data_file_size=file_size,
    )
    array = np.zeros(shape)
    inventory, _ = take_inventory(flatten([array]).unwrap(), options).unwrap()
    (form,) = inventory.arrays
    if target is not None and file_size is not None:
        target = min(target, file_size)
    elif file_size is not None and array.nbytes > file_size:
        target = file_size
    assert form.chunk_shape == orbax_chunk_shape(shape, shape, 8, target, axes or ())


def test_the_creator_chooses_for_each_array_by_its_key_path(path: Path) -> None:
    seen: list[tuple[str, type]] = []

    def create(keys: Any, leaf: Any) -> StorageOptions | None:
        seen.append((jax.tree_util.keystr(keys), type(leaf)))
        if keys[0] == jax.tree_util.DictKey("opt"):
            return StorageOptions(dtype="float16", chunk_byte_size=32)
        return None

    tree = {
        "params": [np.zeros(32, np.float32), jnp.zeros(3)],
        "opt": {"mu": np.ones(32, np.float32), "count": np.zeros(2, np.int32), "none": None},
        "step": 3,
        "name": "run",
        "key": jax.random.key(0),
    }
    everywhere = {"storage_options.dtype": "bfloat16", "storage_options.shard_axes": (0,)}
    ocp.save(path, tree, context=saving(scoped_storage_options_creator=create, **everywhere))
    assert seen == [
        ("['key']", type(tree["key"])),
        ("['opt']['count']", np.ndarray),
        ("['opt']['mu']", np.ndarray),
        ("['params'][0]", np.ndarray),
        ("['params'][1]", type(tree["params"][1])),
    ]
    found = {name: (form.dtype, form.chunk_shape) for name, form in forms(path).items()}
    assert found == {
        "key": ("uint32", (1,)),
        "opt.count": ("int32", (1,)),
        "opt.mu": ("float16", (1,)),
        "params.0": ("bfloat16", (1,)),
        "params.1": ("bfloat16", (1,)),
        "step": ("int64", ()),
    }


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (StorageOptions(chunk_byte_size=1), errors.OptionValueError),
        (StorageOptions(shard_axes=(2,)), errors.OptionValueError),
        ({"dtype": "float16"}, errors.OptionTypeError),
    ],
)
def test_an_answer_of_the_creator_that_cannot_be_followed_names_the_leaf(
    path: Path, answer: Any, error: type[Exception]
) -> None:
    def create(keys: Any, leaf: Any) -> Any:
        return answer if keys[0].key == "w" else None

    tree = {"a": np.zeros((2, 2)), "w": np.zeros((2, 2))}
    with pytest.raises(error) as caught:
        ocp.save(path, tree, context=saving(scoped_storage_options_creator=create))
    assert caught.value.leaf == "w"
    assert os.listdir(path.parent) == []


# ---------------------------------------------------------------- replicas, transfers, checks


def replicated(*spec: Any) -> Any:
    sharding = NamedSharding(mesh(4, 2), PartitionSpec(*spec))
    return jax.device_put(np.arange(64, dtype=np.float32).reshape(8, 8), sharding)


def write_shapes(path: Path, **changes: Any) -> list[list[int]]:
    tree = [replicated(), replicated("x"), replicated("x", "y"), replicated(None, "y")]
    tree += [jax.device_put(jnp.zeros(()), replicated().sharding)]
    ocp.save(path, tree, context=saving(**changes))
    assert_same(ocp.load(path), tree)
    found = [entry["write_shape"] for entry in entries(path).values()]
    told = [leaf.storage_metadata.write_shape for leaf in ocp.metadata(path).metadata]
    assert list(map(list, told)) == found
    for form, shape in zip(forms(path).values(), found, strict=True):
        assert all(n % c == 0 for n, c in zip(shape, form.chunk_shape, strict=True))
    return found


def test_use_replica_parallel_cuts_what_is_replicated_into_slices(path: Path) -> None:
    found = write_shapes(path / "on", use_replica_parallel=True)
    assert found == [[1, 8], [1, 8], [2, 4], [2, 4], []]
    assert forms(path / "on")["0"].chunk_shape == (1, 8)
    for off in (False, None):
        found = write_shapes(path / str(off), use_replica_parallel=off)
        assert found == [[8, 8], [2, 8], [2, 4], [8, 4], []]


def test_min_slice_bytes_leaves_small_arrays_whole(path: Path) -> None:
    found = write_shapes(path, use_replica_parallel=True, min_slice_bytes_for_replica_parallel=33)
    assert found == [[8, 8], [2, 8], [2, 4], [8, 4], []]


def test_max_replicas_bounds_the_number_of_slices(path: Path) -> None:
    found = write_shapes(path, use_replica_parallel=True, max_replicas_for_replica_parallel=2)
    assert found == [[4, 8], [1, 8], [2, 4], [4, 4], []]


def test_pinned_host_transfer_goes_through_pinned_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[Any] = []
    real = jax.device_put

    def device_put(value: Any, sharding: Any = None, **rest: Any) -> Any:
        kinds.append(getattr(sharding, "memory_kind", None))
        return real(value, sharding, **rest)

    tree = {"w": replicated("x", "y"), "n": np.zeros(3)}
    monkeypatch.setattr(jax, "device_put", device_put)
    ocp.save(path / "default", tree)
    assert kinds == []
    ocp.save(path / "pinned", tree, context=saving(enable_pinned_host_transfer=True))
    assert kinds == ["pinned_host"] * 8
    monkeypatch.undo()
    assert_same(ocp.load(path / "pinned"), tree)


def test_pinned_host_transfer_says_what_it_needs() -> None:
    class Memory:
        kind = "device"

    class Device:
        def addressable_memories(self) -> list[Memory]:
            return [Memory()]

    with pytest.raises(errors.OptionUnavailableError, match="'pinned_host'"):
        check_pinned([Device()])


class LosesAChunk(Handler):
    """Forgets one chunk that was written."""

    async def perform(self, effect: Any, forward: Any) -> Any:
        answer = await forward(effect)
        return answer[:-1] if isinstance(effect, e.WriteBatch | e.WriteChunks) else answer


@pytest.mark.parametrize("ocdbt", [True, False])
def test_post_merge_validation_finds_what_is_missing_before_the_seal(
    path: Path, ocdbt: bool
) -> None:
    tree = {"a": np.zeros(4), "b": np.ones(4)}
    with LosesAChunk(), pytest.raises(errors.InternalError, match="not sealed") as caught:
        ocp.save(path, tree, context=saving(use_ocdbt=ocdbt))
    assert caught.value.leaf == "b"
    assert os.listdir(path.parent) == []
    with LosesAChunk():
        unchecked = saving(use_ocdbt=ocdbt, enable_post_merge_validation=False)
        ocp.save(path, tree, context=unchecked)
    assert path.exists()


# ---------------------------------------------------------------- files beside the arrays


def test_enable_write_sharding_file_off_leaves_it_out(path: Path) -> None:
    tree = {"w": replicated("x")}
    ocp.save(path / "on", tree)
    ocp.save(path / "off", tree, context=saving(enable_write_sharding_file=False))
    assert (path / "on" / "state" / "_sharding").exists()
    assert not (path / "off" / "state" / "_sharding").exists()


def test_array_metadata_store_none_leaves_the_metadata_out(path: Path) -> None:
    tree = {"w": replicated("x"), "k": jax.random.key(3)}
    ocp.save(path / "on", tree)
    ocp.save(path / "off", tree, context=saving(array_metadata_store=None))
    assert (path / "on" / "state" / "array_metadatas" / "process_0").exists()
    assert not (path / "off" / "state" / "array_metadatas").exists()
    assert entries(path / "on")["w"]["write_shape"] == [2, 8]
    assert "write_shape" not in entries(path / "off")["w"]
    assert_same(ocp.load(path / "off"), tree)


def test_rich_types_record_tuples_and_named_tuples(path: Path) -> None:
    rich = context(**{"pytree.saving.pytree_metadata_options.support_rich_types": True})
    tree = {"t": (1, [2.0]), "u": (), "s": "text"}
    ocp.save(path / "rich", tree, context=rich)
    ocp.save(path / "plain", tree)
    found = {
        how: json.loads((path / how / "state" / "_METADATA").read_bytes())
        for how in ("rich", "plain")
    }
    assert "value_metadata_tree" not in found["plain"]
    recorded = msgspec.json.decode(found["rich"]["value_metadata_tree"])
    assert recorded["t"]["clazz"] == "tuple"
    assert [len(recorded["t"]["entries"]), type(recorded["t"]["entries"][1])] == [2, list]
    assert found["rich"]["tree_metadata"] == found["plain"]["tree_metadata"]


def test_rich_types_give_named_tuples_back(path: Path) -> None:
    rich = context(**{"pytree.saving.pytree_metadata_options.support_rich_types": True})
    pair = collections.namedtuple("Pair", "first second")
    tree = {"pair": pair(1, pair((), None)), "none": collections.namedtuple("None_", "")()}
    ocp.save(path, tree)
    assert ocp.load(path) == {"pair": {"first": 1, "second": {"first": (), "second": None}}} | {
        "none": None
    }
    found = ocp.load(path, context=rich)
    assert found == tree
    assert (type(found["pair"]).__name__, found["pair"].second.first) == ("Pair", ())


# ---------------------------------------------------------------- files and directories


def test_path_permission_mode_is_that_of_the_checkpoint(path: Path) -> None:
    for mode in (0o750, 0o700, 0o2771):
        where = path / oct(mode)
        ocp.save(where, {"w": 1}, context=context(file__path_permission_mode=mode))
        assert stat.S_IMODE(where.stat().st_mode) == mode


def test_path_class_is_that_of_the_paths_handed_out(path: Path) -> None:
    ocp.save(path, {"w": 1})
    assert type(ocp.metadata(path).path) is type(pathlib.Path())
    found = ocp.metadata(path, context=context(file__path_class=pathlib.PurePosixPath)).path
    assert found == pathlib.PurePosixPath(path)
    assert type(found) is pathlib.PurePosixPath


def test_durability_atomic_waits_for_no_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    ocp.save(path / "atomic", {"w": NOISE}, context=context(file__durability="atomic"))
    assert synced == []
    ocp.save(path / "durable", {"w": NOISE})
    assert synced


def test_skip_sync_file_validations_lets_the_seal_refuse(path: Path) -> None:
    skipping = context(file__skip_sync_file_validations=True)
    ocp.save(path, {"w": 1})
    with record() as looking, pytest.raises(errors.CheckpointExistsError):
        ocp.save(path, {"w": 2})
    with record() as skipped, pytest.raises(errors.CheckpointExistsError):
        ocp.save(path, {"w": 2}, context=skipping)
    where = e.Look(path=str(path))
    assert where in looking.effects
    assert where not in skipped.effects
    assert "WriteBatch" not in looking.kinds()
    assert skipped.kinds()[-2:] == ["Rename", "RemoveTree"]
    assert ocp.load(path) == {"w": 1}
    assert os.listdir(path.parent) == [path.name]


def test_skipping_the_look_never_overwrites_what_is_no_checkpoint(path: Path) -> None:
    skipping = context(file__skip_sync_file_validations=True)
    path.mkdir()
    (path / "thesis.tex").write_text("dear to somebody")
    with pytest.raises(errors.CheckpointExistsError):
        ocp.save(path, {"w": 2}, overwrite=True, context=skipping)
    assert os.listdir(path) == ["thesis.tex"]
    ocp.save(path / "new", {"w": 2}, overwrite=True, context=skipping)
    ocp.save(path / "new", {"w": 3}, overwrite=True, context=skipping)
    assert ocp.load(path / "new") == {"w": 3}


def test_checkpoint_layout_auto_is_orbax_for_saving_and_detected_for_loading(path: Path) -> None:
    tree = {"w": np.arange(3)}
    auto = context(checkpoint_layout=ocp.options.CheckpointLayout.AUTO)
    ocp.save(path / "auto", tree, context=auto)
    ocp.save(path / "orbax", tree)
    names = [
        {str(file.relative_to(path / how)) for file in (path / how).rglob("*")}
        for how in ("auto", "orbax")
    ]
    assert names[0] == names[1]
    assert_same(ocp.load(path / "orbax", context=auto), tree)
    assert_same(ocp.load(path / "auto"), tree)
    safetensors = context(checkpoint_layout=ocp.options.CheckpointLayout.SAFETENSORS)
    with pytest.raises(errors.OptionUnavailableError):
        ocp.save(path / "other", tree, context=safetensors)


# ---------------------------------------------------------------- time


def test_timeout_secs_ends_a_save(path: Path) -> None:
    with inject(e.WriteBatch, delay=60), pytest.raises(errors.OperationTimeoutError, match=r"0\.2"):
        ocp.save(path, {"w": 1}, context=context(asynchronous__timeout_secs=0.2))
    assert os.listdir(path.parent) == []
    with inject(e.WriteBatch, delay=0.05):
        ocp.save(path, {"w": 1}, context=context(asynchronous__timeout_secs=None))


def test_post_finalization_callback_is_called_once_the_checkpoint_is_there(path: Path) -> None:
    seen: list[Any] = []
    calling = context(asynchronous__post_finalization_callback=lambda: seen.append(ocp.load(path)))
    ocp.save(path, {"w": 1}, context=calling)
    assert seen == [{"w": 1}]
    with inject(e.Rename, error=OSError(28, "full")), pytest.raises(errors.SealError):
        ocp.save(path.parent / "other", {"w": 1}, context=calling)
    assert len(seen) == 1


def test_create_directories_asynchronously_off_makes_them_before_the_call_returns(
    path: Path,
) -> None:
    with gate(e.WriteBatch) as blocked:
        early = context(asynchronous__create_directories_asynchronously=False)
        response = ocp.save_async(path, {"w": 1}, context=early)
        (temporary,) = path.parent.iterdir()
        assert (temporary / "state" / "d").is_dir()
        blocked.open()
        response.result()
    with gate(e.MakeDirectory) as blocked:
        response = ocp.save_async(path.parent / "late", {"w": 1})
        assert os.listdir(path.parent) == [path.name]
        blocked.open()
        response.result()


# ---------------------------------------------------------------- memory

PIECE = 1 << 16
ARRAYS = {f"w{n}": NOISE[: PIECE // 4] + n for n in range(12)}


def test_write_concurrent_bytes_bounds_what_is_being_written(path: Path) -> None:
    with InFlight(e.WriteBatch, e.WriteBatch) as free:
        ocp.save(path / "free", ARRAYS)
    assert free.pieces == 1
    limit = 3 * PIECE
    with InFlight(e.WriteBatch, e.WriteBatch, limit) as bound:
        ocp.save(path / "bound", ARRAYS, context=context(memory__write_concurrent_bytes=limit))
    assert (bound.peak, bound.largest, bound.pieces) == (limit, limit, 4)
    assert_same(ocp.load(path / "bound"), ARRAYS)


def test_transfer_concurrent_bytes_bounds_what_is_staged(path: Path) -> None:
    strided = {name: np.repeat(array, 2)[::2] for name, array in ARRAYS.items()}
    limit = 2 * PIECE
    with InFlight(e.Stage, e.WriteBatch, limit) as bound:
        ocp.save(path, strided, context=context(memory__transfer_concurrent_bytes=limit))
    assert (bound.peak, bound.largest, bound.pieces) == (limit, limit, 6)
    assert_same(ocp.load(path), ARRAYS)


@pytest.mark.parametrize("ocdbt", [True, False])
def test_read_concurrent_bytes_bounds_what_is_being_read(path: Path, ocdbt: bool) -> None:
    ocp.save(path, ARRAYS, context=saving(use_ocdbt=ocdbt))
    limit = 2 * (PIECE + 4)
    with InFlight(e.ReadBatch, e.ReadBatch, limit) as bound:
        found = ocp.load(path, context=context(memory__read_concurrent_bytes=limit))
    assert (bound.peak, bound.largest, bound.pieces) == (limit, limit, 6)
    assert_same(found, ARRAYS)


def test_deepcopy_host_arrays_off_saves_what_is_there_when_it_is_written(path: Path) -> None:
    for copies, wanted in ((True, 0.0), (False, 1.0)):
        where, array = path / str(copies), np.zeros(8)
        with gate(e.WriteBatch) as blocked:
            chosen = context(memory__deepcopy_host_arrays=copies)
            response = ocp.save_async(where, {"w": array}, context=chosen)
            array[:] = 1
            blocked.open()
            response.result()
        assert ocp.load(where)["w"].tolist() == [wanted] * 8


# ---------------------------------------------------------------- loading


def test_verify_never_trusts_the_disk(path: Path) -> None:
    ocp.save(path, {"w": NOISE})
    file = path / "state" / "d" / "00000000"
    data = bytearray(file.read_bytes())
    data[1] ^= 1
    file.write_bytes(data)
    with pytest.raises(errors.CorruptionError) as caught:
        ocp.load(path, context=context(array__loading__verify="always"))
    assert caught.value.leaf == "w"
    found = ocp.load(path, context=context(array__loading__verify="never"))["w"]
    assert np.count_nonzero(found != NOISE) == 1


def test_saved_shardings_restore_puts_arrays_back_as_they_were(path: Path) -> None:
    array = replicated("x", "y")
    ocp.save(path, {"w": array})
    found = ocp.load(path, context=context(array__loading__saved_shardings="restore"))["w"]
    assert found.sharding == array.sharding
    assert len(ocp.load(path)["w"].sharding.device_set) == 1
    assert np.array_equal(found, array)


@pytest.mark.parametrize("ocdbt", [True, False])
def test_missing_data_is_an_error_or_zeros(path: Path, ocdbt: bool) -> None:
    tree = {"a": np.ones((4, 4)), "b": np.ones(3)}
    chunks = {"storage_options.chunk_byte_size": 64}
    ocp.save(path, tree, context=saving(use_ocdbt=ocdbt, **chunks))
    (path / "state" / item(path).files[0]).unlink()
    with pytest.raises(errors.CorruptionError, match="missing") as caught:
        ocp.load(path)
    assert caught.value.leaf == "a"
    zeros = context(array__loading__raise_array_data_missing_error=False)
    found = ocp.load(path, context=zeros)
    kept = np.ones((4, 4))
    kept[: 4 if ocdbt else 2] = 0
    assert np.array_equal(found["a"], kept)
    assert np.array_equal(found["b"], np.zeros(3) if ocdbt else np.ones(3))
