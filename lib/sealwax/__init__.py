"""Saves and restores JAX training state.

>>> import numpy as np, sealwax as ocp
>>> path = getfixture("tmp_path") / "checkpoint"
>>> ocp.save(path, {"params": {"w": np.ones((2, 3), np.float32)}, "step": 10})
>>> ocp.load(path)["step"]
10
"""

from sealwax import aio as aio
from sealwax import arrays as arrays
from sealwax import effect_handlers as effect_handlers
from sealwax import effects as effects
from sealwax import errors as errors
from sealwax import options as options
from sealwax import path as path
from sealwax import tree as tree
from sealwax.checkpoint_metadata import CheckpointMetadata as CheckpointMetadata
from sealwax.context import Context as Context
from sealwax.context import get_context as get_context
from sealwax.deprecated import load_pytree as load_pytree
from sealwax.deprecated import load_pytree_async as load_pytree_async
from sealwax.deprecated import pytree_metadata as pytree_metadata
from sealwax.deprecated import save_pytree as save_pytree
from sealwax.deprecated import save_pytree_async as save_pytree_async
from sealwax.inspecting import is_orbax_checkpoint as is_orbax_checkpoint
from sealwax.inspecting import metadata as metadata
from sealwax.lens import register_pytrees as _register_pytrees
from sealwax.loading import load as load
from sealwax.loading import load_async as load_async
from sealwax.loading import plan_load as plan_load
from sealwax.opening import open as open
from sealwax.planning.select import Report as Report
from sealwax.planning.selection import Selection as Selection
from sealwax.runtime.response import AsyncResponse as AsyncResponse
from sealwax.saving import plan_save as plan_save
from sealwax.saving import save as save
from sealwax.saving import save_async as save_async
from sealwax.selecting import Loaded as Loaded
from sealwax.selecting import load_into as load_into
from sealwax.tree import PyTreeMetadata as PyTreeMetadata
from sealwax.version import __version__ as __version__

PLACEHOLDER = ...
"""Stands in a template for what is not to be loaded."""

_register_pytrees()
