"""Work that blocks, in worker threads."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import anyio.to_thread

from sealwax.runtime.meter import Meter, current

T = TypeVar("T")
Args = TypeVarTuple("Args")


_FIRST_PAUSE = 0.001
_LAST_PAUSE = 0.1

_here = threading.local()


@contextlib.contextmanager
def own_loop() -> Generator[None]:
    """Says that the event loop of this thread runs one operation, and nothing of anybody else's."""
    before, _here.own = getattr(_here, "own", False), True
    try:
        yield
    finally:
        _here.own = before


def works_for(meter: Meter) -> bool:
    """Whether the function that runs in this thread now was called by this meter's operation."""
    return getattr(_here, "meter", None) is meter


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
    brief: bool = False,
) -> T:
    """Runs a function in a worker thread, or here where no thread can be started any more.

    It is never abandoned on cancellation: a write that is under way ends before it is undone.
    What is ``brief``, or has nothing that could run beside it, is done here in a loop of our own:
    handing it to a thread and back would take longer.
    """
    if brief and getattr(_here, "own", False):
        await anyio.lowlevel.checkpoint_if_cancelled()
        return _done(function, *args)
    began = False

    def call() -> T:
        nonlocal began
        began = True
        before, _here.meter = getattr(_here, "meter", None), current()
        try:
            return _done(function, *args)
        finally:
            _here.meter = before

    if sys.is_finalizing():
        return call()
    try:
        return await anyio.to_thread.run_sync(call, limiter=limiter)
    except RuntimeError:
        if began:
            raise
    # Python 3.12 and later start no thread while the interpreter goes down.
    return call()


def _done(function: Callable[[*Args], T], *args: *Args) -> T:
    """What a function gives. If it raises what cancels tasks, that is an error of its own.

    A group of tasks would take the step for cancelled, and those that need it would wait for ever.
    """
    try:
        return function(*args)
    except asyncio.CancelledError as error:
        raise RuntimeError("a function raised CancelledError, which is for tasks") from error
