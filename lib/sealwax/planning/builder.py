"""Adding steps to a plan, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sealwax.effects import Derive, Effect, From, MakeDirectory, Step, SyncTree


class Builder:
    """Numbers the steps of a plan as they are added.

    Attributes:
      steps: The steps so far.
      item: The checkpointable that the next ones are for.
      leaves: The names of its leaves, as slabs count them.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.item: str | None = None
        self.leaves: tuple[str, ...] = ()

    def within(self, item: str | None, leaves: tuple[str, ...] = ()) -> Builder:
        """A builder that adds to the same plan, for one checkpointable."""
        made = Builder()
        made.steps, made.item, made.leaves = self.steps, item, leaves
        return made

    def add(
        self,
        effect: Effect,
        *,
        after: Iterable[int] = (),
        writes: int = 0,
        reads: int = 0,
        holds: int = 0,
        keeps: int = 0,
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
            keeps=keeps,
            staging=staging,
            item=self.item,
            leaves=self.leaves,
        )
        self.steps.append(step)
        return step.number

    def sync_tree(self, path: str, *, after: Iterable[int]) -> int:
        """Adds the syncing of a directory and of all that earlier steps make below it."""
        effects = [step.effect for step in self.steps]
        made = [effect.path for effect in effects if isinstance(effect, MakeDirectory)]
        below = tuple([each for each in made if each.startswith(f"{path}/")])
        return self.add(SyncTree(path=path, directories=below), after=after)

    def derive(
        self,
        name: str,
        function: Callable[..., Any],
        *inputs: Any,
        after: Iterable[int] = (),
        keeps: int = 0,
        brief: bool = True,
    ) -> int:
        """Adds a pure step; its inputs may be ``From`` earlier ones."""
        effect = Derive(name=name, function=function, inputs=inputs, brief=brief)
        return self.add(effect, after=after, keeps=keeps)


def result(step: int, part: str | None = None) -> From[Any]:
    """The result of a step, or the part of it that has this name."""
    return From(step=step, part=part)
