"""Adding steps to a plan, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sealwax.effects import Derive, Effect, From, Step


class Builder:
    """Numbers the steps of a plan as they are added."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def add(
        self,
        effect: Effect,
        *,
        after: Iterable[int] = (),
        writes: int = 0,
        reads: int = 0,
        holds: int = 0,
        staging: bool = False,
    ) -> int:
        """Adds a step and returns its number."""
        step = Step(
            number=len(self.steps),
            effect=effect,
            after=tuple(after),
            writes=writes,
            reads=reads,
            holds=holds,
            staging=staging,
        )
        self.steps.append(step)
        return step.number

    def derive(
        self, name: str, function: Callable[..., Any], *inputs: Any, after: Iterable[int] = ()
    ) -> int:
        """Adds a pure step; its inputs may be ``From`` earlier ones."""
        return self.add(Derive(name=name, function=function, inputs=inputs), after=after)


def result(step: int, part: str | None = None) -> From[Any]:
    """The result of a step, or the part of it that has this name."""
    return From(step=step, part=part)
