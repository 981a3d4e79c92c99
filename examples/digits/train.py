"""Trains a small classifier on handwritten digits and saves its whole state as it goes.

Run it by itself, stop it however you like, and run it again::

    python examples/digits/train.py /tmp/digits --steps 400

It goes on from the newest complete checkpoint and ends with the very bits of a run that nobody
stopped, because everything the next step depends on is in the saved state: parameters, Adam's
moments and the random key behind dropout; the order of the data follows from the step.

`training.run` is the loop. Its saves are asynchronous, and the state is donated to the next step at
once; that is safe, since a save lets the loop go on only when the checkpoint no longer depends on
its arrays. Told to stop by SIGTERM it saves the step that it has reached and ends with status 75.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import sealwax as ocp
from sealwax.path.step import standard_name_format
from sealwax.training.save_decision_policies import FixedIntervalPolicy

BATCH = 128
OPTIMIZER = optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-3, 50, 400))


class Classifier(nn.Module):
    """Two hidden layers with dropout between them."""

    @nn.compact
    def __call__(self, pixels: jax.Array, *, train: bool) -> jax.Array:
        """Maps pixels, `f32[batch, 64]`, to the logits of ten digits."""
        hidden = pixels
        for width in (512, 512):
            hidden = nn.relu(nn.Dense(width)(hidden))
            hidden = nn.Dropout(0.3, deterministic=not train)(hidden)
        return nn.Dense(10)(hidden)


class TrainState(NamedTuple):
    """Everything that the next step depends on, and so everything that is saved."""

    step: jax.Array
    params: Any
    optimizer: optax.OptState
    key: jax.Array


def initial_state(seed: int) -> TrainState:
    """Makes the state that a run starts from."""
    key, init_key = jax.random.split(jax.random.key(seed))
    params = Classifier().init(init_key, jnp.zeros((1, 64)), train=False)
    return TrainState(jnp.int32(0), params, OPTIMIZER.init(params), key)


def train_step(
    state: TrainState, batch: tuple[jax.Array, jax.Array]
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one step of AdamW; returns the new state, and the loss before the step."""
    pixels, labels = batch
    key, dropout = jax.random.split(state.key)

    def loss_of(params: Any) -> jax.Array:
        logits: Any = Classifier().apply(params, pixels, train=True, rngs={"dropout": dropout})
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, gradient = jax.value_and_grad(loss_of)(state.params)
    updates, optimizer = OPTIMIZER.update(gradient, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, optimizer, key), {"loss": loss}


def batches(done: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields what comes after `done` steps; the order depends on the seed and the step only."""
    pixels, labels = load_digits(return_X_y=True)
    pixels, labels = pixels.astype(np.float32) / 16, labels.astype(np.int32)
    per_epoch = len(labels) // BATCH
    step = done
    while True:
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng((seed, epoch)).permutation(len(labels))
        rows = order[position * BATCH : (position + 1) * BATCH]
        yield pixels[rows], labels[rows]
        step += 1


class Timed(ocp.training.Checkpointer):
    """A checkpointer that notes how long each save holds up the loop."""

    def __init__(self, directory: Path, events: TextIO, save_every: int) -> None:
        """Saves each `save_every` steps, in directories named `step_10`, `step_20`, ..."""
        self.events = events
        super().__init__(
            directory,
            save_decision_policy=FixedIntervalPolicy(save_every),
            step_name_format=standard_name_format(step_prefix="step"),
        )

    def save_checkpointables_async(self, step: int, *args: Any, **options: Any) -> Any:
        """Begins a save, once the one before it is done."""
        began = time.perf_counter()
        self.wait()
        waited = time.perf_counter()
        response = super().save_checkpointables_async(step, *args, **options)
        blocked = time.perf_counter() - waited
        note(self.events, "save", step=step, blocked=blocked, waited=waited - began)
        return response


def write_final(path: Path, state: TrainState) -> None:
    """Writes the state with NumPy alone, so that the comparison does not rest on sealwax."""
    plain = state._replace(key=jax.random.key_data(state.key))
    leaves, _ = jax.tree.flatten_with_path(plain)
    arrays: Any = {jax.tree_util.keystr(name): np.asarray(leaf) for name, leaf in leaves}
    np.savez(path, **arrays)


def train(directory: Path, *, steps: int, save_every: int, pause: float, seed: int) -> None:
    """Runs to step `steps`, saving on the way, and notes in `events.jsonl` what happens."""
    directory.mkdir(parents=True, exist_ok=True)
    step_fn = jax.jit(train_step, donate_argnums=0)
    with (
        (directory / "events.jsonl").open("a", buffering=1) as events,
        Timed(directory / "checkpoints", events, save_every) as checkpointer,
    ):

        def on_step(step: int, _: TrainState, metrics: dict[str, jax.Array]) -> None:
            note(events, "step", step=step, loss=float(metrics["loss"]))
            time.sleep(pause)

        newest = checkpointer.latest
        note(events, "start", step=newest.step if newest else 0)
        state, _ = ocp.training.run(
            step_fn,
            initial_state(seed),
            functools.partial(batches, seed=seed),
            checkpointer,
            steps=steps,
            on_step=on_step,
        )
    write_final(directory / "final.npz", state)


def note(events: TextIO, kind: str, **facts: float) -> None:
    """Appends one event, whole, so that a kill cannot tear it."""
    events.write(json.dumps({"kind": kind, **facts}) + "\n")


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description="Trains on handwritten digits.")
    parser.add_argument("directory", type=Path, help="where checkpoints and results go")
    parser.add_argument("--steps", type=int, default=400, help="the step to stop at")
    parser.add_argument("--save-every", type=int, default=10, help="steps between two saves")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds to sleep after a step")
    parser.add_argument("--seed", type=int, default=0, help="fixes parameters, data and dropout")
    arguments = parser.parse_args()
    train(
        arguments.directory.resolve(),
        steps=arguments.steps,
        save_every=arguments.save_every,
        pause=arguments.pause,
        seed=arguments.seed,
    )


if __name__ == "__main__":
    main()
