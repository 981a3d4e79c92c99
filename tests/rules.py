"""What a tree comes back as: docs/leaves.md in code, and when two trees are the same."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import ml_dtypes
import numpy as np
from flax.core import FrozenDict

CARRIED = tuple(
    name for name in ("int1", "uint1", "uint2", "uint4", "float8_e4m3") if hasattr(ml_dtypes, name)
)
"""Dtypes that TensorStore does not know, so that Orbax cannot read them."""
INLINE_BYTES = 64 * 1024


class Pair(NamedTuple):
    first: Any
    second: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    kernel: Any
    bias: Any
    name: str = dataclasses.field(default="dense", metadata={"static": True})


@flax.struct.dataclass
class TrainState:
    step: Any
    params: Any
    act: str = flax.struct.field(pytree_node=False, default="relu")


@jax.tree_util.register_pytree_node_class
class Indexed:
    """A node that JAX reaches by index because it was registered without keys."""

    def __init__(self, *inner: Any) -> None:
        self.inner = inner

    def tree_flatten(self) -> Any:
        return self.inner, None

    @classmethod
    def tree_unflatten(cls, _: Any, inner: Any) -> Indexed:
        return cls(*inner)


def is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


_BRANCHES = (dict, list, tuple, Layer, TrainState, Indexed, FrozenDict)


def is_node(value: Any) -> bool:
    return value is None or isinstance(value, _BRANCHES)


def map_tree(
    tree: Any,
    leaf: Callable[[Any, tuple[str, ...]], Any],
    node: Callable[[Any, list[Any], list[Any]], Any],
    path: tuple[str, ...] = (),
) -> Any:
    """Rebuilds a tree bottom up; ``node`` is given the container, its keys and its children."""
    if not is_node(tree):
        return leaf(tree, path)
    keys, children = open_node(tree)
    below = [
        map_tree(child, leaf, node, (*path, str(key)))
        for key, child in zip(keys, children, strict=True)
    ]
    return node(tree, keys, below)


def open_node(tree: Any) -> tuple[list[Any], list[Any]]:
    match tree:
        case None:
            return [], []
        case collections.OrderedDict():
            return list(tree), list(tree.values())
        case dict() | FrozenDict():
            return sorted(tree), [tree[key] for key in sorted(tree)]
        case TrainState():
            return ["step", "params"], [tree.step, tree.params]
        case Layer():
            return ["kernel", "bias"], [tree.kernel, tree.bias]
        case Indexed():
            return list(range(len(tree.inner))), list(tree.inner)
        case tuple() if hasattr(tree, "_fields"):
            return list(tree._fields), list(tree)
        case _:
            return list(range(len(tree))), list(tree)


def without_template(tree: Any) -> Any:
    """What ``sealwax.load(path)`` gives back: the same values, in containers of no class."""
    return map_tree(tree, lambda leaf, _: _native(leaf), _plain_node)


def _native(leaf: Any) -> Any:
    match leaf:
        case np.ndarray():
            return np.ascontiguousarray(leaf.astype(leaf.dtype.newbyteorder("="))).reshape(
                leaf.shape
            )
        case np.str_():
            return str(leaf)
        case np.bytes_():
            return bytes(leaf)
        case _:
            return leaf


def _plain_node(node: Any, keys: list[Any], children: list[Any]) -> Any:
    match node:
        case collections.OrderedDict():
            return collections.OrderedDict(zip(keys, children, strict=True))
        case dict() | FrozenDict():
            return dict(zip(keys, children, strict=True))
        case Indexed() | list():
            return children
        case None:
            return None
        case tuple() if hasattr(node, "_fields") and not children:
            return None
        case tuple() if not hasattr(node, "_fields"):
            return tuple(children)
        case _:
            return dict(zip(keys, children, strict=True))


def through_orbax(tree: Any) -> Any:
    """What Orbax's ``load(path)`` gives back: lists for tuples, text for keys, and stand-ins."""
    return map_tree(tree, _OrbaxLeaf(), _orbax_node)


