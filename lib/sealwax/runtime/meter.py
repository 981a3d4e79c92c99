"""How far an operation is: counts that any thread may read."""

from __future__ import annotations

import dataclasses

from sealwax.effects import Derive, Plan, Step


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an operation is, at one moment."""

    bytes_done: int = 0
    bytes_total: int = 0
    effects_done: int = 0
    effects_total: int = 0

    @property
    def fraction(self) -> float:
        """Between 0 and 1, by bytes where there are any, else by effects."""
        done, total = self.bytes_done, self.bytes_total
        if not total:
            done, total = self.effects_done, self.effects_total
        return done / total if total else 0.0


class Meter:
    """Counts the steps of one operation as they are done."""

    def __init__(self) -> None:
        self.now = Progress()

    def start(self, plan: Plan) -> None:
        """Sets the totals."""
        self.now = Progress(bytes_total=plan.bytes, effects_total=plan.effects)

    def advance(self, step: Step) -> None:
        """Counts one step."""
        if not isinstance(step.effect, Derive):
            self.now = dataclasses.replace(
                self.now,
                bytes_done=self.now.bytes_done + step.writes + step.reads,
                effects_done=self.now.effects_done + 1,
            )
