"""``AsyncResponse``: a hold on an operation that goes on in the background."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from sealwax.errors import OperationTimeoutError
from sealwax.runtime import exits
from sealwax.runtime.background import Job
from sealwax.runtime.meter import Meter, Progress

T = TypeVar("T")
_log = logging.getLogger("sealwax")


class AsyncResponse(Generic[T]):
    """An operation that goes on in the background.

    ``result()`` waits for it, and so does ``await response``. A failure that is never asked for
    is reported when the interpreter exits, and the exit status is then 74.

    >>> import sealwax as ocp
    >>> response = ocp.save_async(getfixture("tmp_path") / "ckpt", {"step": 1})
    >>> response.result()
    >>> response.done()
    True
    """

    def __init__(self, job: Job[T], meter: Meter) -> None:
        self._job = job
        self._meter = meter

    def result(self, timeout: float | None = None) -> T:
        """Waits for the end and returns the result.

        Args:
          timeout: Seconds to wait at most; the operation goes on when they have passed.

        Raises:
          OperationTimeoutError: The time has passed.
          SealwaxError: The operation failed; the same error each time it is asked for.
        """
        if not self._job.finished.wait(timeout):
            now = self.progress
            raise OperationTimeoutError(
                f"The {self._job.name} is not finished after {timeout:g} s; it goes on, with "
                f"{now.effects_done} of {now.effects_total} effects done",
                hint="Call result() again, or cancel() to give it up.",
            )
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
        return self._meter.now

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
            except Exception:
                _log.exception(
                    "A callback of the %s failed; the operation did not.", self._job.name
                )

        self._job.finished.call(call)

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        await self._job.finished.reached()
        return self._job.value()
