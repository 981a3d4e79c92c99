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
