import pickle

import jax
import numpy as np
import pytest
from flax.core import FrozenDict
from hypothesis import assume, given
from hypothesis import strategies as st
from returns.result import Success

from sealwax.errors import Difference, TreeMismatchError
from sealwax.trees.flatten import flatten
from sealwax.trees.match import Kept, match
from sealwax.trees.records import Entry, empty_entry
from sealwax.trees.structure import EmptyKind
from tests.trees.strategies import (
    EMPTIES,
    LEAVES,
    NESTED,
    TREES,
    Layer,
    Nothing,
    Pair,
    as_orbax,
    entries_of,
)

W = jax.ShapeDtypeStruct((2,), np.float32)


def fitted(template, stored, **options):
    return match(template, entries_of(stored), **options).unwrap()


def refused(template, stored, **options):
    error = match(template, entries_of(stored), **options).failure()
    assert isinstance(error, TreeMismatchError)
    return error


def names(tree):
    return {entry.name for entry in entries_of(tree)}


@given(TREES)
def test_a_tree_fits_itself(tree):
    assume(isinstance(flatten(tree), Success))
    matching = fitted(tree, tree)
    assert [each.name for each in matching.wanted] == [
        entry.name for entry in entries_of(tree) if entry.empty is None
    ]
    assert matching.skipped == ()
    restored = matching.fill([each.template for each in matching.wanted])
    assert restored == tree
    assert jax.tree.structure(restored) == jax.tree.structure(tree)


@given(TREES, st.randoms(use_true_random=False))
def test_leaves_are_found_wherever_they_lie_in_the_checkpoint(tree, random):
    assume(isinstance(flatten(tree), Success))
    stored = list(entries_of(tree))
    shuffled = random.sample(stored, len(stored))
    straight, sought = match(tree, stored).unwrap(), match(tree, shuffled).unwrap()
    assert straight.sources == sought.sources
    assert straight.skipped == sought.skipped == ()


@given(TREES)
def test_a_tree_fits_what_orbax_would_make_of_it_and_the_other_way_round(tree):
    assume(isinstance(flatten(tree), Success))
    flattened = as_orbax(tree)
    assert fitted(tree, flattened).fill(jax.tree.leaves(tree)) == tree
    wanted = fitted(flattened, tree).wanted
    assert fitted(flattened, tree).fill([each.template for each in wanted]) == flattened


@given(TREES)
def test_the_placeholder_stands_for_any_tree(tree):
    assume(isinstance(flatten(tree), Success))
    matching = fitted({"x": ...}, {"x": tree})
    assert matching.sources == (Kept(...),)
    assert matching.fill([]) == {"x": ...}
    assert set(matching.skipped) == {
        entry.name for entry in entries_of({"x": tree}) if entry.empty is None
    }


@given(NESTED, st.data())
def test_a_renamed_key_is_missing_and_unexpected(tree, data):
    key = data.draw(st.sampled_from(sorted(tree)))
    renamed = {f"{k}_renamed" if k == key else k: v for k, v in tree.items()}
    error = refused(renamed, tree)
    assert set(error.missing) == names(renamed) - names(tree)
    assert set(error.unexpected) == names(tree) - names(renamed)
    assert error.different == ()


@given(NESTED, NESTED)
def test_partial_forgives_what_is_unexpected_and_nothing_else(template, stored):
    strict, partial = (
        match(template, entries_of(stored), partial=partial) for partial in (False, True)
    )
    if isinstance(strict, Success):
        assert partial == strict
        return
    error = strict.failure()
    assert isinstance(error, TreeMismatchError)
    assert isinstance(partial, Success) is (not error.missing and not error.different)
    if isinstance(partial, Success):
        assert {each.name for each in partial.unwrap().wanted} == names(template)
        assert set(partial.unwrap().skipped) == names(stored) - names(template)
    else:
        assert partial.failure().missing == error.missing
        assert partial.failure().unexpected == ()
        assert partial.failure().different == error.different


@given(EMPTIES, EMPTIES)
def test_empty_containers_stand_for_one_another(template, stored):
    matching = fitted({"x": template}, {"x": stored})
    assert matching.wanted == ()
    assert repr(matching.fill([])) == repr({"x": template})


