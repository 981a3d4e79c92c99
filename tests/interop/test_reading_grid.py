"""Every way in which Orbax 0.12.8 can write, with v1 and with v0: sealwax loads each of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as v0
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as orbax

import sealwax
from tests.strategies import assert_placed, assert_same, mesh, noise

BOTH = [True, False]


def state() -> dict[str, Any]:
    """A little of everything, sharded, replicated and on the host."""
    on = NamedSharding(mesh(4, 2), PartitionSpec("x", "y"))
    everywhere = NamedSharding(mesh(4, 2), PartitionSpec())
    return {
        "sharded": jax.device_put(noise("float32", (32, 32), 1), on),
        "replicated": jax.device_put(jnp.arange(48.0).reshape(8, 6), everywhere),
        "zeros": jnp.zeros((40, 24), jnp.bfloat16),
        "host": noise("int16", (20, 30), 2),
        "key": jax.random.key(1),
        "list": [noise("int4", (5,), 3), 2.5, None, {}],
        "step": 3,
        "text": "note",
    }


@pytest.mark.parametrize("compressed", BOTH, ids=["compressed", "raw"])
@pytest.mark.parametrize("zarr3", BOTH, ids=["zarr3", "zarr2"])
@pytest.mark.parametrize("ocdbt", BOTH, ids=["ocdbt", "separate"])
def test_every_combination_of_v1_is_loaded(
    tmp_path: Path, ocdbt: bool, zarr3: bool, compressed: bool
) -> None:
    tree = state()
    rest = itertools.product([None, 1024], BOTH, BOTH, BOTH)
    for number, (chunk, replicas, shardings, metadata) in enumerate(rest):
        context = orbax.Context()
        saving = context.array.saving
        saving.use_ocdbt, saving.use_zarr3, saving.use_compression = ocdbt, zarr3, compressed
        saving.storage_options.chunk_byte_size = chunk
        saving.use_replica_parallel = replicas
        saving.enable_write_sharding_file = shardings
        if not metadata:
            saving.array_metadata_store = None
        path = tmp_path / str(number)
        with context:
            orbax.save(path, tree)
        seen = tree if metadata else tree | {"key": jax.random.key_data(tree["key"])}
        assert_same(sealwax.load(path), seen)
        loaded = sealwax.load(path, seen)
        assert_same(loaded, seen)
        assert_placed(loaded, seen)


@pytest.mark.parametrize("zarr3", BOTH, ids=["zarr3", "zarr2"])
@pytest.mark.parametrize("ocdbt", BOTH, ids=["ocdbt", "separate"])
def test_every_combination_of_v0_is_loaded(tmp_path: Path, ocdbt: bool, zarr3: bool) -> None:
    tree = state()
    for number, compressed in enumerate(BOTH):
        handler = v0.PyTreeCheckpointHandler(
            use_ocdbt=ocdbt, use_zarr3=zarr3, use_compression=compressed
        )
        path = tmp_path / str(number)
        with v0.Checkpointer(handler) as checkpointer:
            checkpointer.save(path, args=v0.args.PyTreeSave(tree))
        assert_same(sealwax.load(path), tree)
        loaded = sealwax.load(path, tree)
        assert_same(loaded, tree)
        assert_placed(loaded, tree)


def test_one_array_at_a_time_of_v0(tmp_path: Path) -> None:
    with v0.Checkpointer(v0.ArrayCheckpointHandler()) as checkpointer:
        checkpointer.save(tmp_path / "ckpt", args=v0.args.ArraySave(np.arange(6.0)))
    np.testing.assert_array_equal(sealwax.load(tmp_path / "ckpt")["checkpoint"], np.arange(6.0))
