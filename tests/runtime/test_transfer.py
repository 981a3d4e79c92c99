"""Arrays made like another are what JAX's public functions make, in every respect."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sealwax.effects import Place, Placement
from sealwax.runtime import devices, transfer


def _buffers(count, shape, dtype=np.float32):
    rng = np.random.default_rng(count)
    return [np.asarray(rng.integers(0, 100, shape)).astype(dtype) for _ in range(count)]


def _free(buffers, **others):
    return Place(
        arrays=tuple(
            Placement(f"l{n}", b.shape, b.dtype, None, ((n, None),), **others)
            for n, b in enumerate(buffers)
        ),
        buffers=buffers,
    )


def _same(made, known):
    assert made.aval == known.aval
    assert made.sharding == known.sharding
    assert made.committed == known.committed
    assert made.weak_type == known.weak_type
    assert made.format == known.format
    np.testing.assert_array_equal(made, known)


def test_it_is_there_in_the_jax_that_is_tested():
    assert transfer.available()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int4", "bool", "uint8", "complex64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_arrays_by_default(shape, dtype):
    buffers = _buffers(5, shape, jnp.dtype(dtype))
    for made, buffer in zip(devices.place(_free(buffers)), buffers, strict=True):
        _same(made, jax.device_put(buffer))


@pytest.mark.parametrize("x64", [False, True])
def test_wide_numbers_are_narrowed_as_jax_narrows_them(x64):
    buffers = _buffers(4, (3,), np.float64)
    effect = Place(arrays=_free(buffers).arrays, buffers=buffers, x64=x64)
    made = devices.place(effect)
    with jax.enable_x64(x64):
        for one, buffer in zip(made, buffers, strict=True):
            _same(one, jax.device_put(buffer))


def test_the_default_device_is_the_callers():
    wanted = jax.devices()[-1]
    buffers = _buffers(3, (4,))
    effect = Place(arrays=_free(buffers).arrays, buffers=buffers, default_device=wanted)
    for made in devices.place(effect):
        assert made.devices() == {wanted}
        assert not made.committed


@pytest.mark.parametrize("spec", [PartitionSpec("x"), PartitionSpec()])
def test_sharded_arrays(spec):
    mesh = Mesh(np.array(jax.devices()), ("x",))
    sharding = NamedSharding(mesh, spec)
    shape = (8 * len(jax.devices()),)
    whole = _buffers(4, shape)
    buffers, arrays = [], []
    for number, value in enumerate(whole):
        parts = []
        for device, index in sharding.addressable_devices_indices_map(shape).items():
            parts.append((len(buffers), device))
            buffers.append(np.ascontiguousarray(value[index]))
        arrays.append(Placement(f"l{number}", shape, value.dtype, sharding, tuple(parts)))
    made = devices.place(Place(arrays=tuple(arrays), buffers=buffers))
    for one, value in zip(made, whole, strict=True):
        _same(one, jax.device_put(value, sharding))


def test_typed_keys():
    buffers = _buffers(3, (2,), np.uint32)
    made = devices.place(_free(buffers, key_impl="threefry2x32"))
    for key, data in zip(made, buffers, strict=True):
        assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        np.testing.assert_array_equal(jax.random.key_data(key), data)


def test_no_array_makes_a_jitted_function_compile_again():
    made = devices.place(_free(_buffers(4, (6,))))
    traces = []

    @jax.jit
    def double(x):
        traces.append(x)
        return x * 2

    double(jax.device_put(np.zeros(6, np.float32)))
    for array in made:
        double(array)
    assert len(traces) == 1
    assert double._cache_size() == 1


def test_without_it_every_array_is_made_by_jax(monkeypatch):
    monkeypatch.setattr(devices, "available", lambda: False)
    buffers = _buffers(3, (2, 2))
    for made, buffer in zip(devices.place(_free(buffers)), buffers, strict=True):
        _same(made, jax.device_put(buffer))
