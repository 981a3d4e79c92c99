"""An asyncio loop for handlers, in a thread of its own, that also works while Python goes down."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, cast

import anyio

from sealwax.context import Context
from sealwax.errors import InvalidHandlerError
from sealwax.options import Options
from sealwax.runtime.moments import Moment

P = ParamSpec("P")
T = TypeVar("T")
_READY = 2
_ENDS = (KeyboardInterrupt, SystemExit)
"""What ends an event loop at once, whatever else is in it, and then is printed by its thread."""
_MOST = 32


class Workers(concurrent.futures.Executor):
    """Threads of which some are there from the start.

    Python starts no thread while it goes down, and refuses work for its own pools; a save that
    is not finished by then needs them nevertheless.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0
        for _ in range(_READY):
            self._start()
            self._idle.release()

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        """Calls a function in one of the threads."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        self._work.put(call)
        if not self._idle.acquire(blocking=False) and self._count < _MOST:
            with contextlib.suppress(RuntimeError):  # Python goes down; those that are there do it.
                self._start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Lets the threads end once what was submitted is done; nobody waits for it."""
        for _ in range(self._count):
            self._work.put(None)

    def _start(self) -> None:
        threading.Thread(target=self._serve, name="sealwax handler").start()
        self._count += 1

    def _serve(self) -> None:
        while (call := self._work.get()) is not None:
            call()
            self._idle.release()


class _EventLoop(asyncio.SelectorEventLoop):
    """A loop of the plainest kind, with workers of ours for what is to run in any thread."""

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self._workers = workers

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        return super().run_in_executor(executor or self._workers, func, *args)


class HandlerLoop:
    """A thread with an asyncio loop.

    ``pending`` holds what handlers have begun and is still to be awaited.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self.pending: list[Any] = []
        self._ended: list[BaseException] = []
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        threading.Thread(target=self._run, name="sealwax handlers").start()
        self._ready.wait()

    async def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Runs a coroutine function in the loop and waits for its end, also when cancelled."""
        assert self._loop is not None
        loop, over = self._loop, Moment("handler")
        tasks: list[asyncio.Task[T | None]] = []
        ended: list[BaseException] = []

        async def call() -> T | None:
            try:
                # Whatever a handler asks for its settings finds those of the operation.
                with Context(self._options):
                    return await function(*args)
            except _ENDS as error:
                ended.append(error)
                return None

        def begin() -> None:
            tasks.append(loop.create_task(call()))
            tasks[0].add_done_callback(lambda _: over.set())

        loop.call_soon_threadsafe(begin)
        try:
            await over.reached()
        except BaseException:
            loop.call_soon_threadsafe(lambda: tasks[0].cancel())
            with anyio.CancelScope(shield=True):
                await over.reached()
            if not tasks[0].cancelled():
                tasks[0].exception()  # Asked for, so that asyncio does not complain of it.
            raise
        for error in (*ended, *self._ended):
            raise error
        if tasks[0].cancelled():
            raise InvalidHandlerError("The handler cancelled itself")
        return cast("T", tasks[0].result())

    def close(self) -> None:
        """Ends the loop and its threads, and drops what is still pending."""
        assert self._loop is not None
        assert self._stop is not None
        with contextlib.suppress(RuntimeError):  # The loop has ended by itself.
            self._loop.call_soon_threadsafe(self._stop.set)

    def _run(self) -> None:
        workers = Workers()
        try:
            with asyncio.Runner(loop_factory=lambda: _EventLoop(workers)) as runner:
                try:
                    runner.run(self._main())
                except _ENDS as error:  # Raised in a task that a handler made.
                    self._ended.append(error)
        finally:
            workers.shutdown()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._stop.wait()
        for rest in self.pending:
            # A coroutine that nobody awaits any more says so, unless it is closed.
            if inspect.iscoroutine(rest):
                rest.close()
