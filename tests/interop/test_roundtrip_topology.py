"""Arrays cut in one way are saved, and loaded as they are cut in another."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from orbax.checkpoint import v1 as orbax

import sealwax
from sealwax.errors import LeafMismatchError
from sealwax.planning.inventory import take_inventory
from tests.strategies import assert_placed, assert_same, bits, mesh, noise, shardings

P = PartitionSpec


def small_chunks(nbytes: int) -> Any:
    """Saves arrays in chunks of at most so many bytes, as large ones are anyway."""
    cut = functools.partial(take_inventory, chunk_bytes=nbytes)
    return mock.patch("sealwax.planning.capture_tree.take_inventory", cut)


@st.composite
def moves(draw: st.DrawFn) -> tuple[Any, Any, int]:
    """An array on devices, the placement that it is to have afterwards, and bytes of a chunk."""
    shape = draw(st.sampled_from([(8,), (8, 4), (4, 8, 2), (16, 6), (2, 7)]))
    name = draw(st.sampled_from(["float32", "bfloat16", "int4", "uint4", "bool", "complex64"]))
    host = noise(name, shape, draw(st.integers(0, 99)))
    before, after = (draw(st.sampled_from(shardings(shape))) for _ in range(2))
    return jax.device_put(host, before), after, draw(st.sampled_from([8, 48, 1 << 22]))


@settings(max_examples=100)
@given(move=moves())
def test_any_sharding_loads_as_any_other(fresh: Any, move: tuple[Any, Any, int]) -> None:
    array, after, nbytes = move
    with small_chunks(nbytes):
        sealwax.save(path := fresh(), {"w": array})
    template = jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=after)
    loaded = sealwax.load(path, {"w": template})["w"]
    assert bits(loaded) == bits(array)
    assert_placed(loaded, jax.device_put(np.asarray(array), after))


@settings(max_examples=25)
@given(move=moves())
def test_orbax_loads_any_chunks(fresh: Any, move: tuple[Any, Any, int]) -> None:
    array, after, nbytes = move
    if array.dtype == jnp.uint4:
        return
    with small_chunks(nbytes):
        sealwax.save(path := fresh(), {"w": array})
    target = after or SingleDeviceSharding(jax.devices()[0])
    template = {"w": jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=target)}
    loaded = orbax.load(path, template)["w"]
    assert bits(loaded) == bits(array)
    assert_placed(loaded, jax.device_put(np.asarray(array), target))


@settings(max_examples=40)
@given(
    shape=st.sampled_from([(12,), (5, 7), (6, 4, 3), (2, 3, 5, 2), (1, 9)]),
    nbytes=st.sampled_from([4, 12, 40, 100]),
    order=st.sampled_from("CF"),
)
def test_host_arrays_in_chunks_that_are_no_rows(
    fresh: Any, shape: tuple[int, ...], nbytes: int, order: Any
) -> None:
    array = np.asarray(noise("float32", shape, nbytes), order=order)
    with small_chunks(nbytes):
        sealwax.save(path := fresh(), {"w": array})
    assert bits(sealwax.load(path)["w"]) == bits(array)
    assert bits(orbax.load(path)["w"]) == bits(array)


KEY_PLACES = [P("x"), P(("x", "y")), P(None, "y"), P("y", "x"), P()]


@pytest.mark.parametrize("before", KEY_PLACES, ids=str)
@pytest.mark.parametrize("after", [*KEY_PLACES, None], ids=str)
def test_key_arrays_move_too(tmp_path: Path, before: P, after: P | None) -> None:
    on = mesh(2, 4)
    keys = jax.random.split(jax.random.key(3), (8, 4))
    sealwax.save(tmp_path / "ckpt", {"k": jax.device_put(keys, NamedSharding(on, before))})
    place = None if after is None else NamedSharding(on, after)
    template = {"k": jax.ShapeDtypeStruct(keys.shape, keys.dtype, sharding=place)}
    loaded = sealwax.load(tmp_path / "ckpt", template)["k"]
    assert_same(loaded, keys)
    assert place is None or loaded.sharding.is_equivalent_to(place, 2)


def test_large_arrays_of_several_chunks_and_files(tmp_path: Path) -> None:
    on = mesh(2, 4)
    state = {
        "rows": noise("float32", (1500, 2048), 1),
        "fortran": np.asfortranarray(noise("float32", (1100, 1024), 2)),
        "sharded": jax.device_put(noise("bfloat16", (2048, 2048), 3), NamedSharding(on, P("y"))),
        "columns": jax.device_put(noise("int32", (1024, 4096), 4), NamedSharding(on, P(None, "x"))),
        "prime": noise("float32", (1299709,), 5),
    }
    sealwax.save(tmp_path / "ckpt", state)
    loaded = sealwax.load(tmp_path / "ckpt", state)
    for name, array in state.items():
        assert bits(loaded[name]) == bits(array), name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        theirs = orbax.load(tmp_path / "ckpt")
    for name, array in state.items():
        assert bits(theirs[name]) == bits(array), name


def test_saved_shardings_are_restored_only_on_request(tmp_path: Path) -> None:
    on = mesh(4, 2)
    state = {"w": jax.device_put(noise("float32", (8, 8), 1), NamedSharding(on, P("x", "y")))}
    state["k"] = jax.device_put(jax.random.split(jax.random.key(0), 8), NamedSharding(on, P("x")))
    sealwax.save(tmp_path / "ckpt", state)
    by_default = sealwax.load(tmp_path / "ckpt")
    assert all(not leaf.committed for leaf in jax.tree.leaves(by_default))
    context = sealwax.Context()
    context.array.loading.saved_shardings = "restore"
    assert_placed(sealwax.load(tmp_path / "ckpt", context=context), state)
    assert_placed(sealwax.load(tmp_path / "ckpt", sealwax.metadata(tmp_path / "ckpt")), state)


def test_an_abstract_mesh_takes_the_devices_of_the_current_one(tmp_path: Path) -> None:
    on = mesh(2, 4)
    array = noise("float32", (8, 8), 1)
    sealwax.save(tmp_path / "ckpt", {"w": array})
    abstract = NamedSharding(on.abstract_mesh, P("x", "y"))
    template = {"w": jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=abstract)}
    with jax.set_mesh(on):
        loaded = sealwax.load(tmp_path / "ckpt", template)["w"]
    assert loaded.sharding == NamedSharding(on, P("x", "y"))
    assert bits(loaded) == bits(array)
    with pytest.raises(LeafMismatchError, match="abstract mesh"):
        sealwax.load(tmp_path / "ckpt", template)
    with jax.set_mesh(mesh(4, 2)), pytest.raises(LeafMismatchError, match="abstract mesh"):
        sealwax.load(tmp_path / "ckpt", template)


def test_a_sharding_that_does_not_fit_names_the_leaf(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", {"w": np.zeros((8, 8), np.float32)})
    uneven = NamedSharding(Mesh(np.array(jax.devices()[:3]), ("x",)), P("x"))
    template = {"w": jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=uneven)}
    with pytest.raises(LeafMismatchError, match="does not fit the array") as caught:
        sealwax.load(tmp_path / "ckpt", template)
    assert caught.value.leaf == "w"


# ---------------------------------------------------------------- compression


def stored_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in (path / "state" / "d").iterdir())


def saved(path: Path, state: Any, **options: Any) -> int:
    context = sealwax.Context()
    for name, value in options.items():
        setattr(context.array.saving, name, value)
    sealwax.save(path, state, context=context)
    loaded = sealwax.load(path)
    for name, array in state.items():
        assert bits(loaded[name]) == bits(array), (name, options)
        assert bits(orbax.load(path)[name]) == bits(array), (name, options)
    return stored_bytes(path)


def test_what_shrinks_is_compressed_and_what_does_not_is_not(tmp_path: Path) -> None:
    zeros = {"w": np.zeros((512, 512), np.float32)}
    weights = {"w": np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)}
    size = zeros["w"].nbytes
    assert saved(tmp_path / "auto", zeros) < size / 50
    assert saved(tmp_path / "off", zeros, use_compression=False) >= size
    assert size <= saved(tmp_path / "noise", weights) < size + 4096
    assert saved(tmp_path / "forced", weights, compression="always") < 0.97 * size


def test_small_arrays_are_compressed_on_request_only(tmp_path: Path) -> None:
    small = {str(n): np.full(100, n, np.float32) for n in range(20)}
    plain = saved(tmp_path / "auto", small)
    assert saved(tmp_path / "forced", small, compression="always") < plain
