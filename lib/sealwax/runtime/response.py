"""``AsyncResponse``: a hold on an operation that goes on in the background."""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from sealwax.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DeadlockError,
    OperationTimeoutError,
)
from sealwax.runtime import exits
from sealwax.runtime.background import Job
from sealwax.runtime.meter import Progress
from sealwax.runtime.moments import Moment

T = TypeVar("T")
_log = logging.getLogger("sealwax")


class Point:
    """A point of an operation: threads ``wait()`` for it, and tasks ``await`` it.

    The operation's failure on the way there is raised to whoever waits.

    >>> import sealwax as ocp
    >>> response = ocp.save_async(getfixture("tmp_path") / "ckpt", {"step": 1})
    >>> response.committed.wait()
    >>> response.committed.is_reached()
    True
    """

    def __init__(self, job: Job[Any], name: str, moment: Moment) -> None:
        self._job = job
        self._name = name
        self._moment = moment
        self.over = job.finished
        """The point is reached, or never will be."""
        if moment is not job.finished:
            self.over = Moment(job.name)
            moment.call(self.over.set)
            job.finished.call(self.over.set)

    def wait(self, timeout: float | None = None) -> None:
        """Blocks until the operation is there.

        Args:
          timeout: Seconds to wait at most; the operation goes on when they have passed.

        Raises:
          ArgumentTypeError: ``timeout`` is not a number.
          OperationTimeoutError: The time has passed.
          DeadlockError: The operation itself called this, and waits for its return.
          SealwaxError: The operation failed before.
        """
        timeout = _seconds(timeout)
        if timeout is None and not self.over.is_set() and self._job.works_here():
            raise DeadlockError(
                f"What the {self._job.name} called waits for the end of the same {self._job.name}",
                hint="It ends when this has returned; use on_complete for what comes afterwards.",
            )
        if not self.over.wait(timeout):
            raise OperationTimeoutError(
                f"The {self._job.name} is not {self._name} after {timeout:g} s; it goes on "
                f"({self._job.watch.status()})",
                hint="Wait again, or cancel() to give it up.",
            )
        self._raise()

    def is_reached(self) -> bool:
        """Whether the operation got there."""
        reached = self._moment.is_set()
        return reached and (self._moment is not self._job.finished or self._job.error is None)

    def __await__(self) -> Generator[Any, Any, None]:
        return self._reach().__await__()

    async def _reach(self) -> None:
        await self.over.reached()
        self._raise()

    def _raise(self) -> None:
        if not self.is_reached():
            self._job.value()


def _seconds(timeout: object) -> float | None:
    """How long to wait; ``None`` for ever.

    Raises:
      ArgumentTypeError: It is not a number.
      ArgumentValueError: It is one that no clock shows.
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, numbers.Real):
        raise ArgumentTypeError(
            "A timeout is a number of seconds",
            expected="a number such as 30.0, or None to wait for the end",
            found=repr(timeout),
        )
    seconds = float(timeout)
    if math.isnan(seconds):
        raise ArgumentValueError(
            "A timeout is a number of seconds", expected="a number such as 30.0", found="NaN"
        )
    return seconds


class AsyncResponse(Generic[T]):
    """An operation that goes on in the background.

    ``result()`` waits for its end, and so does ``await response``. A failure that is never asked
    for is reported when the interpreter exits, and the exit status is then 74.

    Attributes:
      staged: The point from which on what was passed may be donated, changed or deleted.
      committed: The point at which the operation is done: the checkpoint is complete, visible,
        and on stable storage. A load has only this point, and ``staged`` is the same.

    >>> import sealwax as ocp
    >>> response = ocp.save_async(getfixture("tmp_path") / "ckpt", {"step": 1}, until="captured")
    >>> response.staged.wait()  # from here on the state may be donated
    >>> response.result()
    >>> response.done()
    True
    """

    def __init__(self, job: Job[T], staged: Moment | None = None) -> None:
        self._job = job
        self.committed = Point(job, "finished", job.finished)
        self.staged = self.committed if staged is None else Point(job, "staged", staged)

    def result(self, timeout: float | None = None) -> T:
        """Waits for the end and returns the result.

        Args:
          timeout: Seconds to wait at most; the operation goes on when they have passed.

        Raises:
          ArgumentTypeError: ``timeout`` is not a number.
          OperationTimeoutError: The time has passed.
          SealwaxError: The operation failed; the same error each time it is asked for.
        """
        self.committed.wait(timeout)
        return self._job.value()

    def done(self) -> bool:
        """Whether the operation has ended, well or not."""
        return self._job.finished.is_set()

    def cancel(self) -> None:
        """Asks the operation to stop; ``result()`` then raises, unless it was sealed already."""
        self._job.cancel()

    @property
    def progress(self) -> Progress:
        """How far the operation is."""
        return self._job.watch.meter.now

    def on_complete(
        self,
        callback: Callable[[T], object],
        *,
        on_error: Callable[[BaseException], object] | None = None,
    ) -> None:
        """Calls a function once, in the background thread, when the operation has ended.

        Args:
          callback: Called with the result; at once when there is one already.
          on_error: Called with the error instead, when the operation failed; nothing is then
            reported at exit.
        """

        def call() -> None:
            error = self._job.error
            try:
                if error is None:
                    callback(self._job.value())
                elif on_error is not None:
                    on_error(error)
                    exits.asked(self._job)
            except BaseException as raised:
                _log.exception(
                    "A callback of the %s failed; the operation did not.", self._job.name
                )
                # In the job's own thread there is nothing that this could end.
                if not isinstance(raised, Exception) and not self._job.works_here():
                    raise

        self._job.finished.call(call)

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        await self.committed
        return self._job.value()
