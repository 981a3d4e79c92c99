"""What a policy makes of a history, before anything is deleted."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any, cast

from sealwax.effects.wording import count, size
from sealwax.training.history import History, Step
from sealwax.training.keeping import (
    DELETE,
    KEEP,
    AnyPreservationPolicy,
    Decision,
    KeepItems,
    PreservationContext,
    PreservationPolicy,
    decide,
)

_WIDEST = 48
_AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What happens to a step, and why."""

    step: Step
    decision: Decision
    why: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What happens to each step of a run; printing it shows a table.

    Attributes:
      verdicts: One for each step, ascending.
      now: The time that ages count to.
    """

    verdicts: tuple[Verdict, ...]
    now: datetime.datetime | None = None

    @property
    def kept(self) -> tuple[Step, ...]:
        """The steps that stay as they are."""
        return tuple(each.step for each in self.verdicts if each.decision == KEEP)

    @property
    def deleted(self) -> tuple[Step, ...]:
        """The steps that go."""
        return tuple(each.step for each in self.verdicts if each.decision == DELETE)

    @property
    def thinned(self) -> tuple[tuple[Step, frozenset[str]], ...]:
        """The steps of which some items stay, and these."""
        return tuple(
            (each.step, each.decision.items)
            for each in self.verdicts
            if isinstance(each.decision, KeepItems)
        )

    @property
    def remaining(self) -> History:
        """The run as it is afterwards."""
        return History(
            dataclasses.replace(each.step, items=each.decision.items, nbytes=None)
            if isinstance(each.decision, KeepItems)
            else each.step
            for each in self.verdicts
            if each.decision != DELETE
        )

    def __str__(self) -> str:
        goes = len(self.deleted)
        freed = sum(step.nbytes or 0 for step in self.deleted)
        title = f"{count(len(self.verdicts), 'step')}, of which {goes} would be deleted"
        title += f" ({size(freed)})" if freed else ""
        rows = [("step", "age", "metrics", "decision", "why")]
        rows += [
            (
                str(each.step.step),
                _age(each.step, self.now),
                _metrics(each.step.metrics),
                str(each.decision),
                each.why,
            )
            for each in self.verdicts
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([title, *lines])


def retain(
    history: History,
    policy: PreservationPolicy,
    *,
    now: datetime.datetime | None = None,
    keep_newest: bool = True,
) -> Retention:
    """Tells which steps a policy would keep, without touching any.

    Args:
      history: The steps there are.
      policy: One of ours, of Orbax's, or your own.
      now: The time, for policies that ask how old a step is; without it, that of the newest step.
      keep_newest: Whether the newest step stays, whatever the policy says.

    Returns:
      What happens to each step, and why.

    Raises:
      ArgumentTypeError: The policy did not decide on each step.

    >>> from sealwax.training.history import Step
    >>> from sealwax.training.preservation_policies import LatestN, OnlyItems, best
    >>> run = History(
    ...     Step(step=n, time_nsecs=n * 10**9, metrics={"loss": 100 / n}) for n in (100, 400, 800)
    ... )
    >>> print(retain(run, LatestN(1) | best("loss", n=2, mode="min")))
    3 steps, of which 1 would be deleted
    step  age      metrics     decision  why
    100   12 min   loss=1      delete    no policy keeps it
    400   7 min    loss=0.25   keep      BestN
    800   0 s      loss=0.125  keep      LatestN(n=1), BestN
    """
    context = PreservationContext(now=now)
    decisions = decide(policy, history, context)
    reasons = _reasons(policy, history, context)
    verdicts = [
        _verdict(step, decision, why)
        for step, decision, why in zip(history, decisions, reasons, strict=True)
    ]
    if keep_newest and verdicts and verdicts[-1].decision != KEEP:
        verdicts[-1] = Verdict(step=history[-1], decision=KEEP, why="the newest step")
    newest = history.latest
    return Retention(verdicts=tuple(verdicts), now=now if now or newest is None else newest.time)


def _verdict(step: Step, decision: Decision, why: str) -> Verdict:
    if isinstance(decision, KeepItems) and step.items:
        there = decision.items & step.items
        if not there:
            return Verdict(step=step, decision=KEEP, why="has none of the items that are to stay")
        if there == step.items:
            return Verdict(step=step, decision=KEEP, why=why)
        decision = KeepItems(there)
    return Verdict(step=step, decision=decision, why=why)


def _reasons(
    policy: PreservationPolicy, history: History, context: PreservationContext
) -> list[str]:
    several = isinstance(policy, AnyPreservationPolicy)
    parts = tuple(policy.policies) if several else (policy,)
    keeping: list[list[str]] = [[] for _ in history]
    for part in parts:
        for place, decision in enumerate(decide(part, history, context)):
            if decision != DELETE:
                keeping[place].append(_called(part))
    nobody = "no policy keeps it" if several else f"{_called(policy)} does not keep it"
    return [", ".join(names) if names else nobody for names in keeping]


def _called(policy: object) -> str:
    """A policy as it was written, where that is short, and else its name."""
    text = repr(policy)
    short = len(text) <= _WIDEST and " at 0x" not in text
    return text if short else type(policy).__name__


def _age(step: Step, now: datetime.datetime | None) -> str:
    seconds = 0.0 if now is None else (now - step.time).total_seconds()
    for unit, name in _AGES:
        if abs(seconds) >= unit:
            return f"{seconds / unit:.0f} {name}"
    return "0 s"


def _metrics(metrics: Any) -> str:
    if not isinstance(metrics, Mapping):
        return "" if metrics is None else repr(metrics)[:_WIDEST]
    pairs = cast("Mapping[object, object]", metrics).items()
    text = ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in pairs
    )
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."
