"""What a class has to have to be saved, or to save others: the protocols of Orbax v1.

A class that was written for Orbax's protocols fits these without a change, and the other way
round. ``save`` and ``load`` have two phases: what they do before they return happens while the
caller waits, and the awaitable that they return is awaited in the background. The protocol of
handlers that plan is in ``planning.planners``; what both have in common is here.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import pathlib

T = TypeVar("T")
AbstractT = TypeVar("AbstractT")


class PathAwaitingCreation(Protocol):
    """A directory that may not be there yet."""

    def __truediv__(self, other: Any) -> PathAwaitingCreation:
        """A path below this one, which is there once this one is and somebody has made it."""
        ...

    @property
    def path(self) -> pathlib.Path:
        """The path, for its name: nothing may be written there before ``await_creation``."""
        ...

    async def await_creation(self) -> pathlib.Path:
        """Waits until the directory is there, and gives its path."""
        ...


@runtime_checkable
class StatefulCheckpointable(Protocol):
    """An object that saves and loads itself, such as a data iterator."""

    async def save(self, directory: PathAwaitingCreation) -> Awaitable[None]:
        """Captures the state, and returns what writes it into ``directory``."""
        ...

    async def load(self, directory: pathlib.Path) -> Awaitable[None]:
        """Returns what reads ``directory`` and puts this object into the state found there."""
        ...


class Handler(Protocol):
    """What every handler answers, whichever of the protocols it follows beside that."""

    def is_handleable(self, checkpointable: Any) -> bool:
        """Whether this handler can save the object."""
        ...

    def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool | None:
        """Whether this handler can load what the abstract form describes."""
        ...


PLANNED = ("plan_save", "plan_load")
CALLED = ("save", "load")


def plans(kind: type) -> bool:
    """Whether a handler's class is to be planned with, and not to be called.

    A class may follow both protocols, as the standard ones do; then what was overridden last
    counts, so that nobody's own ``save`` is passed over.

    >>> class Plain: plan_save = plan_load = save = load = None
    >>> class Derived(Plain): save = None
    >>> plans(Plain), plans(Derived)
    (True, False)
    """
    if not all(hasattr(kind, name) for name in PLANNED):
        return False
    planned = _newest(kind, (*PLANNED, "plan_metadata"))
    return planned <= _newest(kind, (*CALLED, "metadata"))


def _newest(kind: type, methods: tuple[str, ...]) -> int:
    """How far up the first class is that defines one of the methods itself."""
    depths = (n for n, base in enumerate(kind.__mro__) for name in methods if name in vars(base))
    return next(depths, len(kind.__mro__))


class CheckpointableHandler(Protocol[T, AbstractT]):
    """Saves and loads objects of type ``T``; ``AbstractT`` describes one without its data.

    A handler's class is registered, not an instance: it is called without arguments whenever an
    instance is needed.
    """

    async def save(self, directory: PathAwaitingCreation, checkpointable: T) -> Awaitable[None]:
        """Captures ``checkpointable``, and returns what writes it into ``directory``."""
        ...

    async def load(
        self, directory: pathlib.Path, abstract_checkpointable: AbstractT | None = None
    ) -> Awaitable[T]:
        """Returns what reads the object in ``directory``, as its abstract form asks."""
        ...

    async def metadata(self, directory: pathlib.Path) -> AbstractT:
        """Describes what ``directory`` holds without reading all of it."""
        ...

    def is_handleable(self, checkpointable: Any) -> bool:
        """Whether this handler can save the object."""
        ...

    def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool | None:
        """Whether this handler can load what the abstract form describes."""
        ...
