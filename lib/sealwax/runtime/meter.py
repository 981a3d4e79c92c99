"""How far an operation is: counts that any thread may read, and that others may follow."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import enum
from collections.abc import Callable, Generator, Sequence
from typing import Any, cast

import numpy as np

from sealwax.effects import Allocate, Derive, Effect, Plan, Stage, Step


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an operation is, at one moment.

    Attributes:
      bytes_done: Bytes that were written or read, before compression.
      bytes_total: Those that will be.
      effects_done: Effects that were performed.
      effects_total: Those that will be.
      host_bytes: Host memory that it holds now, beside what it was given.
      peak_host_bytes: The most that it held so far; ``Plan.peak_host_bytes`` foretells it.
    """

    bytes_done: int = 0
    bytes_total: int = 0
    effects_done: int = 0
    effects_total: int = 0
    host_bytes: int = 0
    peak_host_bytes: int = 0

    @property
    def fraction(self) -> float:
        """Between 0 and 1, by bytes where there are any, else by effects."""
        done, total = self.bytes_done, self.bytes_total
        if not total:
            done, total = self.effects_done, self.effects_total
        return done / total if total else 0.0


class State(enum.Enum):
    """Where an operation stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Meter:
    """Counts the steps of one operation as they are done.

    Attributes:
      now: How far it is.
      state: Where it stands.
      title: What is done, such as ``save``.
      path: Where.
    """

    def __init__(self) -> None:
        self.now = Progress()
        self.state = State.RUNNING
        self.title = ""
        self.path = ""
        self._followers: list[Callable[[Meter], object]] = []

    def follow(self, function: Callable[[Meter], object]) -> None:
        """Calls a function now and at every change, in the thread where it happens."""
        if function not in self._followers:
            self._followers.append(function)
            function(self)

    def start(self, plan: Plan) -> None:
        """Sets the totals."""
        self.title, self.path = plan.title, plan.path
        self._change(Progress(bytes_total=plan.bytes, effects_total=plan.effects), State.RUNNING)

    def advance(self, step: Step) -> None:
        """Counts one step."""
        if not isinstance(step.effect, Derive):
            now = dataclasses.replace(
                self.now,
                bytes_done=self.now.bytes_done + step.writes + step.reads,
                effects_done=self.now.effects_done + 1,
            )
            self._change(now, self.state)

    def hold(self, nbytes: int) -> None:
        """Counts host memory that is taken, or given back where ``nbytes`` is below 0."""
        if nbytes:
            held = self.now.host_bytes + nbytes
            peak = max(self.now.peak_host_bytes, held)
            self.now = dataclasses.replace(self.now, host_bytes=held, peak_host_bytes=peak)

    def stop(self, state: State) -> None:
        """Tells how it ended."""
        self._change(self.now, state)

    def _change(self, now: Progress, state: State) -> None:
        self.now, self.state = now, state
        for function in self._followers:
            function(self)


_current: contextvars.ContextVar[Meter | None] = contextvars.ContextVar(
    "sealwax.meter", default=None
)


def current() -> Meter | None:
    """The meter of the operation whose effect is being performed.

    It tells operations apart; while one still observes and has no plan, there is none.
    """
    return _current.get()


@contextlib.contextmanager
def metering(meter: Meter, plan: Plan) -> Generator[None]:
    """Makes ``meter`` the current one while ``plan`` is executed, from its start to its end."""
    token = _current.set(meter)
    state = State.FAILED
    try:
        meter.start(plan)
        yield
        state = State.DONE
    finally:
        _current.reset(token)
        meter.stop(state)


def owned_bytes(effect: Effect, answer: Any, otherwise: int) -> int:
    """Host memory that an answer takes of its own: views of what was there before take none."""
    match effect:
        case Stage():
            arrays = cast("Sequence[np.ndarray[Any, Any]]", answer or ())
            return sum(array.nbytes for array in arrays if array.base is None)
        case Allocate():
            arrays = cast("Sequence[np.ndarray[Any, Any]]", answer or ())
            return sum(array.nbytes for array in arrays)
        case _:
            return otherwise
