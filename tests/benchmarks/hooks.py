"""What a hook costs that never fires: `python -m tests.benchmarks.hooks`.

The same scan runs with the hook and without it, in turn; the ratio is the median of the ratios of
such pairs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax
import jax.numpy as jnp
import numpy as np

import sealwax

STEPS = 1000
BATCH = 64


def loss(params: dict[str, Any], x: Any, y: Any) -> Any:
    """Mean square error of a perceptron of two layers."""
    hidden = jnp.tanh(x @ params["w"] + params["b"])
    return ((hidden @ params["v"] - y) ** 2).mean()


def step(state: dict[str, Any], number: Any) -> dict[str, Any]:
    """A step of training with momentum, on a batch of its own."""
    width = state["params"]["v"].shape[0]
    x = jnp.sin(jnp.arange(BATCH * width, dtype=np.float32) * (1 + number)).reshape(BATCH, width)
    gradient = jax.grad(loss)(state["params"], x, x[:, :1])
    momentum = jax.tree.map(lambda m, g: 0.9 * m + g, state["momentum"], gradient)
    params = jax.tree.map(lambda p, m: p - 1e-3 * m, state["params"], momentum)
    return {"params": params, "momentum": momentum}


def states(width: int) -> dict[str, dict[str, Any]]:
    """A state on one device, and the same over all devices."""
    rng = np.random.default_rng(0)
    shapes = {"w": (width, width), "b": (width,), "v": (width, 1)}
    specs = {"w": (None, "x"), "b": ("x",), "v": ("x", None)}
    params = {
        name: jnp.asarray(rng.standard_normal(shape, np.float32) / width**0.5)
        for name, shape in shapes.items()
    }
    one = {"params": params, "momentum": jax.tree.map(jnp.zeros_like, params)}
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("x",))
    placed = {
        name: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
        for name, spec in specs.items()
    }
    spread = jax.device_put(one, {"params": placed, "momentum": placed})
    return {"one device": one, f"{jax.device_count()} devices": spread}


def scan(hook: sealwax.hooks.Saver | None) -> Callable[[Any], Any]:
    """A compiled scan, with a hook in each step or none."""

    def body(state: Any, number: Any) -> tuple[Any, None]:
        state = step(state, number)
        if hook is not None:
            hook(state, step=number)
        return state, None

    return jax.jit(lambda state: jax.lax.scan(body, state, jnp.arange(1, STEPS + 1))[0])


def seconds(program: Callable[[Any], Any], state: Any) -> float:
    """How long one run takes."""
    begin = time.perf_counter()
    jax.block_until_ready(program(state))
    return time.perf_counter() - begin


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for size in asked.widths:
            for name, state in states(size).items():
                hook = sealwax.hooks.Saver(folder, state, every=STEPS * 10)
                programs = scan(None), scan(hook)
                for program in programs:
                    seconds(program, state)
                pairs = [[seconds(p, state) for p in programs] for _ in range(asked.rounds)]
                ratio = statistics.median(hooked / without for without, hooked in pairs)
                plain = statistics.median(without for without, _ in pairs)
                print(
                    f"{name:>10}, width {size}: {1e6 * plain / STEPS:8.1f} us a step without, "
                    f"{ratio:.3f} times that with a hook that never fires"
                )


if __name__ == "__main__":
    main()
