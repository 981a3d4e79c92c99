"""The clock that handlers wait by, so that tests need not wait."""

from __future__ import annotations

import threading
import time

import anyio
import anyio.lowlevel


class Clock:
    """Time that passes by itself, in seconds."""

    def now(self) -> float:
        """Seconds since some moment; they never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await anyio.sleep(seconds)


class VirtualClock(Clock):
    """Time that passes only when somebody waits for it, and then at once.

    >>> clock = VirtualClock()
    >>> import anyio
    >>> anyio.run(clock.sleep, 3600.0)
    >>> clock.now()
    3600.0
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Seconds waited for so far."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Lets the time pass."""
        await anyio.lowlevel.checkpoint()
        with self._lock:
            self._now += max(seconds, 0.0)


REAL = Clock()
