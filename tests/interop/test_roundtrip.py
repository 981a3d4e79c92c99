"""What sealwax saves, sealwax loads: without a template by the rules, with one bit for bit."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import sealwax
from sealwax.arrays.casts import Cast, classify_cast, narrows
from sealwax.errors import LeafMismatchError
from tests.strategies import (
    EXTENDED,
    JAX_DTYPES,
    NATIVE,
    NUMPY_DTYPES,
    WIDE,
    Layer,
    Pair,
    TrainState,
    assert_placed,
    assert_same,
    dtype_of,
    is_key,
    is_named_apart,
    jax_arrays,
    noise,
    trees,
    without_template,
)


@settings(max_examples=60)
@given(tree=trees())
def test_without_a_template_values_are_the_same_and_classes_become_dicts(
    fresh: Any, tree: Any
) -> None:
    assume(is_named_apart(tree))
    sealwax.save(path := fresh(), tree)
    assert_same(sealwax.load(path), without_template(tree))


@settings(max_examples=60)
@given(tree=trees())
def test_the_tree_itself_is_a_template_that_gives_it_back(fresh: Any, tree: Any) -> None:
    assume(is_named_apart(tree))
    sealwax.save(path := fresh(), tree)
    loaded = sealwax.load(path, tree)
    own = {np.str_: str, np.bytes_: bytes}
    assert_same(loaded, jax.tree.map(lambda leaf: own.get(type(leaf), _same)(leaf), tree))
    assert_placed(loaded, tree)


def _same(leaf: Any) -> Any:
    return leaf


@settings(max_examples=30)
@given(tree=trees())
def test_metadata_is_a_template_for_what_would_come_without_one(fresh: Any, tree: Any) -> None:
    assume(is_named_apart(tree))
    sealwax.save(path := fresh(), tree)
    found = sealwax.metadata(path)
    assert_same(sealwax.load(path, found), without_template(tree))
    assert_same(sealwax.load(path, found.metadata), without_template(tree))


@settings(max_examples=30)
@given(tree=trees(jax_arrays()))
def test_shapes_and_dtypes_alone_are_a_template(fresh: Any, tree: Any) -> None:
    assume(is_named_apart(tree))
    sealwax.save(path := fresh(), tree)
    structs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
    loaded = sealwax.load(path, structs)
    assert_same(loaded, tree)
    assert all(not leaf.committed for leaf in jax.tree.leaves(loaded))
    types = jax.tree.map(lambda leaf: jax.Array, tree)
    assert_same(sealwax.load(path, types), tree)


@settings(max_examples=30)
@given(tree=trees(jax_arrays()))
def test_numpy_arrays_in_the_template_bring_jax_arrays_to_the_host(fresh: Any, tree: Any) -> None:
    assume(is_named_apart(tree))
    sealwax.save(path := fresh(), tree)
    hosts = jax.tree.map(np.asarray, tree)
    empty = jax.tree.map(np.zeros_like, hosts)
    assert_same(sealwax.load(path, empty), hosts)
    assert_same(sealwax.load(path, jax.tree.map(lambda _: np.ndarray, tree)), hosts)


def test_eval_shape_is_a_template_for_a_whole_training_state(tmp_path: Path) -> None:
    params = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3, jnp.bfloat16)}

    def init() -> TrainState:
        return TrainState(step=3, params=(params, optax.adam(1e-3).init(params), jax.random.key(7)))

    sealwax.save(tmp_path / "ckpt", init())
    loaded = sealwax.load(tmp_path / "ckpt", jax.eval_shape(init))
    assert_same(loaded, TrainState(step=jnp.int32(3), params=init().params))


def test_eval_shape_of_numpy_leaves_narrows_what_fits(tmp_path: Path) -> None:
    state = {"ids": np.arange(4), "lr": 0.5, "w": np.linspace(0, 1, 3)}
    sealwax.save(tmp_path / "ckpt", state)
    loaded = sealwax.load(tmp_path / "ckpt", jax.eval_shape(lambda: jax.tree.map(jnp.array, state)))
    assert_same(loaded, jax.tree.map(jnp.array, state))


def test_types_stand_for_scalars(tmp_path: Path) -> None:
    state = {"i": 3, "f": 0.1, "b": True, "c": 1j, "s": "x", "y": b"z", "n": np.float32(2)}
    sealwax.save(tmp_path / "ckpt", state)
    assert_same(sealwax.load(tmp_path / "ckpt", jax.tree.map(type, state)), state)


def test_scalars_become_other_scalars_where_nothing_is_lost(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", {"i": 3, "b": True, "f": 0.5})
    loaded = sealwax.load(tmp_path / "ckpt", {"i": float, "b": int, "f": np.float32})
    assert_same(loaded, {"i": 3.0, "b": 1, "f": np.float32(0.5)})


def test_placeholders_are_skipped_leaf_by_leaf_and_subtree_by_subtree(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", {"a": {"b": 1, "c": [2, 3]}, "d": 4})
    template = {"a": {"b": ..., "c": [int, sealwax.PLACEHOLDER]}, "d": int}
    assert sealwax.load(tmp_path / "ckpt", template) == {"a": {"b": ..., "c": [2, ...]}, "d": 4}


CONTAINERS = [
    (Pair(1, {"x": 2}), {"first": 0, "second": {"x": 0}}),
    ({"first": 1, "second": 2}, Pair(0, 0)),
    ({"bias": 2, "kernel": 1}, Layer(kernel=0, bias=0)),
    (TrainState(step=2, params=1), {"params": 0, "step": 0}),
    ([1, 2], (0, 0)),
    ((1, 2), [0, 0]),
    ({1: 1, 2: 2}, {1: 0, 2: 0}),
    ({"1": 1, "2": 2}, {1: 0, 2: 0}),
    ((), None),
    (None, {}),
]


@pytest.mark.parametrize(("state", "template"), CONTAINERS, ids=repr)
def test_the_template_decides_about_containers(tmp_path: Path, state: Any, template: Any) -> None:
    sealwax.save(tmp_path / "ckpt", {"x": state})
    wanted = jax.tree.unflatten(
        jax.tree.structure(template), [1, 2][: len(jax.tree.leaves(template))]
    )
    assert_same(sealwax.load(tmp_path / "ckpt", {"x": template}), {"x": wanted})


@pytest.mark.parametrize("name", WIDE)
def test_wide_dtypes_with_x64_and_without(tmp_path: Path, name: str) -> None:
    with jax.enable_x64(True):
        array = jax.device_put(noise(name, (3,), 1))
        sealwax.save(tmp_path / "ckpt", {"w": array})
        assert_same(sealwax.load(tmp_path / "ckpt")["w"], array)
    with pytest.raises(LeafMismatchError, match="JAX would truncate") as caught:
        sealwax.load(tmp_path / "ckpt")
    assert caught.value.leaf == "w"
    host = sealwax.load(tmp_path / "ckpt", {"w": np.ndarray})["w"]
    assert_same(host, np.asarray(array))


SIMPLE = st.sampled_from(sorted({*NATIVE, *WIDE, *EXTENDED} - {"float8_e8m0fnu"}))


@settings(max_examples=60)
@given(source=SIMPLE, target=SIMPLE, seed=st.integers(0, 99))
@example("float32", "int32", 0)
@example("complex64", "float32", 0)
@example("float32", "bool", 0)
@example("int64", "int8", 0)
@example("float64", "float16", 0)
def test_casts_that_lose_information_are_refused(
    fresh: Any, source: str, target: str, seed: int
) -> None:
    array = noise(source, (5,), seed)
    sealwax.save(path := fresh(), {"w": array})
    template = {"w": np.zeros(5, dtype_of(target))}
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        wanted = array.astype(dtype_of(target))
    lossless = classify_cast(array.dtype, wanted.dtype) is not Cast.LOSSY
    if narrows(array.dtype, wanted.dtype):
        lossless = list(map(int, wanted)) == list(map(int, array))
    if lossless:
        assert_same(sealwax.load(path, template)["w"], wanted)
        return
    with pytest.raises(LeafMismatchError) as caught:
        sealwax.load(path, template)
    assert caught.value.leaf == "w"


@pytest.mark.parametrize("name", NUMPY_DTYPES)
def test_every_dtype_of_numpy(tmp_path: Path, name: str) -> None:
    state = {"a": noise(name, (4, 3), 5), "s": noise(name, (), 6)[()], "z": noise(name, (0, 2), 7)}
    sealwax.save(tmp_path / "ckpt", state)
    assert_same(sealwax.load(tmp_path / "ckpt"), state)
    assert_same(sealwax.load(tmp_path / "ckpt", state), state)


@pytest.mark.parametrize("name", JAX_DTYPES)
def test_every_dtype_of_jax(tmp_path: Path, name: str) -> None:
    shapes = {"a": (4, 3), "s": (), "z": (0, 2)}
    state = {key: jax.device_put(noise(name, shape, 5)) for key, shape in shapes.items()}
    sealwax.save(tmp_path / "ckpt", state)
    assert_same(sealwax.load(tmp_path / "ckpt"), state)
    assert_same(sealwax.load(tmp_path / "ckpt", state), state)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_every_kind_of_keys(tmp_path: Path, impl: str) -> None:
    keys = jax.random.key(0, impl=impl)
    state = {
        "one": keys,
        "none": jax.random.wrap_key_data(
            np.zeros((0, *jax.random.key_data(keys).shape), np.uint32), impl=impl
        ),
    }
    sealwax.save(tmp_path / "ckpt", state)
    for loaded in (
        sealwax.load(tmp_path / "ckpt"),
        sealwax.load(tmp_path / "ckpt", state),
        sealwax.load(tmp_path / "ckpt", jax.eval_shape(lambda: state)),
    ):
        assert all(map(is_key, jax.tree.leaves(loaded)))
        assert_same(loaded, state)


def test_subclasses_of_arrays_come_back_as_plain_ones(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "file", np.int16, "w+", shape=(3,))
    mapped[:] = [1, 2, 3]
    sealwax.save(tmp_path / "ckpt", {"m": mapped})
    assert_same(sealwax.load(tmp_path / "ckpt"), {"m": np.array([1, 2, 3], np.int16)})


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1])
def test_bytes_of_any_length(tmp_path: Path, size: int) -> None:
    state = {"b": functools.reduce(lambda a, _: a + a, range(17), b"\0\xff")[:size]}
    sealwax.save(tmp_path / "ckpt", state)
    assert_same(sealwax.load(tmp_path / "ckpt"), state)
    assert_same(sealwax.load(tmp_path / "ckpt", {"b": b""}), state)
