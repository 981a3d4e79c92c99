"""``inject``: a handler that fails, delays or kills at a chosen effect."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import anyio

from sealwax.effects import Effect
from sealwax.runtime.handlers import Forward, Handler

Moment: TypeAlias = Literal["before", "after"]
Where: TypeAlias = int | type[Any] | Callable[[Effect], bool]


class Inject(Handler):
    """Does something to one effect, or to all that fit; the others pass.

    ``hits`` counts how often it struck, and ``seen`` how many effects passed by.
    """

    def __init__(
        self,
        at: Where,
        *,
        error: BaseException | None = None,
        delay: float = 0.0,
        kill: bool = False,
        moment: Moment = "before",
    ) -> None:
        self.at = at
        self.error = error
        self.delay = delay
        self.kill = kill
        self.moment: Moment = moment
        self.seen = 0
        self.hits = 0
        self._lock = threading.Lock()

    async def perform(self, effect: Effect, forward: Forward) -> Any:
        """Strikes before or after the effect is performed, if it is one to strike at."""
        with self._lock:
            number = self.seen
            self.seen += 1
        if not self._fits(effect, number):
            return await forward(effect)
        if self.moment == "before":
            await self._strike()
            return await forward(effect)
        answer = await forward(effect)
        await self._strike()
        return answer

    def _fits(self, effect: Effect, number: int) -> bool:
        if isinstance(self.at, int):
            return number == self.at
        if isinstance(self.at, type):
            return isinstance(effect, self.at)
        return self.at(effect)

    async def _strike(self) -> None:
        self.hits += 1
        if self.delay:
            await anyio.sleep(self.delay)
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.error is not None:
            raise self.error


def inject(
    at: Where,
    *,
    error: BaseException | None = None,
    delay: float = 0.0,
    kill: bool = False,
    moment: Moment = "before",
) -> Inject:
    """A handler that strikes at an effect: by number (from 0), by type, or by predicate.

    Args:
      at: The number of the effect, counted from 0 as they are performed, its type, or a function
        that tells whether to strike at an effect.
      error: Raised there.
      delay: Seconds to wait there.
      kill: Whether to end the process there with SIGKILL.
      moment: Whether to strike before the effect is performed or after.

    >>> import errno, numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> full = OSError(errno.ENOSPC, "No space left on device")
    >>> with ocp.effect_handlers.inject(ocp.effects.WriteBatch, error=full):
    ...     ocp.save(path, {"w": np.zeros(3)})
    Traceback (most recent call last):
    sealwax.errors.StorageError: Could not write leaf 'w' ...
    """
    return Inject(at, error=error, delay=delay, kill=kill, moment=moment)
