"""Answers that come before their effect is done: where chunks lie is known before they are synced.

What needs only the answer of such a step may go on, while what comes after the step still waits.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

Take: TypeAlias = Callable[[Any], None]

_take: contextvars.ContextVar[Take | None] = contextvars.ContextVar("early", default=None)


@contextlib.contextmanager
def taking(take: Take | None) -> Generator[None]:
    """Has ``take`` called with what is answered early in the block; ``None`` lets nobody know."""
    token = _take.set(take)
    try:
        yield
    finally:
        _take.reset(token)


def answer(value: Any) -> None:
    """Gives the answer of the effect that is being performed in this task."""
    take = _take.get()
    if take is not None:
        take(value)
