"""Loading several checkpointables of one checkpoint, and telling what they are."""

from __future__ import annotations

from typing import Any, TypeAlias

from sealwax.context import Context
from sealwax.effects import Plan
from sealwax.options import Options
from sealwax.runtime import background
from sealwax.runtime.response import AsyncResponse
from sealwax.verbs.checkpoint_metadata import CheckpointMetadata
from sealwax.verbs.items_operation import InspectItems, LoadItems

Abstract: TypeAlias = dict[str, Any] | CheckpointMetadata[dict[str, Any]]


def load_checkpointables(
    path: object,
    abstract_checkpointables: Abstract | None = None,
    *,
    context: Context | Options | None = None,
) -> dict[str, Any]:
    """Loads several checkpointables, side by side, checking every byte that it reads.

    Args:
      path: Directory of the checkpoint.
      abstract_checkpointables: For each checkpointable that is wanted, what to restore: ``None``
        for all of it as it was saved, or what its handler takes, such as a template for a tree,
        a message's class, or the object to load into. Others are not read at all. ``None`` or an
        empty dict wants all that there are.
      context: Settings to use instead of the current ones.

    Returns:
      The checkpointables by name.

    Raises:
      CheckpointNotFoundError: Nothing is at ``path``.
      CheckpointableNotFoundError: The checkpoint has no such checkpointable.
      HandlerError: No handler can load one of them, or it needs more to do so.
      CorruptionError: Stored bytes have changed or are missing.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save_checkpointables(path, {"params": {"w": np.arange(3)}, "loop": {"step": 7}})
    >>> ocp.load_checkpointables(path, {"loop": None})
    {'loop': {'step': 7}}
    """
    operation = LoadItems(path, abstract_checkpointables, context)
    return background.run(operation.run, "load_checkpointables", operation.operation.watch)


def load_checkpointables_async(
    path: object,
    abstract_checkpointables: Abstract | None = None,
    *,
    context: Context | Options | None = None,
) -> AsyncResponse[dict[str, Any]]:
    """Loads several checkpointables in the background.

    Args:
      path: Directory of the checkpoint.
      abstract_checkpointables: What to restore, as for ``load_checkpointables``.
      context: Settings to use instead of the current ones.

    Returns:
      A hold on the load: ``result()`` waits for the dict.

    >>> import sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save_checkpointables(path, {"loop": {"step": 7}})
    >>> ocp.load_checkpointables_async(path).result()
    {'loop': {'step': 7}}
    """
    operation = LoadItems(path, abstract_checkpointables, context)
    name = f"load_checkpointables_async of {operation.operation.path!r}"
    job = background.Job(operation.run, name, watch=operation.operation.watch)
    response = AsyncResponse(job)
    job.start()
    return response


def plan_load_checkpointables(
    path: object,
    abstract_checkpointables: Abstract | None = None,
    *,
    context: Context | Options | None = None,
) -> Plan:
    """The plan of what ``load_checkpointables`` would do, without reading any array.

    Args:
      path: Directory of the checkpoint.
      abstract_checkpointables: What to restore, as for ``load_checkpointables``.
      context: Settings to use instead of the current ones.

    Returns:
      The plan.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save_checkpointables(path, {"params": {"w": np.zeros(3)}, "loop": {"step": 7}})
    >>> ocp.plan_load_checkpointables(path, {"params": None}).names
    ('params/w',)
    """
    operation = LoadItems(path, abstract_checkpointables, context)
    watch = operation.operation.watch
    return background.run(operation.plan, "plan_load_checkpointables", watch)


def checkpointables_metadata(
    path: object, *, context: Context | Options | None = None
) -> CheckpointMetadata[dict[str, Any]]:
    """Tells what each checkpointable of a checkpoint holds, without loading it.

    Args:
      path: Directory of the checkpoint.
      context: Settings to use instead of the current ones.

    Returns:
      For each checkpointable what its handler tells of it; ``None`` where that is nothing, as for
      JSON. It can be passed to ``load_checkpointables`` as a template.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save_checkpointables(path, {"params": {"w": np.zeros((2, 3))}})
    >>> ocp.checkpointables_metadata(path).metadata["params"]["w"].shape
    (2, 3)
    """
    operation = InspectItems(path, context)
    return background.run(operation.run, "checkpointables_metadata", operation.operation.watch)
