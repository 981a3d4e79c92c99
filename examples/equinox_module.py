"""An Equinox module with state of its own, trained with Optax.

Run it with `python examples/equinox_module.py /tmp/equinox`.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import sealwax
from common import HALF, WHOLE, batch, directory, report

OPTIMIZER = optax.adam(1e-2)


class Model(eqx.Module):
    """Two layers, with batch normalisation and a function that is no array."""

    hidden: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    answer: eqx.nn.Linear
    activation: Any

    def __init__(self, key: jax.Array) -> None:
        """Makes the layers."""
        one, two = jax.random.split(key)
        self.hidden = eqx.nn.Linear(4, 16, key=one)
        self.norm = eqx.nn.BatchNorm(16, axis_name="batch", mode="batch")
        self.answer = eqx.nn.Linear(16, 1, key=two)
        self.activation = jax.nn.relu

    def __call__(self, x: jax.Array, state: eqx.nn.State) -> tuple[jax.Array, eqx.nn.State]:
        """Maps one `f32[4]` to `f32[1]`."""
        hidden, state = self.norm(self.hidden(x), state)
        return self.answer(self.activation(hidden)), state


Training = tuple[Model, eqx.nn.State, optax.OptState, jax.Array]


def initial() -> Training:
    """The module, its state, the optimizer's, and the step."""
    model, state = eqx.nn.make_with_state(Model)(jax.random.key(0))
    return model, state, OPTIMIZER.init(eqx.filter(model, eqx.is_array)), jnp.int32(0)


@eqx.filter_jit
def train_step(training: Training, x: jax.Array, y: jax.Array) -> Training:
    """Takes one step."""
    model, state, optimizer, step = training

    def loss_of(model: Model) -> tuple[jax.Array, eqx.nn.State]:
        run = jax.vmap(model, in_axes=(0, None), out_axes=(0, None), axis_name="batch")
        answer, changed = run(x, state)
        return jnp.mean((answer - y) ** 2), changed

    gradient, state = eqx.filter_grad(loss_of, has_aux=True)(model)
    updates, optimizer = OPTIMIZER.update(gradient, optimizer, eqx.filter(model, eqx.is_array))
    return eqx.apply_updates(model, updates), state, optimizer, step + 1


def train(training: Training, last: int) -> Training:
    """Goes on to a step."""
    while training[-1] < last:
        training = train_step(training, *batch(int(training[-1])))
    return training


def main() -> None:
    """Trains, saves, resumes and compares."""
    path = directory() / f"step_{HALF}"
    training = train(initial(), HALF)

    # [docs]
    # Functions are leaves in Equinox; only what are arrays is saved.
    sealwax.save(path, eqx.filter(training, eqx.is_array))
    abstract = eqx.filter_eval_shape(initial)
    template, rest = eqx.partition(abstract, lambda x: isinstance(x, jax.ShapeDtypeStruct))
    training = eqx.combine(sealwax.load(path, template), rest)
    # [/docs]

    resumed, whole = train(training, WHOLE), train(initial(), WHOLE)
    report(path, eqx.filter(resumed, eqx.is_array), eqx.filter(whole, eqx.is_array))


if __name__ == "__main__":
    main()
