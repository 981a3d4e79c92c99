"""Work that blocks, in worker threads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

T = TypeVar("T")
Args = TypeVarTuple("Args")


_FIRST_PAUSE = 0.001
_LAST_PAUSE = 0.1


async def waiting(ask: Callable[[], Awaitable[T | None]]) -> T:
    """Asks again and again, ever less often, until there is an answer."""
    pause = _FIRST_PAUSE
    while (answer := await ask()) is None:
        await anyio.sleep(pause)
        pause = min(2 * pause, _LAST_PAUSE)
    return answer


async def in_thread(
    function: Callable[[*Args], T],
    *args: *Args,
    limiter: anyio.CapacityLimiter | None = None,
) -> T:
    """Runs a function in a worker thread, or here where no thread can be started any more.

    It is never abandoned on cancellation: a write that is under way ends before it is undone.
    """
    began = False

    def call() -> T:
        nonlocal began
        began = True
        return function(*args)

    try:
        return await anyio.to_thread.run_sync(call, limiter=limiter)
    except RuntimeError:
        if began:
            raise
    # Python 3.12 and later start no thread while the interpreter goes down.
    return call()
