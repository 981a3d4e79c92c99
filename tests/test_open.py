"""A checkpoint as a lazy view: what it shows is what is stored, and no more is read than needed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as orbax

import sealwax as ocp
from sealwax.arrays.sharding_record import Named
from sealwax.effects import Allocate, ReadBatch, ReadRegions
from sealwax.errors import CorruptionError, InvalidLayoutError, LeafMismatchError
from sealwax.planning.views import box
from sealwax.verbs.handles import ArrayHandle
from sealwax.verbs.opening import Node
from tests.strategies import (
    assert_same,
    bits,
    is_named_apart,
    map_tree,
    mesh,
    noise,
    trees,
    without_template,
)

BIG = noise("float32", (1 << 14, 128), 0)
"""Eight MiB: more than one chunk."""
STATE = {
    "params": {
        "w": jax.device_put(
            np.arange(32, dtype=np.float32).reshape(8, 4),
            NamedSharding(mesh(4, 2), PartitionSpec("x", "y")),
        ),
        "big": BIG,
    },
    "layers": [{"b": np.arange(3)}, {"b": np.arange(4)}],
    "keys": jax.random.split(jax.random.key(0), 3),
    "step": 7,
    "name": "run",
    "pair": (1.5, None),
    "blob": b"x" * 100_000,
}


@pytest.fixture(scope="module", params=["sealwax", "orbax"])
def ckpt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("opened") / request.param
    if request.param == "sealwax":
        ocp.save(path, STATE)
    else:
        orbax.save(path, {key: value for key, value in STATE.items() if key != "blob"})
    return ocp.open(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Path]:
    root, numbers = tmp_path_factory.mktemp("saved"), itertools.count()

    def save(tree: Any) -> Path:
        path = root / str(next(numbers))
        ocp.save(path, tree)
        return path

    return save


def closed(view: Any) -> Any:
    """The tree behind a view, every part of it loaded by its handle."""
    if isinstance(view, ArrayHandle):
        return view.load()
    if isinstance(view, Mapping):
        return {key: closed(view[key]) for key in view}
    return [closed(item) for item in view] if isinstance(view, Node) else view


def plain(tree: Any) -> Any:
    def node(value: Any, keys: list[Any], children: list[Any]) -> Any:
        if isinstance(value, Mapping):
            return dict(zip(keys, children, strict=True))
        return list(children) if isinstance(value, (list, tuple)) else value

    return map_tree(tree, lambda leaf, _: leaf, node)


@settings(max_examples=30)
@given(trees(size=6))
def test_a_view_has_all_that_a_load_has(saved, tree):
    if is_named_apart(tree) and tree is not None:
        assert_same(closed(ocp.open(saved(tree))), plain(without_template(tree)))


INDICES = st.one_of(
    st.integers(-6, 6),
    st.builds(
        slice,
        st.none() | st.integers(-6, 6),
        st.none() | st.integers(-6, 6),
        st.none() | st.integers(-3, 3).filter(bool),
    ),
)


@given(st.lists(st.integers(0, 5), max_size=3).map(tuple), st.data())
def test_a_box_and_what_is_taken_of_it_are_what_numpy_selects(shape, data):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    parts: list[Any] = data.draw(st.lists(INDICES, max_size=len(shape)))
    if data.draw(st.booleans()):
        parts.insert(data.draw(st.integers(0, len(parts))), ...)
    index = tuple(parts)
    try:
        expected = array[(*index, *(() if ... in parts else (...,)))]
    except IndexError:
        with pytest.raises(IndexError):
            box(index, shape)
        return
    region, inner = box(index, shape)
    found = array[region.slices][(*inner, ...)]
    np.testing.assert_array_equal(found, expected)
    assert region.size <= max(1, array.size)


@settings(max_examples=25)
@given(st.tuples(INDICES, INDICES) | INDICES.map(lambda part: (part,)))
def test_a_handle_is_indexed_like_the_array(ckpt, index):
    handle, array = ckpt["params"]["w"], np.asarray(STATE["params"]["w"])
    try:
        expected = array[(*index, ...)]
    except IndexError:
        with pytest.raises(IndexError):
            handle[index]
        return
    assert bits(handle[index]) == bits(expected)


def test_what_is_known_without_reading(ckpt):
    with ocp.effect_handlers.record() as trace:
        w, big = ckpt["params"]["w"], ckpt["params"]["big"]
        assert (w.shape, w.dtype, w.ndim, w.nbytes, len(w)) == ((8, 4), np.float32, 2, 128, 8)
        assert w.sharding == Named(
            mesh_shape=(4, 2), axis_names=("x", "y"), spec=("x", "y"),
            axis_types=("Auto", "Auto"), device_ids=tuple(range(8)),
        )  # fmt: skip
        assert big.sharding is None
        assert (w.name, w.kind) == ("params.w", "jax array")
        assert ckpt["params"].nbytes == 128 + BIG.nbytes
        assert repr(big) == "<params.big: float32[16384, 128], 8.0 MiB>"
        assert ckpt["name"] == "run"
    assert not trace.effects


def test_only_the_chunks_that_are_needed_are_read(ckpt):
    handle = ckpt["params"]["big"]
    with ocp.effect_handlers.record() as trace:
        assert bits(handle[3:5, ::2]) == bits(BIG[3:5, ::2])
    effects = trace.effects
    allocated = [e for e in effects if isinstance(e, Allocate)]
    assert [buffer.shape for buffer in allocated[0].buffers] == [(2, 127)]
    reads = [e for e in effects if isinstance(e, (ReadBatch, ReadRegions))]
    assert len(reads) == 1
    if isinstance(reads[0], ReadBatch):
        assert reads[0].nbytes < BIG.nbytes


def test_arrays_scalars_and_containers(ckpt):
    assert bits(np.asarray(ckpt["params"]["big"])) == bits(BIG)
    assert np.asarray(ckpt["params"]["w"], np.float64).dtype == np.float64
    assert ckpt["step"] == 7
    assert type(ckpt["step"]) is int
    assert ckpt["pair"][0] == 1.5
    assert list(ckpt["pair"]) == [1.5, None]
    assert isinstance(ckpt["layers"], Sequence)
    assert [item["b"].shape for item in ckpt["layers"]] == [(3,), (4,)]
    assert ckpt["layers"][-1]["b"].name == "layers.1.b"
    assert [b.name for b in (group["b"] for group in ckpt["layers"][::-1])] == [
        "layers.1.b",
        "layers.0.b",
    ]
    assert set(ckpt) >= {"params", "layers", "keys", "step", "name", "pair"}
    assert "params" in ckpt
    assert ckpt.get("nothing") is None
    with pytest.raises(KeyError, match="'wx'; params has 'big', 'w'"):
        ckpt["params"]["wx"]
    with pytest.raises(IndexError):
        ckpt["layers"][2]


def test_typed_keys_stay_typed(ckpt):
    handle, keys = ckpt["keys"], STATE["keys"]
    assert handle.shape == (3,)
    assert handle.dtype == keys.dtype
    assert_same(handle[1:], keys[1:])
    assert_same(handle[0], keys[0])
    assert_same(handle.load(), keys)
    with pytest.raises(IndexError):
        handle[0, 0]


def test_a_handle_loads_as_a_template_asks(ckpt):
    handle = ckpt["params"]["w"]
    placed = NamedSharding(mesh(2, 4), PartitionSpec(None, "x"))
    loaded = handle.load(jax.ShapeDtypeStruct((8, 4), "bfloat16", sharding=placed))
    assert loaded.sharding.is_equivalent_to(placed, 2)
    assert bits(loaded) == bits(np.asarray(STATE["params"]["w"]).astype("bfloat16"))
    assert isinstance(handle.load(np.ndarray), np.ndarray)
    with pytest.raises(LeafMismatchError, match=r"shape \[3\]") as caught:
        handle.load(np.empty(3))
    assert (caught.value.leaf, caught.value.path) == ("params.w", ckpt.path)


@pytest.mark.parametrize("index", [True, 1.5, None, [0, 1], np.array([True] * 8), "w", (0, 0, 0)])
def test_an_index_that_is_not_basic_is_refused(ckpt, index):
    with pytest.raises(IndexError):
        ckpt["params"]["w"][index]


@pytest.mark.parametrize(("index", "axis"), [(8, 0), (-9, 0), ((0, 4), 1), ((..., 2**70), 1)])
def test_an_index_out_of_range_names_the_axis(ckpt, index, axis):
    with pytest.raises(
        IndexError, match=f"is out of bounds for axis {axis} of size {(8, 4)[axis]}"
    ):
        ckpt["params"]["w"][index]


def test_the_tree_is_drawn(ckpt):
    lines = repr(ckpt).splitlines()
    assert lines[0].startswith(f"Group {str(ckpt.path)!r}: ")
    assert "  step: 7" in lines
    assert "  name: 'run'" in lines
    assert "  keys: key<fry>[3], 24 B" in lines
    assert "    w: float32[8, 4], 128 B, P('x', 'y') over x=4, y=2" in lines
    assert "    1: None" in lines


def test_long_trees_are_cut_and_counted(saved):
    drawn = repr(ocp.open(saved({f"w{i:03}": i for i in range(100)})))
    assert drawn.splitlines()[0].endswith(": 100 leaves, 0 B")
    assert drawn.endswith("... and 40 more lines")


def test_bytes_and_other_types_come_back(saved):
    tree = {"big": b"x" * 100_000, "small": b"y", "int": 1 << 80, "c": 1j}
    ckpt = ocp.open(saved(tree))
    assert ckpt["big"] == b"x" * 100_000
    assert (ckpt["small"], ckpt["int"], ckpt["c"]) == (b"y", 1 << 80, 1j)
    assert "big: bytes" in repr(ckpt)


def test_a_tree_of_one_leaf_is_that_leaf(saved):
    assert ocp.open(saved(np.arange(3)))[1:].tolist() == [1, 2]
    assert ocp.open(saved(5)) == 5
    assert list(ocp.open(saved({3: 1, 2: 5}))) == [2, 3]


def test_a_flipped_bit_is_noticed(saved):
    path = saved({"w": noise("uint8", (1000,), 1)})
    handle = ocp.open(path)["w"]
    data = path / "state" / "d" / "00000000"
    content = bytearray(data.read_bytes())
    content[10] ^= 1
    data.write_bytes(content)
    with pytest.raises(CorruptionError, match="'w'"):
        handle[:3]


def test_another_checkpoint_at_the_path_is_noticed(saved):
    path = saved({"w": np.zeros(3)})
    ckpt = ocp.open(path)
    ocp.save(path, {"w": np.ones(3)}, overwrite=True)
    with pytest.raises(InvalidLayoutError, match="Open it again"):
        ckpt["w"][:]


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing at the path"):
        ocp.open(tmp_path / "nothing")
