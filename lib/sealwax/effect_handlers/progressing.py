"""``progress``: a handler that shows how far operations are."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

from sealwax.effect_handlers.clock import REAL, Clock
from sealwax.effects import Effect
from sealwax.effects.wording import size
from sealwax.runtime import meter
from sealwax.runtime.handlers import Forward, Handler
from sealwax.runtime.meter import Meter, Progress, State

_log = logging.getLogger("sealwax")
_TERMINAL_SECONDS = 0.1
_PLAIN_SECONDS = 10.0
_BAR = 24
_WIPE = "\r\x1b[2K"
_UP = "\x1b[A"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How far one operation is, and how fast it is going.

    Attributes:
      title: What is done, such as ``save``.
      path: Where.
      state: Whether it is running, done or failed.
      progress: Counts of bytes and effects.
      seconds: Time since it started.
    """

    title: str
    path: str
    state: State
    progress: Progress
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        """The mean rate so far; 0 at the start."""
        return self.progress.bytes_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate, from the mean rate; ``None`` while nothing is known."""
        done = self.progress.fraction
        return self.seconds * (1 - done) / done if done > 0 else None

    def __str__(self) -> str:
        now = self.progress
        amount = f"{size(now.bytes_done)} of {size(now.bytes_total)}"
        rate = f"{size(round(self.bytes_per_second))}/s"
        match self.state:
            case State.RUNNING:
                left = self.seconds_left
                rest = "" if left is None else f", {_time(left)} left"
                return f"{self.title} {self.path}: {now.fraction:4.0%}, {amount}, {rate}{rest}"
            case State.DONE:
                took = f"{size(now.bytes_total)} in {_time(self.seconds)}"
                return f"{self.title} {self.path}: {took}, {rate}"
            case State.FAILED:
                return f"{self.title} {self.path}: failed after {amount}"


def _time(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Bars:
    """A bar on a stream: redrawn in place on a terminal, else a line now and then.

    What is written is best effort: a stream that is closed or broken is no reason to fail.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.terminal = stream.isatty()
        self._drawn = 0

    def show(self, running: list[Status], ended: Status | None = None) -> None:
        """Draws the operations that are running, below a last line for one that has ended."""
        last = [] if ended is None or self._vanishes(ended) else [str(ended)]
        if not self.terminal:
            self._write("".join(f"{line}\n" for line in last or map(str, running)))
            return
        width = shutil.get_terminal_size().columns - 1
        lines = [*(line[:width] for line in last), *(_bar(status, width) for status in running)]
        clear = _WIPE + (_UP + _WIPE) * self._drawn
        self._drawn = len(running)
        self._write(clear + "".join(f"{line}\n" for line in lines))

    def _vanishes(self, ended: Status) -> bool:
        """Whether nothing is left of an operation: its failure is told by its error."""
        return self.terminal and ended.state is State.FAILED

    def _write(self, text: str) -> None:
        if text:
            with contextlib.suppress(OSError, ValueError):
                self.stream.write(text)
                self.stream.flush()


def _bar(status: Status, width: int) -> str:
    full = round(_BAR * min(status.progress.fraction, 1.0))
    return f"[{'#' * full}{'.' * (_BAR - full)}] {status}"[:width]


class ProgressHandler(Handler):
    """Follows the operations whose effects pass; see ``progress``."""

    def __init__(
        self,
        bars: Bars | None,
        callback: Callable[[Status], object] | None,
        every: float,
        clock: Clock,
    ) -> None:
        self._bars = bars
        self._callback = callback
        self._every = every
        self._clock = clock
        self._lock = threading.Lock()
        self._started: dict[Meter, float] = {}
        self._drawn = clock.now()

    async def perform(self, effect: Effect, forward: Forward) -> Any:
        """Lets the effect pass."""
        operation = meter.current()
        if operation is not None:
            operation.follow(self._changed)
        return await forward(effect)

    def _changed(self, operation: Meter) -> None:
        with self._lock:
            now = self._clock.now()
            start = self._started.setdefault(operation, now)
            status = _status(operation, now - start)
            ended = operation.state is not State.RUNNING
            if ended:
                del self._started[operation]
            if self._bars is not None and (ended or now - self._drawn >= self._every):
                self._drawn = now
                running = [_status(each, now - begun) for each, begun in self._started.items()]
                self._bars.show(running, status if ended else None)
        if self._callback is not None:
            try:
                self._callback(status)
            except Exception:
                _log.exception("A progress callback failed; the %s goes on.", operation.title)


def _status(operation: Meter, seconds: float) -> Status:
    return Status(
        title=operation.title,
        path=operation.path,
        state=operation.state,
        progress=operation.now,
        seconds=seconds,
    )


def progress(
    stream: TextIO | None = None,
    *,
    callback: Callable[[Status], object] | None = None,
    every: float | None = None,
    clock: Clock = REAL,
) -> ProgressHandler:
    """A handler that shows how far saves and loads are, how fast they go and how long they take.

    On a terminal there is a bar for each operation that runs; a line is left when it is done, and
    nothing when it failed. Elsewhere a line is written now and then and one at the end.

    Args:
      stream: Where to write; standard error by default.
      callback: Called with a ``Status`` at every step, in the thread that runs the operation.
        Without a ``stream`` nothing is written then.
      every: Seconds between two drawings; 0.1 on a terminal and 10 elsewhere.
      clock: What to measure with; tests pass ``sealwax.testing.VirtualClock()``.

    >>> import numpy as np, sealwax as ocp
    >>> seen = []
    >>> with ocp.effect_handlers.progress(callback=seen.append):
    ...     ocp.save(getfixture("tmp_path") / "ckpt", {"w": np.zeros(1000)})
    >>> seen[-1].state.value, seen[-1].progress.bytes_done
    ('done', 8000)
    """
    # There is no standard error in a process without a console.
    wanted: TextIO | None = sys.stderr if stream is None and callback is None else stream
    bars = Bars(wanted) if wanted is not None else None
    if every is None:
        every = _TERMINAL_SECONDS if bars is not None and bars.terminal else _PLAIN_SECONDS
    return ProgressHandler(bars, callback, every, clock)
