"""Run in a process with fewer devices: loads what was saved on eight, every way there is.

Arguments: the paths of checkpoints of ``state()``. Ends with an error unless every leaf comes
back bit for bit, where it was asked to go.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

import sealwax as ocp

SHAPES = {"w": (8, 16), "e": (16, 8, 4), "b": (8,), "s": ()}
SPECS = {"w": ("x", "y"), "e": (None, "x", None), "b": (("x", "y"),), "s": ()}


def values() -> dict[str, np.ndarray[Any, Any]]:
    """The arrays, the same in every process."""
    rng = np.random.default_rng(7)
    return {
        name: rng.standard_normal(shape).astype("bfloat16" if name == "e" else np.float32)
        for name, shape in SHAPES.items()
    }


def state() -> dict[str, Any]:
    """The arrays on eight devices, and typed keys and a host array beside them."""
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y"))
    placed = {
        name: jax.device_put(value, NamedSharding(mesh, PartitionSpec(*SPECS[name])))
        for name, value in values().items()
    }
    keys = jax.random.split(jax.random.key(3), 8)
    sharding = NamedSharding(mesh, PartitionSpec(("x", "y")))
    return placed | {"keys": jax.device_put(keys, sharding), "host": np.arange(5.0), "step": 9}


def meshes() -> Iterator[Mesh]:
    """Every mesh of two axes that the devices of this process can form."""
    devices = np.array(jax.devices())
    for count in range(1, len(devices) + 1):
        for rows in range(1, count + 1):
            if count % rows == 0 and math.log2(count).is_integer():
                yield Mesh(devices[:count].reshape(rows, -1), ("x", "y"))


def check(loaded: dict[str, Any]) -> None:
    for name, value in values().items():
        found = np.asarray(loaded[name])
        assert found.dtype == value.dtype, name
        assert found.tobytes() == value.tobytes(), name
    keys = jax.random.key_data(jax.random.split(jax.random.key(3), 8))
    np.testing.assert_array_equal(jax.random.key_data(loaded["keys"]), keys)
    np.testing.assert_array_equal(loaded["host"], np.arange(5.0))
    assert int(loaded["step"]) == 9


def templates() -> Iterator[dict[str, Any]]:
    key = jax.random.key(0).dtype
    rest = {"host": np.empty(5), "step": 0}
    arrays = {n: jax.ShapeDtypeStruct(v.shape, v.dtype) for n, v in values().items()}
    yield arrays | {"keys": jax.ShapeDtypeStruct((8,), key)} | rest
    yield values() | {"keys": jax.ShapeDtypeStruct((8,), key)} | rest
    last = SingleDeviceSharding(jax.devices()[-1])
    for sharding in [
        last,
        *(
            NamedSharding(
                mesh,
                PartitionSpec(
                    "y",
                ),
            )
            for mesh in meshes()
        ),
    ]:
        rows = dict.fromkeys(("w", "e", "b"), sharding)
        yield (
            {
                name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=rows.get(name))
                for name, value in values().items()
            }
            | {"keys": jax.ShapeDtypeStruct((8,), key, sharding=sharding)}
            | rest
        )


def main(paths: list[str]) -> None:
    for path in paths:
        check(ocp.load(path))
        found = ocp.metadata(path)
        check(ocp.load(path, found))
        restore = ocp.Context().at.array.loading.saved_shardings.set("restore")
        check(ocp.load(path, context=restore))
        assert found.metadata["w"].shape == SHAPES["w"]
        opened = ocp.open(path)
        np.testing.assert_array_equal(opened["w"][3:5, ::2], values()["w"][3:5, ::2])
        for template in templates():
            loaded = ocp.load(path, template)
            check(loaded)
            for name, wanted in template.items():
                sharding = getattr(wanted, "sharding", None)
                if sharding is not None:
                    assert loaded[name].sharding.is_equivalent_to(sharding, loaded[name].ndim)


if __name__ == "__main__":
    main(sys.argv[1:])
