"""Deadlines that come when a test wants them, however slow the machine is that runs it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anyio
import anyio.lowlevel
import trio.lowlevel

from sealwax.runtime import watch
from tests.gates import Gate


class _Clock:
    """The real one, and what it was put forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


# For good: only differences count, and to whoever runs it is as if the machine had slept.
watch.time = _clock = _Clock()  # type: ignore[assignment]


def put_forward(seconds: float) -> None:
    """Lets time pass, at once, for the deadlines of operations in the event loop that runs here."""
    _clock.ahead += seconds
    try:
        loop: Any = asyncio.get_running_loop()
    except RuntimeError:
        clock: Any = trio.lowlevel.current_clock()
        object.__setattr__(clock, "offset", clock.offset + seconds)  # it is frozen
    else:
        loop.time = lambda now=loop.time: now() + seconds


class Late(Gate):
    """A gate at which time passes, once nothing else of the operation is under way.

    Args:
      kinds: The effects that it holds.
      seconds: How long it takes each of them.
    """

    def __init__(self, *kinds: type[Any], seconds: float) -> None:
        super().__init__(*kinds)
        self._seconds = seconds
        self._others = 0

    async def perform(self, effect: Any, forward: Any) -> Any:
        if isinstance(effect, self._kinds):
            await anyio.wait_all_tasks_blocked()
            while self._others:  # in threads, and what follows them is not blocked
                await anyio.sleep(0.001)
                await anyio.wait_all_tasks_blocked()
            await self.take(self._seconds)
            return await super().perform(effect, forward)
        self._others += 1
        try:
            return await forward(effect)
        finally:
            self._others -= 1

    async def take(self, seconds: float) -> None:
        """Lets the time pass."""
        put_forward(seconds)
