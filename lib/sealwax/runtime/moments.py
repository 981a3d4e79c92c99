"""A moment: something that happens once, and that threads and tasks can wait for."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel

from sealwax.errors import OperationCancelledError

_PIECE = 0.5


class Moment:
    """Something that happens once.

    Args:
      name: The operation that will make it happen, for errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._process = os.getpid()
        self._event = threading.Event()
        # A signal's handler may come back here in the thread that it interrupts.
        self._lock = threading.RLock()
        self._calls: list[Callable[[], object]] = []

    def set(self) -> None:
        """Lets it happen; once it has, nothing more."""
        with self._lock:
            self._event.set()
            calls, self._calls = self._calls, []
        # One that raises keeps no other from being called: somebody may wait for it.
        with contextlib.ExitStack() as stack:
            for call in reversed(calls):
                stack.callback(call)

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._event.is_set()

    def call(self, function: Callable[[], object]) -> None:
        """Calls a function when it happens, in the thread where it does; at once when it has."""
        with self._lock:
            if not self._event.is_set():
                self._calls.append(function)
                return
        function()

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks until it has happened, and tells whether it has."""
        if self.is_set():
            return True
        self._may_come()
        if timeout is not None and timeout <= threading.TIMEOUT_MAX:
            return self._event.wait(timeout)
        # In pieces: Python does not notice a signal that comes just before it blocks.
        while not self._event.wait(_PIECE):
            pass
        return True

    async def reached(self) -> None:
        """Waits in the caller's own event loop; no thread waits."""
        if self.is_set() or not self._may_come():
            await anyio.lowlevel.checkpoint()
            return
        happened = anyio.Event()
        loop: Any = anyio.lowlevel.current_token().native_token
        soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and its tasks with it
                soon(happened.set)

        self.call(wake)
        try:
            await happened.wait()
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._calls.remove(wake)

    def _may_come(self) -> bool:
        """Tells that it may happen here: a forked process has none of its parent's threads."""
        if self._process != os.getpid():
            raise OperationCancelledError(
                f"The {self._name} does not go on in this process, which was forked from the one "
                "that started it",
                hint="Wait for it there.",
            )
        return True
