"""What a handler does, told apart: the standard ones are planned, any other is called.

A handler of a standard class plans as a value; one of a user's class, also of a class derived from
a standard one, is called through its protocol.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

from sealwax.checkpointables.protocols import CheckpointableHandler
from sealwax.options import Options

Handler: TypeAlias = CheckpointableHandler[Any, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TreeKind:
    """A pytree; ``options`` are the settings of its handler, or ``None`` for the operation's."""

    options: Options | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JsonKind:
    """JSON in a file; see ``json_codec``."""

    filename: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProtoKind:
    """A protocol buffer as text; see ``proto_codec``."""

    filename: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StatefulKind:
    """An object that saves and loads itself."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CustomKind:
    """Whatever the handler does when it is called."""

    handler: Handler


Kind: TypeAlias = TreeKind | JsonKind | ProtoKind | StatefulKind | CustomKind


def kind_of(handler: Handler) -> Kind:
    """What the handler does; its class says so in ``__kind__``, for itself alone."""
    make: Callable[[Handler], Kind] | None = vars(type(handler)).get("__kind__")
    return CustomKind(handler=handler) if make is None else make(handler)
