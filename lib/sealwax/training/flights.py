"""The one save or deletion of a checkpointer that may be under way, and what became of the last."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

from sealwax.errors import OperationCancelledError
from sealwax.runtime import exits
from sealwax.runtime.background import Job
from sealwax.training.history import Step


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """What goes on in the background.

    Attributes:
      job: The job that does it.
      saves: The step that it saves, with the time at which it began; ``None`` for a deletion.
    """

    job: Job[Any]
    saves: Step | None = None


class Flights:
    """Knows what is under way, and raises each failure to one caller."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: Flight | None = None

    @property
    def current(self) -> Flight | None:
        """What is under way."""
        last = self._last
        return None if last is None or last.job.finished.is_set() else last

    @property
    def saving(self) -> Step | None:
        """The step that is being saved."""
        current = self.current
        return None if current is None else current.saves

    def launch(self, flight: Flight) -> None:
        """Knows of a job that is about to start."""
        with self._lock:
            self._last = flight

    def wait(self) -> None:
        """Waits until nothing is under way.

        Raises:
          SealwaxError: It failed, and nobody was told.
        """
        last = self._last
        if last is not None:
            try:
                last.job.finished.wait()
            except OperationCancelledError:
                # Of a parent that this process was forked from: it is told once.
                self._forget(last)
                raise
        self.settle()

    def settle(self) -> None:
        """Raises the failure of the last one, if it is over and nobody was told."""
        with self._lock:
            last = self._last
            if last is None or not last.job.finished.is_set():
                return
            self._last = None
            owed = exits.is_owed(last.job)
        if owed:
            _raise(last.job)

    def _forget(self, flight: Flight) -> None:
        with self._lock:
            if self._last is flight:
                self._last = None


def _raise(job: Job[Any]) -> None:
    try:
        job.value()
    except Exception as error:
        error.add_note(f"This is the failure of the {job.name}, which went on in the background.")
        raise
