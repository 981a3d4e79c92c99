"""What a policy of saving is told, and how policies are combined."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

from sealwax.options import MultiprocessingOptions
from sealwax.training.history import StepInfo
from sealwax.training.quantities import as_policies


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What was measured in this run: the latest durations, in seconds.

    Attributes:
      save_secs: For each of some saves, how long the training loop stood still for it.
      step_secs: For each of some steps, how long it took, saving left out.
    """

    save_secs: tuple[float, ...] = ()
    step_secs: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DecisionContext:
    """What a policy is told beside the steps.

    Attributes:
      is_saving_in_progress: Whether an earlier save is still under way in the background.
      reached_preemption: Whether the job was told that it will be stopped.
      multiprocessing_options: Which processes save together.
      costs: What saves and steps take.
    """

    is_saving_in_progress: bool = False
    reached_preemption: bool = False
    multiprocessing_options: Any = dataclasses.field(default_factory=MultiprocessingOptions)
    costs: Costs = Costs()


NOTHING_GOES_ON = DecisionContext()


@runtime_checkable
class SaveDecisionPolicy(Protocol):
    """Decides whether a step is to be saved."""

    def should_save(
        self, step: Any, previous_steps: Sequence[Any], *, context: Any = NOTHING_GOES_ON
    ) -> bool:
        """Whether to save.

        Args:
          step: The step that is to be decided on; its time is now.
          previous_steps: What was saved, ascending.
          context: What else is known.
        """
        ...


class Combinable:
    """The operators of policies."""

    __slots__ = ()

    def __or__(self, other: SaveDecisionPolicy) -> AnySavePolicy:
        return any_of(cast("SaveDecisionPolicy", self), other)

    def __ror__(self, other: SaveDecisionPolicy) -> AnySavePolicy:
        return any_of(other, cast("SaveDecisionPolicy", self))

    def __and__(self, other: SaveDecisionPolicy) -> AllSavePolicy:
        return all_of(cast("SaveDecisionPolicy", self), other)

    def __rand__(self, other: SaveDecisionPolicy) -> AllSavePolicy:
        return all_of(other, cast("SaveDecisionPolicy", self))

    def __invert__(self) -> NotSavePolicy:
        return not_(cast("SaveDecisionPolicy", self))


@dataclasses.dataclass(frozen=True, slots=True)
class AnySavePolicy(Combinable):
    """Saves if one of several policies would; of none, never."""

    policies: Sequence[SaveDecisionPolicy]

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", as_policies(self.policies, SaveDecisionPolicy))

    def should_save(
        self, step: StepInfo, previous_steps: Sequence[StepInfo], *, context: Any = NOTHING_GOES_ON
    ) -> bool:
        """Whether one of them would save."""
        return any(p.should_save(step, previous_steps, context=context) for p in self.policies)


@dataclasses.dataclass(frozen=True, slots=True)
class AllSavePolicy(Combinable):
    """Saves if each of several policies would; of none, always."""

    policies: Sequence[SaveDecisionPolicy]

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", as_policies(self.policies, SaveDecisionPolicy))

    def should_save(
        self, step: StepInfo, previous_steps: Sequence[StepInfo], *, context: Any = NOTHING_GOES_ON
    ) -> bool:
        """Whether each of them would save."""
        return all(p.should_save(step, previous_steps, context=context) for p in self.policies)


@dataclasses.dataclass(frozen=True, slots=True)
class NotSavePolicy(Combinable):
    """Saves if another policy would not."""

    policy: SaveDecisionPolicy

    def __post_init__(self) -> None:
        as_policies((self.policy,), SaveDecisionPolicy)

    def should_save(
        self, step: StepInfo, previous_steps: Sequence[StepInfo], *, context: Any = NOTHING_GOES_ON
    ) -> bool:
        """Whether the other would not save."""
        return not self.policy.should_save(step, previous_steps, context=context)


def any_of(*policies: SaveDecisionPolicy) -> AnySavePolicy:
    """Saves if one of the policies would."""
    return AnySavePolicy(policies)


def all_of(*policies: SaveDecisionPolicy) -> AllSavePolicy:
    """Saves if each of the policies would."""
    return AllSavePolicy(policies)


def not_(policy: SaveDecisionPolicy) -> NotSavePolicy:
    """Saves if the policy would not."""
    return NotSavePolicy(policy)
