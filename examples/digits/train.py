"""Trains a small classifier on handwritten digits and saves its whole state as it goes.

Run it by itself, stop it however you like, and run it again::

    python examples/digits/train.py /tmp/digits --steps 400

It goes on from the newest complete checkpoint and ends with the very bits of a run that nobody
stopped, because everything the next step depends on is in the saved state: parameters, Adam's
moments, the step count (which fixes the order of the data) and the random key behind dropout.

Each save is asynchronous. The state is donated to the next step at once; that is safe, since
`save_async` has returned only when the checkpoint no longer depends on the caller's arrays.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
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
    state: TrainState, pixels: jax.Array, labels: jax.Array
) -> tuple[TrainState, jax.Array]:
    """Takes one step of AdamW; returns the new state and the loss before the step."""
    key, dropout = jax.random.split(state.key)

    def loss_of(params: Any) -> jax.Array:
        logits: Any = Classifier().apply(params, pixels, train=True, rngs={"dropout": dropout})
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, gradient = jax.value_and_grad(loss_of)(state.params)
    updates, optimizer = OPTIMIZER.update(gradient, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, optimizer, key), loss


def batches(start: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the batches from step `start` on; the order depends on the seed and the step only."""
    pixels, labels = load_digits(return_X_y=True)
    pixels, labels = pixels.astype(np.float32) / 16, labels.astype(np.int32)
    per_epoch = len(labels) // BATCH
    step = start
    while True:
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng((seed, epoch)).permutation(len(labels))
        rows = order[position * BATCH : (position + 1) * BATCH]
        yield pixels[rows], labels[rows]
        step += 1


def newest_checkpoint(directory: Path) -> Path | None:
    """Finds the complete checkpoint with the highest step; what a crash left behind is none."""
    steps = {
        int(match[1]): entry
        for entry in directory.iterdir()
        if (match := re.fullmatch(r"step_(\d+)", entry.name)) and ocp.is_orbax_checkpoint(entry)
    }
    return steps[max(steps)] if steps else None


def resume(directory: Path, seed: int) -> TrainState:
    """Loads the newest checkpoint, or starts afresh where there is none."""
    newest = newest_checkpoint(directory)
    if newest is None:
        return initial_state(seed)
    return ocp.load(newest, jax.eval_shape(initial_state, seed))


def write_final(path: Path, state: TrainState) -> None:
    """Writes the state with NumPy alone, so that the comparison does not rest on sealwax."""
    plain = state._replace(key=jax.random.key_data(state.key))
    leaves, _ = jax.tree.flatten_with_path(plain)
    arrays: Any = {jax.tree_util.keystr(name): np.asarray(leaf) for name, leaf in leaves}
    np.savez(path, **arrays)


def train(directory: Path, *, steps: int, save_every: int, pause: float, seed: int) -> None:
    """Runs to step `steps`, saving on the way, and notes in `events.jsonl` what happens."""
    checkpoints = directory / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    state, saving = resume(checkpoints, seed), None
    start = int(state.step)
    step_fn = jax.jit(train_step, donate_argnums=0)
    with (directory / "events.jsonl").open("a", buffering=1) as events:
        note(events, "start", step=start)
        data = batches(start, seed)
        for step in range(start + 1, steps + 1):
            state, loss = step_fn(state, *next(data))
            note(events, "step", step=step, loss=float(loss))
            show(step, steps, float(loss))
            if step % save_every == 0 or step == steps:
                began = time.perf_counter()
                if saving is not None:
                    saving.result()
                waited = time.perf_counter()
                saving = ocp.save_async(checkpoints / f"step_{step}", state)
                blocked = time.perf_counter() - waited
                note(events, "save", step=step, blocked=blocked, waited=waited - began)
            time.sleep(pause)
        if saving is not None:
            saving.result()
    write_final(directory / "final.npz", state)


def note(events: TextIO, kind: str, **facts: float) -> None:
    """Appends one event, whole, so that a kill cannot tear it."""
    events.write(json.dumps({"kind": kind, **facts}) + "\n")


def show(step: int, steps: int, loss: float) -> None:
    """Keeps one progress line current on a terminal, and a line now and then elsewhere."""
    line = f"  step {step:4d}/{steps}  loss {loss:.4f}  {'#' * (30 * step // steps):30s}|"
    if sys.stdout.isatty():
        print(line, end="\r" if step < steps else "\n", flush=True)
    elif step % 100 == 0:
        print(line, flush=True)


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
