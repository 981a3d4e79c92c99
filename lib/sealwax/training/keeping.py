"""What a policy of keeping may decide on a step, and how policies are combined."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, assert_never, cast, runtime_checkable

from sealwax.errors import ArgumentTypeError
from sealwax.training.history import StepInfo
from sealwax.training.quantities import as_policies


@dataclasses.dataclass(frozen=True, slots=True)
class Keep:
    """The step stays as it is."""

    def __str__(self) -> str:
        return "keep"


@dataclasses.dataclass(frozen=True, slots=True)
class KeepItems:
    """Of the step, these items stay; its metrics and its metadata stay too."""

    items: frozenset[str]

    def __str__(self) -> str:
        return f"keep {', '.join(sorted(self.items))}"


@dataclasses.dataclass(frozen=True, slots=True)
class Delete:
    """The step goes."""

    def __str__(self) -> str:
        return "delete"


Decision: TypeAlias = Keep | KeepItems | Delete
KEEP, DELETE = Keep(), Delete()


def more(a: Decision, b: Decision) -> Decision:
    """What keeps all that one of two decisions keeps.

    >>> more(KeepItems(frozenset({"params"})), DELETE)
    KeepItems(items=frozenset({'params'}))
    """
    match a, b:
        case (Keep(), _) | (_, Keep()):
            return KEEP
        case KeepItems(items=of_a), KeepItems(items=of_b):
            return KeepItems(of_a | of_b)
        case Delete(), other:
            return other
        case other, Delete():
            return other
        case _:
            assert_never((a, b))


def less(a: Decision, b: Decision) -> Decision:
    """What keeps all that both of two decisions keep."""
    match a, b:
        case (Delete(), _) | (_, Delete()):
            return DELETE
        case KeepItems(items=of_a), KeepItems(items=of_b):
            return KeepItems(of_a & of_b) if of_a & of_b else DELETE
        case Keep(), other:
            return other
        case other, Keep():
            return other
        case _:
            assert_never((a, b))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PreservationContext:
    """What a policy is told beside the steps.

    Attributes:
      now: The time; where it is ``None``, that of the newest step stands for it.
    """

    now: datetime.datetime | None = None


NOTHING_KNOWN = PreservationContext()


@runtime_checkable
class PreservationPolicy(Protocol):
    """Decides which steps stay.

    A policy may also have a method ``decide``, with the same arguments, that gives a decision for
    each step; then ``should_preserve`` says which of them are not ``Delete``.
    """

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: Any = NOTHING_KNOWN
    ) -> Sequence[bool]:
        """For each step whether it stays.

        Args:
          checkpoints: The steps, ascending.
          context: What else is known.
        """
        ...


def decide(
    policy: PreservationPolicy, checkpoints: Sequence[StepInfo], context: Any = NOTHING_KNOWN
) -> tuple[Decision, ...]:
    """What a policy decides on each step.

    Raises:
      ArgumentTypeError: It did not decide on each.
    """
    own = getattr(policy, "decide", None)
    if own is not None:
        made = tuple(cast("Sequence[Decision]", own(checkpoints, context=context)))
    else:
        stays = policy.should_preserve(checkpoints, context=context)
        made = tuple(KEEP if each else DELETE for each in stays)
    if len(made) != len(checkpoints):
        raise ArgumentTypeError(
            f"The policy {policy!r} did not decide on each step",
            expected=f"{len(checkpoints)} decisions",
            found=str(len(made)),
        )
    return made


class Combinable:
    """The operators of policies."""

    __slots__ = ()

    def __or__(self, other: PreservationPolicy) -> AnyPreservationPolicy:
        return any_of(cast("PreservationPolicy", self), other)

    def __ror__(self, other: PreservationPolicy) -> AnyPreservationPolicy:
        return any_of(other, cast("PreservationPolicy", self))

    def __and__(self, other: PreservationPolicy) -> AllPreservationPolicy:
        return all_of(cast("PreservationPolicy", self), other)

    def __rand__(self, other: PreservationPolicy) -> AllPreservationPolicy:
        return all_of(other, cast("PreservationPolicy", self))

    def __invert__(self) -> NotPreservationPolicy:
        return not_(cast("PreservationPolicy", self))


class Deciding(Combinable):
    """A policy with a method ``decide``."""

    __slots__ = ()

    def should_preserve(
        self, checkpoints: Sequence[StepInfo], *, context: Any = NOTHING_KNOWN
    ) -> list[bool]:
        """For each step whether any of it stays."""
        own = decide(cast("PreservationPolicy", self), checkpoints, context)
        return [each != DELETE for each in own]


@dataclasses.dataclass(frozen=True, slots=True)
class AnyPreservationPolicy(Deciding):
    """Keeps what one of several policies would; of none, nothing."""

    policies: Sequence[PreservationPolicy]

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", as_policies(self.policies, PreservationPolicy))

    def decide(
        self, checkpoints: Sequence[StepInfo], *, context: Any = NOTHING_KNOWN
    ) -> list[Decision]:
        """What happens to each step."""
        made: list[Decision] = [DELETE] * len(checkpoints)
        for policy in self.policies:
            made = list(map(more, made, decide(policy, checkpoints, context)))
        return made


@dataclasses.dataclass(frozen=True, slots=True)
class AllPreservationPolicy(Deciding):
    """Keeps what each of several policies would; of none, everything."""

    policies: Sequence[PreservationPolicy]

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", as_policies(self.policies, PreservationPolicy))

    def decide(
        self, checkpoints: Sequence[StepInfo], *, context: Any = NOTHING_KNOWN
    ) -> list[Decision]:
        """What happens to each step."""
        made: list[Decision] = [KEEP] * len(checkpoints)
        for policy in self.policies:
            made = list(map(less, made, decide(policy, checkpoints, context)))
        return made


@dataclasses.dataclass(frozen=True, slots=True)
class NotPreservationPolicy(Combinable):
    """Keeps the steps of which another policy would keep nothing."""

    policy: PreservationPolicy

    def __post_init__(self) -> None:
        as_policies((self.policy,), PreservationPolicy)

    def should_preserve(
        self, checkpoints: Sequence[StepInfo], *, context: Any = NOTHING_KNOWN
    ) -> list[bool]:
        """For each step whether the other would delete it."""
        return [each == DELETE for each in decide(self.policy, checkpoints, context)]


def any_of(*policies: PreservationPolicy) -> AnyPreservationPolicy:
    """Keeps what one of the policies would."""
    return AnyPreservationPolicy(policies)


def all_of(*policies: PreservationPolicy) -> AllPreservationPolicy:
    """Keeps what each of the policies would."""
    return AllPreservationPolicy(policies)


def not_(policy: PreservationPolicy) -> NotPreservationPolicy:
    """Keeps the steps of which the policy would keep nothing."""
    return NotPreservationPolicy(policy)
