"""When to save: policies as frozen values, each a pure function of what it is told.

A policy has ``should_save(step, previous_steps, *, context)``, as in Orbax: those that were
written for either library work in both. It looks at no clock: the time is that of ``step``.
Policies are combined with ``any_of``, ``all_of`` and ``not_``, or ``|``, ``&`` and ``~``.

>>> from sealwax.training.history import History, Step
>>> policy = FixedIntervalPolicy(100) | SpecificStepsPolicy({7}) | PreemptionCheckpointingPolicy()
>>> [n for n in range(301) if policy.should_save(Step(step=n), History())]
[0, 7, 100, 200, 300]
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Container, Iterable, Sequence
from typing import Any, cast

from sealwax.errors import ArgumentTypeError, ArgumentValueError
from sealwax.training.deciding import (
    NOTHING_GOES_ON,
    AllSavePolicy,
    AnySavePolicy,
    Combinable,
    Costs,
    DecisionContext,
    NotSavePolicy,
    SaveDecisionPolicy,
    all_of,
    any_of,
    not_,
)
from sealwax.training.history import StepInfo
from sealwax.training.quantities import integer, number

__all__ = [
    "AllSavePolicy",
    "AnySavePolicy",
    "ContinuousCheckpointingPolicy",
    "Costs",
    "DecisionContext",
    "EverySecondsPolicy",
    "FixedIntervalPolicy",
    "InitialSavePolicy",
    "NotSavePolicy",
    "OverheadPolicy",
    "PreemptionCheckpointingPolicy",
    "SaveDecisionPolicy",
    "SpecificStepsPolicy",
    "all_of",
    "any_of",
    "every",
    "not_",
]


def __dir__() -> list[str]:
    return __all__


@dataclasses.dataclass(frozen=True, slots=True)
class FixedIntervalPolicy(Combinable):
    """Saves every step that ``interval`` divides, the step 0 too."""

    interval: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", integer("The interval", self.interval))

    def should_save(
        self, step: StepInfo, previous_steps: Sequence[StepInfo], *, context: Any = NOTHING_GOES_ON
    ) -> bool:
        """Whether ``interval`` divides the step."""
        return step.step % self.interval == 0


@dataclasses.dataclass(frozen=True, slots=True)
class SpecificStepsPolicy(Combinable):
    """Saves the steps in a container, such as a set or a ``range``."""

    steps: Container[int]

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.steps), Container):
            raise ArgumentTypeError(
                "The steps are not a container",
                expected="a set, a list or a range of integers",
                found=repr(self.steps),
            )
        if isinstance(cast("object", self.steps), (list, set)):
            object.__setattr__(self, "steps", frozenset(cast("Iterable[int]", self.steps)))

    def should_save(
        self, step: StepInfo, previous_steps: Sequence[StepInfo], *, context: Any = NOTHING_GOES_ON
    ) -> bool:
        """Whether the step is among them."""
        return step.step in self.steps


@dataclasses.dataclass(frozen=True, slots=True)
class InitialSavePolicy(Combinable):
    """Saves if nothing was saved yet."""

    def should_save(
        self, step: StepInfo, previous_steps: Sequence[StepInfo], *, context: Any = NOTHING_GOES_ON
    ) -> bool:
        """Whether there are no previous steps."""
        return not previous_steps


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousCheckpointingPolicy(Combinable):
    """Saves whenever no save is under way.

    Attributes:
      minimum_interval_secs: How long after the last save at the earliest.
    """

    minimum_interval_secs: int | None = None

    def __post_init__(self) -> None:
        if self.minimum_interval_secs is not None:
            number("The minimum interval", self.minimum_interval_secs, zero=True)

    def should_save(
        self, step: StepInfo, previous_steps: Sequence[StepInfo], *, context: Any = NOTHING_GOES_ON
    ) -> bool:
        """Whether no save is under way, and the last one is long enough ago."""
        if context.is_saving_in_progress:
            return False
        return _since(step, previous_steps) >= (self.minimum_interval_secs or -math.inf)


@dataclasses.dataclass(frozen=True, slots=True)
class PreemptionCheckpointingPolicy(Combinable):
    """Saves when the job was told that it will be stopped."""

    def should_save(
        self, step: StepInfo, previous_steps: Sequence[StepInfo], *, context: Any = NOTHING_GOES_ON
    ) -> bool:
        """Whether the job was told."""
        return bool(context.reached_preemption)


@dataclasses.dataclass(frozen=True, slots=True)
class EverySecondsPolicy(Combinable):
    """Saves when the last save is so many seconds ago, and at first.

    Unlike ``ContinuousCheckpointingPolicy`` it does so while a save is under way too.
    """

    seconds: float

    def __post_init__(self) -> None:
        number("The interval", self.seconds)

    def should_save(
        self, step: StepInfo, previous_steps: Sequence[StepInfo], *, context: Any = NOTHING_GOES_ON
    ) -> bool:
        """Whether the last save is long enough ago."""
        return _since(step, previous_steps) >= self.seconds


@dataclasses.dataclass(frozen=True, slots=True)
class OverheadPolicy(Combinable):
    """Saves as often as it slows training down by no more than a share.

    It takes the shortest interval whose steps take so long that the time that the loop stands
    still for a save, on average, is no more than that share of it. So does CheckFreq (Mohan,
    Phanishayee and Chidambaram, FAST 2021), whose second rule holds too: not while a save is under
    way, for which the loop would have to wait. As long as nothing was measured, it saves.

    Attributes:
      share: For example 0.03 for 3 %.

    >>> from sealwax.training.history import History, Step
    >>> context = DecisionContext(costs=Costs(save_secs=(3.0,), step_secs=(0.5, 0.5)))
    >>> saved = History([Step(step=1000)])
    >>> [OverheadPolicy(0.03).should_save(Step(step=n), saved, context=context)
    ...  for n in (1199, 1200)]
    [False, True]
    """

    share: float

    def __post_init__(self) -> None:
        number("The share of the time", self.share)
        if self.share >= 1:
            raise ArgumentValueError(
                "The share of the time is not below one",
                expected="such as 0.03 for 3 %",
                found=str(self.share),
            )

    def should_save(
        self, step: StepInfo, previous_steps: Sequence[StepInfo], *, context: Any = NOTHING_GOES_ON
    ) -> bool:
        """Whether the steps since the last save pay for another one."""
        if context.is_saving_in_progress:
            return False
        # Orbax's own context has no costs.
        costs = cast("Costs", getattr(context, "costs", NOTHING_GOES_ON.costs))
        if not previous_steps or not costs.save_secs or not costs.step_secs:
            return True
        return step.step - previous_steps[-1].step >= self.interval(costs)

    def interval(self, costs: Costs) -> float:
        """The number of steps from one save to the next; it may be infinite, where steps are free.

        Args:
          costs: At least one save and one step.
        """
        save = math.fsum(costs.save_secs) / len(costs.save_secs)
        step = math.fsum(costs.step_secs) / len(costs.step_secs)
        if save <= 0:
            return 1
        # What is a whole number but for its last bits is meant to be one.
        worth = step * self.share
        return max(1, math.ceil(save / worth - 1e-9)) if worth > 0 else math.inf


def every(*, steps: int | None = None, seconds: float | None = None) -> SaveDecisionPolicy:
    """A policy that saves every so many steps, or seconds, or both: whichever comes.

    Raises:
      ArgumentValueError: Neither is given, or one is not positive.

    >>> every(seconds=600)
    EverySecondsPolicy(seconds=600)
    """
    policies: list[SaveDecisionPolicy] = []
    policies += [FixedIntervalPolicy(steps)] if steps is not None else []
    policies += [EverySecondsPolicy(seconds)] if seconds is not None else []
    if not policies:
        raise ArgumentValueError("Every what?", expected="steps, seconds or both")
    return policies[0] if len(policies) == 1 else any_of(*policies)


def _since(step: StepInfo, previous_steps: Sequence[StepInfo]) -> float:
    if not previous_steps:
        return math.inf
    return (step.time - previous_steps[-1].time).total_seconds()
