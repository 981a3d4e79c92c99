"""Leaves that handlers take apart, and the way back."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from returns.result import Failure

from sealwax.errors import CorruptionError, NameCollisionError, UnsupportedLeafError
from sealwax.leaf_handlers import LeafHandler, LeafHandlers
from sealwax.trees.expansion import Handled, expand, fold
from sealwax.trees.flatten import Flat, flatten, key_paths
from sealwax.trees.structure import LEAF, count_leaves


@dataclasses.dataclass(frozen=True)
class Box:
    """A leaf with any tree inside."""

    inner: Any


BOXES = LeafHandlers(
    (
        LeafHandler(
            Box, to_leaves=lambda box: (box.inner, None), from_leaves=lambda tree, _: Box(tree)
        ),
    )
)

plain = st.recursive(
    st.integers(0, 9),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        st.just(None),
    ),
    max_leaves=5,
)
trees = st.recursive(
    st.one_of(st.integers(0, 9), plain.map(Box)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)


def opened(tree: Any) -> Any:
    """The tree with what is in the boxes in their place."""
    if isinstance(tree, dict):
        return {key: opened(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [opened(value) for value in tree]
    return tree.inner if isinstance(tree, Box) else tree


def flat(tree: Any) -> Flat:
    return flatten(tree).unwrap()


@given(trees)
def test_it_is_the_tree_with_the_parts_in_their_place(tree) -> None:
    assert expand(flat(tree), BOXES).unwrap().flat == flat(opened(tree))


@given(trees)
def test_key_paths_lead_to_the_parts(tree) -> None:
    found = expand(flat(tree), BOXES, key_paths(tree)).unwrap()
    assert list(found.key_paths) == key_paths(opened(tree))


@given(trees)
def test_folding_gives_the_structure_back(tree) -> None:
    found = expand(flat(tree), BOXES).unwrap()
    outer, inner = fold(found.flat.structure, found.handled).unwrap()
    assert outer == flat(tree).structure
    boxes = [leaf.value for leaf in flat(tree).leaves if isinstance(leaf.value, Box)]
    assert list(inner) == [flat(box.inner).structure for box in boxes]
    assert [each.size for each in found.handled] == [count_leaves(each) for each in inner]


@given(trees.filter(lambda tree: flat(tree) == flat(opened(tree))))
def test_a_tree_without_such_leaves_is_left_as_it_is(tree) -> None:
    given = flat(tree)
    found = expand(given, BOXES).unwrap()
    assert found.flat is given
    assert found.handled == ()


def test_parts_are_named_below_the_leaf() -> None:
    tree = {"a": Box({"x": 1}), "b": Box(2), "c": Box(None)}
    names = [leaf.name for leaf in expand(flat(tree), BOXES).unwrap().flat.leaves]
    assert names == ["a.x", "b", "c"]
    assert [leaf.name for leaf in expand(flat(Box([1])), BOXES).unwrap().flat.leaves] == ["0"]


def test_a_part_and_a_leaf_of_one_name() -> None:
    error = expand(flat({"a": Box({"x": 1}), "a.x": 2}), BOXES).failure()
    assert isinstance(error, NameCollisionError)
    assert error.leaf == "a.x"


class TestHandlersThatFail:
    def failure(self, to_leaves) -> UnsupportedLeafError:
        handler = LeafHandler(Box, to_leaves=to_leaves, from_leaves=lambda tree, _: None)
        result = expand(flat({"a": [Box(1)]}), LeafHandlers((handler,)))
        assert isinstance(result, Failure)
        error = result.failure()
        assert isinstance(error, UnsupportedLeafError)
        assert error.leaf == "a.0"
        return error

    def test_an_exception(self) -> None:
        def divide(box):
            return 1 / 0

        error = self.failure(divide)
        assert "Box failed: ZeroDivisionError" in str(error)
        assert isinstance(error.__cause__, ZeroDivisionError)

    def test_no_pair(self) -> None:
        assert "a pair" in str(self.failure(lambda box: {"only": "leaves", "and": 1, "more": 2}))

    def test_a_cycle(self) -> None:
        loop: list[Any] = []
        loop.append(loop)
        result = expand(
            flat([Box(loop)]),
            BOXES,
        )
        assert result.failure().leaf is not None


def test_a_record_that_does_not_fit() -> None:
    structure = flat([1, 2]).structure
    for handled in ([Handled(0, 2, 1, "Box")], [Handled(5, 1, 1, "Box")]):
        assert isinstance(fold(structure, handled).failure(), CorruptionError)
    assert fold(structure, [Handled(0, 2, 0, "Box")]).unwrap() == (LEAF, (structure,))


@given(plain, st.booleans())
def test_a_handled_leaf_within_another_is_told_by_its_name(inner: Any, deep: bool) -> None:
    """What handlers give is stored as it is: none of them is asked about it."""
    tree = {"x": Box({"y": [Box(inner)]} if deep else Box(inner))}
    failed = expand(flatten(tree).unwrap(), BOXES).failure()
    assert isinstance(failed, UnsupportedLeafError)
    assert failed.leaf == ("x.y.0" if deep else "x")
    assert "takes a leaf handler itself" in str(failed)
    assert "Take the Box apart in to_leaves too" in str(failed)