def _orbax_node(node: Any, keys: list[Any], children: list[Any]) -> Any:
    plain = _plain_node(node, keys, children)
    if isinstance(plain, dict):
        return {str(key): child for key, child in plain.items()}
    return list(plain) if isinstance(plain, tuple) and plain else plain


class _OrbaxLeaf:
    """Leaves as Orbax reads them, one after another."""

    def __init__(self) -> None:
        self.strings: list[list[str]] = []

    def __call__(self, leaf: Any, path: tuple[str, ...]) -> Any:
        leaf = _native(leaf)
        return self.string(leaf, ".".join(path)) if isinstance(leaf, str) else _orbax_leaf(leaf)

    def string(self, leaf: str, name: str) -> str | None:
        """Orbax takes the name for a JSON pointer: a slash nests, and a tilde escapes."""
        place = name.split("/")
        overlaps = any(
            place[: len(other)] == other or other[: len(place)] == place for other in self.strings
        )
        if "~" in name or overlaps:
            return None
        self.strings.append(place)
        return leaf


def _orbax_leaf(leaf: Any) -> Any:
    match leaf:
        case jax.Array() | np.ndarray() if 0 in leaf.shape:
            return None
        case jax.Array() if not is_key(leaf) and leaf.dtype.name in CARRIED:
            return None
        case np.ndarray() | np.generic() if leaf.dtype.name in CARRIED:
            return None
        case np.integer() | np.floating():
            return leaf.item()
        case np.generic():
            return np.asarray(leaf)
        case bytes():
            return np.frombuffer(leaf, np.uint8) if len(leaf) > INLINE_BYTES else None
        case bool():
            return leaf
        case int():
            return leaf if -(1 << 63) <= leaf < 1 << 64 else None
        case complex():
            return np.asarray(leaf)
        case _:
            return leaf


# ---------------------------------------------------------------- equality


def narrow_bits(name: str) -> int | None:
    """Bits of an element that is narrower than its byte."""
    narrow = {"int1": 1, "uint1": 1, "int2": 2, "uint2": 2, "int4": 4, "uint4": 4}
    return narrow.get(name)


def bits(array: Any) -> tuple[Any, ...]:
    """What must be the same for two arrays to be: dtype, shape and every bit of every element."""
    host = np.asarray(array)
    if narrow_bits(host.dtype.name) is not None:
        return host.dtype, host.shape, host.astype(np.int8).tobytes()
    return host.dtype, host.shape, np.ascontiguousarray(host).tobytes()


def assert_same(found: Any, wanted: Any, where: str = "tree") -> None:
    """Fails unless both are the same to the bit, and in the same containers."""
    assert type(found) is type(wanted) or both_jax(found, wanted), (
        f"{where}: {type(found)} instead of {type(wanted)}"
    )
    if is_node(wanted):
        (keys, inner), (found_keys, found_inner) = open_node(wanted), open_node(found)
        assert list(map(repr, found_keys)) == list(map(repr, keys)), where
        for key, a, b in zip(keys, found_inner, inner, strict=True):
            assert_same(a, b, f"{where}[{key!r}]")
        return
    if is_key(wanted):
        assert is_key(found), where
        assert str(jax.random.key_impl(found)) == str(jax.random.key_impl(wanted)), where
        found, wanted = jax.random.key_data(found), jax.random.key_data(wanted)
    if isinstance(wanted, (jax.Array, np.ndarray, np.generic, float, complex)):
        assert bits(found) == bits(wanted), f"{where}: {found!r} instead of {wanted!r}"
    else:
        assert found == wanted, where


def both_jax(found: Any, wanted: Any) -> bool:
    return isinstance(found, jax.Array) and isinstance(wanted, jax.Array)


def assert_placed(found: Any, wanted: Any) -> None:
    """Fails unless JAX arrays lie on the same devices in the same way."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        if isinstance(b, jax.Array):
            assert a.sharding.is_equivalent_to(b.sharding, b.ndim), (a.sharding, b.sharding)
            assert a.committed == b.committed
