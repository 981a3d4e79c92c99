import collections

import jax
import pytest
from flax.core import FrozenDict
from hypothesis import assume, given
from returns.result import Success

from sealwax.errors import TreeMismatchError
from sealwax.trees.flatten import flatten
from sealwax.trees.merge import merge
from tests.trees.strategies import NESTED, TREES, Indexed, Layer, Pair


@given(TREES)
def test_a_tree_alone_is_itself(tree):
    assert merge(tree) == tree


@given(TREES)
def test_overwriting_with_itself_changes_nothing(tree):
    assume(isinstance(flatten(tree), Success))
    merged = merge(tree, tree, overwrite=True)
    assert merged == tree
    assert jax.tree.structure(merged) == jax.tree.structure(tree)


@given(NESTED, NESTED)
def test_later_wins_when_overwriting(left, right):
    merged = merge(left, right, overwrite=True)
    assert merged == merge(merged, right, overwrite=True)
    assert set(merged) == set(left) | set(right)


@given(NESTED, NESTED)
def test_disjoint_trees_merge_in_any_order(left, right):
    first, second = {"l": left}, {"r": right}
    assert merge(first, second) == merge(second, first) == {"l": left, "r": right}


@given(NESTED)
def test_arguments_are_left_alone(tree):
    before = repr(tree)
    merge(tree, {"new": 1}, tree, overwrite=True)
    assert repr(tree) == before


@pytest.mark.parametrize(
    ("trees", "merged"),
    [
        ((), {}),
        ((1,), 1),
        (({"b": 1, "a": 2}, {"c": 3}), {"b": 1, "a": 2, "c": 3}),
        (({"a": {}}, {"a": {"b": 1}}), {"a": {"b": 1}}),
        (([{"a": 1}], [{"b": 2}]), [{"a": 1, "b": 2}]),
        ((({"a": 1},), ({"b": 2},)), ({"a": 1, "b": 2},)),
        ((FrozenDict(a=1), FrozenDict(b=2)), FrozenDict(a=1, b=2)),
        ((Pair(1, None), Pair(None, 2)), Pair(1, 2)),
        ((Layer({"a": 1}, None), Layer({"b": 2}, 3)), Layer({"a": 1, "b": 2}, 3)),
        ((Indexed({"a": 1}), Indexed({"b": 2})), Indexed({"a": 1, "b": 2})),
        (({"a": {1: 1}}, {"a": {"x": 1}}), {"a": {1: 1, "x": 1}}),
    ],
)
def test_without_overwrite(trees, merged):
    result = merge(*trees)
    assert repr(result) == repr(merged)


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": 2}}),
        ({"a": {"b": 2}}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": None}, {"a": 1}),
        ({"a": None}, {"a": 1}, {"a": 1}),
        ([1, {"a": 1}], [2, {"b": 1}], [2, {"a": 1, "b": 1}]),
        ((1,), [2], [2]),
        ([1, 2], {0: 1}, {0: 1}),
        (Pair(1, {"a": 1}), Pair(3, {"b": 1}), Pair(3, {"a": 1, "b": 1})),
        ({"a": {"b": 1}}, {"a": collections.OrderedDict(c=1)},
         {"a": collections.OrderedDict(b=1, c=1)}),
        (collections.defaultdict(list, a=1), collections.defaultdict(int, a=2),
         collections.defaultdict(int, a=2)),
    ],
)  # fmt: skip
def test_with_overwrite(old, new, merged):
    assert repr(merge(old, new, overwrite=True)) == repr(merged)


def test_is_leaf():
    tree = merge({"a": [1, 2]}, {"a": [3]}, overwrite=True, is_leaf=lambda x: isinstance(x, list))
    assert tree == {"a": [3]}


def test_all_conflicts_are_named():
    first = {"a": 1, "c": {"d": 1}, "e": [1], "f": 1}
    with pytest.raises(TreeMismatchError) as caught:
        merge(first, {"a": 2, "c": {"d": 1}, "e": (1,), "f": 1}, {"g": 4})
    assert str(caught.value) == (
        "The trees cannot be merged: 3 in common, 1 of different kinds\n"
        "  in more than one of the trees:\n    a\n    c.d\n    f\n"
        "  of different kinds:\n    e: first list, then tuple\n"
        "Pass overwrite=True to let later trees win."
    )
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("new", [[1], [1, 2, 3]])
def test_sequences_of_other_lengths(overwrite, new):
    with pytest.raises(TreeMismatchError, match=r"x: first 2 items, then \d items") as caught:
        merge({"x": [{}, {}]}, {"x": new}, overwrite=overwrite)
    assert "one length" in str(caught.value)


@pytest.mark.parametrize(("old", "new"), [({"a": 1}, None), (1, {"a": 1}), ({}, FrozenDict(a=1))])
def test_other_kinds_are_refused(old, new):
    with pytest.raises(TreeMismatchError, match=r"the root|different kinds"):
        merge(old, new)
