"""Small plans of made-up effects, and a way to perform them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sealwax.effects import Effect, From, Plan, RemoveTree, Stage, Step, SyncDirectory, WriteFile

Action = Callable[[], Awaitable[Any]]
UNDO = RemoveTree(path="/tmp-7")


def act(name: str, uses: int | None = None) -> Effect:
    """An effect that stands for any other; its name is its path."""
    if uses is None:
        return SyncDirectory(path=f"/{name}")
    return WriteFile(path=f"/{name}", content=From(step=uses))


def plan_of(
    needs: Sequence[Sequence[int]],
    *,
    uses: Mapping[int, int] = {},
    holds: Mapping[int, int] = {},
    writes: Mapping[int, int] = {},
    staging: Sequence[int] = (),
    **parts: Any,
) -> Plan:
    """A plan of steps called "0", "1", ... that come after others; its undo is ``UNDO``."""
    steps = tuple(
        Step(
            number=number,
            effect=act(str(number), uses.get(number)),
            after=tuple(after),
            holds=holds.get(number, 0),
            writes=writes.get(number, 0),
            staging=number in staging,
        )
        for number, after in enumerate(needs)
    )
    return Plan(title="test", path="/7", steps=steps, undo=(UNDO,), **parts)


def using(number: int, step: int, part: str | None = None) -> Step:
    """A step whose effect holds the result of another."""
    effect = Stage(slabs=(), leaves=From(step=step, part=part), copy=False, nbytes=0)
    return Step(number=number, effect=effect)


class Performer:
    """Performs effects by name, and keeps what was begun, ended and undone, in order.

    Args:
      actions: What happens at the effects of these names; nothing happens at others.
    """

    def __init__(self, actions: Mapping[str, Action] = {}) -> None:
        self.actions = actions
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.undone: list[Effect] = []
        self.resolved: list[Any] = []

    async def __call__(self, effect: Effect) -> Any:
        match effect:
            case RemoveTree():
                self.undone.append(effect)
                return await self._act("undo")
            case Stage(leaves=leaves):
                self.resolved.append(leaves)
                return None
            case SyncDirectory(path=path) | WriteFile(path=path):
                name = path.removeprefix("/")
                self.begun.append(name)
                answer = await self._act(name)
                self.ended.append(name)
                return answer
            case _:
                raise AssertionError(effect)

    async def _act(self, name: str) -> Any:
        return await self.actions[name]() if name in self.actions else None


def raising(error: BaseException) -> Action:
    async def do() -> None:
        raise error

    return do


def giving(value: Any) -> Action:
    async def do() -> Any:
        return value

    return do
