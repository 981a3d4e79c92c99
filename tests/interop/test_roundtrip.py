"""What sealwax saves, sealwax loads: without a template by the rules, with one bit for bit."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings

import sealwax
from sealwax.trees.flatten import flatten
from tests.strategies import assert_placed, assert_same, is_key, trees, without_template


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gives a new path each time, for tests that save once per example."""
    root, numbers = tmp_path_factory.mktemp("checkpoints"), itertools.count()
    return lambda: root / str(next(numbers))


def storable(tree: Any) -> bool:
    """Whether every leaf has a name of its own: the keys may join to the same dotted text."""
    return not flatten(tree).swap().value_or(None)


@settings(max_examples=60)
@given(tree=trees())
def test_without_a_template_values_are_the_same_and_classes_become_dicts(
    fresh: Any, tree: Any
) -> None:
    assume(storable(tree))
    sealwax.save(path := fresh(), tree)
    assert_same(sealwax.load(path), without_template(tree))


@settings(max_examples=60)
@given(tree=trees())
def test_the_tree_itself_is_a_template_that_gives_it_back(fresh: Any, tree: Any) -> None:
    assume(storable(tree))
    sealwax.save(path := fresh(), tree)
    loaded = sealwax.load(path, tree)
    assert_same(loaded, tree_of_natives(tree))
    assert_placed(loaded, tree)


def tree_of_natives(tree: Any) -> Any:
    """What a template gives back: strings and bytes become Python's own."""
    subclasses = {np.str_: str, np.bytes_: bytes}
    return jax.tree.map(lambda leaf: subclasses.get(type(leaf), lambda same: same)(leaf), tree)
