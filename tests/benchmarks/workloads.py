"""The states that are saved and loaded, and what is asked of sealwax for each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What sealwax must reach in one measure; `None` asks nothing.

    Attributes:
      faster_than_orbax: At least this many times less than Orbax.
      within_limit: At most this many times the raw limit.
      seconds: At most this long.
    """

    faster_than_orbax: float | None = None
    within_limit: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One state to measure with.

    Attributes:
      name: How the command line selects it.
      title: What the table calls it.
      build: Makes the state, a pytree of `jax.Array`; smaller by a factor when asked.
      packed: Whether the raw limit writes one file for all leaves instead of one for each.
      timed: Whether it is timed; otherwise only its memory is measured.
      budgets: What is asked, by measure: `save`, `load`, `blocked`, `size`.
    """

    name: str
    title: str
    build: Callable[[int], Any]
    packed: bool = False
    timed: bool = True
    budgets: Mapping[str, Budget] = field(default_factory=dict)


def noise(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Draws an array of standard normal numbers, which no compressor shrinks by much."""
    return jnp.asarray(rng.standard_normal(shape, np.float32).astype(dtype))


def small_leaves(count: int) -> Callable[[int], Any]:
    """Makes a state of many leaves of 1 KiB each."""
    return functools.partial(_small_leaves, count)


def _small_leaves(count: int, shrink: int) -> Any:
    rng = np.random.default_rng(0)
    values = np.split(rng.standard_normal((count // shrink, 256), np.float32), count // shrink)
    return {f"leaf_{n}": jnp.asarray(value[0]) for n, value in enumerate(values)}


def large_arrays(count: int, mebibytes: int, dtype: Any) -> Callable[[int], Any]:
    """Makes a state of a few large matrices of noise."""
    return functools.partial(_large_arrays, count, mebibytes, dtype)


def _large_arrays(count: int, mebibytes: int, dtype: Any, shrink: int) -> Any:
    rng = np.random.default_rng(0)
    rows = mebibytes * MIB // shrink // (1024 * np.dtype(dtype).itemsize)
    return {f"array_{n}": noise(rng, (rows, 1024), dtype) for n in range(count)}


def transformer(shrink: int) -> Any:
    """Makes the parameters of a ten-layer transformer and their Adam state, 380 leaves."""
    import optax

    rng, width = np.random.default_rng(0), 512
    vocabulary = 24 * 1024 // shrink

    def dense(fan_in: int, fan_out: int) -> dict[str, jax.Array]:
        return {
            "kernel": noise(rng, (fan_in, fan_out), np.float32),
            "bias": noise(rng, (fan_out,), np.float32),
        }

    def block() -> dict[str, Any]:
        norms = {f"norm_{n}": dense(1, width) for n in range(2)}
        attention = {"qkv": dense(width, 3 * width), "out": dense(width, width)}
        return norms | attention | {"up": dense(width, 4 * width), "down": dense(4 * width, width)}

    params = {f"block_{n}": block() for n in range(max(1, 10 // shrink))}
    params["embedding"] = {"kernel": noise(rng, (vocabulary, width), np.float32)}
    params["positions"] = {"kernel": noise(rng, (1024, width), np.float32)}
    params["head"] = {"norm": dense(1, width), "logits": dense(width, 256)}
    moments = optax.adam(1e-3).init(params)
    filled = jax.tree.map(lambda leaf: noise(rng, leaf.shape, leaf.dtype), moments)
    return {"step": jnp.int32(1000), "params": params, "opt_state": filled}


def compressible(shrink: int) -> Any:
    """Makes four arrays of zeros and four of a constant, 64 MiB each."""
    shape = (16 * 1024 // shrink, 1024)
    return {f"array_{n}": jnp.full(shape, 0.0 if n % 2 else 1.5, jnp.float32) for n in range(8)}


def _budgets(
    save: tuple[float, float | None], load: Budget, blocked: float, **more: Budget
) -> dict[str, Budget]:
    return {
        "save": Budget(faster_than_orbax=save[0], within_limit=save[1]),
        "load": load,
        "blocked": Budget(faster_than_orbax=blocked),
        **more,
    }


_LARGE = _budgets((2.5, 1.2), Budget(faster_than_orbax=2.5, within_limit=1.2), 1.0)

WORKLOADS = (
    Workload(
        name="small-1k",
        title="1,000 leaves of 1 KiB",
        build=small_leaves(1_000),
        packed=True,
        budgets=_budgets((25, 5), Budget(faster_than_orbax=15, seconds=0.020), 10),
    ),
    Workload(
        name="small-10k",
        title="10,000 leaves of 1 KiB",
        build=small_leaves(10_000),
        packed=True,
        budgets=_budgets((30, 5), Budget(faster_than_orbax=20), 15),
    ),
    Workload(
        name="large-f32",
        title="8 float32 arrays of 64 MiB",
        build=large_arrays(8, 64, np.float32),
        budgets=_LARGE,
    ),
    Workload(
        name="large-bf16",
        title="8 bfloat16 arrays of 64 MiB",
        build=large_arrays(8, 64, ml_dtypes.bfloat16),
        budgets=_LARGE,
    ),
    Workload(
        name="single",
        title="one array of 1 GiB",
        build=large_arrays(1, 1024, np.float32),
        budgets=_budgets((3, 1.2), Budget(faster_than_orbax=3, within_limit=1.2), 1.0),
    ),
    Workload(
        name="huge",
        title="one array of 2 GiB",
        build=large_arrays(1, 2048, np.float32),
        timed=False,
    ),
    Workload(
        name="transformer",
        title="transformer and Adam, 380 leaves",
        build=transformer,
        budgets=_budgets((2, 1.2), Budget(faster_than_orbax=3, within_limit=1.5), 3),
    ),
    Workload(
        name="compressible",
        title="8 constant arrays of 64 MiB",
        build=compressible,
        budgets=_budgets(
            (1, None), Budget(faster_than_orbax=2), 1.0, size=Budget(faster_than_orbax=1)
        ),
    ),
)
