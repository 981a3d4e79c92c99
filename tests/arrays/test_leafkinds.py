"""Every value has a kind, or an error that says what to do."""

import collections
import dataclasses
import datetime
import decimal
import enum
import pathlib
import types

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.arrays import dtypes
from sealwax.arrays.leafkinds import LeafKind, classify, key_impl
from sealwax.errors import UnsupportedLeafError

from .test_dtypes import EVERY


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Name(str):
    __slots__ = ()


@dataclasses.dataclass
class Unregistered:
    x: int = 1


class Exotic:
    def __array__(self, dtype=None, copy=None):
        return np.zeros(1)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, LeafKind.BOOL),
        (0, LeafKind.INT),
        (2**64 - 1, LeafKind.INT),
        (-(2**63), LeafKind.INT),
        (2**64, LeafKind.BIG_INT),
        (-(2**63) - 1, LeafKind.BIG_INT),
        (1.5, LeafKind.FLOAT),
        (1j, LeafKind.COMPLEX),
        ("text", LeafKind.STRING),
        (Name("text"), LeafKind.STRING),
        (np.str_("text"), LeafKind.STRING),
        (b"bytes", LeafKind.BYTES),
        (np.bytes_(b"bytes"), LeafKind.BYTES),
        (np.float64(1), LeafKind.NUMPY_SCALAR),
        (np.bool_(True), LeafKind.NUMPY_SCALAR),
        (ml_dtypes.bfloat16(1), LeafKind.NUMPY_SCALAR),
        (ml_dtypes.uint4(1), LeafKind.NUMPY_SCALAR),
        (np.zeros(()), LeafKind.NUMPY_ARRAY),
        (np.zeros((3, 0)), LeafKind.EMPTY_ARRAY),
        (None, LeafKind.EMPTY_NODE),
        ({}, LeafKind.EMPTY_NODE),
        ([], LeafKind.EMPTY_NODE),
        ((), LeafKind.EMPTY_NODE),
        (collections.namedtuple("Nothing", ())(), LeafKind.EMPTY_NODE),
    ],
)
def test_values_of_the_host(value, kind):
    assert classify(value).unwrap() is kind


def test_values_of_jax():
    assert classify(jnp.zeros(3)).unwrap() is LeafKind.JAX_ARRAY
    assert classify(jnp.zeros(3, jnp.uint4)).unwrap() is LeafKind.JAX_ARRAY
    assert classify(jnp.zeros((3, 0))).unwrap() is LeafKind.EMPTY_ARRAY
    assert classify(jax.random.key(0)).unwrap() is LeafKind.JAX_KEY
    assert classify(jax.random.split(jax.random.key(0), 0)).unwrap() is LeafKind.EMPTY_ARRAY
    assert classify(jax.random.PRNGKey(0)).unwrap() is LeafKind.JAX_ARRAY


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_a_key_is_named_by_its_full_implementation(impl):
    assert key_impl(jax.random.key(0, impl=impl)) == impl


@given(st.sampled_from(EVERY))
def test_arrays_of_every_dtype_are_storable(name):
    array = np.zeros(2, dtypes.from_name(name))
    assert classify(array).unwrap() is LeafKind.NUMPY_ARRAY
    assert classify(array[0]).unwrap() is LeafKind.NUMPY_SCALAR
    big = array.astype(array.dtype.newbyteorder(">"))
    assert classify(big).unwrap() is LeafKind.NUMPY_ARRAY


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()))
def test_plain_values_have_a_kind(value):
    assert classify(value).unwrap() in LeafKind


REFUSED = {
    "ellipsis": (..., "leave the leaf out"),
    "set": ({1}, "sorted"),
    "frozenset": (frozenset(), "sorted"),
    "enum": (Colour.RED, "value.name"),
    "int enum": (Level.LOW, "value.value"),
    "type": (int, "a value of that type"),
    "path": (pathlib.Path("a"), "str"),
    "date": (datetime.date(2020, 1, 1), "isoformat"),
    "delta": (datetime.timedelta(1), "total_seconds"),
    "decimal": (decimal.Decimal(1), "float"),
    "bytearray": (bytearray(b"a"), "bytes"),
    "list": ([1], "convert it to the plain one"),
    "range": (range(3), "list"),
    "function": (lambda: 1, "static field"),
    "dataclass": (Unregistered(), "register_dataclass"),
    "array-like": (Exotic(), "np.asarray"),
    "object": (object(), "pytree"),
    "namespace": (types.SimpleNamespace(a=1), "pytree"),
    "masked": (np.ma.masked_array([1], [True]), "mask"),
    "objects": (np.array([None]), "astype"),
    "strings": (np.array(["a"]), "tolist"),
    "byte strings": (np.array([b"a"]), "tolist"),
    "dates": (np.array(["2020"], "M8[Y]"), "view"),
    "a date": (np.datetime64("2020"), "view"),
    "structured": (np.zeros(1, "i4,i4"), "fields as a dict"),
    "extended": (np.zeros(1, np.longdouble), "float64"),
    "extended complex": (np.clongdouble(1), "complex128"),
    "float0": (np.zeros(2, jax.dtypes.float0), "Leave it out"),
    "struct": (jax.ShapeDtypeStruct((3,), jnp.float32), "template"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_to_do(name):
    value, advice = REFUSED[name]
    error = classify(value).failure()
    assert isinstance(error, UnsupportedLeafError)
    assert advice in error.hint
    assert error.expected
    assert error.found
    assert "layer/0" in str(error.located(leaf="layer/0"))


def test_a_tracer_is_told_where_to_save():
    seen = []

    def step(x):
        seen.append(classify(x).failure())
        return x

    jax.make_jaxpr(step)(jnp.ones(3))
    jax.make_jaxpr(step)(jax.random.key(0))
    assert "save was called inside `jit`" in seen[0].what
    assert "float32[3]" in seen[0].found
    assert "key<fry>[]" in seen[1].found


def test_deleted_arrays_are_told_from_living_ones():
    array, keys = jnp.ones(3), jax.random.split(jax.random.key(0), 3)
    array.delete()
    keys.delete()
    for value in (array, keys):
        assert "deleted or donated" in classify(value).failure().what
