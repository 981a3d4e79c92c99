"""What a template's leaf asks for, and what it gets."""

from __future__ import annotations

import functools
import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.layout import Format, Layout
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

import sealwax as ocp
from sealwax.arrays.casts import Cast, classify_cast
from sealwax.arrays.leafkinds import LeafKind
from sealwax.errors import (
    CorruptionError,
    LeafMismatchError,
    TreeMismatchError,
    UnsupportedLeafError,
)
from sealwax.planning.contents import Foreign, StoredArray, StoredLeaf
from sealwax.planning.targets import Rules, target
from sealwax.trees.flatten import DEEPEST
from sealwax.trees.keys import Key, KeyKind
from sealwax.trees.records import Entry
from tests.strategies import (
    EXTENDED,
    NATIVE,
    WIDE,
    assert_placed,
    assert_same,
    bits,
    dtype_of,
    mesh,
    noise,
    shardings,
)

DTYPES = st.sampled_from(NATIVE + EXTENDED + WIDE)
Arrays = Callable[[Any], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """Saves a tree at a new path."""
    root, numbers = tmp_path_factory.mktemp("saved"), itertools.count()

    def save(tree: Any) -> Path:
        path = root / str(next(numbers))
        ocp.save(path, tree)
        return path

    return save


def unsafe() -> ocp.Context:
    return ocp.Context().at.array.loading.casting.set("unsafe")


def resizing() -> ocp.Context:
    return ocp.Context().at.array.loading.enable_padding_and_truncation.set(True)


def sds(shape: Any, dtype: Any = np.float32, sharding: Any = None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


# ---------------------------------------------------------------- dtypes


@given(stored=DTYPES, wanted=DTYPES, seed=st.integers(0, 99))
def test_every_cast_that_keeps_the_kind_is_silent(saved, stored, wanted, seed):
    array = noise(stored, (6,), seed)
    kind = classify_cast(array.dtype, dtype_of(wanted))
    template = {"w": np.empty(6, dtype_of(wanted))}
    path = saved({"w": array})
    if kind is Cast.LOSSY and not all(n.startswith(("int", "uint")) for n in (stored, wanted)):
        with pytest.raises(LeafMismatchError, match=f"{stored} to {wanted} would lose"):
            ocp.load(path, template)
    elif kind is not Cast.LOSSY:
        loaded = ocp.load(path, template)["w"]
        assert loaded.dtype == dtype_of(wanted)
        if kind in (Cast.IDENTICAL, Cast.WIDENING):
            back = unsafe().run(ocp.load, saved({"w": loaded}), {"w": array})["w"]
            same = (back == array) | (array != array)
            assert np.all(same), (array, loaded, back)
    assert unsafe().run(ocp.load, path, template)["w"].dtype == dtype_of(wanted)


def test_a_lossy_cast_is_made_on_request_only(saved):
    path = saved({"w": np.array([1.7, -2.5, 300.0], np.float32), "x": 2.5})
    template = {"w": sds((3,), np.int8), "x": int}
    with pytest.raises(LeafMismatchError, match="casting = .unsafe."):
        ocp.load(path, template)
    loaded = ocp.load(path, template, context=unsafe())
    assert loaded["w"].tolist()[:2] == [1, -2]
    assert loaded["x"] == 2
    assert ocp.load(path, {"w": np.empty(3, bool), "x": bool}, context=unsafe())["x"] is True


def test_complex_numbers_lose_their_imaginary_part_on_request_only(saved):
    path = saved({"w": np.array([1 + 2j], np.complex64)})
    with pytest.raises(LeafMismatchError):
        ocp.load(path, {"w": sds((1,))})
    assert ocp.load(path, {"w": sds((1,))}, context=unsafe())["w"].tolist() == [1.0]


def test_integers_become_narrower_where_their_values_fit(saved):
    path = saved({"n": np.array([1, -5]), "m": np.array([1 << 40])})
    assert ocp.load(path, {"n": sds((2,), np.int32), "m": ...})["n"].tolist() == [1, -5]
    with pytest.raises(LeafMismatchError, match=r"'m'.*1099511627776") as caught:
        ocp.load(path, {"n": ..., "m": sds((1,), np.int32)})
    assert caught.value.leaf == "m"


# ---------------------------------------------------------------- templates


def test_what_eval_shape_gives_fits_what_numpy_and_python_saved(saved):
    def init() -> Any:
        return {"w": np.ones((2, 3)), "n": np.arange(3), "step": 7, "lr": 0.5, "done": True}

    loaded = ocp.load(saved(init()), jax.eval_shape(init))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded))
    assert loaded["step"].dtype == np.int32
    assert int(loaded["step"]) == 7
    assert float(loaded["lr"]) == 0.5
    assert not any(leaf.committed for leaf in jax.tree.leaves(loaded))


