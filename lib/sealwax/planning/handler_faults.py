"""What a handler that plans did wrong, as errors that name it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from returns.result import Result

from sealwax.errors import InvalidHandlerError, SealwaxError
from sealwax.planning.pipeline import raised

P = ParamSpec("P")
T = TypeVar("T")


def guarded(by: str, doing: str, function: Callable[P, T]) -> Callable[P, T]:
    """A function of a handler's, whose exceptions become errors that say whose it is.

    So does one that is taken for the cancellation of a task, which nobody asked for here.

    Args:
      by: The handler.
      doing: What it does with the function.
      function: The function.
    """

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            found = function(*args, **kwargs)
        except (SealwaxError, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            raise failed(by, doing, error) from error
        if inspect.iscoroutine(found):
            found.close()
            raise nonsense(by, doing, "what a plain function returns, without async", found)
        return found

    return call


def failed(by: str, doing: str, error: BaseException) -> InvalidHandlerError:
    """The error for what a handler raised."""
    return InvalidHandlerError(
        f"The handler {by} failed in {doing}: {type(error).__name__}: {error}",
        hint="The exception that it raised is the cause of this one.",
    )


def nonsense(by: str, doing: str, expected: str, found: object) -> InvalidHandlerError:
    """The error for what a handler answered."""
    return InvalidHandlerError(
        f"The handler {by} gave something else in {doing} than it should",
        expected=expected,
        found=f"an object of type {type(found).__qualname__}",
    )


def has(found: object, method: str) -> bool:
    """Whether an answer is an object with this method, and not its class."""
    return not isinstance(found, type) and callable(getattr(found, method, None))


def answer(by: str, doing: str, function: Callable[..., Any], *args: Any) -> Any:
    """What a method of a handler gives, or the value of the ``Result`` that it gives."""
    found = guarded(by, doing, function)(*args)
    if not isinstance(found, Result):
        return found
    given = cast("Result[object, object]", found)
    refusal = given.swap().value_or(None)
    if refusal is not None and not isinstance(refusal, SealwaxError):
        raise nonsense(by, doing, "a failed Result of one of sealwax.errors", refusal)
    return raised(cast("Result[object, SealwaxError]", given))
