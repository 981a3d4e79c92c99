"""Registries of handlers, as values.

A registry never changes: ``with_handler`` gives another one. So whoever holds one, such as an
operation, holds it as it was.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

from sealwax.checkpointables.protocols import CALLED, PLANNED, Handler
from sealwax.checkpointables.typestrings import typestrings
from sealwax.errors import AlreadyExistsError, InvalidHandlerError, NoEntryError

HandlerType: TypeAlias = type[Handler]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A registered handler.

    Attributes:
      handler_type: Its class.
      name: The only checkpointable that it is for, or ``None`` for any that it can handle.
      secondary_typestrs: Further names by which checkpoints may record it.
    """

    handler_type: HandlerType
    name: str | None = None
    secondary_typestrs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Registry:
    """Registered handlers, the most recent last.

    Attributes:
      entries: The handlers.

    >>> class Notes:
    ...     async def save(self, directory, checkpointable): ...
    ...     async def load(self, directory, abstract_checkpointable=None): ...
    >>> registry = Registry().with_handler(Notes, checkpointable_name="notes")
    >>> registry.has("notes"), Registry().has("notes")
    (True, False)
    """

    entries: tuple[Entry, ...] = ()

    def with_handler(
        self,
        handler_type: HandlerType,
        *,
        checkpointable_name: str | None = None,
        secondary_typestrs: Sequence[str] | None = None,
    ) -> Registry:
        """A registry with one more handler.

        Args:
          handler_type: Its class, which must need no arguments.
          checkpointable_name: The only checkpointable that it is for; ``None`` for any that it can
            handle and that no other handler has by name.
          secondary_typestrs: Further names under which checkpoints may have recorded it.

        Raises:
          InvalidHandlerError: The class cannot serve as a handler.
          AlreadyExistsError: The name has a handler, or the class is registered for any name.
        """
        _check(handler_type, checkpointable_name, secondary_typestrs)
        entry = Entry(
            handler_type=handler_type,
            name=checkpointable_name,
            secondary_typestrs=tuple(secondary_typestrs or ()),
        )
        return self._with(entry)

    def merged(self, other: Registry) -> Registry:
        """This registry with the entries of another behind it; what both have stays once.

        Raises:
          AlreadyExistsError: They have different handlers for one name.
        """
        made = self
        for entry in other.entries:
            if entry not in self.entries:
                made = made._with(entry)
        return made

    def _with(self, entry: Entry) -> Registry:
        for known in self.entries:
            if entry.name is not None and known.name == entry.name:
                raise _name_taken(known)
            if entry.name is None and known.name is None:
                _check_unlike(known, entry)
        return Registry((*self.entries, entry))

    def get(self, checkpointable_name: str) -> HandlerType:
        """The class that is registered for a checkpointable's name.

        Raises:
          NoEntryError: None is.
        """
        for entry in self.entries:
            if entry.name == checkpointable_name:
                return entry.handler_type
        names = ", ".join(repr(entry.name) for entry in self.entries if entry.name is not None)
        raise NoEntryError(
            f"No handler is registered for the name {checkpointable_name!r}",
            expected=names or None,
            hint="Ask `has(name)` first, or register one for it with checkpointable_name=.",
        )

    def has(self, checkpointable_name: str) -> bool:
        """Whether a class is registered for a checkpointable's name."""
        return any(entry.name == checkpointable_name for entry in self.entries)

    def get_all_entries(self) -> tuple[tuple[HandlerType, str | None], ...]:
        """The classes and their names, the most recent last."""
        return tuple((entry.handler_type, entry.name) for entry in self.entries)

    def get_secondary_typestrs(self, handler_type: HandlerType) -> tuple[str, ...]:
        """Further names under which checkpoints may have recorded a class."""
        found = (e.secondary_typestrs for e in self.entries if e.handler_type is handler_type)
        return tuple(dict.fromkeys(name for names in found for name in names))

    def by_typestring(self, recorded: str) -> HandlerType | None:
        """The most recent class that answers to the name a checkpoint recorded, if one does."""
        for entry in reversed(self.entries):
            kind = entry.handler_type
            if recorded in typestrings(kind) or recorded in self.get_secondary_typestrs(kind):
                return kind
        return None


