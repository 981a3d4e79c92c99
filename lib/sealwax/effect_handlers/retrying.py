"""``retry``: a handler that tries again what failed for a while, where that is safe."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterable
from typing import Any

import anyio

from sealwax.effect_handlers.clock import REAL, Clock
from sealwax.effects import Effect
from sealwax.effects.nature import obstacle
from sealwax.errors import OptionValueError
from sealwax.runtime.handlers import Forward, Handler

TRANSIENT = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
"""The numbers of errors that may be over after a while."""


class Retry(Handler):
    """Tries failed effects again; see ``retry``. ``repeats`` counts how often it did."""

    def __init__(
        self,
        times: int,
        *,
        first: float,
        factor: float,
        most: float,
        jitter: float,
        on: frozenset[int | type[Exception]],
        clock: Clock,
    ) -> None:
        self.repeats = 0
        self._times = times
        self._first = first
        self._factor = factor
        self._most = most
        self._jitter = jitter
        self._numbers = on
        self._kinds = tuple(kind for kind in on if isinstance(kind, type))
        self._clock = clock

    async def perform(self, effect: Effect, forward: Forward) -> Any:
        """Performs the effect, again where it fails."""
        notes: list[str] = []
        while True:
            try:
                return await forward(effect)
            except Exception as error:
                if not self._passes(error):
                    raise
                reason = self._reason(effect, len(notes))
                if reason is not None:
                    for note in (*notes, f"Not tried again: {reason}."):
                        error.add_note(note)
                    raise
                delay = self._delay(len(notes))
                notes.append(f"Try {len(notes) + 1} failed: {error}; the next was {delay:.3g} s on")
            self.repeats += 1
            await self._clock.sleep(delay)

    def _passes(self, error: Exception) -> bool:
        return isinstance(error, self._kinds) or (
            isinstance(error, OSError) and error.errno in self._numbers
        )

    def _reason(self, effect: Effect, repeats: int) -> str | None:
        """Why there is no further try, or ``None`` when there is one."""
        hindrance = obstacle(effect)
        if hindrance is not None:
            return hindrance
        if repeats >= self._times:
            return f"it failed {repeats + 1} times"
        if anyio.current_time() + self._longest(repeats) >= anyio.current_effective_deadline():
            return "the operation's deadline comes first"
        return None

    def _delay(self, repeats: int) -> float:
        return self._longest(repeats) * (1 - self._jitter * random.random())

    def _longest(self, repeats: int) -> float:
        delay = self._first
        for _ in range(repeats):
            if delay >= self._most:
                break
            delay *= self._factor
        return min(delay, self._most)


def retry(
    times: int = 5,
    *,
    first: float = 0.1,
    factor: float = 2.0,
    most: float = 10.0,
    jitter: float = 0.5,
    on: Iterable[int | type[Exception]] = TRANSIENT,
    clock: Clock = REAL,
) -> Retry:
    """A handler that tries again what failed, if the error may be over and repeating it is safe.

    Looking, reading, moving data between host and devices, making parents and removing what was
    abandoned are repeated. Writing, syncing and sealing never are: after a failed ``fsync`` the
    system may have dropped what it could not write, and a second one then succeeds without it. A
    save whose writing failed is called again as a whole; it starts in a new directory.

    What is given up keeps its own error, with a note for every try and the reason. A try that
    would start only after the operation's deadline is not waited for; cancellation ends it.

    Args:
      times: How often an effect is repeated at most.
      first: Seconds before the first repetition.
      factor: By how much each wait is longer than the one before it.
      most: Seconds that a wait is at most.
      jitter: The part of each wait that is left to chance, from 0 to 1, so that many processes
        do not come back together.
      on: The numbers (``errno.EIO``) and types of the errors that are worth it.
      clock: What to wait by; tests pass ``sealwax.testing.VirtualClock()``.

    Raises:
      OptionValueError: A number is outside its range.

    >>> import errno, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"step": 1})
    >>> stale = OSError(errno.ESTALE, "Stale file handle")
    >>> flaky = ocp.effect_handlers.inject(ocp.effects.ReadFile, nth=0, error=stale)
    >>> with flaky, ocp.effect_handlers.retry(first=0.01) as retries:
    ...     ocp.load(path)
    {'step': 1}
    >>> retries.repeats
    1
    """
    for name, value, least, limit in (
        ("times", times, 0, None),
        ("first", first, 0, None),
        ("factor", factor, 1, None),
        ("most", most, 0, None),
        ("jitter", jitter, 0, 1),
    ):
        if not value >= least or (limit is not None and value > limit):
            wanted = f"at least {least}" + (f" and at most {limit}" if limit is not None else "")
            raise OptionValueError(
                f"{name} is out of its range", expected=wanted, found=repr(value)
            )
    return Retry(
        times, first=first, factor=factor, most=most, jitter=jitter, on=frozenset(on), clock=clock
    )
