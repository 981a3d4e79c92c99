"""Saves and restores JAX training state.

>>> import numpy as np, sealwax as ocp
>>> path = getfixture("tmp_path") / "checkpoint"
>>> ocp.save(path, {"params": {"w": np.ones((2, 3), np.float32)}, "step": 10})
>>> ocp.load(path)["step"]
10
"""

import gc as _gc
import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING

# Nothing of this is garbage, and a look through all that JAX holds takes a third as long again.
_collecting = _gc.isenabled()
_gc.disable()
try:
    from sealwax import arrays, effects, errors, handlers, memory, options, path, tree
    from sealwax.context import Context, get_context
    from sealwax.handlers import (
        AbstractCheckpointable,
        Checkpointable,
        CheckpointableHandler,
        PathAwaitingCreation,
        StatefulCheckpointable,
    )
    from sealwax.planning.select import Report
    from sealwax.planning.selection import Selection
    from sealwax.planning.verification import Problem, Verification
    from sealwax.runtime.response import AsyncResponse
    from sealwax.settings.lens import register_pytrees as _register_pytrees
    from sealwax.tree import PyTreeMetadata
    from sealwax.verbs.checkpoint_metadata import CheckpointMetadata
    from sealwax.verbs.deleting import delete, delete_async, plan_delete
    from sealwax.verbs.deprecated import (
        load_pytree,
        load_pytree_async,
        pytree_metadata,
        save_pytree,
        save_pytree_async,
    )
    from sealwax.verbs.inspecting import is_orbax_checkpoint, metadata
    from sealwax.verbs.loading import load, load_async, plan_load
    from sealwax.verbs.loading_checkpointables import (
        checkpointables_metadata,
        load_checkpointables,
        load_checkpointables_async,
        plan_load_checkpointables,
    )
    from sealwax.verbs.opening import open
    from sealwax.verbs.saving import plan_save, save, save_async
    from sealwax.verbs.saving_checkpointables import (
        plan_save_checkpointables,
        save_checkpointables,
        save_checkpointables_async,
    )
    from sealwax.verbs.selecting import Loaded, load_into
    from sealwax.verbs.verifying import plan_verify, verify, verify_async
    from sealwax.version import __version__
finally:
    if _collecting:
        _gc.enable()

if _TYPE_CHECKING:
    from sealwax import aio, effect_handlers, hooks, multihost, partial, testing, training

__all__ = [
    "PLACEHOLDER",
    "AbstractCheckpointable",
    "AsyncResponse",
    "CheckpointMetadata",
    "Checkpointable",
    "CheckpointableHandler",
    "Context",
    "Loaded",
    "PathAwaitingCreation",
    "Problem",
    "PyTreeMetadata",
    "Report",
    "Selection",
    "StatefulCheckpointable",
    "Verification",
    "__version__",
    "aio",
    "arrays",
    "checkpointables_metadata",
    "delete",
    "delete_async",
    "effect_handlers",
    "effects",
    "errors",
    "get_context",
    "handlers",
    "hooks",
    "is_orbax_checkpoint",
    "load",
    "load_async",
    "load_checkpointables",
    "load_checkpointables_async",
    "load_into",
    "load_pytree",
    "load_pytree_async",
    "memory",
    "metadata",
    "multihost",
    "open",
    "options",
    "partial",
    "path",
    "plan_delete",
    "plan_load",
    "plan_load_checkpointables",
    "plan_save",
    "plan_save_checkpointables",
    "plan_verify",
    "pytree_metadata",
    "save",
    "save_async",
    "save_checkpointables",
    "save_checkpointables_async",
    "save_pytree",
    "save_pytree_async",
    "testing",
    "training",
    "tree",
    "verify",
    "verify_async",
]

PLACEHOLDER = ...
"""Stands in a template for what is not to be loaded."""

_register_pytrees()

_ON_DEMAND = frozenset(
    {"aio", "effect_handlers", "hooks", "multihost", "partial", "testing", "training"}
)


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    # Not every program uses these, and together they cost as much as all the rest.
    if name in _ON_DEMAND:
        return _importlib.import_module(f"sealwax.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
