"""What sealwax saves, Orbax 0.12.8 loads: the same values, or the documented stand-ins."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as v0
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as orbax

import sealwax
from tests.strategies import (
    EXTENDED,
    KEYS,
    NATIVE,
    WIDE,
    Layer,
    Pair,
    TrainState,
    assert_placed,
    assert_same,
    bits,
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

pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")

FULL = st.sampled_from([(), (1,), (3,), (8,), (2, 3), (4, 8), (8, 4, 2)])
COMMON = st.one_of(
    jax_arrays(NATIVE + EXTENDED, FULL),
    numpy_arrays(NATIVE + EXTENDED + WIDE, FULL),
    KEYS,
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
)
"""Leaves that Orbax brings back as they were, with a template and without one."""


@settings(max_examples=60)
@given(tree=trees())
def test_orbax_loads_what_it_can_represent_and_nothing_for_the_rest(fresh: Any, tree: Any) -> None:
    assume(is_named_apart(tree))
    sealwax.save(path := fresh(), tree)
    assert_same(orbax.load(path), through_orbax(tree))
    assert_same(orbax.load_checkpointables(path), {"state": through_orbax(tree)})


@settings(max_examples=40)
@given(tree=trees(COMMON))
def test_orbax_loads_with_the_tree_as_template(fresh: Any, tree: Any) -> None:
    assume(is_named_apart(tree) and open_node(tree)[0] if is_node(tree) else True)
    sealwax.save(path := fresh(), tree)
    loaded = orbax.load(path, tree)
    assert_same(loaded, jax.tree.map(in_native_order, tree))
    for found, saved in zip(jax.tree.leaves(loaded), jax.tree.leaves(tree), strict=True):
        if isinstance(saved, jax.Array):
            assert found.sharding.is_equivalent_to(saved.sharding, saved.ndim)


def in_native_order(leaf: Any) -> Any:
    big = isinstance(leaf, np.ndarray) and leaf.dtype.byteorder == ">"
    return leaf.astype(leaf.dtype.newbyteorder("=")) if big else leaf


def state() -> TrainState:
    """A training state as programs have it: sharded, with keys, counters and empty nodes."""
    on = NamedSharding(mesh(2, 4), PartitionSpec("x", "y"))
    params = {"dense": Layer(jax.device_put(noise("float32", (8, 8), 1), on), jnp.zeros(8))}
    chain = optax.chain(optax.clip(1.0), optax.adam(1e-3))
    keys = jax.random.split(jax.random.key(0), 4)
    return TrainState(step=7, params=(params, chain.init(params), keys, "note", None, {}, [], ()))


def test_orbax_restores_recorded_shardings(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", state())
    loaded = orbax.load(tmp_path / "ckpt")
    assert_same(loaded, through_orbax(state()))
    arrays = [leaf for leaf in jax.tree.leaves(state()) if isinstance(leaf, jax.Array)]
    found = [leaf for leaf in jax.tree.leaves(loaded) if isinstance(leaf, jax.Array)]
    by_bits = {bits(jax.random.key_data(a) if _is_key(a) else a): a for a in arrays}
    for leaf in found:
        saved = by_bits[bits(jax.random.key_data(leaf) if _is_key(leaf) else leaf)]
        assert leaf.sharding.is_equivalent_to(saved.sharding, saved.ndim)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def test_orbax_loads_into_a_live_training_state(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", state())
    assert_same(orbax.load(tmp_path / "ckpt", state()), state())


def test_orbax_reads_the_metadata(tmp_path: Path) -> None:
    arrays = {"w": noise("bfloat16", (4, 2), 1), "j": jnp.ones((2, 3)), "s": "text", "n": 3}
    sealwax.save(tmp_path / "ckpt", arrays, custom_metadata={"run": [1, {"a": None}]})
    theirs, ours = orbax.metadata(tmp_path / "ckpt"), sealwax.metadata(tmp_path / "ckpt")
    assert theirs.custom_metadata == ours.custom_metadata == {"run": [1, {"a": None}]}
    assert theirs.init_timestamp == ours.init_timestamp
    assert theirs.commit_timestamp == ours.commit_timestamp
    assert theirs.init_timestamp_nsecs == ours.init_timestamp_nsecs
    for name in ("w", "j"):
        assert theirs.metadata[name].shape == ours.metadata[name].shape == arrays[name].shape
        assert theirs.metadata[name].dtype == ours.metadata[name].dtype == arrays[name].dtype
    assert theirs.metadata["s"] == ours.metadata["s"] == "string"
    assert theirs.metadata["n"] == ours.metadata["n"] == 0
    chunks = theirs.metadata["j"].storage_metadata
    assert chunks.chunk_shape == ours.metadata["j"].storage_metadata.chunk_shape
    assert_same(orbax.load(tmp_path / "ckpt", theirs), through_orbax(arrays))


def test_orbax_lists_the_items_and_knows_a_checkpoint(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", {"a": 1}, checkpointable_name="params")
    assert orbax.is_orbax_checkpoint(tmp_path / "ckpt")
    assert orbax.checkpointables_metadata(tmp_path / "ckpt").metadata == {"params": {"a": 0}}
    assert orbax.load(tmp_path / "ckpt") == {"a": 1}
    assert orbax.load(tmp_path / "ckpt", checkpointable_name="params") == {"a": 1}


def test_orbax_loads_a_checkpoint_that_was_copied_elsewhere(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", state())
    shutil.copytree(tmp_path / "ckpt", tmp_path / "copy")
    shutil.rmtree(tmp_path / "ckpt")
    assert_same(orbax.load(tmp_path / "copy"), through_orbax(state()))
    assert_same(sealwax.load(tmp_path / "copy", state()), state())


def test_orbax_loads_one_that_replaced_another(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", {"old": np.zeros(9)})
    sealwax.save(tmp_path / "ckpt", {"new": np.ones(3)}, overwrite=True)
    assert_same(orbax.load(tmp_path / "ckpt"), {"new": np.ones(3)})
    orbax.save(tmp_path / "ckpt", {"theirs": 1}, overwrite=True)
    sealwax.save(tmp_path / "ckpt", {"ours": 2}, overwrite=True)
    assert orbax.load(tmp_path / "ckpt") == {"ours": 2}


def test_the_older_api_restores_the_item(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", state())
    with v0.PyTreeCheckpointer() as checkpointer:
        restored = checkpointer.restore((tmp_path / "ckpt" / "state").absolute())
    assert_same(restored, through_orbax(state()))


def test_the_older_api_restores_with_a_template(tmp_path: Path) -> None:
    on = NamedSharding(mesh(2, 4), PartitionSpec("x"))
    tree = {"w": jax.device_put(noise("float32", (8, 8), 1), on), "pair": Pair(jnp.ones(2), 3)}
    sealwax.save(tmp_path / "ckpt", tree)
    with v0.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "ckpt" / "state", tree)
    assert_same(restored, tree)
    assert_placed(restored["w"], tree["w"])


NAMES = [
    *("", "a b", "é☃", "a/b", "/", "a/", "//", "/a", "a//b", ".", "..", "./a"),
    *("_METADATA", "d", "x~1y"),
    *("zarr.json", "c/0", "%2e", "a\\b"),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_need_care_in_a_store(tmp_path: Path, name: str) -> None:
    tree = {name: np.arange(3), "nested": {name: jnp.ones(2), "deeper": {"0": {name: 4}}}}
    sealwax.save(tmp_path / "ckpt", tree)
    assert_same(orbax.load(tmp_path / "ckpt"), tree)
    assert_same(sealwax.load(tmp_path / "ckpt"), tree)


@pytest.mark.parametrize(
    ("tree", "seen"),
    [
        ({"~": "a", "b": "c"}, {"~": None, "b": "c"}),
        ({"a": "x", "a/b": "y"}, {"a": "x", "a/b": None}),
        ({"a/b": "x", "a/c": "y"}, {"a/b": "x", "a/c": "y"}),
        ({"a": {"/b": "x"}}, {"a": {"/b": "x"}}),
        ("whole", "whole"),
    ],
    ids=str,
)
def test_strings_whose_names_mean_something_in_json_pointers(
    tmp_path: Path, tree: Any, seen: Any
) -> None:
    sealwax.save(tmp_path / "ckpt", tree)
    assert orbax.load(tmp_path / "ckpt") == seen
    assert sealwax.load(tmp_path / "ckpt") == tree


def test_many_small_leaves(tmp_path: Path) -> None:
    tree = {"l": [{"w": np.full(3, n, np.float32), "n": n} for n in range(400)]}
    sealwax.save(tmp_path / "ckpt", tree)
    assert_same(orbax.load(tmp_path / "ckpt"), tree)
