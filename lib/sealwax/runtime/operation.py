"""One operation from its call to its end: what it captured, and how its parts are run."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio

from sealwax.effects import Effect, Plan
from sealwax.effects.wording import sentence
from sealwax.errors import (
    InternalError,
    OperationTimeoutError,
    OptionUnavailableError,
    SealwaxError,
    StorageError,
)
from sealwax.options import Options
from sealwax.runtime import handlers, logs
from sealwax.runtime.executor import Limits, execute
from sealwax.runtime.live import Live
from sealwax.runtime.watch import Watch
from sealwax.settings.availability import unavailable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What an operation captured when it was called, and keeps to its end.

    Attributes:
      title: The verb, for errors.
      path: Absolute path that it works on.
      options: The settings.
      stack: The effect handlers.
      watch: What it is doing; its deadline counts from here.
    """

    title: str
    path: str
    options: Options
    stack: handlers.Stack = dataclasses.field(default_factory=handlers.current)
    watch: Watch = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "watch", Watch(self.options.asynchronous.timeout_secs))

    @property
    def limits(self) -> Limits:
        """The byte budgets that the settings ask for."""
        memory = self.options.memory
        return Limits(
            write=memory.write_concurrent_bytes,
            read=memory.read_concurrent_bytes,
        )

    @property
    def rich(self) -> bool:
        """Whether named tuples are told from dicts where there is no template."""
        return self.options.pytree.saving.pytree_metadata_options.support_rich_types

    async def execute(
        self,
        plan: Plan,
        perform: Callable[[Effect], Awaitable[Any]],
        *,
        sources: Sequence[Any] | Mapping[str, Any] = (),
        on_staged: Callable[[], None] | None = None,
    ) -> Any:
        """Performs the plan of this operation, within its budgets; see ``executor.execute``."""
        self.watch.names = plan.names
        with logs.ending(self.title, self.path, plan.bytes, self.watch.took()):
            return await execute(
                plan,
                perform,
                sources=sources,
                limits=self.limits,
                meter=self.watch.meter,
                on_staged=on_staged,
            )

    @asynccontextmanager
    async def performing(self) -> AsyncGenerator[Callable[[Effect], Awaitable[Any]]]:
        """Gives the function that performs an effect, and ends what it has in use.

        Raises:
          OperationTimeoutError: The deadline came before the block was left.
        """
        notes: list[str] = []

        async def perform(effect: Effect) -> Any:
            with (
                self.watch.doing(effect),
                logs.performing(self.title, self.path, effect, self.watch.names),
            ):
                try:
                    return await handlers.perform(effect, stack, live)
                except anyio.get_cancelled_exc_class() as cancelled:
                    if being_cancelled():
                        raise
                    # A step that ends so would let those wait for ever that need it.
                    raise self._broken_off(effect) from cancelled

        try:
            with (
                contextlib.closing(Live(self.options)) as live,
                contextlib.closing(contextlib.ExitStack()) as entered,
                anyio.move_on_after(self.watch.left()) as deadline,
            ):
                stack = tuple(entered.enter_context(each.operation()) for each in self.stack)
                try:
                    yield perform
                except anyio.get_cancelled_exc_class() as cancelled:
                    notes += getattr(cancelled, "__notes__", [])
                    raise
        except SealwaxError as error:
            self._suspect(error.located(path=self.path))
            raise
        except Exception as error:
            self._suspect(error)
            raise
        if deadline.cancelled_caught:
            raise self._late(notes)

    def _broken_off(self, effect: Effect) -> InternalError:
        return InternalError(
            f"Could not {sentence(effect, self.watch.names)}: what performs it was cancelled, and "
            f"the {self.title} was not",
            path=self.path,
        )

    def _suspect(self, error: Exception) -> None:
        """Names the handlers that are not the library's, where one may be what is wrong."""
        kinds = [type(each) for each in self.stack]
        foreign = [
            kind.__qualname__ for kind in kinds if not kind.__module__.startswith("sealwax.")
        ]
        described = isinstance(error, SealwaxError) and not isinstance(error, InternalError)
        if foreign and not described and not getattr(error, "__notes__", None):
            names = ", ".join(dict.fromkeys(foreign))
            error.add_note(f"What the effect handler {names} raised or answered may be the cause.")

    def _late(self, notes: list[str]) -> OperationTimeoutError:
        error = OperationTimeoutError(
            f"The {self.title} took longer than {self.watch.seconds:g} s and was given up "
            f"({self.watch.status_when_late()})",
            path=self.path,
            hint="Raise ctx.asynchronous.timeout_secs, or set it to None for no limit.",
        )
        for note in notes:
            error.add_note(note)
        return error


def being_cancelled() -> bool:
    """Whether the current task is asked to stop, from outside of what it awaits."""
    if anyio.current_effective_deadline() == -math.inf:
        return True
    try:
        task = asyncio.current_task()
    except RuntimeError:  # trio's
        return False
    return task is not None and task.cancelling() > 0


async def looking(perform: Callable[[Effect], Awaitable[Any]], effect: Effect) -> Any:
    """Performs an effect that only looks, and describes its failure."""
    try:
        return await perform(effect)
    except SealwaxError:
        raise
    except OSError as error:
        what = f"could not {sentence(effect)}"
        path = getattr(effect, "path", None)
        raise StorageError.from_os_error(error, what, path=path) from error


def raise_unavailable(options: Options, operation: Literal["save", "load", "delete"]) -> None:
    """Refuses what cannot act yet, instead of ignoring it.

    Raises:
      OptionUnavailableError: A setting, or this job, asks for what is not there.
    """
    import jax as _jax

    jax: Any = _jax
    error = unavailable(options, operation)
    if error is not None:
        raise error
    # Only then: asking starts JAX's backend, whose memory and threads a save of host arrays has no
    # use for, and which no fork survives.
    if jax.distributed.is_initialized() and jax.process_count() > 1:
        raise OptionUnavailableError(
            f"A {operation} by several processes together is not there yet",
            found=f"{jax.process_count()} processes",
            hint="Let one process that runs alone do it, for now.",
        )
