import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from returns.result import Success

from sealwax.errors import CorruptionError
from sealwax.trees.flatten import flatten
from sealwax.trees.structure import rebuild
from sealwax.trees.structure_json import from_json, to_json
from tests.trees.strategies import TREES, Layer, Pair, without_classes


def through_json(structure):
    return from_json(json.loads(json.dumps(to_json(structure)))).unwrap()


def values(tree):
    return [leaf.value for leaf in flatten(tree).unwrap().leaves]


@given(TREES)
def test_a_tree_comes_back_without_its_classes(tree):
    flat = flatten(tree)
    assume(isinstance(flat, Success))
    restored = rebuild(through_json(flat.unwrap().structure), values(tree)).unwrap()
    # By repr, because 1, 1.0 and True are equal.
    assert repr(restored) == repr(without_classes(tree))


@given(TREES)
def test_the_record_is_the_same_after_a_round_trip(tree):
    flat = flatten(tree)
    assume(isinstance(flat, Success))
    record = to_json(flat.unwrap().structure)
    assert to_json(through_json(flat.unwrap().structure)) == json.loads(json.dumps(record))
    assert repr(through_json(flat.unwrap().structure)) == repr(flat.unwrap().structure)


@given(TREES, st.integers(1, 3))
def test_leaves_that_do_not_fit_are_refused(tree, extra):
    flat = flatten(tree)
    assume(isinstance(flat, Success))
    leaves = [*values(tree), *range(extra)]
    assert isinstance(rebuild(flat.unwrap().structure, leaves).failure(), CorruptionError)


def test_keys_that_json_cannot_hold():
    keys = [3, 2**80, -1.5, float("inf"), b"\xff", (1, ("a", None)), frozenset("a")]
    tree = [{key: 0} for key in keys] + [{None: 0}, {True: 0}]
    structure = through_json(flatten(tree).unwrap().structure)
    found = [key for each in rebuild(structure, [0] * 9).unwrap() for key in each]
    texts = ["frozenset({'a'})", None, True]
    assert found == [3, 2**80, -1.5, float("inf"), b"\xff", (1, ("a", None)), *texts]
    assert type(found[-1]) is bool


def test_classes_are_noted_and_never_imported():
    record = to_json(flatten(Pair(1, Layer(2, 3))).unwrap().structure)
    kinds = {each["kind"]: each["name"] for each in record["containers"]}
    assert kinds == {"namedtuple": "Pair", "fields": "Layer"}
    forged = json.loads(json.dumps(record).replace(Pair.__module__, "antigravity"))
    restored = rebuild(from_json(forged).unwrap(), [1, 2, 3]).unwrap()
    assert restored == {"first": 1, "second": {"kernel": 2, "bias": 3}}


def test_layers_that_look_alike_share_a_record():
    record = to_json(flatten([{"w": 0, "b": 0} for _ in range(50)]).unwrap().structure)
    assert record["containers"] == [{"kind": "list"}, {"kind": "dict", "keys": ["b", "w"]}]
    assert record["tree"] == [0] + [[1, 0, 0]] * 50


@pytest.mark.parametrize(
    "damage",
    [
        None,
        {},
        {"version": 2, "containers": [], "tree": 0},
        {"version": 1, "containers": {}, "tree": 0},
        {"version": 1, "containers": [], "tree": [0]},
        {"version": 1, "containers": [], "tree": True},
        {"version": 1, "containers": [], "tree": []},
        {"version": 1, "containers": [{"kind": "list"}], "tree": [-1]},
        {"version": 1, "containers": [{"kind": "none"}], "tree": [0, 0]},
        {"version": 1, "containers": [{"kind": "set", "keys": []}], "tree": [0]},
        {"version": 1, "containers": [{"kind": "fields", "keys": []}], "tree": [0]},
        {"version": 1, "containers": [{"kind": "dict", "keys": ["a"]}], "tree": [0]},
        {"version": 1, "containers": [{"kind": "dict", "keys": [{"int": "x"}]}], "tree": [0, 0]},
        {"version": 1, "containers": [{"kind": "dict", "keys": [{"bytes": "!"}]}], "tree": [0, 0]},
        {"version": 1, "containers": [{"kind": "dict", "keys": [{"eval": "x"}]}], "tree": [0, 0]},
        {"version": 1, "containers": [{"kind": "dict", "keys": [[1]]}], "tree": [0, 0]},
    ],
)
def test_damage_is_named(damage):
    error = from_json(damage).failure()
    assert isinstance(error, CorruptionError)
    assert error.expected
    assert error.found
