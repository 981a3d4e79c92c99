"""Saves and restores JAX training state.

>>> import numpy as np, sealwax as ocp
>>> path = getfixture("tmp_path") / "checkpoint"
>>> ocp.save(path, {"params": {"w": np.ones((2, 3), np.float32)}, "step": 10})
>>> ocp.load(path)["step"]
10
"""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING

from sealwax import aio as aio
from sealwax import arrays as arrays
from sealwax import effect_handlers as effect_handlers
from sealwax import effects as effects
from sealwax import errors as errors
from sealwax import handlers as handlers
from sealwax import memory as memory
from sealwax import options as options
from sealwax import partial as partial
from sealwax import path as path
from sealwax import testing as testing
from sealwax import training as training
from sealwax import tree as tree
from sealwax.checkpoint_metadata import CheckpointMetadata as CheckpointMetadata
from sealwax.context import Context as Context
from sealwax.context import get_context as get_context
from sealwax.deleting import delete as delete
from sealwax.deleting import delete_async as delete_async
from sealwax.deleting import plan_delete as plan_delete
from sealwax.deprecated import load_pytree as load_pytree
from sealwax.deprecated import load_pytree_async as load_pytree_async
from sealwax.deprecated import pytree_metadata as pytree_metadata
from sealwax.deprecated import save_pytree as save_pytree
from sealwax.deprecated import save_pytree_async as save_pytree_async
from sealwax.handlers import AbstractCheckpointable as AbstractCheckpointable
from sealwax.handlers import Checkpointable as Checkpointable
from sealwax.handlers import CheckpointableHandler as CheckpointableHandler
from sealwax.handlers import PathAwaitingCreation as PathAwaitingCreation
from sealwax.handlers import StatefulCheckpointable as StatefulCheckpointable
from sealwax.inspecting import is_orbax_checkpoint as is_orbax_checkpoint
from sealwax.inspecting import metadata as metadata
from sealwax.lens import register_pytrees as _register_pytrees
from sealwax.loading import load as load
from sealwax.loading import load_async as load_async
from sealwax.loading import plan_load as plan_load
from sealwax.loading_checkpointables import checkpointables_metadata as checkpointables_metadata
from sealwax.loading_checkpointables import load_checkpointables as load_checkpointables
from sealwax.loading_checkpointables import load_checkpointables_async as load_checkpointables_async
from sealwax.loading_checkpointables import plan_load_checkpointables as plan_load_checkpointables
from sealwax.opening import open as open
from sealwax.planning.select import Report as Report
from sealwax.planning.selection import Selection as Selection
from sealwax.planning.verification import Problem as Problem
from sealwax.planning.verification import Verification as Verification
from sealwax.runtime.response import AsyncResponse as AsyncResponse
from sealwax.saving import plan_save as plan_save
from sealwax.saving import save as save
from sealwax.saving import save_async as save_async
from sealwax.saving_checkpointables import plan_save_checkpointables as plan_save_checkpointables
from sealwax.saving_checkpointables import save_checkpointables as save_checkpointables
from sealwax.saving_checkpointables import save_checkpointables_async as save_checkpointables_async
from sealwax.selecting import Loaded as Loaded
from sealwax.selecting import load_into as load_into
from sealwax.tree import PyTreeMetadata as PyTreeMetadata
from sealwax.verifying import plan_verify as plan_verify
from sealwax.verifying import verify as verify
from sealwax.verifying import verify_async as verify_async
from sealwax.version import __version__ as __version__

PLACEHOLDER = ...
"""Stands in a template for what is not to be loaded."""

_register_pytrees()

if _TYPE_CHECKING:
    from sealwax import hooks as hooks


def __getattr__(name: str) -> object:
    # It needs chex, which takes longer to import than all the rest.
    if name == "hooks":
        return _importlib.import_module("sealwax.hooks")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
