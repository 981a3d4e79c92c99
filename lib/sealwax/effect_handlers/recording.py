"""``record``: a handler that keeps a trace of the effects that pass through it."""

from __future__ import annotations

import dataclasses
from typing import Any

from sealwax.effects import (
    Effect,
    Place,
    Probe,
    ReadBatch,
    ReadRegions,
    Stage,
    WriteBatch,
    WriteChunks,
)
from sealwax.runtime.handlers import Forward, Handler
from sealwax.runtime.meter import Meter, current


class Record(Handler):
    """Keeps every effect, in the order in which they were performed, and lets it pass.

    The data of arrays is not kept: their effects are in the trace without buffers, so that it
    holds no memory that the operation has given back.

    >>> import sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> with ocp.effect_handlers.record() as trace:
    ...     ocp.save(path, {"step": 1})
    >>> any(type(effect).__name__ == "Rename" for effect in trace.effects)
    True
    """

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self._meters: list[Meter] = []

    @property
    def peak_host_bytes(self) -> int:
        """The most host memory that one operation in the block held, beside what it was given."""
        return max((meter.now.peak_host_bytes for meter in self._meters), default=0)

    async def perform(self, effect: Effect, forward: Forward) -> Any:
        """Adds the effect to the trace, then performs it."""
        self.effects.append(_without_data(effect))
        meter = current()
        if meter is not None and meter not in self._meters:
            self._meters.append(meter)
        return await forward(effect)

    def kinds(self) -> list[str]:
        """The names of the effects' types, in order."""
        return [type(effect).__name__ for effect in self.effects]


def _without_data(effect: Effect) -> Effect:
    match effect:
        case Stage():
            return dataclasses.replace(effect, leaves=())
        case Probe() | WriteBatch() | WriteChunks() | ReadBatch() | ReadRegions() | Place():
            return dataclasses.replace(effect, buffers=())
        case _:
            return effect


def record() -> Record:
    """Makes a handler whose ``effects`` are the trace of what was done inside its block."""
    return Record()
