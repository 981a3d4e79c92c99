"""Starting a save or a deletion in the background, up to the point where its caller may go on."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias, TypeVar

from sealwax.errors import OptionValueError
from sealwax.runtime.background import Job
from sealwax.runtime.moments import Moment
from sealwax.runtime.operation import Operation
from sealwax.runtime.response import AsyncResponse

T = TypeVar("T")
Run: TypeAlias = Callable[[Callable[[], None]], Awaitable[T]]
Until: TypeAlias = Literal["staged", "captured"]
_PREPOSITION = {"delete_async": "of"}


def start(run: Run[T], operation: Operation, until: Until) -> AsyncResponse[T]:
    """Starts a captured operation in the background, and returns at the point that was asked for.

    Raises:
      SealwaxError: It failed before that.
    """
    job, response, early = prepare(run, operation, until)
    if early:
        job.start()
        return response
    job.attend(response.staged.over)
    response.staged.wait()
    return response


async def started(run: Run[T], operation: Operation, until: Until) -> AsyncResponse[T]:
    """Does what ``start`` does in the caller's own event loop."""
    job, response, early = prepare(run, operation, until)
    if early:
        job.start()
        return response
    await job.attended(response.staged.over)
    response.staged.wait()
    return response


def prepare(
    run: Run[T], operation: Operation, until: Until
) -> tuple[Job[T], AsyncResponse[T], bool]:
    """The job of an operation, a hold on it, and whether its caller goes on at once."""
    if until not in ("staged", "captured"):
        raise OptionValueError(
            "Argument 'until' has a value that it cannot have",
            expected="'staged' or 'captured'",
            found=repr(until),
        )
    name = f"{operation.title} {_PREPOSITION.get(operation.title, 'to')} {operation.path!r}"
    staged = Moment(name)
    job = Job(functools.partial(run, staged.set), name, watch=operation.watch)
    return job, AsyncResponse(job, staged), until == "captured"
