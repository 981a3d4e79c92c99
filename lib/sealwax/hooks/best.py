"""``Best``: the best value of a loop so far, carried in its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax as _jax
import numpy as np

if TYPE_CHECKING:
    import dataclasses as chex
else:
    import chex

jax: Any = _jax


@chex.dataclass(frozen=True)
class Best:
    """The least value so far and its step, for hooks that save what is better than all before.

    Less is better: give it the negative of what is to be high. NaN is never better.

    Attributes:
      value: The least value so far, float32 of shape ().
      step: The step that it is of, int32 of shape (); -1 before any.

    >>> import jax.numpy as jnp
    >>> best = Best.start()
    >>> best, better = best.update(jnp.float32(0.5), step=3)
    >>> bool(better), int(best.step)
    (True, 3)
    """

    value: Any
    step: Any

    @classmethod
    def start(cls) -> Best:
        """Nothing yet: any number is better, but for infinity."""
        return cls(value=jax.numpy.float32(np.inf), step=jax.numpy.int32(-1))

    def update(self, value: Any, *, step: Any) -> tuple[Best, Any]:
        """Looks at the value of a step.

        Args:
          value: A number, which may be traced, of shape ().
          step: The number of its step.

        Returns:
          The best so far, and whether it is this one.
        """
        new = jax.lax.stop_gradient(jax.numpy.asarray(value).astype(np.float32))
        better = new < self.value
        number = jax.numpy.asarray(step).astype(np.int32)
        where = jax.numpy.where
        found = Best(value=where(better, new, self.value), step=where(better, number, self.step))
        return found, better
