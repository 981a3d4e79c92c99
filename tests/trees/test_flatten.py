import ast
import collections
import pathlib
import typing

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState
from hypothesis import assume, given
from hypothesis import strategies as st
from returns.result import Success

import sealwax.trees
from sealwax.errors import NameCollisionError, UnsupportedLeafError
from sealwax.trees.flatten import flatten
from sealwax.trees.keys import KeyKind, name
from sealwax.trees.structure import EmptyKind, count_leaves
from tests.trees.strategies import LEAVES, TEXTS, TREES, Indexed, Layer, Nothing, Pair


def flat(tree):
    return flatten(tree).unwrap()


def kinds(leaf):
    return "".join("01"[key.kind is KeyKind.SEQUENCE] for key in leaf.path)


@given(TREES)
def test_order_and_values_are_those_of_jax(tree):
    assume(isinstance(flatten(tree), Success))
    values = [leaf.value for leaf in flat(tree).leaves]
    assert [v for v in values if not isinstance(v, EmptyKind)] == jax.tree.leaves(tree)


@given(TREES)
def test_names_are_the_keys_of_jax_joined_by_dots(tree):
    assume(isinstance(flatten(tree), Success))
    leaves = [leaf for leaf in flat(tree).leaves if not isinstance(leaf.value, EmptyKind)]
    expected = [
        ".".join(jax.tree_util.keystr((key,), simple=True) for key in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]
    assert [leaf.name for leaf in leaves] == expected
    assert [name(leaf.path) for leaf in leaves] == expected


@given(TREES)
def test_each_leaf_has_one_position_in_the_structure(tree):
    assume(isinstance(flatten(tree), Success))
    assert count_leaves(flat(tree).structure) == len(flat(tree).leaves)


@given(st.dictionaries(TEXTS, LEAVES, min_size=1), TEXTS)
def test_a_dotted_key_collides_with_the_path_it_spells(inner, key):
    below = next(iter(inner))
    error = flatten({key: inner, f"{key}.{below}": 0}).failure()
    assert isinstance(error, NameCollisionError)
    assert error.leaf == f"{key}.{below}"
    assert f"tree['{key}']['{below}']" in str(error)
    assert f"tree['{key}.{below}']" in str(error)


def test_a_trailing_slash_is_no_difference_on_disk():
    assert isinstance(flatten({"a": 1, "a/": 2}).failure(), NameCollisionError)
    assert isinstance(flatten({"a": 1, "a/b": 2}), Success)


def test_collision_text():
    assert str(flatten({"a.b": 1, "a": {"b": 2}}).failure()) == (
        "Two leaves would be stored under one name: tree['a']['b'] and tree['a.b'] (leaf 'a.b'). "
        "Rename one of the keys: names on disk are the keys joined by dots."
    )


@pytest.mark.parametrize(
    ("empty", "kind"),
    [
        (None, EmptyKind.NONE),
        ({}, EmptyKind.DICT),
        (collections.OrderedDict(), EmptyKind.DICT),
        (collections.defaultdict(int), EmptyKind.DICT),
        ([], EmptyKind.LIST),
        ((), EmptyKind.TUPLE),
        (Nothing(), EmptyKind.NONE),
        (optax.EmptyState(), EmptyKind.NONE),
        (Indexed(), EmptyKind.NONE),
    ],
)
def test_empty_containers_are_leaves(empty, kind):
    (leaf,) = flat({"x": empty}).leaves
    assert (leaf.name, leaf.value) == ("x", kind)
    assert flat(empty).leaves[0].path == ()


@pytest.mark.parametrize("make", [lambda t: {"x": [t]}, lambda t: Pair(t, 1), lambda t: [1, (t,)]])
def test_a_container_that_holds_itself_is_refused(make):
    loop: dict[str, object] = {}
    loop["again"] = make(loop)
    error = flatten({"top": loop}).failure()
    assert isinstance(error, UnsupportedLeafError)
    assert error.what == "a container holds itself"
    assert error.leaf is not None
    assert error.leaf.startswith("top.again.")


def test_a_container_may_have_two_places():
    shared = {"w": 1}
    assert [leaf.name for leaf in flat([shared, shared]).leaves] == ["0.w", "1.w"]


def test_a_chain_deeper_than_the_stack_is_refused():
    tree: list[object] = []
    for _ in range(100_000):
        tree = [tree]
    error = flatten(tree).failure()
    assert isinstance(error, UnsupportedLeafError)
    assert "nested" in error.what
    while tree:  # or dropping it would overflow the stack in turn
        tree = typing.cast("list[object]", tree.pop())


def test_keys_without_an_order_are_refused_as_jax_does():
    tree = {"w": {1: 1, "a": 2}}
    with pytest.raises(ValueError, match="Comparator raised"):
        jax.tree.leaves(tree)
    error = flatten(tree).failure()
    assert isinstance(error, UnsupportedLeafError)
    assert (error.leaf, error.found) == ("w", "keys of type int, str")


def test_equal_keys_of_other_types_keep_their_own_names():
    names = [
        leaf.name for leaf in flat([{1: 0}, {True: 0}, {1.0: 0}, {(1,): 0}, {(True,): 0}]).leaves
    ]
    assert names == ["0.1", "1.True", "2.1.0", "3.(1,)", "4.(True,)"]


@jax.tree_util.register_pytree_with_keys_class
class Mixed:
    def tree_flatten_with_keys(self):
        keys = jax.tree_util.SequenceKey(1), jax.tree_util.GetAttrKey("w")
        return [(key, 0) for key in keys], None

    @classmethod
    def tree_unflatten(cls, *_):
        return cls()


def test_kinds_of_keys():
    tree = {"l": [0, (0,)], "n": Pair(0, Layer(0, 0)), "i": Indexed(0, Indexed(0)), "m": Mixed()}
    found = {leaf.name: kinds(leaf) for leaf in flat(tree).leaves}
    assert found == {
        "l.0": "01",
        "l.1.0": "011",
        "n.first": "00",
        "n.second.kernel": "000",
        "n.second.bias": "000",
        "i.0": "01",
        "i.1.0": "011",
        "m.1": "00",  # beside a name, an index could not be rebuilt as a list
        "m.w": "00",
    }


def test_optax_chain():
    params = {"Dense_0": {"kernel": jnp.ones((2, 2))}}
    state = optax.chain(optax.clip(1.0), optax.adam(1e-3)).init(params)
    assert {leaf.name: kinds(leaf) for leaf in flat(state).leaves} == {
        "0": "1",
        "1.0.count": "110",
        "1.0.mu.Dense_0.kernel": "11000",
        "1.0.nu.Dense_0.kernel": "11000",
        "1.1": "11",
    }


def test_flax_train_state():
    model = nn.Dense(3)
    params = model.init(jax.random.key(0), np.ones((1, 2), np.float32))
    state = TrainState.create(apply_fn=model.apply, params=params["params"], tx=optax.adam(1e-3))
    names = [leaf.name for leaf in flat(state).leaves]
    assert names[:3] == ["step", "params.bias", "params.kernel"]
    assert {"opt_state.0.count", "opt_state.0.mu.bias", "opt_state.1"} <= set(names)


def test_only_the_registry_imports_jax_and_only_when_called():
    folder = pathlib.Path(sealwax.trees.__path__[0])
    for file in folder.glob("*.py"):
        text = ast.parse(file.read_text())
        imports = {
            name
            for node in ast.walk(text)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert ("jax" in imports) is (file.name == "registry.py"), file.name
        assert "jax" not in {n.module for n in text.body if isinstance(n, ast.ImportFrom)}


class Meddling(str):
    """A key that changes its dict when the keys are put in order, as another thread might."""

    act = None

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other)

    def __lt__(self, other: str) -> bool:
        if Meddling.act is not None:
            Meddling.act()
        return str.__lt__(self, other)


@pytest.mark.parametrize("kind", [dict, lambda items: collections.defaultdict(int, items)])
@pytest.mark.parametrize("change", ["clear", "grow"])
def test_a_dict_that_changes_meanwhile_is_as_it_was(monkeypatch, kind, change):
    tree = kind({Meddling(key): number for number, key in enumerate("cab")})
    act = tree.clear if change == "clear" else lambda: tree.__setitem__(f"new {len(tree)}", 0)
    monkeypatch.setattr(Meddling, "act", staticmethod(act))
    assert [(leaf.name, leaf.value) for leaf in flat(tree).leaves] == [("a", 1), ("b", 2), ("c", 0)]


@pytest.mark.parametrize("change", ["clear", "grow"])
def test_a_list_that_changes_meanwhile_is_as_it_was(monkeypatch, change):
    tree = [{Meddling("b"): 1, Meddling("a"): 0}, 2, 3]
    act = tree.clear if change == "clear" else lambda: tree.append(9)
    monkeypatch.setattr(Meddling, "act", staticmethod(act))
    assert [leaf.name for leaf in flat(tree).leaves] == ["0.a", "0.b", "1", "2"]
