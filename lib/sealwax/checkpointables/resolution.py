"""Which handler saves or loads an item: Orbax's order, as pure functions.

Handlers are made only as far as the question goes, from the most recent backwards, so that one
that is broken is in the way of nothing that an earlier question has decided.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator
from typing import Any

from returns.result import safe

from sealwax.checkpointables.protocols import Handler, StatefulCheckpointable
from sealwax.checkpointables.registry import HandlerType, Registry
from sealwax.errors import (
    InvalidCheckpointableError,
    InvalidHandlerError,
    NoEntryError,
    SealwaxError,
)

FALLBACK_NAME = "state"


class Found(enum.Enum):
    """What a handler was chosen for; ``FALLBACK`` is for nothing but being there."""

    NAME = "its name"
    TYPESTRING = "what the checkpoint recorded"
    ABILITY = "being able to"
    FALLBACK = "want of another"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The handler of an item, and what it was chosen for."""

    handler: Handler
    found: Found


@safe(exceptions=(SealwaxError,))
def resolve_for_save(registry: Registry, name: str, checkpointable: object) -> Resolved:
    """Chooses the handler that saves a checkpointable.

    An object that saves itself goes to the most recent handler that can handle it; any other to
    the one registered for its name, and else to the most recent that can handle it.

    Args:
      registry: The handlers.
      name: Name of the checkpointable.
      checkpointable: The object.

    Returns:
      The handler; a ``NoEntryError`` where there is none, an ``InvalidHandlerError`` where one
      that had to be asked is broken, an ``InvalidCheckpointableError`` for ``None``.
    """
    if checkpointable is None:
        raise InvalidCheckpointableError(
            f"The checkpointable {name!r} is None, and there is nothing to save",
            hint="Leave it out of the checkpointables.",
        )
    named = registry.has(name)
    if named and not isinstance(checkpointable, StatefulCheckpointable):
        return _named(registry, name)
    able = _first_able(registry, name, "is_handleable", checkpointable)
    if able is not None:
        return Resolved(handler=able, found=Found.ABILITY)
    if named:
        return _named(registry, name)
    raise _none_can_save(registry, name, checkpointable)


@safe(exceptions=(SealwaxError,))
def resolve_for_load(
    registry: Registry, name: str, abstract: object = None, recorded: str | None = None
) -> Resolved:
    """Chooses the handler that loads a checkpointable.

    In this order: for a template that loads itself, the recorded handler; the one registered for
    the name; the recorded one; of these, none that refuses the template. Then the most recent
    that accepts the template, then the one registered for the name all the same, then the one
    registered for ``"state"``, since most items are trees.

    Args:
      registry: The handlers.
      name: Name of the checkpointable.
      abstract: The template, or ``None``.
      recorded: The typestring that the checkpoint has for it, if it has one.

    Returns:
      The handler; a ``NoEntryError`` where there is none, an ``InvalidHandlerError`` where one
      that had to be asked is broken.
    """
    recorded_type = None if recorded is None else registry.by_typestring(recorded)
    choices = [
        (Found.NAME, registry.get(name) if registry.has(name) else None),
        (Found.TYPESTRING, recorded_type),
    ]
    if isinstance(abstract, StatefulCheckpointable):
        choices.reverse()
    for found, kind in choices:
        if kind is not None:
            handler = make(kind, name)
            if abstract is None or _able(handler, name, "is_abstract_handleable", abstract):
                return Resolved(handler=handler, found=found)
    if abstract is not None:
        able = _first_able(registry, name, "is_abstract_handleable", abstract)
        if able is not None:
            return Resolved(handler=able, found=Found.ABILITY)
    if registry.has(name):
        return _named(registry, name)
    if registry.has(FALLBACK_NAME):
        handler = make(registry.get(FALLBACK_NAME), name)
        return Resolved(handler=handler, found=Found.FALLBACK)
    raise none_can_load(name, recorded)


