"""Handlers: what gives effects their meaning, and how they stack.

A handler sees every effect of the operations that start inside its ``with`` block. It answers an
effect itself, or passes it outward with ``forward``, as it came or changed; the outermost handler
of all is the live one, which touches the world. The stack is an immutable tuple in a
``ContextVar``: an operation keeps the stack it started with, like its settings.

>>> import sealwax.runtime as runtime
>>> class Count(runtime.Handler):
...     def __init__(self):
...         self.seen = 0
...
...     async def perform(self, effect, forward):
...         self.seen += 1
...         return await forward(effect)
"""

from __future__ import annotations

import abc
import contextlib
import contextvars
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeAlias

from sealwax.effects import Effect
from sealwax.runtime import early

Forward: TypeAlias = Callable[[Effect], Awaitable[Any]]
Stack: TypeAlias = "tuple[Handler, ...]"

_stack: contextvars.ContextVar[tuple[Handler, ...]] = contextvars.ContextVar(
    "sealwax.handlers", default=()
)


class Handler(abc.ABC):
    """Gives meaning to effects; a context manager that puts itself on the stack."""

    @abc.abstractmethod
    async def perform(self, effect: Effect, forward: Forward) -> Any:
        """Answers ``effect``, or returns ``await forward(effect)``.

        Effects arrive from several tasks at once, and never with an unresolved ``From``.
        """

    def operation(self) -> contextlib.AbstractContextManager[Handler]:
        """What answers in this handler's place during one operation; left when that ends.

        For a handler that keeps something for as long as an operation takes.
        """
        return contextlib.nullcontext(self)

    def __enter__(self) -> Self:
        _stack.set((*_stack.get(), self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A block may be left in another task than it was entered in, where the stack never held
        # this handler: then there is nothing to take off.
        stack = _stack.get()
        for position in range(len(stack) - 1, -1, -1):
            if stack[position] is self:
                _stack.set(stack[:position])
                return


def current() -> Stack:
    """The handlers of the calling thread and task, outermost first."""
    return _stack.get()


async def perform(effect: Effect, stack: Stack, live: Forward) -> Any:
    """Hands an effect to the innermost handler; each may forward to the one outside it.

    A handler may give another answer than the one that it gets, so none is given early.
    """
    if not stack:
        return await live(effect)
    outer = stack[:-1]

    async def forward(passed: Effect) -> Any:
        return await perform(passed, outer, live)

    with early.taking(None):
        return await stack[-1].perform(effect, forward)