def test_tracers_are_a_template_of_shapes_and_dtypes(saved):
    path = saved({"x": np.arange(3, dtype=np.float32)})

    ones = np.ones(3, np.float32)

    def start(like):
        return ocp.load(path, {"x": like})["x"]

    assert np.array_equal(jax.jit(lambda like: start(like) + 1)(ones), [1, 2, 3])
    assert jax.eval_shape(start, ones).shape == (3,)
    with pytest.raises(LeafMismatchError, match=r"\[4\]"):
        jax.jit(start)(np.ones(4, np.float32))


def test_a_live_state_keeps_its_placement(saved):
    state = {
        "w": jax.device_put(
            noise("float32", (8, 4), 1), NamedSharding(mesh(8), PartitionSpec("x"))
        ),
        "b": jax.device_put(noise("bfloat16", (4,), 2), SingleDeviceSharding(jax.devices()[3])),
        "free": jax.numpy.arange(3),
        "host": noise("float64", (3,), 3),
        "keys": jax.device_put(
            jax.random.split(jax.random.key(0, impl="rbg"), 8),
            NamedSharding(mesh(8), PartitionSpec("x")),
        ),
        7: 3,
    }
    state = {str(key): value for key, value in state.items()}
    loaded = ocp.load(saved(state), state)
    assert_same(loaded, state)
    assert_placed(loaded, state)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_typed_keys_of_every_implementation(saved, impl):
    keys = jax.random.split(jax.random.key(3, impl=impl), 4)
    path = saved({"k": keys})
    template = jax.eval_shape(lambda: {"k": keys})
    assert_same(ocp.load(path, template)["k"], keys)
    described = ocp.arrays.to_shape_dtype_struct(keys)
    assert described.dtype == np.uint32
    assert_same(ocp.load(path, {"k": described})["k"], keys)
    raw = saved({"k": jax.random.key_data(keys)})
    assert_same(ocp.load(raw, template)["k"], keys)
    with pytest.raises(LeafMismatchError, match=r"expected PRNG keys|Expected PRNG keys"):
        ocp.load(saved({"k": np.zeros(4)}), template)
    with pytest.raises(LeafMismatchError, match=r"shape \[3\]"):
        ocp.load(path, {"k": sds((3,), keys.dtype)})


def test_keys_of_another_implementation_do_not_fit(saved):
    path = saved({"k": jax.random.key(0, impl="rbg")})
    with pytest.raises(LeafMismatchError, match=r"key<urbg>.*PRNG keys of rbg"):
        ocp.load(path, {"k": jax.random.key(0, impl="unsafe_rbg")})


def test_keys_are_sharded_as_the_template_says(saved):
    keys = jax.random.split(jax.random.key(0), 8)
    wanted = NamedSharding(mesh(2, 4), PartitionSpec(("x", "y")))
    loaded = ocp.load(saved({"k": keys}), {"k": sds((8,), keys.dtype, wanted)})["k"]
    assert_same(loaded, keys)
    assert loaded.sharding.is_equivalent_to(wanted, 1)


def test_placeholders_stand_for_leaves_and_subtrees(saved):
    path = saved({"a": {"b": 1, "c": [np.ones(2), 3]}, "d": 4})
    loaded = ocp.load(path, {"a": {"b": ocp.PLACEHOLDER, "c": [..., 0]}, "d": 0})
    assert loaded == {"a": {"b": ..., "c": [..., 3]}, "d": 4}
    assert ocp.load(path, {"a": ..., "d": 0}) == {"a": ..., "d": 4}
    assert ocp.plan_load(path, {"a": ..., "d": 0}).names == ("d",)
    with pytest.raises(TreeMismatchError) as caught:
        ocp.load(path, {"a": ..., "d": 0, "e": ...})
    assert caught.value.missing == ("e",)


