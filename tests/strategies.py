"""Random training states: every container and every leaf that a checkpoint can hold.

Beside them stand the rules that docs/leaves.md tells in words: what a tree comes back as without
a template, and what Orbax makes of it.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import ml_dtypes
import numpy as np
import optax
from flax.core import FrozenDict
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from returns.result import Success

from sealwax.trees.flatten import flatten

NATIVE = (
    *("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float16", "float32"),
    "complex64",
)
EXTENDED = (
    *("bfloat16", "int2", "int4", "float4_e2m1fn", "float8_e3m4", "float8_e4m3fn"),
    *("float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2", "float8_e5m2fnuz"),
    "float8_e8m0fnu",
)
CARRIED = tuple(
    name for name in ("int1", "uint1", "uint2", "uint4", "float8_e4m3") if hasattr(ml_dtypes, name)
)
"""Dtypes that TensorStore does not know, so that Orbax cannot read them."""
WIDE = ("int64", "uint64", "float64", "complex128")
"""Dtypes that JAX has with 64-bit types enabled only."""
JAX_DTYPES = NATIVE + EXTENDED + CARRIED
NUMPY_DTYPES = JAX_DTYPES + WIDE
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


# ---------------------------------------------------------------- leaves


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))


def _bits(name: str) -> int | None:
    """Bits of an element that is narrower than its byte."""
    narrow = {"int1": 1, "uint1": 1, "int2": 2, "uint2": 2, "int4": 4, "uint4": 4}
    return narrow.get(name)


def noise(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Any bits that the dtype can have: infinities, negative zeros and every NaN among them."""
    rng, dtype = np.random.default_rng(seed), dtype_of(name)
    if name == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if (bits := _bits(name)) is not None:
        low = 0 if name.startswith("u") else -(1 << bits >> 1)
        return rng.integers(low, low + (1 << bits), shape).astype(np.int8).astype(dtype)
    top = 16 if name == "float4_e2m1fn" else 256
    data = rng.integers(0, top, math.prod(shape) * dtype.itemsize, np.uint8)
    return data.view(dtype).reshape(shape)


SHAPES = st.sampled_from([(), (1,), (3,), (8,), (2, 3), (4, 8), (8, 4, 2), (0,), (2, 0, 3)])
SEEDS = st.integers(0, 2**16)


@functools.cache
def mesh(*shape: int, reverse: bool = False) -> Mesh:
    devices = jax.devices()[: math.prod(shape)]
    grid = np.array(devices[::-1] if reverse else devices).reshape(shape)
    return Mesh(grid, ("x", "y", "z")[: len(shape)])


