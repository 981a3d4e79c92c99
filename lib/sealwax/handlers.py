"""Handlers: how checkpointables that are no trees are saved and loaded, and which are known.

A handler is a class with the methods of ``CheckpointableHandler``. It is registered for everybody,
or in a registry that a context carries; for one name, or for what it says that it can handle.

>>> import sealwax as ocp
>>> registry = ocp.handlers.local_registry()
>>> registry = registry.add(ocp.handlers.JsonHandler, checkpointable_name="config")
>>> ctx = ocp.Context()
>>> ctx.checkpointables.registry = registry
"""

from __future__ import annotations

from typing import Any, TypeAlias

from sealwax.checkpointables.protocols import CheckpointableHandler as CheckpointableHandler
from sealwax.checkpointables.protocols import PathAwaitingCreation as PathAwaitingCreation
from sealwax.checkpointables.protocols import StatefulCheckpointable as StatefulCheckpointable
from sealwax.checkpointables.registry import Registry as Registry
from sealwax.errors import AlreadyExistsError as AlreadyExistsError
from sealwax.errors import InvalidCheckpointableError as InvalidCheckpointableError
from sealwax.errors import InvalidHandlerError as InvalidHandlerError
from sealwax.errors import NoEntryError as NoEntryError
from sealwax.leaf_handlers import LeafHandler as LeafHandler
from sealwax.leaf_handlers import LeafHandlers as LeafHandlers
from sealwax.registration import CheckpointableHandlerRegistry as CheckpointableHandlerRegistry
from sealwax.registration import RegistryHandle as RegistryHandle
from sealwax.registration import global_registry as global_registry
from sealwax.registration import local_registry as local_registry
from sealwax.registration import register_handler as register_handler
from sealwax.standard_handlers import JsonHandler as JsonHandler
from sealwax.standard_handlers import MetricsHandler as _MetricsHandler
from sealwax.standard_handlers import ProtoHandler as ProtoHandler
from sealwax.standard_handlers import StatefulCheckpointableHandler as _StatefulHandler
from sealwax.standard_leaves import STANDARD as _STANDARD
from sealwax.standard_leaves import enum_handler as enum_handler
from sealwax.tree_handler import PyTreeHandler as PyTreeHandler

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