def test_integer_keys_with_and_without_a_template(saved):
    tree = {10: np.ones(2), 9: {-1: 3}}
    path = saved(tree)
    assert list(ocp.load(path)) == [9, 10]
    assert ocp.load(path, {10: ..., 9: {-1: 0}}) == {10: ..., 9: {-1: 3}}


def test_nnx_state_is_a_template(saved):
    class Model(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.inner = nnx.Linear(2, 3, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(2)])

    _, state = nnx.split(Model(nnx.Rngs(0)))
    _, abstract = nnx.split(nnx.eval_shape(lambda: Model(nnx.Rngs(0))))
    path = saved(state)
    loaded = ocp.load(path, abstract)
    assert type(loaded) is type(state)
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    for found, wanted in zip(jax.tree.leaves(loaded), jax.tree.leaves(state), strict=True):
        assert_same(found, wanted)
    plain = nnx.to_pure_dict(state)
    assert_same(ocp.load(saved(plain), plain), plain)


def test_linen_train_state_is_a_template(saved):
    model = nn.Dense(3)

    def init() -> TrainState:
        params = model.init(jax.random.key(0), np.ones((1, 2), np.float32))["params"]
        return TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-3))

    state = init()
    path = saved(state)
    for template in (state, jax.eval_shape(init)):
        loaded = ocp.load(path, template)
        assert isinstance(loaded, TrainState)
        assert jax.tree.structure(loaded) == jax.tree.structure(template)
        for found, wanted in zip(jax.tree.leaves(loaded), jax.tree.leaves(state), strict=True):
            assert bits(found)[2][:4] == bits(wanted)[2][:4]


def test_metadata_is_a_template(saved):
    tree = {"w": jax.numpy.ones((2, 2)), "n": np.arange(3), "step": 1, "s": "x", "none": None}
    path = saved(tree)
    assert_same(ocp.load(path, ocp.metadata(path)), tree)


# ---------------------------------------------------------------- placement


def test_a_format_decides_the_layout_on_the_device(saved):
    array = noise("float32", (8, 4), 0)
    placed = NamedSharding(mesh(2, 4), PartitionSpec("x", "y"))
    wanted = Format(Layout(major_to_minor=(1, 0)), placed)
    loaded = ocp.load(saved({"w": array}), {"w": sds((8, 4), sharding=wanted)})["w"]
    assert loaded.format.layout.major_to_minor == (1, 0)
    assert loaded.sharding.is_equivalent_to(placed, 2)
    assert bits(loaded) == bits(array)


@pytest.mark.parametrize("kind", ["device", "pinned_host"])
def test_memory_kinds_are_kept(saved, kind):
    array = noise("float32", (8, 4), 0)
    for placed in (
        NamedSharding(mesh(8), PartitionSpec("x"), memory_kind=kind),
        SingleDeviceSharding(jax.devices()[1], memory_kind=kind),
    ):
        state = {"w": jax.device_put(array, placed)}
        loaded = ocp.load(saved(state), state)["w"]
        assert loaded.sharding == placed
        assert bits(loaded) == bits(array)


def test_an_abstract_mesh_takes_the_devices_of_the_current_one(saved):
    array = noise("float32", (8, 4), 0)
    path, devices = saved({"w": array}), mesh(2, 4)
    abstract = NamedSharding(devices.abstract_mesh, PartitionSpec("x", "y"))
    template = {"w": sds((8, 4), sharding=abstract)}
    with pytest.raises(LeafMismatchError, match=r"abstract mesh.*set_mesh"):
        ocp.load(path, template)
    with jax.set_mesh(mesh(8)), pytest.raises(LeafMismatchError, match=r"'x': 2, 'y': 4.*'x': 8"):
        ocp.load(path, template)
    with jax.set_mesh(devices):
        loaded = ocp.load(path, template)["w"]
    assert loaded.sharding.is_equivalent_to(NamedSharding(devices, PartitionSpec("x", "y")), 2)
    assert bits(loaded) == bits(array)


