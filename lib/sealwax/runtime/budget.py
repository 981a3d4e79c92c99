"""A byte budget: how much may be in flight at once."""

from __future__ import annotations

import collections

import anyio


class Budget:
    """Lends bytes, first come, first served.

    A request larger than the whole budget is granted alone, so that no size is refused and none
    waits for ever. ``limit=None`` grants everything at once.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.lent = 0
        self.peak = 0
        self._waiting: collections.deque[tuple[int, anyio.Event]] = collections.deque()

    async def acquire(self, nbytes: int) -> None:
        """Waits until ``nbytes`` can be lent, then lends them."""
        if nbytes == 0:
            return
        if not self._waiting and self._fits(nbytes):
            self._lend(nbytes)
            return
        granted = anyio.Event()
        self._waiting.append((nbytes, granted))
        try:
            await granted.wait()
        except BaseException:
            if granted.is_set():
                self.release(nbytes)
            else:
                self._waiting.remove((nbytes, granted))
                self._grant()
            raise

    def release(self, nbytes: int) -> None:
        """Takes ``nbytes`` back and serves those who wait."""
        self.lent -= nbytes
        self._grant()

    def _fits(self, nbytes: int) -> bool:
        return self.limit is None or self.lent == 0 or self.lent + nbytes <= self.limit

    def _lend(self, nbytes: int) -> None:
        self.lent += nbytes
        self.peak = max(self.peak, self.lent)

    def _grant(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            nbytes, granted = self._waiting.popleft()
            self._lend(nbytes)
            granted.set()
