"""Grain's iterators: saved alone, and beside the training state that they feed.

Run it with `python examples/grain_loader.py /tmp/grain`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np

import sealwax
from common import HALF, WHOLE, bits, directory, report


@dataclasses.dataclass(frozen=True)
class Records:
    """Inputs, `f32[4]`, and what to make of them. Grain knows a source again by its `repr`."""

    count: int = 100

    def __len__(self) -> int:
        """The number of records."""
        return self.count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """One record."""
        x = np.random.default_rng(index).normal(size=4).astype(np.float32)
        return {"x": x, "y": np.sin(x.sum(keepdims=True))}


class Noise(grain.transforms.RandomMap):
    """Adds noise that Grain's own random numbers decide, and so its iterators' state."""

    def random_map(self, element: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Changes one record."""
        return element | {"x": element["x"] + rng.normal(scale=0.1, size=4).astype(np.float32)}


def dataset() -> Iterator[Any]:
    """A pipeline of the `Dataset` API: shuffled anew in each epoch, without an end."""
    records = grain.MapDataset.source(Records()).seed(1).shuffle().random_map(Noise())
    return iter(records.repeat().to_iter_dataset().batch(16))


def loader() -> Iterator[Any]:
    """The same with the `DataLoader` API."""
    sampler = grain.samplers.IndexSampler(len(Records()), shuffle=True, seed=1)
    operations = [Noise(), grain.transforms.Batch(16)]
    return iter(grain.DataLoader(data_source=Records(), sampler=sampler, operations=operations))


@jax.jit
def train_step(weights: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    """Takes one step of linear regression."""
    gradient = jax.grad(lambda w: jnp.mean((batch["x"] @ w - batch["y"]) ** 2))(weights)
    return weights - 0.05 * gradient


def train(weights: jax.Array, data: Iterator[Any], steps: int) -> jax.Array:
    """Takes a number of steps."""
    for _ in range(steps):
        weights = train_step(weights, next(data))
    return weights


def main() -> None:
    """Trains, saves, resumes and compares, with either API."""
    for make in (dataset, loader):
        path = directory() / make.__name__ / f"step_{HALF}"
        data, weights = make(), jnp.zeros((4, 1))
        weights = train(weights, data, HALF)

        # [docs]
        # An iterator saves itself, as an item of its own, and is loaded in place.
        sealwax.save_checkpointables(path, {"state": weights, "data": data})
        fresh = make()
        loaded = sealwax.load_checkpointables(path, {"state": weights, "data": fresh})
        # [/docs]
        resumed = train(loaded["state"], fresh, WHOLE - HALF)
        report(path, resumed, train(jnp.zeros((4, 1)), make(), WHOLE))

        alone = make()
        # [docs]
        # It can be loaded without the state, too.
        sealwax.load_checkpointables(path, {"data": alone})
        # [/docs]
        assert bits(next(alone)) == bits(next(data)), "the batch after the save, both times"


if __name__ == "__main__":
    main()
