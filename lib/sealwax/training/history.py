"""The steps of a run as values: what was saved when, with which metrics."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, cast, overload

from sealwax.errors import ArgumentTypeError, ArgumentValueError, StepNotFoundError
from sealwax.planning.steps import as_step

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class StepInfo(Protocol):
    """What policies see of a step: a ``Step``, or what Orbax passes."""

    @property
    def step(self) -> int:
        """Its number."""
        ...

    @property
    def time(self) -> datetime.datetime:
        """When it was sealed; of one that is to be decided on, now."""
        ...

    @property
    def metrics(self) -> Any:
        """Its metrics, or ``None``."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a run.

    Attributes:
      step: Its number.
      time_nsecs: When it was sealed, in nanoseconds since the epoch.
      path: Its directory, or ``None`` where it has none yet.
      metrics: What was measured, as JSON holds it, or ``None``.
      custom_metadata: The caller's own metadata.
      items: Names of its checkpointables; empty where they are not known.
      nbytes: What it takes on disk, or ``None`` where that is not known.

    >>> Step(step=100, time_nsecs=1_700_000_000 * 10**9, metrics={"loss": 0.5}).time.isoformat()
    '2023-11-14T22:13:20+00:00'
    """

    step: int
    time_nsecs: int = 0
    path: Any = None
    metrics: Any = dataclasses.field(default=None, hash=False)
    custom_metadata: Any = dataclasses.field(default=None, hash=False)
    items: frozenset[str] = frozenset()
    nbytes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", as_step(self.step))
        object.__setattr__(self, "items", frozenset(self.items))
        # A training loop goes on to fill the dict that it passed.
        for name in ("metrics", "custom_metadata"):
            object.__setattr__(self, name, copy.deepcopy(getattr(self, name)))

    @property
    def time(self) -> datetime.datetime:
        """When it was sealed, in UTC, to the microsecond."""
        return EPOCH + datetime.timedelta(microseconds=self.time_nsecs // 1000)

    @property
    def commit_timestamp_nsecs(self) -> int:
        """When it was sealed, under the name that Orbax has for it."""
        return self.time_nsecs

    @property
    def commit_timestamp(self) -> datetime.datetime:
        """When it was sealed, under the name that Orbax has for it."""
        return self.time


@dataclasses.dataclass(frozen=True, slots=True)
class History(Sequence[Step]):
    """The steps of a run, ascending, each number once.

    Of two with one number the later in ``steps`` counts. It is a sequence, so that policies that
    were written for Orbax take it.

    >>> run = History([Step(step=2, metrics={"loss": 0.1}), Step(step=1, metrics={"loss": 0.3})])
    >>> run.numbers, run.latest.step, run.best("loss", mode="min").step
    ((1, 2), 2, 2)
    """

    steps: tuple[Step, ...]

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        by_number = {each.step: each for each in steps}
        ordered = tuple(by_number[number] for number in sorted(by_number))
        object.__setattr__(self, "steps", ordered)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the steps, ascending."""
        return tuple(each.step for each in self.steps)

    @property
    def latest(self) -> Step | None:
        """The step with the highest number, or ``None``."""
        return self.steps[-1] if self.steps else None

    def at(self, number: int) -> Step:
        """The step of this number.

        Raises:
          StepNotFoundError: There is none.
        """
        for each in self.steps:
            if each.step == number:
                return each
        raise StepNotFoundError(
            f"There is no step {number}",
            step=number,
            found=f"steps {', '.join(map(str, self.numbers[-5:]))}" if self.steps else "no step",
        )

    def before(self, number: int) -> History:
        """The steps of lower numbers."""
        return History(each for each in self.steps if each.step < number)

    def including(self, step: Step) -> History:
        """These and one more, which takes the place of the one of its number."""
        return History((*self.steps, step))

    def without(self, *numbers: int) -> History:
        """These except those of some numbers."""
        return History(each for each in self.steps if each.step not in numbers)

    def best(self, metric: Metric, *, mode: str = "max") -> Step | None:
        """The step with the highest value of a metric, or with ``mode="min"`` the lowest.

        Steps without it, or where it is not a number, do not count; the latest of several wins.

        Args:
          metric: Its name, or a function from a step's metrics to a number.
          mode: ``"max"`` or ``"min"``.

        Returns:
          That step, or ``None`` if no step has the metric.
        """
        sign = sign_of(mode)
        found, top = None, -math.inf
        for each in self.steps:
            value = metric_of(each, metric)
            if value is not None and sign * value >= top:  # Which no NaN is.
                found, top = each, sign * value
        return found

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | Sequence[Step]:
        return self.steps[index]

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)


Metric: TypeAlias = str | Callable[[Any], float]
"""The name of a metric, or a function from a step's metrics to a number."""


def sign_of(mode: str) -> int:
    """What to multiply a metric with, so that more is better.

    Raises:
      ArgumentValueError: ``mode`` is neither ``"max"`` nor ``"min"``.
    """
    if mode not in ("max", "min"):
        raise ArgumentValueError(
            "The mode says whether the highest or the lowest is the best",
            expected="'max' or 'min'",
            found=repr(mode),
        )
    return 1 if mode == "max" else -1


def metric_of(step: StepInfo, metric: Metric) -> float | None:
    """The value of a metric of one step; ``None`` where the step has no such metric.

    Raises:
      ArgumentTypeError: What is there is no number.
    """
    metrics: Any = step.metrics
    named = isinstance(cast("object", metrics), Mapping)
    if metrics is None or (isinstance(metric, str) and not named):
        return None
    try:
        value: Any = metrics[metric] if isinstance(metric, str) else metric(metrics)
    except KeyError:
        return None
    try:
        return None if value is None else float(value)
    except OverflowError:
        return math.inf if cast("int", value) > 0 else -math.inf
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(
            f"The metric of step {step.step} is not a number", found=repr(value)
        ) from error
