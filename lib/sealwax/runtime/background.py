"""Running coroutines from ordinary code: in a thread that exists only while work does.

The thread has an event loop of its own, so that it makes no difference whether the caller runs
in a loop already, or which policy makes its loops. It is a daemon, as are the threads that it
starts: whether the interpreter waits for it is for ``exits`` to say, which knows how long.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

import anyio

from sealwax.errors import InternalError, OperationCancelledError
from sealwax.runtime import exits
from sealwax.runtime.moments import Moment
from sealwax.runtime.threads import own_loop, works_for
from sealwax.runtime.watch import Watch

T = TypeVar("T")


class Job(Generic[T]):
    """A coroutine function that runs in a thread of its own.

    Args:
      function: What to run.
      name: What it is, for the thread's name and for errors.
      owed: Whether a failure that nobody asks for is reported when the interpreter exits.
      watch: Knows what the operation is doing, and its deadline.
    """

    def __init__(
        self,
        function: Callable[[], Awaitable[T]],
        name: str,
        *,
        owed: bool = True,
        watch: Watch | None = None,
    ) -> None:
        self.name = name
        self.watch = watch or Watch()
        self.owed = owed
        self.finished = Moment(name)
        self.error: BaseException | None = None
        self._trace: TracebackType | None = None
        self._value: T | None = None
        self._function: Callable[[], Awaitable[T]] | None = function
        self._lock = threading.RLock()
        self._claimed = False
        self._cancelled = False
        self._runs_in: int | None = None
        self._interrupt: Callable[[], object] | None = None
        self._thread = threading.Thread(
            target=_context().run,
            args=(self._run,),
            name=f"sealwax {name}",
            daemon=True,
        )

    def start(self) -> None:
        """Starts the thread, or runs the job to its end where no thread can be started any more."""
        exits.begun(self)
        if not exits.threads_are_over():
            try:
                self._thread.start()
                return
            except RuntimeError:
                pass
        _context().run(self._run)

    def cancel(self) -> None:
        """Asks the job to stop; it ends soon, having undone what it did."""
        with self._lock:
            self._cancelled = True
            if self._interrupt is not None:
                self._interrupt()

    def attend(self, moment: Moment) -> None:
        """Starts, and blocks until ``moment``; what breaks that off cancels it and sees it end."""
        try:
            self.start()
            moment.wait()
        except BaseException:
            self._give_up()
            self.finished.wait()
            raise

    async def attended(self, moment: Moment) -> None:
        """Does what ``attend`` does in the caller's own event loop."""
        try:
            self.start()
            await moment.reached()
        except BaseException:
            self._give_up()
            with anyio.CancelScope(shield=True):
                await self.finished.reached()
            raise

    def value(self) -> T:
        """What the function returned, once it is finished; its error, each time it is asked for."""
        exits.asked(self)
        try:
            if self.error is not None:
                raise self.error.with_traceback(self._trace)
            return self._value  # pyright: ignore[reportReturnType]
        finally:
            del self  # the error's traceback holds this frame

    def works_here(self) -> bool:
        """Whether it is this job that called what runs in this thread now, and waits for it."""
        return self._runs_in == threading.get_ident() or works_for(self.watch.meter)

    def _give_up(self) -> None:
        self.cancel()
        if self._claim():
            # The interrupt came so early that the thread has not begun; now it will do nothing.
            self.error = self._cancellation()
            self._end()

    def _claim(self) -> bool:
        """Tells the first who asks that it is the one to end the job."""
        with self._lock:
            claimed, self._claimed = self._claimed, True
        return not claimed

    def _run(self) -> None:
        if not self._claim():
            return
        self._runs_in = threading.get_ident()
        try:
            # A loop of the plainest kind, whatever policy the program has set for its own.
            options = {"loop_factory": asyncio.SelectorEventLoop}
            with own_loop():
                self._value = anyio.run(self._main, backend="asyncio", backend_options=options)
        except BaseException as error:
            release(error)
            self.error, self._trace = error, error.__traceback__
        self._end()

    def _end(self) -> None:
        self._function = None
        exits.ended(self)
        self.finished.set()
        self._runs_in = None

    async def _main(self) -> Any:
        assert self._function is not None
        loop = asyncio.get_running_loop()
        with anyio.CancelScope() as scope:
            self._open(lambda: loop.call_soon_threadsafe(scope.cancel))
            try:
                return await self._function()
            finally:
                self._close()
        raise self._cancellation()

    def _cancellation(self) -> OperationCancelledError:
        return OperationCancelledError(
            f"The {self.name} was cancelled before it was committed",
            hint="Nothing was left behind; call it again if it is wanted after all.",
        )

    def _open(self, interrupt: Callable[[], object]) -> None:
        with self._lock:
            self._interrupt = interrupt
            if self._cancelled:
                interrupt()

    def _close(self) -> None:
        with self._lock:
            self._interrupt = None


def run(function: Callable[[], Awaitable[T]], name: str, watch: Watch | None = None) -> T:
    """Runs a coroutine function to its end and returns its result.

    An interrupt of the waiting thread cancels the job, waits until it has cleared up, and is
    then raised.
    """
    job = Job(function, name, owed=False, watch=watch)
    try:
        job.attend(job.finished)
        return job.value()
    finally:
        del job


async def to_the_end(function: Callable[[], Awaitable[T]]) -> T:
    """Awaits what is not to be broken off, although the job that it is a part of is cancelled."""
    with anyio.CancelScope(shield=True):
        return await function()
    raise InternalError("What is shielded was broken off")


def _context() -> contextvars.Context:
    """The caller's context, less what says which event loop runs in the caller's thread."""
    context = contextvars.copy_context()
    sniffio: Any = sys.modules.get("sniffio")
    if sniffio is not None:
        context.run(sniffio.current_async_library_cvar.set, None)
    return context


def release(error: BaseException) -> None:
    """Lets go of what the frames of an error hold: a whole training state may be among it."""
    for each in _with_causes(error):
        traceback.clear_frames(each.__traceback__)


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [also for also in (each.__cause__, each.__context__) if also is not None]
        if isinstance(each, BaseExceptionGroup):
            waiting += cast("tuple[BaseException, ...]", each.exceptions)