@given(EMPTIES)
def test_a_leaf_is_not_quietly_replaced_by_an_empty_container(stored):
    (found,) = refused({"x": W}, {"x": stored}).different
    assert found.name == "x"


@given(EMPTIES, LEAVES)
def test_an_empty_container_does_not_swallow_a_leaf(template, stored):
    error = refused({"x": template}, {"x": stored})
    (found,) = error.different
    assert (found.name, found.found) == ("x", "a leaf (scalar)")
    assert "PLACEHOLDER" in str(error)


@pytest.mark.parametrize(
    ("template", "stored"),
    [
        ((1, 2), [1, 2]),
        (Pair(1, 2), {"first": 1, "second": 2}),
        (FrozenDict(kernel=1, bias=2), Layer(1, 2)),
        ({1: 1, 2: 2}, {"1": 1, "2": 2}),
    ],
)
def test_containers_that_look_alike(template, stored):
    assert fitted(template, stored).fill([7, 8]) == jax.tree.unflatten(
        jax.tree.structure(template), [7, 8]
    )


@pytest.mark.parametrize(
    ("template", "stored", "expected", "found"),
    [
        ([1, 2], {"0": 1, "1": 2}, "a list of 2", "a dict with keys '0', '1'"),
        ({"0": 1}, [1], "a dict with key '0'", "a list of 1"),
        ([1, 2], [1, 2, 3], "a list of 2", "a list of 3"),
        ((1,), [], "a tuple of 1", "an empty list"),
        ([1, {"b": 2}], 3, "a list of 2", "a leaf (scalar)"),
        (Pair(1, 2), None, "a Pair with keys 'first', 'second'", "nothing"),
        (W, dict.fromkeys("abcd", 1), "a leaf (ShapeDtypeStruct)",
         "a dict with keys 'a', 'b', 'c' and 1 more"),
        (int, [1], "a leaf (int)", "a list of 1"),
        (None, [1], "None", "a list of 1"),
        (None, {"a": 1}, "None", "a dict with key 'a'"),
        ([], {"a": 1}, "an empty list", "a dict with key 'a'"),
        ({}, [1], "an empty dict", "a list of 1"),
        (Nothing(), {"a": 1}, "nothing", "a dict with key 'a'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("partial", [False, True])
def test_other_kinds(template, stored, expected, found, partial):
    # What stands behind must still be matched with its own leaf.
    error = refused({"x": template, "y": 1}, {"x": stored, "y": 1}, partial=partial)
    assert error.different == (Difference(name="x", expected=expected, found=found),)
    assert error.missing == error.unexpected == ()


def test_an_empty_dict_asks_for_no_key():
    assert refused({}, {"a": 1}).unexpected == ("a",)
    assert fitted({}, {"a": 1}, partial=True).fill([]) == {}
    assert fitted({"x": {}}, {"x": {"a": 1}}, partial=True).skipped == ("x.a",)


def test_an_empty_dict_has_no_key():
    stored = [empty_entry(entries_of({"x": 0})[0].path, EmptyKind.DICT)]
    assert match({"x": {"a": 1, "b": 2}}, stored).failure().missing == ("x.a", "x.b")


@pytest.mark.parametrize("leaf", [..., None, W])
def test_what_is_not_in_the_checkpoint_is_never_made_up(leaf):
    for partial in (False, True):
        assert refused({"a": 1, "b": leaf}, {"a": 1}, partial=partial).missing == ("b",)


def test_a_bare_leaf():
    assert fitted(W, 1).wanted[0].entry == Entry((), "scalar")
    assert refused({"a": W}, 1).different[0].name == ""


def test_wanted_leaves_carry_their_template():
    (wanted,) = fitted({"a": W, "b": ...}, {"a": 1, "b": {"c": 2}}).wanted
    assert wanted.template is W
    assert wanted.entry.name == "a"


def test_a_template_that_cannot_be_flattened_is_refused_first():
    loop: list[object] = []
    loop.append([loop])
    assert match(loop, entries_of({"a": 1})).failure().what == "a container holds itself"


def test_the_error_can_be_pickled():
    error = refused({"a": 1, "b": None, "c": 2}, {"b": 1, "d": 2, "c": 2}).located(path="/x")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert (again.missing, again.unexpected) == (("a",), ("d",))
    assert again.different == error.different
