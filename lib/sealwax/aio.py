"""The verbs as coroutines, for programs that run under asyncio or trio already.

They run in the caller's own event loop, and no thread of ours waits for them. Cancelling one
leaves nothing behind.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar, cast

from sealwax.checkpoint_metadata import CheckpointMetadata
from sealwax.context import Context
from sealwax.inspecting import Inspect
from sealwax.layouts.orbax import AUTO, DEFAULT_ITEM
from sealwax.loading import Load
from sealwax.options import Options
from sealwax.planning.selection import Selection, as_selection
from sealwax.runtime.response import AsyncResponse
from sealwax.saving import Save, Staging
from sealwax.selecting import Loaded, LoadInto
from sealwax.trees.structure import PyTree

T = TypeVar("T")


async def save(
    path: object,
    state: PyTree,
    *,
    checkpointable_name: str = DEFAULT_ITEM,
    overwrite: bool = False,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> None:
    """Saves a tree; see ``sealwax.save``.

    The arrays that were passed must stay as they are until it returns; ``save_async`` is for
    callers that go on.
    """
    await Save(
        path,
        state,
        item=checkpointable_name,
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=False,
    ).run()


async def save_async(
    path: object,
    state: PyTree,
    *,
    checkpointable_name: str = DEFAULT_ITEM,
    overwrite: bool = False,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> AsyncResponse[None]:
    """Stages a tree, and saves it in the background; see ``sealwax.save_async``."""
    operation = Save(
        path,
        state,
        item=checkpointable_name,
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=True,
    )
    staging = Staging(operation)
    await staging.job.attended(staging.over)
    return staging.response()


async def load(
    path: object,
    abstract_state: PyTree | CheckpointMetadata[PyTree] | None = None,
    *,
    checkpointable_name: str | None = AUTO,
    select: object = None,
    context: Context | Options | None = None,
) -> PyTree:
    """Loads a tree; see ``sealwax.load``."""
    operation = Load(path, abstract_state, item=checkpointable_name, select=select, context=context)
    return await operation.run()


async def load_into(
    path: object,
    state: T,
    *,
    select: object = Selection(),
    missing: Literal["error", "keep"] = "error",
    checkpointable_name: str | None = AUTO,
    context: Context | Options | None = None,
) -> Loaded[T]:
    """Puts leaves of a checkpoint into a state; see ``sealwax.load_into``."""
    operation = LoadInto(
        path, state, as_selection(select), missing, item=checkpointable_name, context=context
    )
    return cast("Loaded[T]", await operation.run_into())


async def metadata(
    path: object,
    checkpointable_name: str | None = AUTO,
    *,
    context: Context | Options | None = None,
) -> CheckpointMetadata[Any]:
    """Tells what a checkpoint holds; see ``sealwax.metadata``."""
    return await Inspect(path, checkpointable_name, context).metadata()


async def is_orbax_checkpoint(path: object, *, context: Context | Options | None = None) -> bool:
    """Whether a finished checkpoint is at ``path``; see ``sealwax.is_orbax_checkpoint``."""
    return await Inspect(path, AUTO, context).is_checkpoint()
