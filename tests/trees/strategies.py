"""Random trees of every kind of container, and what they must come back as."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, NamedTuple

import jax
from flax.core import FrozenDict
from hypothesis import strategies as st

from sealwax.trees.flatten import flatten
from sealwax.trees.records import Entry, empty_entry
from sealwax.trees.structure import EmptyKind


class Pair(NamedTuple):
    first: Any
    second: Any


class Nothing(NamedTuple):
    pass


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    kernel: Any
    bias: Any
    name: str = dataclasses.field(default="dense", metadata={"static": True})


@jax.tree_util.register_pytree_node_class
class Indexed:
    """A node that JAX reaches by index because it was registered without keys."""

    def __init__(self, *inner: Any) -> None:
        self.inner = inner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Indexed) and self.inner == other.inner

    def __repr__(self) -> str:
        return f"Indexed{self.inner}"

    def tree_flatten(self) -> Any:
        return self.inner, None

    @classmethod
    def tree_unflatten(cls, _: Any, inner: Any) -> Indexed:
        return cls(*inner)


TEXTS = st.text("abcxyz", min_size=1, max_size=3)
SCALARS = st.one_of(
    st.integers(-5, 2**70), st.floats(allow_nan=False), st.binary(max_size=3), st.booleans()
)
LEAVES = st.integers(0, 9)
EMPTIES = st.sampled_from([None, {}, [], (), Nothing(), collections.OrderedDict()])


def _dicts(inner: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> Any:
    return st.dictionaries(keys, inner, max_size=3)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    texts = _dicts(inner, TEXTS)
    return st.one_of(
        texts,
        _dicts(inner, st.integers(-(2**60), 2**60)),
        _dicts(inner, st.floats(allow_nan=False)),
        _dicts(inner, st.binary(max_size=3)),
        _dicts(inner, st.tuples(st.booleans(), TEXTS)),
        _dicts(inner, st.booleans()),
        texts.map(collections.OrderedDict),
        texts.map(FrozenDict),
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.builds(Pair, inner, inner),
        st.builds(Layer, inner, inner),
        st.builds(Indexed, inner, inner),
    )


TREES = st.recursive(st.one_of(LEAVES, EMPTIES), _containers, max_leaves=12)
NESTED = st.dictionaries(
    TEXTS,
    st.recursive(LEAVES, lambda inner: st.dictionaries(TEXTS, inner, min_size=1, max_size=3)),
    min_size=1,
    max_size=4,
)


def without_classes(tree: Any) -> Any:
    """What a structure record brings back: typed keys, but no class of the user's."""
    match tree:
        case collections.OrderedDict():
            return collections.OrderedDict((k, without_classes(v)) for k, v in tree.items())
        case dict() | FrozenDict():
            return {key: without_classes(tree[key]) for key in sorted(tree)}
        case Nothing():
            return None
        case Pair():
            return {"first": without_classes(tree.first), "second": without_classes(tree.second)}
        case Layer():
            return {"kernel": without_classes(tree.kernel), "bias": without_classes(tree.bias)}
        case Indexed():
            return [without_classes(child) for child in tree.inner]
        case list():
            return [without_classes(child) for child in tree]
        case tuple():
            return tuple([without_classes(child) for child in tree])
        case _:
            return tree


def as_orbax(tree: Any) -> Any:
    """What Orbax's metadata alone brings back: lists for tuples, text for keys."""
    match without_classes(tree):
        case dict() as plain:
            return {str(key): as_orbax(child) for key, child in plain.items()}
        case tuple() as plain if not plain:
            return ()
        case list() | tuple() as plain:
            return [as_orbax(child) for child in plain]
        case leaf:
            return leaf


def entries_of(tree: Any) -> tuple[Entry, ...]:
    leaves = flatten(tree).unwrap().leaves
    return tuple(
        [
            empty_entry(leaf.path, leaf.value)
            if isinstance(leaf.value, EmptyKind)
            else Entry(leaf.path, "scalar")
            for leaf in leaves
        ]
    )
