"""What the tests of things that happen at the same time share: no luck, no long sleeps."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio

from sealwax.context import Context
from sealwax.effect_handlers import Handler
from sealwax.runtime.moments import Moment
from sealwax.settings.lens import to_dict


class Gate(Handler):
    """Holds every effect of some types until it is opened; it can be cancelled while it waits.

    ``arrived`` is set when as many as ``parties`` effects wait, or have passed.
    """

    def __init__(self, *kinds: type[Any], parties: int = 1) -> None:
        self._kinds = kinds
        self._parties = parties
        self._lock = threading.Lock()
        self._opened = Moment("gate")
        self.hits = 0
        self.arrived = Moment("gate")

    def open(self) -> None:
        self._opened.set()

    async def perform(self, effect: Any, forward: Any) -> Any:
        if isinstance(effect, self._kinds):
            with self._lock:
                self.hits += 1
                if self.hits >= self._parties:
                    self.arrived.set()
            await self._opened.reached()
        return await forward(effect)

    async def reached(self) -> None:
        """Waits, in the caller's loop, until the effects have arrived."""
        with anyio.fail_after(60):
            await self.arrived.reached()


class UntilExit(Handler):
    """Holds every effect of some types until the interpreter goes down: it is pending till then."""

    def __init__(self, *kinds: type[Any]) -> None:
        self._kinds = kinds

    async def perform(self, effect: Any, forward: Any) -> Any:
        if isinstance(effect, self._kinds):
            while not threading._SHUTTING_DOWN:  # noqa: ASYNC110 there is nothing to wait for
                await anyio.sleep(0.005)
        return await forward(effect)


@contextlib.contextmanager
def gate(*kinds: type[Any], parties: int = 1) -> Iterator[Gate]:
    """A gate on the stack that is open at the latest when the block is left."""
    with Gate(*kinds, parties=parties) as made:
        try:
            yield made
        finally:
            made.open()


def eventually(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits until something holds; it must come by itself."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "this never came to hold"
        time.sleep(0.005)


def open_below(directory: Path) -> list[str]:
    """What this process has open there: whatever others open or close, a leak is seen at once."""
    descriptors = [f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd")]
    targets: list[str] = []
    for each in descriptors:
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            targets.append(os.readlink(each))
    return [target for target in targets if target.startswith(str(directory))]


def names(directory: Path) -> list[str]:
    """What is in a directory, temporary directories among it."""
    return sorted(os.listdir(directory))


def settings(changes: dict[str, object]) -> dict[str, Any]:
    """What a checkpoint records of settings that differ from the defaults by ``changes``."""
    return json.loads(json.dumps(to_dict(Context().replace(changes).options)))


def our_threads() -> list[str]:
    """The threads that sealwax, or a loop of its own, keeps."""
    prefixes = ("sealwax", "AnyIO")
    return [t.name for t in threading.enumerate() if t.name.startswith(prefixes)]
