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


def step(state: dict[str, Any]) -> dict[str, Any]:
    """A step of some work on all leaves."""
    w = state["w"]
    return {"w": jnp.tanh(w @ state["u"]) + 0.1 * w, "u": state["u"] * 0.999, "n": state["n"] + 1}


def states(size: int) -> dict[str, dict[str, Any]]:
    """A state on one device, and the same over all devices."""
    rng = np.random.default_rng(0)
    w, u = (rng.standard_normal((size, size), np.float32) / size**0.5 for _ in range(2))
    one = {"w": jnp.asarray(w), "u": jnp.asarray(u), "n": jnp.int32(0)}
    mesh = jax.make_mesh((jax.device_count(),), ("x",))
    specs = {"w": ("x",), "u": (), "n": ()}
    spread = {
        name: jax.device_put(
            leaf, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*specs[name]))
        )
        for name, leaf in one.items()
    }
    return {"one device": one, f"{jax.device_count()} devices": spread}


def scan(hook: sealwax.hooks.Saver | None) -> Callable[[Any], Any]:
    """A compiled scan, with a hook in each step or none."""

    def body(state: Any, number: Any) -> tuple[Any, None]:
        state = step(state)
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
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for size in asked.sizes:
            for name, state in states(size).items():
                hook = sealwax.hooks.Saver(folder, state, every=STEPS * 10)
                programs = scan(None), scan(hook)
                for program in programs:
                    seconds(program, state)
                pairs = [[seconds(p, state) for p in programs] for _ in range(asked.rounds)]
                ratio = statistics.median(with_ / without for without, with_ in pairs)
                plain = statistics.median(without for without, _ in pairs)
                print(
                    f"{name:>10}, {size}x{size}: {1e6 * plain / STEPS:8.1f} us a step without, "
                    f"{ratio:.3f} times that with a hook that never fires"
                )


if __name__ == "__main__":
    main()
