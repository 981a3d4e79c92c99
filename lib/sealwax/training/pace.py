"""How long steps and saves take, measured from the moments at which a checkpointer is called."""

from __future__ import annotations

import dataclasses

from sealwax.training.deciding import NOTHING_GOES_ON, Costs

_WINDOW = 16
_SECOND = 10**9


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What was measured so far; of each kind the latest sixteen.

    Attributes:
      costs: The durations, in seconds.
      step: The step that was reached last, or ``None``.
      since: From when on the loop works on the steps after it, in nanoseconds since the epoch.

    >>> pace = Pace().reached(0, now=0).stood_still(0, 3 * 10**9).reached(10, now=8 * 10**9)
    >>> pace.costs
    Costs(save_secs=(3.0,), step_secs=(0.5,))
    """

    costs: Costs = NOTHING_GOES_ON.costs
    step: int | None = None
    since: int = 0

    def reached(self, step: int, now: int) -> Pace:
        """The loop has come to ``step``; what it did since the step before were steps."""
        if step == self.step:
            return self
        costs = self.costs
        # Who goes back to an earlier step has loaded it, and a clock may be set back.
        if self.step is not None and step > self.step and now > self.since:
            each = (now - self.since) / _SECOND / (step - self.step)
            costs = dataclasses.replace(costs, step_secs=(*costs.step_secs, each)[-_WINDOW:])
        return Pace(costs=costs, step=step, since=now)

    def stood_still(self, began: int, ended: int) -> Pace:
        """The loop stood still for a save of the step that it has reached."""
        took = max(ended - began, 0) / _SECOND
        costs = dataclasses.replace(self.costs, save_secs=(*self.costs.save_secs, took)[-_WINDOW:])
        return dataclasses.replace(self, costs=costs, since=ended)
