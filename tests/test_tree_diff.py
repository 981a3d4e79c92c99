"""In what two of state, template, metadata and checkpoint differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from orbax.checkpoint import v1 as orbax
from returns.result import Success

import sealwax as ocp
from sealwax.trees.differences import differences
from sealwax.trees.flatten import flatten
from tests.strategies import trees

LEAVES = st.one_of(
    st.integers(0, 3),
    st.floats(0, 1),
    st.just("text"),
    st.sampled_from([(2,), (2, 3)]).map(np.zeros),
    st.sampled_from([None, (), {}]),
)
TREES = trees(LEAVES, size=6)
STATE = {
    "params": {"w": np.zeros((2, 3), np.float32), "b": jax.numpy.ones(3)},
    "keys": jax.random.split(jax.random.key(0), 2),
    "step": 4,
    "lr": 0.5,
    "name": "run",
    "done": True,
    "opt": (None, [np.float32(2)]),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("diff") / "ckpt"
    ocp.save(path, STATE)
    return path


@given(TREES)
def test_a_tree_does_not_differ_from_itself(tree):
    assume(isinstance(flatten(tree), Success))
    same = ocp.tree.diff(tree, tree) if not isinstance(tree, str) else False
    assert not same


@given(TREES, TREES)
def test_the_other_way_round_missing_is_unexpected(first, second):
    assume(isinstance(flatten(first), Success) and isinstance(flatten(second), Success))
    there, back = differences(first, second).unwrap(), differences(second, first).unwrap()
    assert bool(there) == bool(back)
    if not there.different and not back.different:
        assert set(there.missing) == set(back.unexpected)
        assert set(there.unexpected) == set(back.missing)
    if there:
        assert str(there).startswith("the trees differ: ")


def forms(path: Path) -> dict[str, Any]:
    return {
        "state": STATE,
        "template": jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
            if hasattr(leaf, "shape") else leaf,
            STATE,
        ),
        "metadata": ocp.metadata(path),
        "tree of metadata": ocp.metadata(path).metadata,
        "path": path,
        "text": str(path),
        "opened": ocp.open(path),
    }  # fmt: skip


def test_any_two_of_one_state_do_not_differ(path):
    every = forms(path)
    for first in every.values():
        for second in every.values():
            found = ocp.tree.diff(first, second)
            assert not found, found
            assert str(found) == "no differences"
            assert found == ocp.tree.Differences(missing=(), unexpected=(), different=())


def test_what_differs_is_listed_by_kind(path):
    other = {
        "params": {"w": np.zeros((2, 4), np.float32), "c": np.zeros(1)},
        "keys": jax.random.split(jax.random.key(0, impl="rbg"), 2),
        "step": 4.0,
        "lr": 0.5,
        "name": "x",
        "done": {"a": 1},
        "opt": (None, [np.float32(2), 3]),
    }
    for form in forms(path).values():
        found = ocp.tree.diff(other, form)
        assert found.missing == ("params.c",)
        assert found.unexpected == ("params.b",)
        assert [d.name for d in found.different] == ["done", "keys", "opt.1", "params.w", "step"]
        assert "keys: the first has key<rbg>[2], the second key<fry>[2]" in str(found)
        assert "params.w: the first has float32[2, 4], the second float32[2, 3]" in str(found)
        assert "step: the first has float, the second int" in str(found)


def test_types_and_placeholders_are_like_what_they_stand_for(path):
    template = {"params": ..., "keys": jax.Array, "step": int, "lr": float, "name": str,
                "done": bool, "opt": (None, [...])}  # fmt: skip
    assert not ocp.tree.diff(template, path)
    assert not ocp.tree.diff(path, template)
    assert ocp.tree.diff({"a": np.ndarray}, {"a": np.zeros(3)}) == ocp.tree.diff(1, 1)
    assert ocp.tree.diff({"a": np.ndarray}, {"a": 3})


def test_a_whole_subtree_is_one_line(path):
    found = ocp.tree.diff({**STATE, "ema": {"w": 1, "b": {"c": 2}}}, path)
    assert found.missing == ("ema.b.c", "ema.w")
    assert "ema (2 leaves)" in str(found)


def test_what_orbax_saved_can_be_compared(tmp_path):
    state = {"w": jax.numpy.ones((2, 3)), "n": np.arange(3), "step": 1, "s": "x", "l": [1, 2]}
    orbax.save(tmp_path / "a", state)
    ocp.save(tmp_path / "b", state)
    assert not ocp.tree.diff(state, tmp_path / "a")
    assert not ocp.tree.diff(tmp_path / "a", tmp_path / "b")
