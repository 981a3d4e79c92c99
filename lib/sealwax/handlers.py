"""Handlers: how checkpointables that are no trees are saved and loaded, and which are known.

A handler is a class with the methods of ``PlanningHandler``, which says what is to be written and
read, or of ``CheckpointableHandler``, Orbax's protocol, which does so itself. It is registered for
everybody, or in a registry that a context carries; for one name, or for what it can handle.

>>> import sealwax as ocp
>>> registry = ocp.handlers.local_registry()
>>> registry = registry.add(ocp.handlers.JsonHandler, checkpointable_name="config")
>>> ctx = ocp.Context()
>>> ctx.checkpointables.registry = registry
"""

from __future__ import annotations

from typing import Any, TypeAlias

from sealwax.checkpointables.protocols import (
    CheckpointableHandler,
    PathAwaitingCreation,
    StatefulCheckpointable,
)
from sealwax.checkpointables.registry import Registry
from sealwax.errors import (
    AlreadyExistsError,
    InvalidCheckpointableError,
    InvalidHandlerError,
    NoEntryError,
)
from sealwax.leaf_handlers import LeafHandler, LeafHandlers
from sealwax.planning.handler_items import NewItem, StoredItem
from sealwax.planning.planners import PlanningHandler
from sealwax.planning.readings import FromFiles, Known, Reading
from sealwax.planning.writings import Files, Writing
from sealwax.standard_leaves import STANDARD as _STANDARD
from sealwax.standard_leaves import enum_handler
from sealwax.verbs.registration import (
    CheckpointableHandlerRegistry,
    RegistryHandle,
    global_registry,
    local_registry,
    register_handler,
)
from sealwax.verbs.standard_handlers import JsonHandler, ProtoHandler
from sealwax.verbs.standard_handlers import MetricsHandler as _MetricsHandler
from sealwax.verbs.standard_handlers import StatefulCheckpointableHandler as _StatefulHandler
from sealwax.verbs.tree_handler import PyTreeHandler

__all__ = [
    "STANDARD_LEAF_HANDLERS",
    "AbstractCheckpointable",
    "AlreadyExistsError",
    "Checkpointable",
    "CheckpointableHandler",
    "CheckpointableHandlerRegistry",
    "Files",
    "FromFiles",
    "InvalidCheckpointableError",
    "InvalidHandlerError",
    "JsonHandler",
    "Known",
    "LeafHandler",
    "LeafHandlers",
    "NewItem",
    "NoEntryError",
    "PathAwaitingCreation",
    "PlanningHandler",
    "ProtoHandler",
    "PyTreeHandler",
    "Reading",
    "Registry",
    "RegistryHandle",
    "StatefulCheckpointable",
    "StoredItem",
    "Writing",
    "enum_handler",
    "global_registry",
    "local_registry",
    "register_handler",
]


def __dir__() -> list[str]:
    return __all__


Checkpointable: TypeAlias = Any
"""Anything that a handler saves."""

AbstractCheckpointable: TypeAlias = Any
"""Anything that describes a checkpointable without its data."""

STANDARD_LEAF_HANDLERS = _STANDARD
"""The leaf handlers that are there from the start: what ``ctx.pytree.leaf_handlers`` begins as."""

# The most recent is asked first: a dict of numbers is a tree before it is JSON.
for _handler, _name in (
    (ProtoHandler, None),
    (JsonHandler, None),
    (_StatefulHandler, None),
    (_MetricsHandler, "metrics"),
    (PyTreeHandler, None),
    (PyTreeHandler, "state"),
):
    global_registry().add(_handler, checkpointable_name=_name)
