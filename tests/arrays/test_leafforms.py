"""Leaves survive the form they are stored in, and Orbax sees what is promised."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sealwax.arrays import dtypes
from sealwax.arrays.leafforms import (
    INLINE_BYTES,
    Empty,
    Placement,
    empty_array,
    from_host_array,
    from_inline_record,
    host_array,
    inline_record,
    orbax_value_type,
    placement,
)
from sealwax.arrays.leafkinds import LeafKind, classify
from sealwax.errors import CorruptionError, InternalError

from .test_dtypes import EVERY

numbers = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
)
big_ints = st.one_of(st.integers(min_value=2**64), st.integers(max_value=-(2**63) - 1))


@given(st.one_of(numbers, st.binary(min_size=1)))
def test_host_leaves_survive_as_arrays(value):
    kind = classify(value).unwrap()
    array = host_array(kind, value)
    assert dtypes.find_storage(array.dtype) is not None
    back = from_host_array(kind, array)
    assert (type(back), back) == (type(value), value)


@given(hnp.arrays(st.sampled_from(["f4", "i8", "?", "c8"]), hnp.array_shapes(max_dims=3)))
def test_numpy_leaves_survive_as_arrays(array):
    assert host_array(LeafKind.NUMPY_ARRAY, array) is array
    scalar = array.flat[0]
    back = from_host_array(LeafKind.NUMPY_SCALAR, host_array(LeafKind.NUMPY_SCALAR, scalar))
    assert type(back) is type(scalar)
    assert back.tobytes() == scalar.tobytes()


@given(st.one_of(big_ints, st.binary()))
def test_small_leaves_survive_inline(value):
    record = json.loads(json.dumps(inline_record(value)))
    back = from_inline_record(record)
    assert (type(back), back) == (type(value), value)


def test_integers_of_any_length_survive_inline():
    value = -(7**20_000)
    assert from_inline_record(inline_record(value)) == value


@pytest.mark.parametrize("name", EVERY)
def test_arrays_without_elements_survive_inline(name):
    array = np.zeros((2, 0, 3), dtypes.from_name(name))
    back = empty_array(json.loads(json.dumps(inline_record(array))))
    assert back == Empty(LeafKind.NUMPY_ARRAY, array.shape, array.dtype, None)


def test_arrays_of_jax_without_elements_survive_inline():
    array = jnp.zeros((0, 2), jnp.bfloat16)
    back = empty_array(json.loads(json.dumps(inline_record(array))))
    assert back == Empty(LeafKind.JAX_ARRAY, array.shape, array.dtype, None)


def test_keys_without_elements_survive_inline_as_their_data():
    keys = jax.random.split(jax.random.key(1), (2, 0))
    back = empty_array(json.loads(json.dumps(inline_record(keys))))
    assert back == Empty(LeafKind.JAX_KEY, (2, 0, 2), np.dtype("uint32"), "threefry2x32")


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"type": "unknown"},
        {"type": "bytes", "base64": "?"},
        {"type": "int", "hex": "zz"},
        {"type": "numpy", "shape": [2], "dtype": "float32"},
        {"type": "key", "shape": [0], "impl": "no such"},
    ],
)
def test_damaged_records_are_corruption(record):
    with pytest.raises(CorruptionError, match="record of a small leaf"):
        (from_inline_record if record.get("type") in ("bytes", "int") else empty_array)(record)


def test_every_kind_has_a_place():
    long, short = bytes(INLINE_BYTES + 1), bytes(INLINE_BYTES)
    samples = {
        LeafKind.JAX_ARRAY: (jnp.zeros(3), Placement.ARRAY, "jax.Array"),
        LeafKind.JAX_KEY: (jax.random.key(0), Placement.ARRAY, "jax.Array"),
        LeafKind.NUMPY_ARRAY: (np.zeros(3), Placement.ARRAY, "np.ndarray"),
        LeafKind.NUMPY_SCALAR: (np.float32(1), Placement.ARRAY, "scalar"),
        LeafKind.INT: (1, Placement.ARRAY, "scalar"),
        LeafKind.FLOAT: (1.0, Placement.ARRAY, "scalar"),
        LeafKind.COMPLEX: (1j, Placement.ARRAY, "np.ndarray"),
        LeafKind.BOOL: (True, Placement.ARRAY, "scalar"),
        LeafKind.STRING: ("a", Placement.STRING, "string"),
        LeafKind.BYTES: (short, Placement.INLINE, "None"),
        LeafKind.BIG_INT: (1 << 64, Placement.INLINE, "None"),
        LeafKind.EMPTY_ARRAY: (np.zeros(0), Placement.INLINE, "None"),
        LeafKind.EMPTY_NODE: ({}, Placement.STRUCTURE, "Dict"),
    }
    assert set(samples) == set(LeafKind)
    for kind, (value, place, seen) in samples.items():
        assert classify(value).unwrap() is kind
        assert (placement(kind, value), orbax_value_type(kind, value)) == (place, seen)
    assert placement(LeafKind.BYTES, long) is Placement.ARRAY
    assert orbax_value_type(LeafKind.BYTES, long) == "np.ndarray"


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (np.int8(1), "scalar"),
        (np.float64(1), "scalar"),
        (np.bool_(True), "np.ndarray"),
        (np.complex64(1), "np.ndarray"),
        (ml_dtypes.bfloat16(1), "np.ndarray"),
        (ml_dtypes.uint4(1), "None"),
        (np.zeros(2, ml_dtypes.uint4), "None"),
        (np.zeros(2, ml_dtypes.float8_e4m3), "None"),
    ],
)
def test_orbax_sees_what_it_can_hold(value, seen):
    kind = classify(value).unwrap()
    assert orbax_value_type(kind, value) == seen
    if isinstance(value, np.ndarray):
        jax_value = jnp.asarray(value)
        assert orbax_value_type(classify(jax_value).unwrap(), jax_value) == seen


@pytest.mark.parametrize(
    "kind", [LeafKind.JAX_ARRAY, LeafKind.STRING, LeafKind.BIG_INT, LeafKind.EMPTY_NODE]
)
def test_other_kinds_are_not_arrays_of_the_host(kind):
    with pytest.raises(InternalError):
        host_array(kind, None)
    with pytest.raises(InternalError):
        from_host_array(kind, np.zeros(1))