def make(kind: HandlerType, name: str) -> Handler:
    """An instance of a handler's class, for the checkpointable ``name``.

    Raises:
      InvalidHandlerError: It cannot be made without arguments.
    """
    try:
        return kind()
    except Exception as error:
        raise InvalidHandlerError(
            f"The handler {kind.__qualname__}, asked about checkpointable {name!r}, could not be "
            f"made: {type(error).__name__}: {error}",
            expected="a class that can be called without arguments",
            hint="Give the parameters of its constructor defaults that work.",
        ) from error


def none_can_load(name: str, recorded: str | None, refuses: type | None = None) -> NoEntryError:
    """The error for a checkpointable whose handler is not among those registered.

    Args:
      name: Its name.
      recorded: What the checkpoint recorded of its handler, if it did.
      refuses: That handler, if it is registered all the same but does not recognize what is there.
    """
    by = "" if recorded is None else f", which {recorded} saved"
    if refuses is not None:
        return NoEntryError(
            f"No registered handler can load checkpointable {name!r}{by}",
            expected=f"files that {refuses.__qualname__} recognizes",
            hint="The checkpoint is damaged, or another version of the handler wrote it: look at "
            f"what {refuses.__qualname__}.recognizes says.",
        )
    known = recorded is not None and recorded.rpartition(".")[2]
    return NoEntryError(
        f"No registered handler can load checkpointable {name!r}{by}",
        hint=f"Register {known or 'its handler'}: ctx.checkpointables.registry = "
        f"sealwax.handlers.local_registry().add({known or 'Handler'})."
        + (f" A class in its place: add(..., secondary_typestrs=[{recorded!r}])." if known else ""),
    )


def _named(registry: Registry, name: str) -> Resolved:
    return Resolved(handler=make(registry.get(name), name), found=Found.NAME)


def _unscoped(registry: Registry, name: str) -> Iterator[Handler]:
    for entry in reversed(registry.entries):
        if entry.name is None:
            yield make(entry.handler_type, name)


def _first_able(registry: Registry, name: str, question: str, value: object) -> Handler | None:
    handlers = _unscoped(registry, name)
    return next((one for one in handlers if _able(one, name, question, value)), None)


def _able(handler: Handler, name: str, question: str, value: object) -> bool:
    kind = type(handler).__qualname__
    ask: Callable[[Any], object] | None = getattr(handler, question, None)
    if ask is None:
        return False
    try:
        return bool(ask(value))
    except Exception as error:
        raise InvalidHandlerError(
            f"The handler {kind} failed in {question} when it was asked about checkpointable "
            f"{name!r}: {type(error).__name__}: {error}",
            expected="True or False for an object of any type",
            found=f"an object of type {type(value).__qualname__}",
            hint="Look at the type first: `return isinstance(checkpointable, ...)`.",
        ) from error


def _none_can_save(registry: Registry, name: str, value: object) -> NoEntryError:
    error = NoEntryError(
        f"No registered handler can save checkpointable {name!r}",
        expected="an object that one of these can handle: "
        + (", ".join(_asked(registry)) or "none, the registry has no handlers"),
        found=f"an object of type {type(value).__qualname__}",
        hint="Register a handler: ctx.checkpointables.registry = "
        "sealwax.handlers.local_registry().add(Handler).",
    )
    for handler in _unscoped(registry, name):
        explain: Callable[[Any], object] | None = getattr(
            handler, "validate_leaves_handleable", None
        )
        if explain is None:
            continue
        try:
            explain(value)
        except SealwaxError as reason:
            says = f"{type(handler).__qualname__} says: {str(reason).rstrip('.')}"
            error.found = f"{error.found}, of which {says}"
            error.__cause__ = reason
        break
    return error


def _asked(registry: Registry) -> list[str]:
    return [entry.handler_type.__qualname__ for entry in registry.entries if entry.name is None]
