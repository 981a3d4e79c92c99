"""Which handlers are registered: for everybody, or in a registry that a context carries.

A handle is one variable that holds a ``Registry``. Adding to it puts another value there, so that
an operation keeps the registry that it was called with.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, final

from sealwax.checkpointables.registry import EMPTY, HandlerType, Registry, as_registry
from sealwax.options import Options
from sealwax.settings import option_types

H = TypeVar("H", bound="type[Any]")


class CheckpointableHandlerRegistry(option_types.CheckpointableHandlerRegistry, Protocol):
    """What can be asked of a registry, and added to it."""

    def add(
        self,
        handler_type: HandlerType,
        *,
        checkpointable_name: str | None = None,
        secondary_typestrs: Sequence[str] | None = None,
    ) -> CheckpointableHandlerRegistry:
        """Registers a handler's class; returns the registry."""
        ...

    def get_secondary_typestrs(self, handler_type: HandlerType) -> Sequence[str]:
        """Further names under which checkpoints may have recorded a class."""
        ...


@final
class RegistryHandle:
    """A registry that can be added to, from any thread.

    >>> import sealwax as ocp
    >>> registry = ocp.handlers.local_registry()
    >>> before = registry.snapshot
    >>> registry.add(ocp.handlers.JsonHandler, checkpointable_name="config").has("config")
    True
    >>> before.has("config")
    False
    """

    def __init__(self, snapshot: Registry = EMPTY) -> None:
        self._snapshot = snapshot
        self._lock = threading.Lock()

    @property
    def snapshot(self) -> Registry:
        """The registry as it is now, which never changes."""
        return self._snapshot

    def add(
        self,
        handler_type: HandlerType,
        *,
        checkpointable_name: str | None = None,
        secondary_typestrs: Sequence[str] | None = None,
    ) -> RegistryHandle:
        """Registers a handler's class.

        Args:
          handler_type: The class, which must need no arguments.
          checkpointable_name: The only checkpointable that it is for; ``None`` for any that it can
            handle and that no other handler has by name.
          secondary_typestrs: Further names under which checkpoints may have recorded it.

        Returns:
          The handle itself.

        Raises:
          InvalidHandlerError: The class cannot serve as a handler.
          AlreadyExistsError: The name has a handler, or the class is registered for any name.
        """
        with self._lock:
            self._snapshot = self._snapshot.with_handler(
                handler_type,
                checkpointable_name=checkpointable_name,
                secondary_typestrs=secondary_typestrs,
            )
        return self

    def get(self, checkpointable_name: str) -> HandlerType:
        """The class that is registered for a checkpointable's name; ``NoEntryError`` for none."""
        return self._snapshot.get(checkpointable_name)

    def has(self, checkpointable_name: str) -> bool:
        """Whether a class is registered for a checkpointable's name."""
        return self._snapshot.has(checkpointable_name)

    def get_all_entries(self) -> tuple[tuple[HandlerType, str | None], ...]:
        """The classes and their names, the most recent last."""
        return self._snapshot.get_all_entries()

    def get_secondary_typestrs(self, handler_type: HandlerType) -> tuple[str, ...]:
        """Further names under which checkpoints may have recorded a class."""
        return self._snapshot.get_secondary_typestrs(handler_type)

    def __repr__(self) -> str:
        entries = (
            kind.__qualname__ if name is None else f"{kind.__qualname__} for {name!r}"
            for kind, name in self.get_all_entries()
        )
        return f"{type(self).__name__}({', '.join(entries)})"


_GLOBAL = RegistryHandle()


def global_registry() -> RegistryHandle:
    """The registry that applies where a context carries none.

    >>> import sealwax as ocp
    >>> ocp.handlers.global_registry().has("state")
    True
    """
    return _GLOBAL


def local_registry(
    other_registry: object = None, *, include_global_registry: bool = True
) -> RegistryHandle:
    """A new registry, to be put into a context.

    Args:
      other_registry: A registry whose handlers are taken over, after the global ones.
      include_global_registry: Whether it starts with the handlers that are registered globally.

    Raises:
      AlreadyExistsError: The two have different handlers for one name.

    >>> import sealwax as ocp
    >>> ctx = ocp.Context()
    >>> ctx.checkpointables.registry = ocp.handlers.local_registry()
    """
    start = _GLOBAL.snapshot if include_global_registry else EMPTY
    if other_registry is None:
        return RegistryHandle(start)
    return RegistryHandle(start.merged(as_registry(other_registry)))


def register_handler(
    cls: H,
    *,
    checkpointable_name: str | None = None,
    secondary_typestrs: Sequence[str] | None = None,
) -> H:
    """Registers a handler's class globally; fit to decorate it.

    Args:
      cls: The class, which must need no arguments.
      checkpointable_name: The only checkpointable that it is for; ``None`` for any that it can
        handle.
      secondary_typestrs: Further names under which checkpoints may have recorded it.

    Returns:
      The class.
    """
    _GLOBAL.add(cls, checkpointable_name=checkpointable_name, secondary_typestrs=secondary_typestrs)
    return cls


def registry_of(options: Options) -> Registry:
    """The handlers that an operation with these settings has, to its end."""
    chosen = options.checkpointables.registry
    return _GLOBAL.snapshot if chosen is None else as_registry(chosen)
