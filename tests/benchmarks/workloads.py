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

KIB, MIB = 2**10, 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What sealwax must reach in one measure; `None` asks nothing.

    Attributes:
      faster_than_orbax: At least this many times less than Orbax.
      within_limit: At most this many times the raw limit.
      at_most: At most so many seconds or bytes.
    """

    faster_than_orbax: float | None = None
    within_limit: float | None = None
    at_most: float | None = None


def noise(rng: np.random.Generator, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Draws standard normal numbers, which no compressor shrinks by much."""
    return jnp.asarray(rng.standard_normal(leaf.shape, np.float32).astype(leaf.dtype))


def constant(rng: np.random.Generator, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Draws one number, zero or another, for all of an array."""
    return jnp.full(leaf.shape, rng.choice([0.0, 1.5]), leaf.dtype)


Make = Callable[[np.random.Generator, jax.ShapeDtypeStruct], jax.Array]


def fill(abstract: Any, make: Make = noise) -> Any:
    """Makes the arrays of a state."""
    return jax.tree.map(functools.partial(make, np.random.default_rng(0)), abstract)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One state to measure with.

    Attributes:
      name: How the command line selects it.
      title: What the table calls it.
      abstract: Says what the state is, a pytree of `jax.ShapeDtypeStruct`; smaller by a factor
        when asked.
      make: Makes an array of what is said of it.
      packed: Whether the raw limit writes one file for all leaves instead of one for each.
      timed: Whether it is timed; otherwise only its memory is measured.
      budgets: What is asked, by measure: a key of `table.MEASURES`.
    """

    name: str
    title: str
    abstract: Callable[[int], Any]
    make: Make = noise
    packed: bool = False
    timed: bool = True
    budgets: Mapping[str, Budget] = field(default_factory=dict)

    def build(self, shrink: int) -> Any:
        """Makes the state, a pytree of `jax.Array`, always the same."""
        return fill(self.abstract(shrink), self.make)


def small_leaves(count: int) -> Callable[[int], Any]:
    """Says of a state that it has many leaves of 1 KiB each."""
    return functools.partial(_small_leaves, count)


def _small_leaves(count: int, shrink: int) -> Any:
    leaf = jax.ShapeDtypeStruct((256,), np.float32)
    return {f"leaf_{n}": leaf for n in range(count // shrink)}


def large_arrays(count: int, mebibytes: int, dtype: Any = np.float32) -> Callable[[int], Any]:
    """Says of a state that it has a few large matrices."""
    return functools.partial(_large_arrays, count, mebibytes, dtype)


def _large_arrays(count: int, mebibytes: int, dtype: Any, shrink: int) -> Any:
    rows = mebibytes * MIB // shrink // (1024 * np.dtype(dtype).itemsize)
    return {f"array_{n}": jax.ShapeDtypeStruct((rows, 1024), dtype) for n in range(count)}


def transformer(shrink: int) -> Any:
    """Says what the parameters of a ten-layer transformer and their Adam state are, 380 leaves."""
    import optax

    width, vocabulary = 512, 24 * 1024 // shrink

    def matrix(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, np.float32)

    def dense(fan_in: int, fan_out: int) -> dict[str, Any]:
        return {"kernel": matrix(fan_in, fan_out), "bias": matrix(fan_out)}

    def block() -> dict[str, Any]:
        norms = {f"norm_{n}": dense(1, width) for n in range(2)}
        attention = {"qkv": dense(width, 3 * width), "out": dense(width, width)}
        return norms | attention | {"up": dense(width, 4 * width), "down": dense(4 * width, width)}

    params = {f"block_{n}": block() for n in range(max(1, 10 // shrink))}
    params["embedding"] = {"kernel": matrix(vocabulary, width)}
    params["positions"] = {"kernel": matrix(1024, width)}
    params["head"] = {"norm": dense(1, width), "logits": dense(width, 256)}
    moments = jax.eval_shape(optax.adam(1e-3).init, params)
    step = jax.ShapeDtypeStruct((), np.int32)
    return {"step": step, "params": params, "opt_state": moments}


HELD = 512 * MIB
"""What sealwax may hold beside the arrays by default, in bytes."""


def _memory(nbytes: int, slack: float = 1.0) -> dict[str, Budget]:
    return {
        "peak save": Budget(at_most=HELD),
        "peak load": Budget(at_most=slack * nbytes + HELD),
    }


def _budgets(
    nbytes: int, save: tuple[float, float | None], load: Budget, blocked: float
) -> dict[str, Budget]:
    return {
        "save": Budget(faster_than_orbax=save[0], within_limit=save[1]),
        "load": load,
        "blocked": Budget(faster_than_orbax=blocked),
        **_memory(nbytes),
    }


def _near(orbax: float, limit: float) -> Budget:
    return Budget(faster_than_orbax=orbax, within_limit=limit)


WORKLOADS = (
    Workload(
        name="small-1k",
        title="1,000 leaves of 1 KiB",
        abstract=small_leaves(1_000),
        packed=True,
        budgets=_budgets(1_000 * KIB, (25, 5), Budget(faster_than_orbax=15, at_most=0.020), 10),
    ),
    Workload(
        name="small-10k",
        title="10,000 leaves of 1 KiB",
        abstract=small_leaves(10_000),
        packed=True,
        budgets=_budgets(10_000 * KIB, (30, 5), Budget(faster_than_orbax=20), 15),
    ),
    Workload(
        name="large-f32",
        title="8 float32 arrays of 64 MiB",
        abstract=large_arrays(8, 64),
        budgets=_budgets(512 * MIB, (2.5, 1.2), _near(2.5, 1.2), 1),
    ),
    Workload(
        name="large-bf16",
        title="8 bfloat16 arrays of 64 MiB",
        abstract=large_arrays(8, 64, ml_dtypes.bfloat16),
        budgets=_budgets(512 * MIB, (2.5, 1.2), _near(2.5, 1.2), 1),
    ),
    Workload(
        name="single",
        title="one array of 1 GiB",
        abstract=large_arrays(1, 1024),
        budgets=_budgets(1024 * MIB, (3, 1.2), _near(3, 1.2), 1),
    ),
    Workload(
        name="huge",
        title="one array of 2 GiB",
        abstract=large_arrays(1, 2048),
        timed=False,
        budgets=_memory(2048 * MIB, slack=1.1),
    ),
    Workload(
        name="transformer",
        title="transformer and Adam, 380 leaves",
        abstract=transformer,
        packed=True,
        budgets=_budgets(512 * MIB, (2, 1.2), _near(3, 1.5), 3),
    ),
    Workload(
        name="compressible",
        title="8 constant arrays of 64 MiB",
        abstract=large_arrays(8, 64),
        make=constant,
        budgets=_budgets(512 * MIB, (1, None), Budget(faster_than_orbax=2), 1)
        | {"size": Budget(faster_than_orbax=1)},
    ),
)
