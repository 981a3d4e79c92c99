"""A ``HostArray`` is stored as the ``jax.Array`` is whose shards it holds."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import sealwax
from sealwax.arrays.leafkinds import LeafKind, classify
from sealwax.hooks.delivery import on_host
from tests.hooks.states import MESH, digests

SPECS = [(), ("x",), ("y", "x"), (("x", "y"),), (None, "y")]


@hypothesis.settings(max_examples=12)
@hypothesis.given(
    spec=st.sampled_from(SPECS),
    dtype=st.sampled_from(["float32", "bfloat16", "int8", "bool", "complex64", "float8_e4m3fn"]),
    compress=st.booleans(),
)
def test_the_same_files(
    spec: tuple[str, ...], dtype: str, compress: bool, tmp_path_factory: object
) -> None:
    folder: Path = tmp_path_factory.mktemp("same")  # type: ignore[attr-defined]
    sharding = NamedSharding(MESH, PartitionSpec(*spec))
    array = jax.device_put(jnp.arange(256).reshape(16, 16).astype(dtype), sharding)
    context = sealwax.Context().at.array.saving.use_compression.set(compress)
    sealwax.save(folder / "theirs", {"a": array}, context=context)
    sealwax.save(folder / "ours", {"a": on_host(array)}, context=context)
    assert digests(folder / "ours") == digests(folder / "theirs")


def test_its_kind_and_its_elements() -> None:
    array = jax.device_put(jnp.arange(8.0), NamedSharding(MESH, PartitionSpec("x")))
    held = on_host(array)
    assert classify(held).unwrap() is LeafKind.JAX_ARRAY
    assert classify(on_host(jax.random.key(0))).unwrap() is LeafKind.JAX_KEY
    assert len(held.addressable_shards) == 4
    np.testing.assert_array_equal(np.asarray(held), np.arange(8.0))
    assert np.asarray(held, np.int32).dtype == np.int32
