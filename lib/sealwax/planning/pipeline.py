"""``bind`` and ``map`` of ``returns``, with types that a checker without its plugin can follow.

And the way out: ``raised``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from returns import pointfree
from returns.result import Result

from sealwax.errors import SealwaxError

A = TypeVar("A")
B = TypeVar("B")


def bind(
    function: Callable[[A], Result[B, SealwaxError]],
) -> Callable[[Result[A, SealwaxError]], Result[B, SealwaxError]]:
    """A step that may fail, to be used in ``flow``."""
    made: Any = cast(Any, pointfree.bind)(function)
    return made


def lift(
    function: Callable[[A], B],
) -> Callable[[Result[A, SealwaxError]], Result[B, SealwaxError]]:
    """A step that cannot fail, to be used in ``flow``."""
    made: Any = cast(Any, pointfree.map_)(function)
    return made


def raised(outcome: Result[Any, SealwaxError]) -> Any:
    """The value of a result; a failed one becomes the exception that it carries."""
    failure = outcome.swap().value_or(None)
    if failure is not None:
        raise failure
    return outcome.unwrap()


def first(failures: Sequence[SealwaxError]) -> SealwaxError:
    """The first of several failures, with the others as notes."""
    for other in failures[1:]:
        failures[0].add_note(f"Also failed: {other}")
    return failures[0]
