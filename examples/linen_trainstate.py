"""A Flax linen `TrainState` with batch statistics and a random key for dropout.

Run it with `python examples/linen_trainstate.py /tmp/linen`.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState

import sealwax
from common import HALF, WHOLE, batch, directory, report


class Model(nn.Module):
    """A layer with batch normalisation and dropout, and one for the answer."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps `f32[batch, 4]` to `f32[batch, 1]`."""
        hidden = nn.BatchNorm(use_running_average=not train)(nn.Dense(16)(x))
        hidden = nn.Dropout(0.1, deterministic=not train)(nn.relu(hidden))
        return nn.Dense(1)(hidden)


class State(TrainState):
    """Flax's state, and the two things that this model needs besides."""

    batch_stats: Any
    key: jax.Array


def initial() -> State:
    """The state before the first step."""
    model = Model()
    variables = model.init(jax.random.key(0), jnp.zeros((1, 4)), train=False)
    return State.create(
        apply_fn=model.apply, tx=optax.adamw(1e-2), key=jax.random.key(1), **variables
    )


@jax.jit
def train_step(state: State, x: jax.Array, y: jax.Array) -> State:
    """Takes one step."""
    key, dropout = jax.random.split(state.key)

    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        answer, changed = state.apply_fn(
            variables, x, train=True, rngs={"dropout": dropout}, mutable=["batch_stats"]
        )
        return jnp.mean((answer - y) ** 2), changed["batch_stats"]

    gradient, batch_stats = jax.grad(loss_of, has_aux=True)(state.params)
    return state.apply_gradients(grads=gradient, batch_stats=batch_stats, key=key)


def train(state: State, last: int) -> State:
    """Goes on to a step."""
    while state.step < last:
        state = train_step(state, *batch(int(state.step)))
    return state


def main() -> None:
    """Trains, saves, resumes and compares."""
    path = directory() / f"step_{HALF}"

    state = train(initial(), HALF)
    # [docs]
    sealwax.save(path, state)
    # `apply_fn` and `tx` are no arrays, and come from the template.
    state = sealwax.load(path, jax.eval_shape(initial))
    # [/docs]

    assert isinstance(state, State)
    report(path, train(state, WHOLE), train(initial(), WHOLE))


if __name__ == "__main__":
    main()
