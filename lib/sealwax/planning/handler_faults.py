"""What a handler that plans did wrong, as errors that name it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from returns.result import Result

from sealwax.errors import InvalidHandlerError, SealwaxError
from sealwax.planning.pipeline import raised

P = ParamSpec("P")
T = TypeVar("T")


def guarded(by: str, doing: str, function: Callable[P, T]) -> Callable[P, T]:
    """A function of a handler's, whose exceptions become errors that say whose it is.

    Args:
      by: The handler.
      doing: What it does with the function.
      function: The function.
    """

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (SealwaxError, MemoryError):
            raise
        except Exception as error:
            raise failed(by, doing, error) from error

    return call


def failed(by: str, doing: str, error: Exception) -> InvalidHandlerError:
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


def answer(by: str, doing: str, function: Callable[..., Any], *args: Any) -> Any:
    """What a method of a handler gives, or the value of the ``Result`` that it gives."""
    found = guarded(by, doing, function)(*args)
    return raised(found) if isinstance(found, Result) else found  # pyright: ignore
