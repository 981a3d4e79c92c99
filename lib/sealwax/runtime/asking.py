"""Asking one thing from ordinary code: what a training loop asks at every step must cost little."""

from __future__ import annotations

import functools
import time
from typing import Any

from sealwax.effects import Call, Now
from sealwax.options import Options
from sealwax.runtime import background, handlers
from sealwax.runtime.operation import Operation


def ask(effect: Now | Call, options: Options) -> Any:
    """Performs an effect and returns its answer; no thread is started where no handler listens."""
    if not handlers.current():
        match effect:
            case Now():
                return time.time_ns()
            case Call(function=function, inputs=inputs):
                return function(*inputs)
    operation = Operation(title="question", path="", options=options)
    return background.run(functools.partial(_performed, operation, effect), "question")


async def _performed(operation: Operation, effect: Now | Call) -> Any:
    async with operation.performing() as perform:
        return await perform(effect)
