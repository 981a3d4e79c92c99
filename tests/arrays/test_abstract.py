"""Describing arrays without their data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from sealwax.arrays.abstract import (
    AbstractArray,
    AbstractShardedArray,
    ArraySpec,
    to_shape_dtype_struct,
)
from sealwax.errors import UnsupportedLeafError


@given(
    shape=st.lists(st.integers(0, 4), max_size=4).map(tuple),
    dtype=st.sampled_from(["float32", "int8", "complex64"]),
)
def test_a_spec_agrees_with_the_array_it_describes(shape, dtype):
    array = np.zeros(shape, dtype)
    spec = ArraySpec.of(array)
    assert (spec.shape, spec.dtype) == (array.shape, array.dtype)
    assert (spec.size, spec.nbytes) == (array.size, array.nbytes)
    assert spec == ArraySpec.of(to_shape_dtype_struct(array))
    assert hash(spec) == hash(ArraySpec.of(array))


def test_protocols_tell_arrays_with_and_without_sharding_apart():
    assert isinstance(np.zeros(3), AbstractArray)
    assert isinstance(ArraySpec.of(np.zeros(3)), AbstractArray)
    assert not isinstance(np.zeros(3), AbstractShardedArray)
    assert isinstance(jnp.zeros(3), AbstractShardedArray)
    assert not isinstance(3, AbstractArray)


def test_a_jax_array_keeps_its_sharding():
    sharding = NamedSharding(jax.make_mesh((8,), ("x",)), PartitionSpec("x"))
    array = jax.device_put(jnp.zeros((8, 2)), sharding)
    struct = to_shape_dtype_struct(array, dtype=jnp.bfloat16)
    assert (struct.shape, struct.dtype, struct.sharding) == ((8, 2), jnp.bfloat16, sharding)
    assert to_shape_dtype_struct(struct) == struct
    assert to_shape_dtype_struct(array, support_format=True).format == array.format


def test_a_numpy_array_has_none():
    assert to_shape_dtype_struct(np.zeros(2, np.float32)).sharding is None


def test_a_typed_key_is_described_by_its_data():
    keys = jax.random.split(jax.random.key(0), 3)
    struct = to_shape_dtype_struct(keys)
    assert (struct.shape, struct.dtype) == ((3, 2), jnp.uint32)
    assert struct.sharding == jax.random.key_data(keys).sharding


def test_a_tracer_can_be_described():
    @jax.jit
    def double(x):
        struct = to_shape_dtype_struct(x)
        assert (struct.shape, struct.dtype) == ((3,), jnp.float32)
        return x

    double(jnp.ones(3))


@pytest.mark.parametrize("value", [True, 3, 2.5, 1j, np.float32(2)])
def test_scalars_stay_what_they_are_unless_converted(value):
    assert to_shape_dtype_struct(value) is value
    assert to_shape_dtype_struct(value, scalar_dtype=str) == str(value)


@pytest.mark.parametrize("value", ["text", b"bytes", None, object(), int])
def test_other_values_are_refused(value):
    with pytest.raises(UnsupportedLeafError, match=f"Expected an array.*{type(value).__name__}"):
        to_shape_dtype_struct(value)
    with pytest.raises(ValueError, match="cannot be described"):
        to_shape_dtype_struct(value)