EMPTY = Registry()


@runtime_checkable
class HoldsRegistry(Protocol):
    """A handle on a registry, such as ``local_registry()`` gives."""

    @property
    def snapshot(self) -> Registry:
        """The registry as it is now."""
        ...


def as_registry(source: object) -> Registry:
    """The value of anything that has the methods of a registry, as it is now.

    Raises:
      InvalidHandlerError: ``source`` is no registry, or holds what is no handler.
    """
    if isinstance(source, Registry):
        return source
    if isinstance(source, HoldsRegistry):
        return source.snapshot
    if not callable(getattr(source, "get_all_entries", None)):
        raise InvalidHandlerError(
            "This is no registry of handlers",
            expected="what sealwax.handlers.local_registry() gives",
            found=type(source).__name__,
        )
    foreign = cast("Any", source)
    secondary: Any = getattr(foreign, "get_secondary_typestrs", lambda kind: ())  # pyright: ignore
    made = EMPTY
    for kind, name in foreign.get_all_entries():
        made = made.with_handler(
            kind, checkpointable_name=name, secondary_typestrs=tuple(secondary(kind))
        )
    return made


_SCANNED = ("is_handleable", "is_abstract_handleable")


def _check(kind: object, name: object, typestrs: object) -> None:
    if not isinstance(kind, type):
        raise InvalidHandlerError(
            "A handler is registered by its class",
            expected="a class",
            found=f"an instance of {type(kind).__name__}",
            hint="Pass the class itself, without parentheses.",
        )
    missing, protocol = _missing(kind, named=name is not None)
    if missing:
        raise InvalidHandlerError(
            f"The class {kind.__qualname__} cannot handle checkpointables",
            expected=f"the methods of sealwax.handlers.{protocol}",
            found=f"a class without {', '.join(missing)}",
            hint=f"Derive it from {protocol}.",
        )
    required = _required(kind)
    if required:
        raise InvalidHandlerError(
            f"The handler {kind.__qualname__} cannot be made without arguments, which every "
            "save and load has to do",
            expected="a constructor whose parameters have defaults",
            found=f"required parameters {', '.join(required)}",
            hint="Give them defaults, or register a subclass that fills them in.",
        )
    if name is not None and (not isinstance(name, str) or not name):
        raise InvalidHandlerError(
            "The name of a checkpointable is a string with characters",
            expected="such as 'dataset', or None for any name",
            found=repr(name),
        )
    if isinstance(typestrs, str):
        raise InvalidHandlerError(
            "Secondary typestrings are given as a sequence",
            expected=f"[{typestrs!r}]",
            found=repr(typestrs),
        )


def _missing(kind: type, *, named: bool) -> tuple[list[str], str]:
    """The methods that a class lacks, and the protocol that has them."""
    planning = any(hasattr(kind, method) for method in PLANNED)
    planning &= not all(hasattr(kind, method) for method in CALLED)
    methods = PLANNED if planning else CALLED
    needed = methods if named else (*methods, *_SCANNED)
    abstract: frozenset[str] = getattr(kind, "__abstractmethods__", frozenset())
    missing = [m for m in needed if not callable(getattr(kind, m, None)) or m in abstract]
    return missing, "PlanningHandler" if planning else "CheckpointableHandler"


def _required(kind: type) -> list[str]:
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in optional]


def _check_unlike(known: Entry, entry: Entry) -> None:
    if known.handler_type is entry.handler_type:
        raise AlreadyExistsError(
            f"The handler {entry.handler_type.__qualname__} is registered already",
            hint="Register it once; for one checkpointable alone, pass checkpointable_name=.",
        )


def _name_taken(known: Entry) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"The name {known.name!r} has a handler already",
        found=known.handler_type.__qualname__,
        hint="Choose another name, or start with local_registry(include_global_registry=False).",
    )