def test_a_partition_spec_alone_is_for_the_current_mesh(saved):
    kinds = [PartitionSpec(*axes) for axes in ((), ("x",), ("y",), (None, "x"), (("x", "y"),))]
    specs = {f"w{n}": spec for n, spec in enumerate(kinds * 4)}
    arrays = {name: noise("float32", (8, 4), 0) for name in specs}
    path, devices = saved(arrays), mesh(2, 4)
    with jax.set_mesh(devices):
        template = {name: sds((8, 4), sharding=spec) for name, spec in specs.items()}
        loaded = ocp.load(path, template)
    for name, spec in specs.items():
        assert loaded[name].sharding == NamedSharding(devices, spec)
        assert bits(loaded[name]) == bits(arrays[name])
    with pytest.raises(LeafMismatchError, match=r"(?s)current mesh.*none.*set_mesh"):
        ocp.load(path, template)
    with (
        jax.set_mesh(mesh(8)),
        pytest.raises(LeafMismatchError, match=r"axes that it names.*'x': 8"),
    ):
        ocp.load(path, template)


def test_what_is_not_nested_too_deeply_to_be_saved_can_be_loaded(saved):
    tree = functools.reduce(lambda below, _: {"a": below}, range(DEEPEST), 1)
    path = saved(tree)
    assert ocp.load(path) == ocp.load(path, tree) == tree
    with pytest.raises(UnsupportedLeafError, match=rf"more deeply.*{DEEPEST} containers"):
        saved([tree])


def test_a_sharding_over_other_processes_is_refused():
    class Elsewhere:
        is_fully_addressable = False
        device_set = frozenset(range(16))

    wanted = SimpleNamespace(shape=(2,), dtype=np.dtype("float32"), sharding=Elsewhere())
    place = Foreign(driver="zarr3", key="w")
    array = StoredArray(shape=(2,), dtype=np.dtype("float32"), chunk_shape=(2,), place=place)
    entry = Entry((Key("w", KeyKind.MAPPING),), "jax.Array")
    leaf = StoredLeaf(entry=entry, kind=LeafKind.JAX_ARRAY, array=array)
    with pytest.raises(LeafMismatchError, match="16 devices of several processes"):
        target(leaf, wanted, Rules())


# ---------------------------------------------------------------- shapes


@settings(max_examples=40)
@given(data=st.data(), rank=st.integers(1, 3), seed=st.integers(0, 9))
def test_padding_and_truncation(saved, data, rank, seed):
    extents = st.lists(st.sampled_from([1, 2, 4, 8]), min_size=rank, max_size=rank).map(tuple)
    before, after = data.draw(extents), data.draw(extents)
    array = noise("float32", before, seed)
    expected = np.zeros(after, np.float64)
    common = tuple(slice(min(a, b)) for a, b in zip(before, after, strict=True))
    with np.errstate(invalid="ignore"):
        expected[common] = array[common].astype(np.float64)
    placed = data.draw(st.sampled_from(shardings(after)))
    path = saved({"w": array})
    templates = [{"w": sds(after, sharding=placed)}, {"w": np.empty(after, np.float64)}]
    for template in templates:
        loaded = np.asarray(ocp.load(path, template, context=resizing())["w"], np.float64)
        np.testing.assert_array_equal(loaded, expected)
        if before != after:
            with pytest.raises(LeafMismatchError, match="enable_padding_and_truncation"):
                ocp.load(path, template)


def test_padding_does_not_change_the_rank(saved):
    path = saved({"w": np.ones((2, 2), np.float32)})
    with pytest.raises(LeafMismatchError, match=r"shape \[4\], found shape \[2, 2\]"):
        ocp.load(path, {"w": sds((4,))}, context=resizing())


# ---------------------------------------------------------------- missing data


def test_missing_chunks_are_zeros_on_request(saved):
    tree = {"a": noise("float32", (64,), 0), "b": jax.numpy.ones((3, 5)), "c": np.ones((0, 2))}
    path = saved(tree)
    (path / "state" / "d" / "00000000").unlink()
    with pytest.raises(CorruptionError, match="data file is missing"):
        ocp.load(path)
    lenient = ocp.Context().at.array.loading.raise_array_data_missing_error.set(False)
    loaded = ocp.load(path, context=lenient)
    assert_same(loaded, jax.tree.map(lambda leaf: leaf * 0 if leaf.size else leaf, loaded))
    assert loaded["a"].sum() == 0
    assert loaded["b"].shape == (3, 5)


