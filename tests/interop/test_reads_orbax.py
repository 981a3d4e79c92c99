"""What Orbax 0.12.8 saves, sealwax loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import orbax.checkpoint as v0
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as orbax

import sealwax
from sealwax.errors import InvalidLayoutError
from tests.strategies import (
    EMPTIES,
    EXTENDED,
    KEYS,
    NATIVE,
    TEXTS,
    WIDE,
    Layer,
    Pair,
    assert_placed,
    assert_same,
    is_named_apart,
    is_node,
    jax_arrays,
    mesh,
    noise,
    numpy_arrays,
    open_node,
    through_orbax,
    trees,
)

SHAPES = st.sampled_from([(), (1,), (3,), (8,), (2, 3), (4, 8), (8, 4, 2)])
LEAVES = st.one_of(
    jax_arrays(NATIVE + EXTENDED, SHAPES),
    numpy_arrays(NATIVE + EXTENDED + WIDE, SHAPES),
    KEYS,
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.floats().map(np.float64),
    st.booleans(),
    TEXTS,
    EMPTIES,
)


def is_savable(tree: Any) -> bool:
    """Whether Orbax saves the tree so that Orbax can load it."""
    if (is_node(tree) and not open_node(tree)[0]) or not is_named_apart(tree):
        return False
    strings = [isinstance(leaf, str) for leaf in jax.tree.leaves(tree)]
    return sum(strings) == sum(isinstance(s, str) for s in jax.tree.leaves(through_orbax(tree)))


@settings(max_examples=40)
@given(tree=trees(LEAVES))
def test_without_a_template(fresh: Any, tree: Any) -> None:
    assume(is_savable(tree))
    orbax.save(path := fresh(), tree)
    assert_same(sealwax.load(path), through_orbax(tree))


@settings(max_examples=40)
@given(tree=trees(LEAVES))
def test_with_the_tree_as_template(fresh: Any, tree: Any) -> None:
    assume(is_savable(tree))
    orbax.save(path := fresh(), tree)
    loaded = sealwax.load(path, tree)
    assert_same(loaded, tree)
    assert_placed(loaded, tree)


def state(*, keys: bool = True, strings: bool = True) -> dict[str, Any]:
    """A state with everything that Orbax saves, several chunks of it on several devices."""
    on = NamedSharding(mesh(2, 4), PartitionSpec("x", "y"))
    params = {"w": jax.device_put(noise("bfloat16", (16, 8), 1), on), "b": noise("int4", (5,), 2)}
    found: dict[str, Any] = {
        "params": params,
        "opt": optax.adam(1e-3).init(params),
        "tail": [Layer(np.asfortranarray(noise("float64", (6, 4), 3)), True), (Pair(1, 0.5), {})],
        "empty": [None, [], (), {}],
        "f8": jax.device_put(noise("float8_e4m3fn", (3, 3), 4)),
    }
    if keys:
        split = jax.random.split(jax.random.key(1, impl="rbg"), 8)
        found["keys"] = jax.device_put(split, NamedSharding(mesh(8), PartitionSpec("x")))
    if strings:
        found["text"] = ["", "é", "a" * 3000]
    return found


WAYS = {
    "zarr2": {"use_zarr3": False},
    "files": {"use_ocdbt": False},
    "files of zarr2": {"use_ocdbt": False, "use_zarr3": False},
    "uncompressed": {"use_compression": False},
    "small data files": {"ocdbt_target_data_file_size": 512},
    "no sharding file": {"enable_write_sharding_file": False},
}


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_every_way_to_save(tmp_path: Path, options: dict[str, Any]) -> None:
    context = orbax.Context()
    for name, value in options.items():
        setattr(context.array.saving, name, value)
    with context:
        orbax.save(tmp_path / "ckpt", state())
    assert_same(sealwax.load(tmp_path / "ckpt"), through_orbax(state()))
    loaded = sealwax.load(tmp_path / "ckpt", state())
    assert_same(loaded, state())
    assert_placed(loaded, state())


@pytest.mark.parametrize("chunk_byte_size", [64, 1000])
@pytest.mark.parametrize("use_zarr3", [True, False])
def test_many_chunks_and_narrower_dtypes(
    tmp_path: Path, chunk_byte_size: int, use_zarr3: bool
) -> None:
    context = orbax.Context()
    context.array.saving.use_zarr3 = use_zarr3
    context.array.saving.storage_options.chunk_byte_size = chunk_byte_size
    context.array.saving.storage_options.dtype = np.dtype("float16")
    array = noise("int8", (24, 32), 1).astype(np.float32)
    on = NamedSharding(mesh(2, 4), PartitionSpec("x"))
    with context:
        orbax.save(tmp_path / "ckpt", {"w": jax.device_put(array, on)})
    assert_same(sealwax.load(tmp_path / "ckpt")["w"], jax.device_put(array.astype(np.float16)))
    after = NamedSharding(mesh(8), PartitionSpec(None, "x"))
    template = {"w": jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=after)}
    loaded = sealwax.load(tmp_path / "ckpt", template)["w"]
    assert_same(loaded, jax.device_put(array, after))
    assert_placed(loaded, jax.device_put(array, after))


def test_keys_whose_kind_was_not_recorded_come_back_as_their_data(tmp_path: Path) -> None:
    context = orbax.Context()
    context.array.saving.array_metadata_store = None
    with context:
        orbax.save(tmp_path / "ckpt", {"k": jax.random.key(3)})
    assert_same(sealwax.load(tmp_path / "ckpt"), {"k": jax.random.key_data(jax.random.key(3))})


def test_saved_shardings_are_restored_on_request(tmp_path: Path) -> None:
    orbax.save(tmp_path / "ckpt", state())
    by_default = sealwax.load(tmp_path / "ckpt")
    assert not by_default["params"]["w"].committed
    assert not by_default["keys"].committed
    context = sealwax.Context()
    context.array.loading.saved_shardings = "restore"
    loaded = sealwax.load(tmp_path / "ckpt", context=context)
    assert loaded["params"]["w"].sharding == state()["params"]["w"].sharding
    assert loaded["keys"].sharding == state()["keys"].sharding


def test_what_may_be_missing(tmp_path: Path) -> None:
    """Files without which Orbax itself loads a checkpoint, and two without which it does not."""
    optional = [
        *("orbax.checkpoint", "commit_success.txt", "_CHECKPOINT_METADATA", "state/_sharding"),
    ]
    orbax.save(tmp_path / "ckpt", state())
    for name in optional:
        (tmp_path / "ckpt" / name).unlink()
        assert_same(sealwax.load(tmp_path / "ckpt"), through_orbax(state()))
    (tmp_path / "ckpt" / "stray").write_text("of the user's")
    (tmp_path / "ckpt" / "notes").mkdir()
    assert_same(sealwax.load(tmp_path / "ckpt"), through_orbax(state()))


def test_items_by_name(tmp_path: Path) -> None:
    orbax.save_checkpointables(tmp_path / "ckpt", {"b": {"x": 1}, "a": {"y": 2}, "c": {"z": 3}})
    assert sealwax.load(tmp_path / "ckpt") == {"y": 2}
    assert sealwax.load(tmp_path / "ckpt", checkpointable_name="c") == {"z": 3}
    assert sealwax.metadata(tmp_path / "ckpt", "b").metadata == {"x": 0}


# ---------------------------------------------------------------- the older API


def test_v0_flat(tmp_path: Path) -> None:
    with v0.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "ckpt", state(keys=False))
    assert_same(sealwax.load(tmp_path / "ckpt"), through_orbax(state(keys=False)))
    assert_same(sealwax.load(tmp_path / "ckpt", state(keys=False)), state(keys=False))
    assert sealwax.load(tmp_path / "ckpt", checkpointable_name=None)["tail"][0]["bias"] is True
    assert sealwax.metadata(tmp_path / "ckpt").metadata["opt"][0]["count"].shape == ()


def test_v0_flat_in_files(tmp_path: Path) -> None:
    with v0.PyTreeCheckpointer(use_ocdbt=False, use_zarr3=False) as checkpointer:
        checkpointer.save(tmp_path / "ckpt", state(keys=False))
    assert_same(sealwax.load(tmp_path / "ckpt"), through_orbax(state(keys=False)))


def test_v0_standard_checkpointer(tmp_path: Path) -> None:
    with v0.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "ckpt", state(strings=False))
    assert_same(sealwax.load(tmp_path / "ckpt"), through_orbax(state(strings=False)))


def test_v0_composite(tmp_path: Path) -> None:
    with v0.Checkpointer(v0.CompositeCheckpointHandler()) as checkpointer:
        items = {"params": v0.args.PyTreeSave({"w": 1}), "notes": v0.args.JsonSave({"a": 1})}
        checkpointer.save(tmp_path / "ckpt", v0.args.Composite(**items))
    assert sealwax.load(tmp_path / "ckpt") == {"w": 1}
    assert sealwax.load(tmp_path / "ckpt", checkpointable_name="params") == {"w": 1}
    with pytest.raises(InvalidLayoutError, match="no tree named 'notes'"):
        sealwax.load(tmp_path / "ckpt", checkpointable_name="notes")


@pytest.mark.parametrize("named", [False, True])
def test_v0_manager(tmp_path: Path, named: bool) -> None:
    tree = state(strings=False)
    names = ("state", "notes") if named else None
    with v0.CheckpointManager(tmp_path / "run", item_names=names) as manager:
        for step in (1, 20):
            save = v0.args.StandardSave(tree | {"step": step})
            both = v0.args.Composite(state=save, notes=v0.args.JsonSave({"a": 1}))
            manager.save(step, args=both if named else save)
        manager.wait_until_finished()
    wanted = through_orbax(tree | {"step": 20})
    assert_same(sealwax.load(tmp_path / "run" / "20"), wanted)
    assert_same(sealwax.load(tmp_path / "run" / "20", tree | {"step": int}), tree | {"step": 20})
    assert not sealwax.is_orbax_checkpoint(tmp_path / "run")
    with pytest.raises(InvalidLayoutError, match="holds 2 checkpoints"):
        sealwax.load(tmp_path / "run")
    item = "state" if named else "default"
    with pytest.raises(InvalidLayoutError, match="an item inside a checkpoint"):
        sealwax.load(tmp_path / "run" / "20" / item)


def test_v1_training_checkpointer(tmp_path: Path) -> None:
    with orbax.training.Checkpointer(tmp_path / "run") as checkpointer:
        checkpointer.save(3, state(), custom_metadata={"lr": 0.1})
    assert_same(sealwax.load(tmp_path / "run" / "3"), through_orbax(state()))
    assert sealwax.metadata(tmp_path / "run" / "3").custom_metadata == {"lr": 0.1}
    with pytest.raises(InvalidLayoutError, match="holds a checkpoint"):
        sealwax.load(tmp_path / "run")


def test_v0_flat_steps_are_not_taken_for_items(tmp_path: Path) -> None:
    with v0.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run" / "1", {"w": 1})
        checkpointer.save(tmp_path / "run" / "2", {"w": 2})
    with pytest.raises(InvalidLayoutError, match="holds 2 checkpoints"):
        sealwax.load(tmp_path / "run")


def test_a_string_under_an_escaped_name(tmp_path: Path) -> None:
    orbax.save(tmp_path / "ckpt", {"x~1y": "slash", "x~0": "tilde", "a/b": "nested"})
    assert sealwax.load(tmp_path / "ckpt") == orbax.load(tmp_path / "ckpt")
