"""``throttle``: a handler that keeps what is read and written below a rate."""

from __future__ import annotations

import heapq
import itertools
import threading
import weakref
from collections.abc import Iterable
from typing import Any, cast

import anyio

from sealwax.effect_handlers.clock import REAL, Clock
from sealwax.effects import Effect, ReadEntries, ReadFile
from sealwax.effects.nature import traffic
from sealwax.errors import OptionValueError
from sealwax.runtime import meter
from sealwax.runtime.handlers import Forward, Handler
from sealwax.runtime.moments import Moment

_BURST_SECONDS = 0.1


class Bucket:
    """Tokens, one for each byte, that come at a steady rate; at most ``burst`` are kept."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._paid = now - burst / rate

    def wait(self, nbytes: int, now: float) -> float:
        """Seconds until as many tokens as ``nbytes`` are there; takes them in advance."""
        self._paid = max(self._paid, now - self.burst / self.rate) + nbytes / self.rate
        return max(self._paid - now, 0.0)

    def give_back(self, nbytes: int) -> None:
        """Returns tokens that were not used."""
        self._paid -= nbytes / self.rate


class _Waiter:
    """An effect that waits for its turn."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.turn = Moment("throttle")


class Queue:
    """Who is served next, by start-time fair queueing: operations get equal shares of the bytes.

    Each effect is stamped with the share at which its operation's earlier ones end, or with the
    share that is being served if that is more; the smallest stamp is next. An operation with many
    effects in the queue thus does not keep another one waiting for all of them.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Waiter]] = []
        self._numbers = itertools.count()
        self._ends: weakref.WeakKeyDictionary[object, float] = weakref.WeakKeyDictionary()
        self._share = 0.0
        self._serving: _Waiter | None = None

    def enter(self, operation: object, waiter: _Waiter) -> None:
        """Lines up."""
        start = max(self._share, self._ends.get(operation, 0.0))
        self._ends[operation] = start + waiter.nbytes
        heapq.heappush(self._heap, (start, next(self._numbers), waiter))
        if self._serving is None:
            self._next()

    def leave(self, waiter: _Waiter) -> None:
        """Lets the next one in, or gives up the place in the line."""
        if self._serving is waiter:
            self._next()
        else:
            self._heap = [entry for entry in self._heap if entry[2] is not waiter]
            heapq.heapify(self._heap)

    def _next(self) -> None:
        self._serving = None
        if self._heap:
            self._share, _, self._serving = heapq.heappop(self._heap)
            self._serving.turn.set()


class _Nobody:
    """Stands for the operations that have no plan yet."""


class Throttle(Handler):
    """Lets an effect begin when the rate allows its bytes; see ``throttle``."""

    def __init__(
        self, bytes_per_second: float, *, reads: bool, writes: bool, burst: float, clock: Clock
    ) -> None:
        self.bytes_per_second = bytes_per_second
        self._reads = reads
        self._writes = writes
        self._clock = clock
        self._bucket = Bucket(bytes_per_second, burst, clock.now())
        self._queue = Queue()
        self._nobody = _Nobody()
        # Operations that share the handler may run in threads and event loops of their own.
        self._lock = threading.Lock()

    async def perform(self, effect: Effect, forward: Forward) -> Any:
        """Waits for the effect's bytes, then performs it."""
        amount = traffic(effect)
        await self._pass(self._reads * amount.read + self._writes * amount.written)
        answer = await forward(effect)
        if self._reads:
            await self._pass(_told_by_answer(effect, answer))
        return answer

    async def _pass(self, nbytes: int) -> None:
        if not nbytes:
            return
        waiter = _Waiter(nbytes)
        with self._lock:
            self._queue.enter(meter.current() or self._nobody, waiter)
        try:
            await waiter.turn.reached()
            with self._lock:
                wait = self._bucket.wait(nbytes, self._clock.now())
            try:
                await self._clock.sleep(wait)
            except anyio.get_cancelled_exc_class():
                with self._lock:
                    self._bucket.give_back(nbytes)
                raise
        finally:
            with self._lock:
                self._queue.leave(waiter)


def _told_by_answer(effect: Effect, answer: object) -> int:
    """The bytes that were read where only the answer tells how many."""
    match effect, answer:
        case ReadFile(), bytes():
            return len(answer)
        case ReadEntries(), list() | tuple():
            values = cast("Iterable[bytes | None]", answer)
            return sum(len(value) for value in values if value is not None)
        case _:
            return 0


def throttle(
    bytes_per_second: float,
    *,
    reads: bool = True,
    writes: bool = True,
    burst: float | None = None,
    clock: Clock = REAL,
) -> Throttle:
    """A handler that leaves bandwidth to others: it limits the bytes read and written per second.

    One handler is one limit. All operations that were called inside its block, or that share it
    otherwise, have equal parts of it, whatever thread or event loop they run in. To limit reading
    and writing each by itself, nest two.

    An effect begins once its bytes have been waited for. It is not divided: a large array moves
    in pieces of up to 64 MiB. Bytes count before compression.

    Args:
      bytes_per_second: The limit.
      reads: Whether bytes that are read count.
      writes: Whether bytes that are written count.
      burst: Bytes that may be moved at once after a pause; a tenth of a second's by default.
      clock: What to wait by; tests pass ``sealwax.testing.VirtualClock()``.

    Raises:
      OptionValueError: The limit is not positive, or the burst is negative.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> with ocp.effect_handlers.throttle(50e6):
    ...     ocp.save(path, {"w": np.zeros(1000)})
    """
    if not bytes_per_second > 0:
        raise OptionValueError(
            "A limit must be positive", expected="bytes per second", found=repr(bytes_per_second)
        )
    if burst is None:
        burst = bytes_per_second * _BURST_SECONDS
    if not burst >= 0:
        raise OptionValueError("A burst cannot be negative", expected="bytes", found=repr(burst))
    return Throttle(bytes_per_second, reads=reads, writes=writes, burst=burst, clock=clock)
