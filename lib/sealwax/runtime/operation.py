"""One operation from its call to its end: what it captured, and how its parts are run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

from sealwax.availability import unavailable
from sealwax.effects import Effect
from sealwax.effects.wording import sentence
from sealwax.errors import OptionUnavailableError, SealwaxError, StorageError
from sealwax.options import Options
from sealwax.runtime import handlers
from sealwax.runtime.executor import Limits
from sealwax.runtime.live import Live


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What an operation captured when it was called, and keeps to its end.

    Attributes:
      path: Absolute path that it works on.
      options: The settings.
      stack: The effect handlers.
    """

    path: str
    options: Options
    stack: handlers.Stack = dataclasses.field(default_factory=handlers.current)

    @property
    def limits(self) -> Limits:
        """The byte budgets and the deadline that the settings ask for."""
        memory = self.options.memory
        return Limits(
            write=memory.write_concurrent_bytes,
            read=memory.read_concurrent_bytes,
            seconds=self.options.asynchronous.timeout_secs,
        )

    @property
    def rich(self) -> bool:
        """Whether named tuples are told from dicts where there is no template."""
        return self.options.pytree.saving.pytree_metadata_options.support_rich_types

    @asynccontextmanager
    async def performing(self) -> AsyncGenerator[Callable[[Effect], Awaitable[Any]]]:
        """Gives the function that performs an effect, and ends what it has in use."""
        live = Live()
        try:
            yield functools.partial(handlers.perform, stack=self.stack, live=live)
        except SealwaxError as error:
            error.located(path=self.path)
            raise
        finally:
            live.close()


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


def raise_unavailable(options: Options, operation: Literal["save", "load"]) -> None:
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
            hint="Gather the state in one process that runs alone, for now.",
        )
