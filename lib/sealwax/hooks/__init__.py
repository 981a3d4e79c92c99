"""Saving and recording from inside compiled programs.

>>> import jax, jax.numpy as jnp, sealwax
>>> run, start = getfixture("tmp_path"), {"w": jnp.zeros(2)}
>>> with sealwax.hooks.Saver(run, start, every=5) as saver:
...     def body(state, step):
...         state = {"w": state["w"] + 1}
...         saver(state, step=step)
...         return state, None
...     end, _ = jax.jit(lambda state: jax.lax.scan(body, state, jnp.arange(1, 11)))(start)
>>> saver.steps(), saver.restore(5)["w"]
((5, 10), Array([5., 5.], dtype=float32))
"""

from sealwax.hooks.best import Best
from sealwax.hooks.recorder import Recorder, Row
from sealwax.hooks.saver import Saver

__all__ = [
    "Best",
    "Recorder",
    "Row",
    "Saver",
]


def __dir__() -> list[str]:
    return __all__
