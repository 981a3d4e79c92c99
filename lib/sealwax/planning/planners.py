"""Handlers that plan: a protocol of pure methods, and how every handler comes to follow it.

Orbax's protocol lets a handler do what it likes with a directory. Here a handler says with values
what is to be written and read, and the library does it: within its budgets, through its effect
handlers, synced, with checksums, and in nobody's way.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from returns.result import Result, safe

from sealwax.checkpointables.protocols import CheckpointableHandler, Handler, plans
from sealwax.checkpointables.typestrings import typestrings
from sealwax.effects import ListDirectory, ListTree, Look, ReadEntries, ReadFile
from sealwax.errors import SealwaxError
from sealwax.planning.capture_tree import Captured
from sealwax.planning.handler_faults import answer, has, nonsense
from sealwax.planning.handler_items import NewItem, StoredItem
from sealwax.planning.load_items import Loading
from sealwax.planning.load_steps import LoadRequest
from sealwax.planning.pipeline import raised
from sealwax.planning.readings import ByCall, Known, Reading, ToldByCall
from sealwax.planning.writings import Called, Writing

T = TypeVar("T")
AbstractT_contra = TypeVar("AbstractT_contra", contravariant=True)
_Named = TypeVar("_Named", bound=SealwaxError)

Planned: TypeAlias = T | Result[T, SealwaxError]
"""What a planner gives: a value, or a ``Result`` that has one or an error."""

Looking: TypeAlias = Look | ListDirectory | ListTree | ReadFile | ReadEntries
"""The effects that a handler may look at an item with."""

Observe: TypeAlias = Callable[[Looking], Awaitable[Any]]
"""Performs an effect that only looks, below the directory of an item."""


class PlanningHandler(Protocol[T, AbstractT_contra]):
    """Says how objects of type ``T`` are saved and loaded, and does neither itself.

    Its methods are pure: they touch no file, and depend on their arguments alone. An error that
    one of them raises, or returns as a failed ``Result``, refuses the checkpointable. Like any
    handler it is registered by its class, which is called without arguments.

    >>> import sealwax as ocp
    >>> class Words(ocp.handlers.PlanningHandler[tuple, None]):
    ...     def is_handleable(self, checkpointable):
    ...         return isinstance(checkpointable, tuple)
    ...
    ...     def plan_save(self, checkpointable, item):
    ...         return ocp.handlers.Files({"words.txt": " ".join(checkpointable).encode()})
    ...
    ...     def plan_load(self, item, abstract_checkpointable):
    ...         return ocp.handlers.FromFiles(["words.txt"], lambda x: tuple(x.decode().split()))
    >>> ctx, path = ocp.Context(), getfixture("tmp_path") / "ckpt"
    >>> ctx.checkpointables.registry = ocp.handlers.local_registry().add(Words)
    >>> ocp.save_checkpointables(path, {"vocabulary": ("a", "b")}, context=ctx)
    >>> ocp.load_checkpointables(path, context=ctx)
    {'vocabulary': ('a', 'b')}
    """

    @abc.abstractmethod
    def is_handleable(self, checkpointable: Any) -> bool:
        """Whether this handler can save the object."""
        ...

    def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool | None:
        """Whether this handler can load what the abstract form describes; ``None`` is neither."""
        return None

    def recognizes(self, item: StoredItem) -> bool:
        """Whether what is stored may be of its making; ``False`` lets others have a try."""
        return True

    @abc.abstractmethod
    def plan_save(self, checkpointable: T, item: NewItem) -> Planned[Writing]:
        """Says what is to be written: ``Files``, or what a standard handler's ``plan_save`` gives.

        It is called before an asynchronous save returns. What it puts into its answer must not
        change any more when the caller goes on.
        """
        ...

    async def observe(self, item: StoredItem, look: Observe) -> object:
        """Looks at what is stored, where planning has to know; ``item.observed`` is the answer.

        Args:
          item: What is stored.
          look: Performs one of ``sealwax.effects`` that only look, such as
            ``ReadFile(path=item.path("header.json"))``. Nothing else may be awaited.
        """
        return None

    @abc.abstractmethod
    def plan_load(
        self, item: StoredItem, abstract_checkpointable: AbstractT_contra | None
    ) -> Planned[Reading[T]]:
        """Says what is to be read, and what becomes of it: such as ``FromFiles``."""
        ...

    def plan_metadata(self, item: StoredItem) -> Planned[Reading[Any]]:
        """Says what is to be read to describe the object; nothing is known of it by default."""
        return Known(None)


@dataclasses.dataclass(frozen=True, slots=True)
class ByProtocol(PlanningHandler[Any, Any]):
    """A handler of Orbax's protocol, as one that plans: to call it.

    Attributes:
      handler: The handler.
    """

    handler: CheckpointableHandler[Any, Any]

    def is_handleable(self, checkpointable: Any) -> bool:
        """What the handler says."""
        return self.handler.is_handleable(checkpointable)

    def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool | None:
        """What the handler says."""
        return self.handler.is_abstract_handleable(abstract_checkpointable)

    def plan_save(self, checkpointable: Any, item: NewItem) -> Writing:
        """Its two parts, and the checksums of what it wrote."""
        return Called(self.handler, checkpointable)

    def plan_load(self, item: StoredItem, abstract_checkpointable: Any) -> Reading[Any]:
        """A check of every file, and its two parts."""
        return ByCall(self.handler, abstract_checkpointable)

    def plan_metadata(self, item: StoredItem) -> Reading[Any]:
        """What it tells."""
        return ToldByCall(self.handler)


def planner_of(handler: Handler) -> PlanningHandler[Any, Any]:
    """A handler as one that plans."""
    if plans(type(handler)):
        return cast("PlanningHandler[Any, Any]", handler)
    return ByProtocol(cast("CheckpointableHandler[Any, Any]", handler))


def class_of(planner: PlanningHandler[Any, Any]) -> type[Handler]:
    """The class of a handler, which is not that of what calls it."""
    return type(planner.handler if isinstance(planner, ByProtocol) else planner)


def name_of(planner: PlanningHandler[Any, Any]) -> str:
    """What to call a handler in an error."""
    return class_of(planner).__qualname__


def method(planner: PlanningHandler[Any, Any], name: str) -> Callable[..., Any]:
    """A method of a handler, or that of the protocol where its class is not derived from it."""
    own: Callable[..., Any] | None = getattr(planner, name, None)
    return functools.partial(getattr(PlanningHandler, name), planner) if own is None else own


def capture_by(
    planner: PlanningHandler[Any, Any], checkpointable: object, item: NewItem
) -> Captured:
    """Captures a checkpointable, as its handler plans.

    Raises:
      SealwaxError: The handler refuses it, or is broken.
    """
    by, doing = name_of(planner), "plan_save"
    try:
        writing = answer(by, doing, method(planner, doing), checkpointable, item)
        if not has(writing, "captured"):
            raise nonsense(by, doing, "an answer such as sealwax.handlers.Files(...)", writing)
        return raised(writing.captured(item.name, typestrings(class_of(planner))[0], by))
    except SealwaxError as error:
        raise told(error, item.name) from error.__cause__


def recognizes(planner: PlanningHandler[Any, Any], item: StoredItem) -> bool:
    """Whether what is stored may be of a handler's making, as far as it says.

    Raises:
      SealwaxError: The handler is broken.
    """
    doing = "recognizes"
    try:
        return bool(answer(name_of(planner), doing, method(planner, doing), item))
    except SealwaxError as error:
        raise told(error, item.name) from error.__cause__


@safe(exceptions=(SealwaxError,))
def loading_by(
    planner: PlanningHandler[Any, Any], item: StoredItem, abstract: object, request: LoadRequest
) -> Loading:
    """The steps that load an item, as its handler plans.

    Args:
      planner: The handler.
      item: What is stored, and what ``observe`` found.
      abstract: What the caller passed for it.
      request: How the load was called.
    """
    return _loading(planner, item, request, "plan_load", abstract)


@safe(exceptions=(SealwaxError,))
def metadata_by(
    planner: PlanningHandler[Any, Any], item: StoredItem, request: LoadRequest
) -> Loading:
    """The steps that describe an item, as its handler plans."""
    return _loading(planner, item, request, "plan_metadata")


def _loading(
    planner: PlanningHandler[Any, Any],
    item: StoredItem,
    request: LoadRequest,
    doing: str,
    *args: object,
) -> Loading:
    by = name_of(planner)
    try:
        reading = answer(by, doing, method(planner, doing), item, *args)
        if not has(reading, "loading"):
            raise nonsense(by, doing, "an answer such as sealwax.handlers.FromFiles(...)", reading)
        return raised(reading.loading(item, request, by))
    except SealwaxError as error:
        raise told(error, item.name) from error.__cause__


def told(error: _Named, item: str) -> _Named:
    """An error that names its checkpointable, unless its sentence does so already."""
    named = repr(item) in error.what or f"{item}[" in error.what
    return error if named else error.located(item=item)
