"""An Optax chain with masks, injected hyperparameters, and an optimizer for each group.

Run it with `python examples/optax_masks.py /tmp/optax`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import sealwax
from common import HALF, WHOLE, batch, directory, report

Params = dict[str, dict[str, jax.Array]]


def is_weight(params: Params) -> Any:
    """Marks what decays: weights, not biases."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def groups(params: Params) -> Any:
    """Names the optimizer of each leaf: that of its layer."""
    return {layer: jax.tree.map(lambda _, name=layer: name, params[layer]) for layer in params}


OPTIMIZER = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.masked(optax.add_decayed_weights(1e-3), is_weight),
    optax.multi_transform(
        {
            "body": optax.inject_hyperparams(optax.adam)(optax.cosine_decay_schedule(1e-2, 100)),
            "head": optax.sgd(1e-2, momentum=0.9, nesterov=True),
            "frozen": optax.set_to_zero(),
        },
        groups,
    ),
    optax.ema(0.9),
)


class State(NamedTuple):
    """Everything that the next step depends on."""

    step: jax.Array
    params: Params
    optimizer: optax.OptState


def initial() -> State:
    """The state before the first step."""
    sizes, params = {"frozen": (4, 8), "body": (8, 8), "head": (8, 1)}, {}
    for key, (name, size) in zip(
        jax.random.split(jax.random.key(0), 3), sizes.items(), strict=True
    ):
        params[name] = {"w": jax.random.normal(key, size) / 3, "b": jnp.zeros(size[1])}
    return State(jnp.int32(0), params, OPTIMIZER.init(params))


@jax.jit
def train_step(state: State, x: jax.Array, y: jax.Array) -> State:
    """Takes one step."""

    def loss_of(params: Params) -> jax.Array:
        answer = x
        for layer in ("frozen", "body", "head"):
            answer = jnp.tanh(answer @ params[layer]["w"] + params[layer]["b"])
        return jnp.mean((answer - y) ** 2)

    gradient = jax.grad(loss_of)(state.params)
    updates, optimizer = OPTIMIZER.update(gradient, state.optimizer, state.params)
    return State(state.step + 1, optax.apply_updates(state.params, updates), optimizer)


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
    # Masks and states without leaves come from the template.
    state = sealwax.load(path, jax.eval_shape(initial))
    # [/docs]
    report(path, train(state, WHOLE), train(initial(), WHOLE))


if __name__ == "__main__":
    main()
