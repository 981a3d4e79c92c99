import collections
import json

import jax.numpy as jnp
import msgspec
import numpy as np
import optax
import pytest
from flax.core import FrozenDict
from hypothesis import assume, given
from hypothesis import strategies as st
from orbax.checkpoint import v1 as ocp
from returns.result import Success

from sealwax.errors import CorruptionError, InvalidLayoutError
from sealwax.trees.build import build
from sealwax.trees.flatten import flatten
from sealwax.trees.keys import Key, KeyKind
from sealwax.trees.records import Entry, empty_entry, from_entries, to_records
from sealwax.trees.structure import EmptyKind
from tests.trees.strategies import TREES, Indexed, Layer, Pair, as_orbax, entries_of


def path(*parts):
    kinds = {int: KeyKind.SEQUENCE, str: KeyKind.MAPPING}
    return tuple(Key(str(part), kinds[type(part)]) for part in parts)


def as_read(entries):
    return json.loads(msgspec.json.encode(to_records(entries)))


def scalars(*paths):
    return [Entry(path(*each), "scalar") for each in paths]


@given(TREES, st.lists(st.integers(0, 9), max_size=2))
def test_entries_survive_json(tree, shape):
    assume(isinstance(flatten(tree), Success))
    first, *rest = entries_of(tree)
    entries = (Entry(first.path, "jax.Array", False, tuple(shape)), *rest)
    data = as_read(entries)
    assert from_entries(data).unwrap() == entries


@given(TREES, st.randoms(use_true_random=False))
def test_a_tree_is_built_as_orbax_does_whatever_the_order(tree, random):
    assume(isinstance(flatten(tree), Success))
    entries = list(entries_of(tree))
    values = {e.name: v.value for e, v in zip(entries, flatten(tree).unwrap().leaves, strict=True)}
    random.shuffle(entries)
    built = build(entries, [values[entry.name] for entry in entries]).unwrap()
    assert built == as_orbax(tree)


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_agreement_with_orbax(tmp_path):
    tree = {
        "params": {"layer": Layer(jnp.ones((2, 3)), np.zeros(2)), "it's": 1.5, "": True},
        "opt": optax.chain(optax.clip(1.0), optax.adam(1e-3)).init({"w": jnp.ones(2)}),
        "ints": {10: 1, 9: 2},
        "tuples": {("a", 1): "text"},
        "empty": [None, {}, [], (), optax.EmptyState(), FrozenDict(), collections.OrderedDict()],
        "ordered": collections.OrderedDict(z=1, a=2),
        "nodes": Indexed(1, Pair(2, Indexed(3))),
        "frozen": FrozenDict(b=1, a=2),
    }
    ocp.save(tmp_path / "checkpoint", tree)
    saved = json.loads((tmp_path / "checkpoint" / "state" / "_METADATA").read_text())
    theirs = saved["tree_metadata"]
    ours = as_read([_entry(leaf) for leaf in flatten(tree).unwrap().leaves])
    assert ours == theirs
    assert list(ours) == list(theirs)
    loaded = ocp.load(tmp_path / "checkpoint")
    values = [leaf.value for leaf in flatten(tree).unwrap().leaves]
    built = build(from_entries(theirs).unwrap(), values).unwrap()
    # Names alone tell the containers apart here, and the values would need a comparison by type.
    assert flatten(built).unwrap().structure == flatten(loaded).unwrap().structure


def _entry(leaf):
    match leaf.value:
        case EmptyKind() as kind:
            return empty_entry(leaf.path, kind)
        case jnp.ndarray() as array:
            return Entry(leaf.path, "jax.Array", write_shape=array.shape)
        case np.ndarray():
            return Entry(leaf.path, "np.ndarray")
        case str():
            return Entry(leaf.path, "string")
        case _:
            return Entry(leaf.path, "scalar")


def test_what_a_partial_save_left_behind_is_dropped():
    entries = [
        empty_entry((), EmptyKind.NONE),
        empty_entry(path("a"), EmptyKind.DICT),
        *scalars(("a", "b"), ("ab",)),
    ]
    data = as_read(entries)
    assert [e.name for e in from_entries(data).unwrap()] == ["a.b", "ab"]


def test_a_leaf_at_the_root_beside_others_contradicts_them():
    entries = [Entry((), "scalar"), *scalars(("a", "b"))]
    found = from_entries(as_read(entries)).unwrap()
    assert len(found) == 2
    assert isinstance(build(found, [1, 2]).failure(), CorruptionError)


def test_a_bare_leaf_is_the_tree():
    assert build([Entry((), "scalar")], [7]).unwrap() == 7


def test_list_items_are_in_the_order_of_their_indices():
    entries = scalars(*[("l", index) for index in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)])
    built = build(entries, [entry.path[1].text for entry in entries]).unwrap()
    assert built == {"l": [str(index) for index in range(11)]}


@pytest.mark.parametrize(
    ("entries", "where"),
    [
        (scalars(("l", 0), ("l", 2)), "l"),
        (scalars(("l", 1)), "l"),
        (scalars(("l", 0), ("l", "a")), "l"),
        (scalars(("a",), ("a", "b")), "a"),
        (scalars(("a", "b"), ("a",)), "a"),
        (scalars((), ("a",)), ""),
        (scalars(("a",), ("a",)), "a"),
    ],
)
def test_contradictions_are_named(entries, where):
    error = build(entries, [0] * len(entries)).failure()
    assert isinstance(error, CorruptionError)
    assert error.leaf == where


def test_names_that_were_stored_twice_are_refused():
    error = from_entries(as_read(scalars(("a.b",), ("a", "b")))).failure()
    assert isinstance(error, CorruptionError)
    assert error.leaf == "a.b"


def record(keys=(), **about):
    about = {"value_type": "scalar", "skip_deserialize": False} | about
    return {"x": {"key_metadata": list(keys), "value_metadata": about}}


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"x": None},
        {"x": {"value_metadata": {"value_type": "scalar", "skip_deserialize": False}}},
        record(keys=[{"key": 1, "key_type": 2}]),
        record(keys=[{"key": "a", "key_type": 3}]),
        record(keys=[{"key": "a", "key_type": True}]),
        record(value_type=None),
        record(skip_deserialize=0),
        record(write_shape=3),
        record(write_shape=[-1]),
        record(write_shape=[1.0]),
        record(write_shape=[True]),
    ],
)
def test_other_metadata_is_refused(data):
    error = from_entries(data).failure()
    assert isinstance(error, InvalidLayoutError)
    assert len(str(error)) < 300


def test_unknown_members_are_ignored():
    data = record(keys=[{"key": "a", "key_type": 2, "new": 1}], new=1)
    data["x"]["new"] = 1
    assert from_entries(data).unwrap() == (Entry(path("a"), "scalar"),)


def test_rich_types_record_an_empty_namedtuple():
    data = record(
        keys=[{"key": "a", "key_type": 2}], value_type="NamedTuple", skip_deserialize=True
    )
    (entry,) = from_entries(data).unwrap()
    assert entry.empty is EmptyKind.NONE
