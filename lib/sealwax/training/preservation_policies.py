"""Which steps to keep: policies as frozen values, each a pure function of the steps there are.

A policy has ``should_preserve(checkpoints, *, context)``, as in Orbax: those that were written for
either library work in both. Policies are combined with ``any_of``, ``all_of`` and ``not_``, or
``|``, ``&`` and ``~``. What comes of one, ``retain`` tells.

>>> from sealwax.training.history import History, Step
>>> run = History(Step(step=n) for n in range(0, 500, 50))
>>> policy = LatestN(2) | EveryNSteps(200)
>>> [step.step for step, stays in zip(run, policy.should_preserve(run)) if stays]
[0, 200, 400, 450]
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from sealwax.errors import ArgumentTypeError, ArgumentValueError
from sealwax.training.history import Metric, StepInfo, metric_of, sign_of
from sealwax.training.keeping import (
    DELETE,
    NOTHING_KNOWN,
    AllPreservationPolicy,
    AnyPreservationPolicy,
    Combinable,
    Deciding,
    Decision,
    Delete,
    Keep,
    KeepItems,
    NotPreservationPolicy,
    PreservationContext,
    PreservationPolicy,
    all_of,
    any_of,
    decide,
    not_,
)
from sealwax.training.quantities import integer, number

__all__ = [
    "AllPreservationPolicy",
    "AnyPreservationPolicy",
    "BestN",
    "CustomSteps",
    "Decision",
    "Delete",
    "EveryNSeconds",
    "EveryNSteps",
    "EveryNStepsClosest",
    "Keep",
    "KeepItems",
    "LatestDuration",
    "LatestN",
    "NotPreservationPolicy",
    "OnlyItems",
    "PreservationContext",
    "PreservationPolicy",
    "PreserveAll",
    "all_of",
    "any_of",
    "best",
    "not_",
]


def __dir__() -> list[str]:
    return __all__


@dataclasses.dataclass(frozen=True, slots=True)
class PreserveAll(Combinable):
    """Keeps every step."""

    def should_preserve(
        self, checkpoints: Sequence[StepInfo], *, context: Any = NOTHING_KNOWN
    ) -> list[bool]:
        """For each step, that it stays."""
        return [True] * len(checkpoints)


@dataclasses.dataclass(frozen=True, slots=True)
class LatestN(Combinable):
    """Keeps the last ``n`` steps; with ``None`` all."""

    n: int | None = None

    def __post_init__(self) -> None:
        if self.n is not None:
            object.__setattr__(self, "n", integer("The number of steps to keep", self.n, least=0))

    def should_preserve(
        self, checkpoints: Sequence[StepInfo], *, context: Any = NOTHING_KNOWN
    ) -> list[bool]:
        """For each step whether it is among the last."""
        return _last([True] * len(checkpoints), self.n)


@dataclasses.dataclass(frozen=True, slots=True)
class EveryNSteps(Combinable):
    """Keeps steps at an interval.

    Attributes:
      interval_steps: The interval.
      exact_interval: Keep its multiples; else the first step, and from each that is kept on the
        first that is an interval later.
      max_to_keep: Of these, how many to keep, the last ones; ``None`` for all.
    """

    interval_steps: int
    exact_interval: bool = True
    max_to_keep: int | None = None

    def __post_init__(self) -> None:
        _check_interval(self)

    def should_preserve(
        self, checkpoints: Sequence[StepInfo], *, context: Any = NOTHING_KNOWN
    ) -> list[bool]:
        """For each step whether it is one of those."""
        steps = [each.step for each in checkpoints]
        if self.exact_interval:
            stays = [step % self.interval_steps == 0 for step in steps]
        else:
            stays = _apart(steps, self.interval_steps)
        return _last(stays, self.max_to_keep)


@dataclasses.dataclass(frozen=True, slots=True)
class EveryNStepsClosest(Combinable):
    """Keeps the last step, and of those around each multiple of an interval the closest.

    A step halfway between two multiples belongs to the even one. Of two steps that are as close,
    the later is kept.

    Attributes:
      interval_steps: The interval.
      max_to_keep: Of these, how many to keep, the last ones; ``None`` for all.
    """

    interval_steps: int
    max_to_keep: int | None = None

    def __post_init__(self) -> None:
        _check_interval(self)

    def should_preserve(
        self, checkpoints: Sequence[StepInfo], *, context: Any = NOTHING_KNOWN
    ) -> list[bool]:
        """For each step whether it is one of those."""
        steps = [each.step for each in checkpoints]
        closest: dict[int, int] = {}
        for place, step in enumerate(steps):
            multiple = _nearest_multiple(step, self.interval_steps)
            other = steps[closest.setdefault(multiple, place)]
            if abs(step - multiple) <= abs(other - multiple):
                closest[multiple] = place
        kept = {*closest.values(), len(steps) - 1}
        return _last([place in kept for place in range(len(steps))], self.max_to_keep)


@dataclasses.dataclass(frozen=True, slots=True)
class EveryNSeconds(Combinable):
    """Keeps the first step, and from each that is kept on the first so many seconds later."""

    interval_secs: int

    def __post_init__(self) -> None:
        number("The interval", self.interval_secs, zero=True)

    def should_preserve(
        self, checkpoints: Sequence[StepInfo], *, context: Any = NOTHING_KNOWN
    ) -> list[bool]:
        """For each step whether it is one of those."""
        if not checkpoints:
            return []
        start = checkpoints[0].time
        times = [(each.time - start).total_seconds() for each in checkpoints]
        return _apart(times, self.interval_secs)


@dataclasses.dataclass(frozen=True, slots=True)
class CustomSteps(Combinable):
    """Keeps the steps that are listed."""

    steps: Iterable[int]

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.steps), Iterable):
            raise ArgumentTypeError("The steps are not a list of integers", found=repr(self.steps))
        object.__setattr__(self, "steps", frozenset(self.steps))

    def should_preserve(
        self, checkpoints: Sequence[StepInfo], *, context: Any = NOTHING_KNOWN
    ) -> list[bool]:
        """For each step whether it is listed."""
        listed = frozenset(self.steps)
        return [each.step in listed for each in checkpoints]


@dataclasses.dataclass(frozen=True, slots=True)
class LatestDuration(Combinable):
    """Keeps the steps from the first on that is no older than ``duration``.

    How old, ``context.now`` tells; where it does not, the newest step's time stands for it.
    """

    duration: datetime.timedelta

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.duration), datetime.timedelta):
            raise ArgumentTypeError(
                "The duration is not a timedelta",
                expected="such as datetime.timedelta(days=7)",
                found=repr(self.duration),
            )

    def should_preserve(
        self, checkpoints: Sequence[StepInfo], *, context: Any = NOTHING_KNOWN
    ) -> list[bool]:
        """For each step whether it or an earlier one is young enough."""
        if not checkpoints:
            return []
        # Orbax's own context does not tell the time.
        now = getattr(context, "now", None) or checkpoints[-1].time
        young = [now - each.time <= self.duration for each in checkpoints]
        first = young.index(True) if True in young else len(young)
        return [place >= first for place in range(len(young))]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BestN(Combinable):
    """Keeps the steps with the highest values of a metric.

    Of equal ones, the later are kept. A value that is not a number is worse than any that is. A
    step has no metric if it has no metrics, or ``get_metric_fn`` raises a ``KeyError`` or returns
    ``None``. Where no step has it, there are no best ones, and all are kept.

    Attributes:
      get_metric_fn: Makes a number of a step's metrics; or the name of one of them.
      reverse: Keep those with the lowest values.
      n: How many; ``None`` for all.
      keep_checkpoints_without_metrics: Keep the steps that have no metric, too.
    """

    get_metric_fn: Metric
    reverse: bool = False
    n: int | None = None
    keep_checkpoints_without_metrics: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.get_metric_fn, str) and not callable(self.get_metric_fn):
            raise ArgumentTypeError(
                "This makes no number of metrics",
                expected="a function, or the name of a metric",
                found=repr(self.get_metric_fn),
            )
        if self.n is not None:
            object.__setattr__(self, "n", integer("The number of steps to keep", self.n, least=0))

    def should_preserve(
        self, checkpoints: Sequence[StepInfo], *, context: Any = NOTHING_KNOWN
    ) -> list[bool]:
        """For each step whether it is among the best."""
        values = [metric_of(each, self.get_metric_fn) for each in checkpoints]
        sign = -1 if self.reverse else 1
        ranked = sorted(
            (not math.isnan(value), 0.0 if math.isnan(value) else sign * value, place)
            for place, value in enumerate(values)
            if value is not None
        )
        if self.n is None or not ranked:
            return [True] * len(checkpoints)
        best = {place for _, _, place in ranked[max(0, len(ranked) - self.n) :]}
        others = self.keep_checkpoints_without_metrics
        return [place in best or (value is None and others) for place, value in enumerate(values)]


@dataclasses.dataclass(frozen=True, slots=True)
class OnlyItems(Deciding):
    """Keeps some items of the steps that another policy keeps, such as the parameters.

    Combined with others it makes old steps smaller; a step stays whole if it has none of them.

    Attributes:
      items: Names of checkpointables.
      policy: Keeps the steps in question.

    >>> from sealwax.training.history import History, Step
    >>> run = History(Step(step=n) for n in (100, 200, 300))
    >>> policy = LatestN(1) | OnlyItems({"params"}, EveryNSteps(200))
    >>> [str(each) for each in policy.decide(run)]
    ['delete', 'keep params', 'keep']
    """

    items: Iterable[str]
    policy: PreservationPolicy = PreserveAll()

    def __post_init__(self) -> None:
        if isinstance(cast("object", self.items), (str, Mapping)):
            raise ArgumentTypeError(
                "The items are not a set of names",
                expected="such as {'params'}",
                found=repr(self.items),
            )
        items = frozenset(self.items)
        if not items:
            raise ArgumentValueError("Of a step without any item nothing is left")
        object.__setattr__(self, "items", items)

    def decide(
        self, checkpoints: Sequence[StepInfo], *, context: Any = NOTHING_KNOWN
    ) -> list[Decision]:
        """What happens to each step."""
        some = KeepItems(frozenset(self.items))
        whole = decide(self.policy, checkpoints, context)
        return [DELETE if each == DELETE else some for each in whole]


def best(metric: Metric, *, n: int = 1, mode: str = "max") -> BestN:
    """Keeps the ``n`` steps with the highest value of a metric, or with ``mode="min"`` the lowest.

    >>> best("loss", n=3, mode="min").reverse
    True
    """
    return BestN(get_metric_fn=metric, reverse=sign_of(mode) < 0, n=n)


def _check_interval(policy: EveryNSteps | EveryNStepsClosest) -> None:
    interval = integer("The interval", policy.interval_steps)
    object.__setattr__(policy, "interval_steps", interval)
    if policy.max_to_keep is not None:
        most = integer("The number of steps to keep", policy.max_to_keep)
        object.__setattr__(policy, "max_to_keep", most)


def _nearest_multiple(step: int, interval: int) -> int:
    times, rest = divmod(step, interval)
    up = 2 * rest > interval or (2 * rest == interval and times % 2 == 1)
    return (times + up) * interval


def _last(stays: Sequence[bool], n: int | None) -> list[bool]:
    """The last ``n`` of those that stay."""
    places = [place for place, each in enumerate(stays) if each]
    kept = frozenset(places if n is None else places[max(0, len(places) - n) :])
    return [place in kept for place in range(len(stays))]


def _apart(values: Sequence[float], interval: float) -> list[bool]:
    """The first, and from each that stays on the first that is an interval more."""
    stays: list[bool] = []
    kept = -math.inf
    for value in values:
        stays.append(value - kept >= interval)
        kept = value if stays[-1] else kept
    return stays
