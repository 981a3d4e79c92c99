"""The verbs as coroutines, for programs that run under asyncio or trio already.

They run in the caller's own event loop, and no thread of ours waits for them. Cancelling one
leaves nothing behind.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar, cast

from sealwax.context import Context
from sealwax.layouts.orbax import AUTO, DEFAULT_ITEM
from sealwax.options import Options
from sealwax.planning.selection import Selection, as_selection
from sealwax.planning.verification import Verification
from sealwax.runtime.response import AsyncResponse
from sealwax.runtime.starting import Until, started
from sealwax.trees.structure import PyTree
from sealwax.verbs.checkpoint_metadata import CheckpointMetadata
from sealwax.verbs.deleting import Delete
from sealwax.verbs.inspecting import Inspect
from sealwax.verbs.items_operation import InspectItems, LoadItems
from sealwax.verbs.loading import Load
from sealwax.verbs.loading_checkpointables import Abstract
from sealwax.verbs.partial_operation import Discard, Finalize, SavePart
from sealwax.verbs.save_operation import Save, one_tree, several
from sealwax.verbs.selecting import Loaded, LoadInto
from sealwax.verbs.verifying import Verify

__all__ = [
    "checkpointables_metadata",
    "delete",
    "delete_async",
    "is_orbax_checkpoint",
    "load",
    "load_checkpointables",
    "load_into",
    "metadata",
    "partial_discard",
    "partial_finalize",
    "partial_save",
    "partial_save_async",
    "save",
    "save_async",
    "save_checkpointables",
    "save_checkpointables_async",
    "verify",
]


def __dir__() -> list[str]:
    return __all__


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
        one_tree(state, checkpointable_name),
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=False,
    ).run()


async def save_async(
    path: object,
    state: PyTree,
    *,
    until: Until = "staged",
    checkpointable_name: str = DEFAULT_ITEM,
    overwrite: bool = False,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> AsyncResponse[None]:
    """Stages a tree, and saves it in the background; see ``sealwax.save_async``."""
    operation = Save(
        path,
        one_tree(state, checkpointable_name),
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=True,
    )
    return await started(operation.run, operation.operation, until)


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


async def delete(
    path: object,
    *,
    checkpointable_name: str | None = None,
    missing_ok: bool = False,
    context: Context | Options | None = None,
) -> bool:
    """Deletes a checkpoint, or one checkpointable of it; see ``sealwax.delete``."""
    operation = Delete(
        path, item=checkpointable_name, missing_ok=missing_ok, context=context, background=False
    )
    return await operation.run()


async def delete_async(
    path: object,
    *,
    checkpointable_name: str | None = None,
    missing_ok: bool = False,
    context: Context | Options | None = None,
) -> AsyncResponse[bool]:
    """Deletes in the background what no longer counts; see ``sealwax.delete_async``."""
    operation = Delete(
        path, item=checkpointable_name, missing_ok=missing_ok, context=context, background=True
    )
    return await started(operation.run, operation.operation, "staged")


async def save_checkpointables(
    path: object,
    checkpointables: dict[str, Any],
    *,
    overwrite: bool = False,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> None:
    """Saves several checkpointables; see ``sealwax.save_checkpointables``."""
    await Save(
        path,
        several(checkpointables),
        named=True,
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=False,
    ).run()


async def save_checkpointables_async(
    path: object,
    checkpointables: dict[str, Any],
    *,
    until: Until = "staged",
    overwrite: bool = False,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> AsyncResponse[None]:
    """Saves several in the background; see ``sealwax.save_checkpointables_async``."""
    operation = Save(
        path,
        several(checkpointables),
        named=True,
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=True,
    )
    return await started(operation.run, operation.operation, until)


async def load_checkpointables(
    path: object,
    abstract_checkpointables: Abstract | None = None,
    *,
    context: Context | Options | None = None,
) -> dict[str, Any]:
    """Loads several checkpointables; see ``sealwax.load_checkpointables``."""
    return await LoadItems(path, abstract_checkpointables, context).run()


async def checkpointables_metadata(
    path: object, *, context: Context | Options | None = None
) -> CheckpointMetadata[dict[str, Any]]:
    """Tells what each checkpointable holds; see ``sealwax.checkpointables_metadata``."""
    return await InspectItems(path, context).run()


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


async def verify(path: object, *, context: Context | Options | None = None) -> Verification:
    """Reads every byte of a checkpoint and reports what is wrong; see ``sealwax.verify``."""
    return await Verify(path, context).run()


async def partial_save(
    path: object,
    state: PyTree,
    *,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> None:
    """Saves one part of a checkpoint; see ``sealwax.partial.save``."""
    await SavePart(
        path, state, custom_metadata=custom_metadata, context=context, background=False
    ).run()


async def partial_save_async(
    path: object,
    state: PyTree,
    *,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> AsyncResponse[None]:
    """Saves one part in the background; see ``sealwax.partial.save_async``."""
    operation = SavePart(
        path, state, custom_metadata=custom_metadata, context=context, background=True
    )
    return await started(operation.run, operation.operation, "staged")


async def partial_finalize(path: object, *, context: Context | Options | None = None) -> None:
    """Makes one checkpoint of all parts; see ``sealwax.partial.finalize``."""
    await Finalize(path, context=context).run()


async def partial_discard(
    path: object, *, missing_ok: bool = False, context: Context | Options | None = None
) -> None:
    """Gives up all parts; see ``sealwax.partial.discard``."""
    await Discard(path, missing_ok=missing_ok, context=context).run()
