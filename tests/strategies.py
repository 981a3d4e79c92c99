"""Random training states: every container and every leaf that a checkpoint can hold."""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import ml_dtypes
import numpy as np
import optax
from flax.core import FrozenDict
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from returns.result import Success

from sealwax.trees.flatten import flatten
from tests.rules import CARRIED as CARRIED
from tests.rules import Indexed as Indexed
from tests.rules import Layer as Layer
from tests.rules import Pair as Pair
from tests.rules import TrainState as TrainState
from tests.rules import assert_placed as assert_placed
from tests.rules import assert_same as assert_same
from tests.rules import bits as bits
from tests.rules import is_key as is_key
from tests.rules import is_node as is_node
from tests.rules import map_tree as map_tree
from tests.rules import narrow_bits
from tests.rules import open_node as open_node
from tests.rules import through_orbax as through_orbax
from tests.rules import without_template as without_template

NATIVE = (
    *("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float16", "float32"),
    "complex64",
)
EXTENDED = (
    *("bfloat16", "int2", "int4", "float4_e2m1fn", "float8_e3m4", "float8_e4m3fn"),
    *("float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2", "float8_e5m2fnuz"),
    "float8_e8m0fnu",
)
WIDE = ("int64", "uint64", "float64", "complex128")
"""Dtypes that JAX has with 64-bit types enabled only."""
JAX_DTYPES = NATIVE + EXTENDED + CARRIED
NUMPY_DTYPES = JAX_DTYPES + WIDE

# ---------------------------------------------------------------- leaves


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))


def noise(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Any bits that the dtype can have: infinities, negative zeros and every NaN among them."""
    rng, dtype = np.random.default_rng(seed), dtype_of(name)
    if name == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if (bits := narrow_bits(name)) is not None:
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


def is_named_apart(tree: Any) -> bool:
    """Whether no two leaves have one name: keys may join to the same dotted text."""
    return isinstance(flatten(tree), Success)
