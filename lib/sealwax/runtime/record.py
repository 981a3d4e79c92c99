"""``record``: a handler that keeps a trace of the effects that pass through it."""

from __future__ import annotations

from typing import Any

from sealwax.effects import Effect
from sealwax.runtime.handlers import Forward, Handler


class Record(Handler):
    """Keeps every effect, in the order in which they were performed, and lets it pass.

    >>> import sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> with ocp.effect_handlers.record() as trace:
    ...     ocp.save(path, {"step": 1})
    >>> any(type(effect).__name__ == "Rename" for effect in trace.effects)
    True
    """

    def __init__(self) -> None:
        self.effects: list[Effect] = []

    async def perform(self, effect: Effect, forward: Forward) -> Any:
        """Adds the effect to the trace, then performs it."""
        self.effects.append(effect)
        return await forward(effect)

    def kinds(self) -> list[str]:
        """The names of the effects' types, in order."""
        return [type(effect).__name__ for effect in self.effects]


def record() -> Record:
    """Makes a handler whose ``effects`` are the trace of what was done inside its block."""
    return Record()
