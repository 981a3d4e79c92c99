"""States and programs that the tests of hooks share."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

DEVICES = np.array(jax.devices()).reshape(4, 2)
MESH = jax.sharding.Mesh(DEVICES, ("x", "y"))
EXPLICIT = jax.sharding.Mesh(DEVICES, ("x", "y"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)
TIMES = {"_CHECKPOINT_METADATA", "commit_success.txt", "_SEALWAX", "manifest.ocdbt"}


def put(leaf: Any, *spec: Any, mesh: Any = MESH) -> Any:
    return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*spec)))


def alone() -> dict[str, Any]:
    """A state on one device."""
    return {
        "params": {"w": jnp.arange(64.0).reshape(8, 8), "b": jnp.ones(8, jnp.bfloat16)},
        "key": jax.random.key(1),
        "n": jnp.int32(0),
        "mask": jnp.arange(8) % 3 == 0,
        "none": (jnp.zeros((0, 3)), None),
    }


def spread() -> dict[str, Any]:
    """The same over eight devices, cut in every way."""
    state = alone()
    return {
        "params": {
            "w": put(state["params"]["w"], "x", "y"),
            "b": put(state["params"]["b"], "y"),
        },
        "key": put(jax.random.split(state["key"], 8), ("x", "y")),
        "n": put(state["n"]),
        "mask": put(state["mask"], "x"),
        "none": (put(jnp.zeros((0, 3))), None),
    }


def explicit() -> dict[str, Any]:
    """The same on a mesh whose shardings are part of the types."""

    def leaf(value: Any) -> Any:
        return put(value, *value.sharding.spec, mesh=EXPLICIT)

    return jax.tree.map(leaf, spread())


def step(state: dict[str, Any]) -> dict[str, Any]:
    """Changes every leaf, with sums over all devices."""
    w = state["params"]["w"]
    return state | {
        "params": {"w": w * 0.99 + w.mean(), "b": state["params"]["b"] + jnp.bfloat16(1)},
        "key": jax.vmap(lambda k: jax.random.fold_in(k, 1))(state["key"])
        if state["key"].ndim
        else jax.random.fold_in(state["key"], 1),
        "n": state["n"] + 1,
        "mask": ~state["mask"],
    }


def plain(tree: Any) -> Any:
    """A tree with NumPy arrays, for comparing."""

    def leaf(value: Any) -> Any:
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        return np.asarray(value)

    return jax.tree.map(leaf, tree)


def digests(checkpoint: Path) -> dict[str, str]:
    """Its files by name: their content, but for those that hold times and random names."""
    return {
        str(file.relative_to(checkpoint)): ""
        if file.name in TIMES
        else hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(checkpoint.rglob("*"))
        if file.is_file()
    }
