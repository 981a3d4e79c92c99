"""A Flax nnx `Module` with its `Optimizer`: as a `State`, and as the objects themselves.

Run it with `python examples/nnx_module.py /tmp/nnx`.
"""

from __future__ import annotations

import jax
import optax
from flax import nnx

import sealwax
from common import HALF, WHOLE, batch, directory, report


class Model(nnx.Module):
    """A layer with batch normalisation and dropout, and one for the answer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        """Makes the layers; `rngs` stays in the dropout, and is saved with it."""
        self.hidden = nnx.Linear(4, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.answer = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `f32[batch, 4]` to `f32[batch, 1]`."""
        return self.answer(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def initial() -> tuple[Model, nnx.Optimizer[Model]]:
    """The model and its optimizer before the first step."""
    model = Model(nnx.Rngs(0))
    return model, nnx.Optimizer(model, optax.adamw(1e-2), wrt=nnx.Param)


@nnx.jit
def train_step(model: Model, optimizer: nnx.Optimizer[Model], x: jax.Array, y: jax.Array) -> None:
    """Takes one step, in place."""

    def loss_of(model: Model) -> jax.Array:
        return ((model(x) - y) ** 2).mean()

    optimizer.update(model, nnx.grad(loss_of)(model))


def train(
    training: tuple[Model, nnx.Optimizer[Model]], last: int
) -> tuple[Model, nnx.Optimizer[Model]]:
    """Goes on to a step."""
    model, optimizer = training
    while optimizer.step[...] < last:
        train_step(model, optimizer, *batch(int(optimizer.step[...])))
    return training


def main() -> None:
    """Trains, saves, resumes and compares."""
    path = directory() / f"step_{HALF}"
    uninterrupted = nnx.state(train(initial(), WHOLE))

    model, optimizer = train(initial(), HALF)
    # [docs]
    # The model and its optimizer in one `State`; what modules share is in it once.
    sealwax.save(path, nnx.state((model, optimizer)))
    graph, template = nnx.split(nnx.eval_shape(initial))
    model, optimizer = nnx.merge(graph, sealwax.load(path, template))
    # [/docs]
    report(path, nnx.state(train((model, optimizer), WHOLE)), uninterrupted)

    path = path.with_name(f"objects_{HALF}")
    model, optimizer = train(initial(), HALF)
    # [docs]
    # Modules and optimizers are pytrees too, and may be saved as they are.
    sealwax.save(path, (model, optimizer))
    model, optimizer = sealwax.load(path, nnx.eval_shape(initial))
    # [/docs]
    assert isinstance(model, Model)
    report(path, nnx.state(train((model, optimizer), WHOLE)), uninterrupted)


if __name__ == "__main__":
    main()