# ---------------------------------------------------------------- errors


def test_all_leaves_that_do_not_fit_are_in_one_error(saved):
    tree = {"a": np.ones(2), "b": {"c": np.ones((2, 3)), "d": "text"}, "e": np.ones(3), "f": 1}
    template = {"a": sds((3,)), "b": {"c": sds((2, 3), np.int32), "d": 0}, "e": object(), "f": 1}
    with pytest.raises(LeafMismatchError) as caught:
        ocp.load(saved(tree), template)
    text = str(caught.value)
    assert text.startswith("4 leaves do not fit the template (path ")
    assert [each.name for each in caught.value.different] == ["a", "b.c", "b.d", "e"]
    assert (caught.value.different[0].expected, caught.value.different[0].found) == (
        "shape [3]",
        "shape [2]",
    )
    assert caught.value.lines[1] == "    a: expected shape [3], found shape [2]"
    assert "\n    a: expected shape [3], found shape [2]\n" in text
    assert "\n    b.c: expected int32, found float64\n" in text
    assert "\n    b.d: expected an int, found a string\n" in text
    assert "\n    e: expected an array, " in text
    assert len(text.splitlines()) == 8


def test_many_leaves_that_do_not_fit_are_counted(saved):
    names = "abcdefghijklmn"
    path = saved({"layers": [np.ones(2) for _ in range(14)]} | {n: np.ones(2) for n in names})
    with pytest.raises(LeafMismatchError) as caught:
        ocp.load(path, {"layers": [np.ones(3) for _ in range(14)]} | {n: np.ones(3) for n in names})
    text = str(caught.value)
    assert text.startswith("28 leaves")
    assert len(caught.value.different) == 28
    assert "and 5 more" in text
    assert "\n    j: " in text
    assert "\n    k: " not in text


def test_leaves_that_do_not_fit_alike_are_one_line(saved):
    path = saved({"layers": [{"w": np.ones(2)} for _ in range(14)]})
    with pytest.raises(LeafMismatchError) as caught:
        ocp.load(path, {"layers": [{"w": np.ones(3)} for _ in range(14)]})
    assert "layers.*.w: expected shape [3], found shape [2], 14 of them" in str(caught.value)


def test_templates_that_no_leaf_can_be_like_are_all_named(saved):
    with pytest.raises(UnsupportedLeafError) as caught:
        ocp.load(saved({"a": 1, "b": 2}), {"a": object(), "b": object()})
    assert [each.name for each in caught.value.different] == ["a", "b"]
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.different) == (str(caught.value), caught.value.different)


def test_one_error_has_missing_unexpected_and_different(saved):
    path = saved({"w": np.ones(2), "old": 1, "n": 1.5})
    with pytest.raises(TreeMismatchError) as caught:
        ocp.load(path, {"w": sds((3,)), "new": 1, "n": 1})
    error = caught.value
    assert (error.missing, error.unexpected) == (("new",), ("old",))
    assert [(d.name, d.expected, d.found) for d in error.different] == [
        ("n", "int64", "float64"),
        ("w", "shape [3]", "shape [2]"),
    ]


def test_an_unsupported_leaf_of_a_template_is_named(saved):
    with pytest.raises(UnsupportedLeafError, match=r"leaf 'w'.*found object"):
        ocp.load(saved({"w": 1}), {"w": object()})


def test_partial_load_skips_what_the_template_leaves_out(saved):
    path = saved({"params": {"kernel": np.ones(2), "b": np.ones(3)}, "opt": [1, 2]})
    partial = ocp.Context().at.pytree.loading.partial_load.set(True)
    wanted = {"params": {"kernel": np.empty(2)}}
    assert_same(ocp.load(path, wanted, context=partial), {"params": {"kernel": np.ones(2)}})
    assert ocp.plan_load(path, wanted, context=partial).names == ("params.kernel",)
    assert ocp.load(path, {}, context=partial) == {}
    with pytest.raises(TreeMismatchError, match="has 'params.kernel'") as caught:
        ocp.load(path, {"params": {"kernle": np.empty(2)}}, context=partial)
    assert caught.value.missing == ("params.kernle",)
    with pytest.raises(TreeMismatchError, match="partial_load"):
        ocp.load(path, wanted)
