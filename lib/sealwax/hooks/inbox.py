"""The host's side of a hook: states come in parts, and are saved one after another.

A program that delivers faster than its states can be written is held up where it begins the next.
It then waits for saves alone, which need nothing of JAX, never for another device: such a wait
might take the thread that the other device needs.
"""

from __future__ import annotations

import collections
import contextvars
import dataclasses
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import numpy as np

from sealwax.errors import HookError, SealwaxError
from sealwax.runtime import exits
from sealwax.runtime.background import Job

Parts: TypeAlias = dict[tuple[int, int], np.ndarray[Any, Any]]
"""Data by the number of the leaf and of the device."""

GRACE = 10.0
"""Seconds without any new part after which those that are missing are given up."""


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class Letter:
    """One state on its way from a program to a file.

    Attributes:
      step: Its step.
      metrics: What was measured there.
      assemble: Makes the state of its parts.
      missing: How many deliveries are yet to come.
      devices: How many devices are yet to begin it.
      parts: What has come.
      root: Where it goes.
      refusal: Why it is not taken.
    """

    step: int
    metrics: dict[str, Any]
    assemble: Callable[[Parts], Any]
    missing: int = 0
    devices: int = 0
    parts: Parts = dataclasses.field(default_factory=dict[tuple[int, int], Any])
    root: str = ""
    refusal: SealwaxError | None = None


class Inbox:
    """Takes states in parts, from the threads of any devices, and saves them in order.

    Args:
      write: Saves one state.
      root: Where the states go that begin from now on.
      in_flight: How many complete states may wait or be written before programs are held up.
      stop: Whether a program that goes on after a failed save is stopped.
    """

    def __init__(
        self,
        write: Callable[[Letter], Awaitable[None]],
        root: str,
        *,
        in_flight: int,
        stop: bool,
    ) -> None:
        self.root = root
        self.stopped = False
        self._write = write
        self._in_flight = in_flight
        self._stop = stop
        self._captured = contextvars.copy_context()
        self._changed = threading.Condition()
        self._begun: dict[int, int] = {}
        self._first = 0
        self._open: dict[int, Letter] = {}
        self._order: collections.deque[Letter] = collections.deque()
        self._queue: collections.deque[Letter] = collections.deque()
        self._backlog = 0
        self._writing = False
        self._arrived = 0
        self._failure: tuple[int, BaseException] | None = None
        self._jobs: list[Job[None]] = []

    def begin(self, device: int, letter: Letter) -> int:
        """A device is about to deliver: the n-th time it is its part of the n-th letter.

        Returns:
          The number of the letter.

        Raises:
          HookError: An earlier save failed, and programs are to stop then.
        """
        with self._changed:
            number = self._begun.get(device, self._first)
            self._begun[device] = number + 1
            known = self._open.get(number)
            if known is None:
                known = self._open[number] = letter
                self._admit(letter)
            known.devices -= 1
            self._arrived += 1
            self._close(number)
            # All devices are told the same: one that went on alone would wait for the others.
            if known.refusal is not None:
                self.stopped = True
                raise known.refusal
            self._changed.wait_for(lambda: self._backlog < self._in_flight)
        self._forward()
        return number

    def _admit(self, letter: Letter) -> None:
        letter.root = self.root
        if self._failure is not None and self._stop:
            letter.refusal = _refusal(letter.step, *self._failure)
            return
        self._order.append(letter)

    def receive(self, number: int, parts: Parts) -> None:
        """A device delivers parts of the letter of this number."""
        with self._changed:
            letter = self._open.get(number)
            if letter is None:
                return  # It was given up meanwhile.
            letter.parts |= parts
            letter.missing -= 1
            self._arrived += 1
            self._close(number)
        self._forward()

    def post(self, letter: Letter) -> None:
        """Takes a state that is complete already."""
        with self._changed:
            self._admit(letter)
            if letter.refusal is not None:
                raise letter.refusal
            self._changed.wait_for(lambda: self._backlog < self._in_flight)
        self._forward()

    def _close(self, number: int) -> None:
        letter = self._open[number]
        if not letter.devices and (letter.refusal is not None or not letter.missing):
            del self._open[number]
            self._changed.notify_all()

    def _forward(self) -> None:
        """Hands over what is complete, in the order in which it began."""
        with self._changed:
            while self._order and not self._order[0].missing:
                self._queue.append(self._order.popleft())
                self._backlog += 1
            idle = bool(self._queue) and not self._writing
            self._writing = self._writing or idle
        if idle:
            self._captured.copy().run(self._start)

    def _start(self) -> None:
        job = Job(self._drain, f"saving from a compiled program to {self.root!r}")
        with self._changed:
            self._jobs.append(job)
        job.start()

    async def _drain(self) -> None:
        failures: list[Exception] = []
        while (letter := self._next()) is not None:
            step = letter.step
            try:
                await self._write(letter)
            except Exception as error:
                error.add_note(f"It was step {step} that a compiled program saved.")
                failures.append(error)
                with self._changed:
                    self._failure = self._failure or (step, error)
            finally:
                del letter
                with self._changed:
                    self._backlog -= 1
                    self._changed.notify_all()
        raise_first(failures)

    def _next(self) -> Letter | None:
        with self._changed:
            if self._queue:
                return self._queue.popleft()
            self._writing = False
            return None

    def settle(self, grace: float) -> None:
        """Waits for the rest of what has begun, and gives it up when nothing comes any more."""
        with self._changed:
            while self._open:
                arrived = self._arrived
                self._changed.wait_for(
                    lambda before=arrived: not self._open or self._arrived > before, grace
                )
                if self._arrived == arrived and self._open:
                    self._give_up()
        self._forward()

    def _give_up(self) -> None:
        for letter in self._open.values():
            if letter.refusal is None and letter.missing:
                letter.assemble = _lost(letter.step, letter.missing)
                letter.missing = 0
        self._open.clear()
        self._first = max(self._begun.values())
        self._begun.clear()

    def wait(self) -> None:
        """Waits until all is written.

        Raises:
          SealwaxError: A save failed; those that failed after it are notes on it.
        """
        with self._changed:
            jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.finished.wait()
            exits.asked(job)
        with self._changed:
            self._failure = None
        raise_first([job.error for job in jobs if job.error is not None])


def raise_first(errors: list[Any]) -> None:
    """Raises the first of these errors, with the others as notes on it."""
    if not errors:
        return
    first, *others = errors
    for other in others:
        first.add_note(f"Then also: {other}")
    raise first


def _refusal(step: int, failed: int, error: BaseException) -> HookError:
    refusal = HookError(
        f"The save of step {failed} failed, and the program was stopped when it came to step "
        f"{step}: {error}",
        hint="wait() of the hook raises the error itself; programs can be started again then.",
    )
    refusal.__cause__ = error
    return refusal


def _lost(step: int, left: int) -> Callable[[Parts], Any]:
    def fail(parts: Parts) -> Any:
        raise HookError(
            f"The state of step {step} did not come in full: {left} of its parts are missing",
            hint="The program failed meanwhile; or it runs under shard_map, and the condition of "
            "the hook does not hold on every device alike.",
        )

    return fail