@functools.cache
def shardings(shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Placements that an array of this shape can have; ``None`` is JAX's default."""
    named = [
        NamedSharding(devices, PartitionSpec(*spec))
        for devices, specs in (
            (mesh(8), [(), ("x",), (None, "x")]),
            (mesh(2, 4), [("y", "x"), (("x", "y"),), (None, "y"), ("y",)]),
            (mesh(2, 2, reverse=True), [(), ("x",), (None, "y", "x")]),
        )
        for spec in specs
    ]
    fitting = [sharding for sharding in named if _fits(sharding, shape)]
    return (None, SingleDeviceSharding(jax.devices()[3]), *fitting)


def _fits(sharding: NamedSharding, shape: tuple[int, ...]) -> bool:
    sizes = [
        math.prod(sharding.mesh.shape[a] for a in np.atleast_1d(part)) if part else 1
        for part in sharding.spec
    ]
    fits = all(n % size == 0 for n, size in zip(shape, sizes, strict=False))
    return len(sizes) <= len(shape) and fits


@st.composite
def jax_arrays(draw: st.DrawFn, dtypes: Any = JAX_DTYPES, shapes: Any = SHAPES) -> jax.Array:
    host = noise(draw(st.sampled_from(dtypes)), draw(shapes), draw(SEEDS))
    return jax.device_put(host, draw(st.sampled_from(shardings(host.shape))))


KEYS = st.builds(
    lambda impl, seed, shape: (
        jax.random.key(seed, impl=impl)
        if shape is None
        else jax.random.wrap_key_data(
            noise("uint32", (*shape, 2 if impl == "threefry2x32" else 4), seed), impl=impl
        )
    ),
    st.sampled_from(["threefry2x32", "rbg"]),
    SEEDS,
    st.sampled_from([None, (3,), (2, 2)]),
)


def _strided(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    doubled = np.repeat(array[..., None], 2, axis=-1) if array.ndim else array
    return doubled[..., 0] if array.ndim else array


_VIEWS: list[Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = [
    lambda array: array,
    np.asfortranarray,
    _strided,
    lambda array: array[::-1] if array.ndim else array,
    lambda array: array.T,
    lambda array: array.astype(array.dtype.newbyteorder(">")),
]


@st.composite
def numpy_arrays(
    draw: st.DrawFn, dtypes: Any = NUMPY_DTYPES, shapes: Any = SHAPES
) -> np.ndarray[Any, Any]:
    array = noise(draw(st.sampled_from(dtypes)), draw(shapes), draw(SEEDS))
    return draw(st.sampled_from(_VIEWS))(array)


TEXTS = st.one_of(
    st.sampled_from(["", "/", "~", "a/b", "~0", "string", "null", "é\u2603", "\U0001f9f8", "a\nb"]),
    st.text(st.characters(codec="utf-8"), max_size=4),
)
NUMPY_SCALARS = st.builds(
    lambda name, seed: noise(name, (), seed)[()], st.sampled_from(NUMPY_DTYPES), SEEDS
)
PYTHON = st.one_of(
    st.integers(-(2**80), 2**80),
    st.sampled_from([0, -(2**63), 2**63, 2**64 - 1, 2**64, -(2**63) - 1]),
    st.floats(),
    st.sampled_from([math.nan, -math.nan, math.inf, -0.0, 5e-324]),
    st.complex_numbers(),
    st.sampled_from([complex(-0.0, math.nan), complex(math.inf, -0.0)]),
    st.booleans(),
    TEXTS,
    TEXTS.map(np.str_),
    st.binary(max_size=8),
    st.binary(max_size=8).map(np.bytes_),
)
EMPTIES = st.one_of(
    *map(st.just, [None, (), optax.EmptyState()]),
    st.builds(dict),
    st.builds(list),
    st.builds(collections.OrderedDict),
)
LEAVES = st.one_of(jax_arrays(), numpy_arrays(), KEYS, NUMPY_SCALARS, PYTHON, EMPTIES)

# ---------------------------------------------------------------- containers

NAMES = st.one_of(
    st.sampled_from(["", "w", "b", "params", "a b", "é", "~", "x~1y", "a/b", "_METADATA", "d"]),
    st.text("abcxyz", min_size=1, max_size=3),
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def dicts(keys: Any) -> Any:
        return st.dictionaries(keys, inner, max_size=3)

    return st.one_of(
        dicts(NAMES),
        dicts(NAMES),
        dicts(st.integers(-(2**60), 2**60)),
        dicts(st.tuples(st.booleans(), st.sampled_from(["u", "v"]))),
        dicts(st.booleans()),
        dicts(NAMES).map(collections.OrderedDict),
        dicts(NAMES).map(FrozenDict),
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.builds(Pair, inner, inner),
        st.builds(Layer, inner, inner),
        st.builds(TrainState, inner, inner),
        st.builds(Indexed, inner, inner),
        st.builds(optax.ScaleByAdamState, inner, inner, inner),
    )


def trees(leaves: st.SearchStrategy[Any] = LEAVES, size: int = 8) -> st.SearchStrategy[Any]:
    return st.recursive(leaves, containers, max_leaves=size)


# ---------------------------------------------------------------- the rules


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


def bits(array: Any) -> tuple[Any, ...]:
    """What must be the same for two arrays to be: dtype, shape and every bit of every element."""
    host = np.asarray(array)
    if _bits(host.dtype.name) is not None:
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


def is_named_apart(tree: Any) -> bool:
    """Whether no two leaves have one name: keys may join to the same dotted text."""
    return isinstance(flatten(tree), Success)
