"""Running coroutines from ordinary code: in a thread that exists only while work does.

The thread has an event loop of its own, so that it makes no difference whether the caller runs
in a loop already. It is not a daemon: the interpreter waits for it before it exits.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import anyio
import anyio.from_thread

from sealwax.errors import OperationCancelledError

T = TypeVar("T")


class Job(Generic[T]):
    """A coroutine function that runs in a thread of its own.

    Args:
      function: What to run.
      name: What it is, for the thread's name and for errors.

    ``ending`` is called in the thread just before anybody learns that the job is finished, and
    ``ended`` just after.
    """

    def __init__(self, function: Callable[[], Awaitable[T]], name: str) -> None:
        self.name = name
        self.finished = threading.Event()
        self.ending: Callable[[], object] | None = None
        self.ended: Callable[[], object] | None = None
        self.error: BaseException | None = None
        self._value: T | None = None
        self._function = function
        self._lock = threading.Lock()
        self._cancelled = False
        self._portal: anyio.from_thread.BlockingPortal | None = None
        self._scope: anyio.CancelScope | None = None
        context = contextvars.copy_context()
        self.thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"sealwax {name}", daemon=False
        )

    def start(self) -> None:
        """Starts the thread."""
        self.thread.start()

    def cancel(self) -> None:
        """Asks the job to stop; it ends soon, having undone what it did."""
        with self._lock:
            self._cancelled = True
            if self._portal is not None and self._scope is not None:
                self._portal.start_task_soon(self._scope.cancel)

    def value(self) -> T:
        """What the function returned, once it is finished."""
        if self.error is not None:
            raise self.error
        return self._value  # pyright: ignore[reportReturnType]

    def _run(self) -> None:
        try:
            self._value = anyio.run(self._main)
        except BaseException as error:
            self.error = error
        if self.ending is not None:
            self.ending()
        self.finished.set()
        if self.ended is not None:
            self.ended()

    async def _main(self) -> Any:
        outcome: T | None = None
        error: Exception | None = None
        scope = anyio.CancelScope()
        # The portal is a task group and would wrap an error in a group: it must not see one.
        async with anyio.from_thread.BlockingPortal() as portal:
            with scope:
                self._open(portal, scope)
                try:
                    outcome = await self._function()
                except Exception as raised:
                    error = raised
                finally:
                    self._close()
        if scope.cancelled_caught:
            raise OperationCancelledError(
                f"The {self.name} was cancelled before it was committed",
                hint="Nothing was left behind; call it again if it is wanted after all.",
            )
        if error is not None:
            raise error
        return outcome

    def _open(self, portal: anyio.from_thread.BlockingPortal, scope: anyio.CancelScope) -> None:
        with self._lock:
            self._portal, self._scope = portal, scope
            if self._cancelled:
                scope.cancel()

    def _close(self) -> None:
        with self._lock:
            self._portal = None


def run(function: Callable[[], Awaitable[T]], name: str) -> T:
    """Runs a coroutine function to its end and returns its result.

    An interrupt of the waiting thread cancels the job, waits until it has cleared up, and is
    then raised.
    """
    job = Job(function, name)
    job.start()
    try:
        job.thread.join()
    except BaseException:
        job.cancel()
        job.thread.join()
        raise
    return job.value()
