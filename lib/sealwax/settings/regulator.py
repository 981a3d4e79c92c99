"""A PID controller of the transfer budget, and the handle on what it remembers.

``step`` is a pure function from what the controller knows and one reading to what it knows next.
It steers the peak of the host's memory towards a share of the whole. A surge that is expected for
one save lowers the limit of that save and leaves the controller's course alone; while it lasts the
course may only fall.
"""

from __future__ import annotations

import dataclasses
import math

GIB = 1 << 30
_WINDUP = 50.0 * GIB
"""The most that the integral may grow to, in either direction."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What a controller aims at, and how hard it steers.

    Attributes:
      least: Smallest limit, in bytes, and the first one.
      most: Largest limit, in bytes.
      target_ratio: The share of the host's memory that its peak is to have.
      kp: Weight of the distance to the target.
      ki: Weight of the sum of earlier distances.
      kd: Weight of the change since the last one.
    """

    least: float
    most: float
    target_ratio: float
    kp: float
    ki: float
    kd: float

    def clamped(self, limit: float) -> float:
        """The nearest limit that is allowed."""
        return max(self.least, min(self.most, limit))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was measured around the last save, and is expected of the next; all in bytes.

    Attributes:
      peak: The most host memory that was in use; 0 when nothing was measured yet.
      total: All the memory that the host has.
      surge: How much more than usual the next save needs elsewhere.
    """

    peak: float
    total: float
    surge: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether these can be measurements; an infinite surge can be expected."""
        measured = math.isfinite(self.peak) and math.isfinite(self.total)
        return measured and self.peak > 0 and self.total > 0 and self.surge >= 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a controller remembers, in bytes.

    Attributes:
      course: The limit where no surge is expected.
      integral: The sum of earlier distances to the target, kept within bounds.
      error: The last distance.
      surge: What is expected for the save at hand.
    """

    course: float
    integral: float = 0.0
    error: float = 0.0
    surge: float = 0.0

    def limit(self, tuning: Tuning) -> int:
        """The transfer budget of the save at hand, in bytes."""
        return int(tuning.clamped(self.course - self.surge))


def step(tuning: Tuning, state: State, reading: Reading) -> State:
    """What a controller knows after one reading.

    >>> tuning = Tuning(least=10, most=100, target_ratio=0.5, kp=0.5, ki=0.0, kd=0.0)
    >>> state = step(tuning, State(course=10), Reading(peak=40, total=200))
    >>> state.limit(tuning)
    40
    >>> state = step(tuning, state, Reading(peak=100, total=200, surge=25))
    >>> state.limit(tuning)
    15
    >>> step(tuning, state, Reading(peak=100, total=200)).limit(tuning)
    40
    """
    surge = reading.surge if reading.surge >= 0 else 0.0
    if not reading.sound:
        return dataclasses.replace(state, surge=surge)
    error = reading.total * tuning.target_ratio - reading.peak
    change = tuning.kp * error + tuning.ki * state.integral + tuning.kd * (error - state.error)
    if reading.peak > reading.total:
        # Beyond all there is, what matters is to get below it again.
        change = min(change, reading.total - reading.peak)
    if surge:
        course = tuning.clamped(state.course + min(0.0, change))
        return dataclasses.replace(state, course=course, surge=surge)
    return State(
        course=tuning.clamped(state.course + change),
        integral=max(-_WINDUP, min(_WINDUP, state.integral + error)),
        error=error,
    )


class Regulator:
    """A handle on a controller's state: all that shares one set of regulator options shares it.

    >>> Regulator(Tuning(least=10, most=100, target_ratio=0.5, kp=1, ki=0, kd=0))
    Regulator(current_limit_bytes=10)
    """

    __slots__ = ("state", "tuning")

    def __init__(self, tuning: Tuning) -> None:
        self.tuning = tuning
        self.state = State(course=tuning.least)

    @property
    def current_limit_bytes(self) -> int:
        """The transfer budget of the last save, or the first one's, in bytes."""
        return self.state.limit(self.tuning)

    def update(self, reading: Reading) -> int:
        """Takes one step; returns the transfer budget of the next save, in bytes."""
        self.state = step(self.tuning, self.state, reading)
        return self.current_limit_bytes

    def __repr__(self) -> str:
        return f"Regulator(current_limit_bytes={self.current_limit_bytes})"
