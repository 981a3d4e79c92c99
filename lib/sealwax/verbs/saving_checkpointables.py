"""Saving several checkpointables in one checkpoint."""

from __future__ import annotations

from typing import Any

from sealwax.context import Context
from sealwax.effects import Plan
from sealwax.options import Options
from sealwax.runtime import background
from sealwax.runtime.response import AsyncResponse
from sealwax.runtime.starting import Until, start
from sealwax.verbs.save_operation import Save, several


def save_checkpointables(
    path: object,
    checkpointables: dict[str, Any],
    *,
    overwrite: bool = False,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> None:
    """Saves several checkpointables side by side, in one checkpoint with one seal.

    Args:
      path: Directory of the checkpoint; its parents are made as needed.
      checkpointables: What to save, by name. A tree, a protocol buffer, an object that saves
        itself, or whatever a registered handler takes.
      overwrite: Whether a checkpoint at ``path`` may be replaced. It stays until the new one
        takes its place, in one step.
      custom_metadata: A dict of JSON values to keep beside them.
      context: Settings to use instead of the current ones.

    Raises:
      CheckpointExistsError: Something is at ``path``, and may not be replaced.
      HandlerError: No handler can save one of them.
      StorageError: The file system refused; nothing is left behind.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save_checkpointables(path, {"params": {"w": np.arange(3)}, "loop": {"step": 7}})
    >>> ocp.load_checkpointables(path)
    {'params': {'w': array([0, 1, 2])}, 'loop': {'step': 7}}
    """
    operation = Save(
        path,
        several(checkpointables),
        named=True,
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=False,
    )
    background.run(operation.run, "save_checkpointables", operation.operation.watch)


def save_checkpointables_async(
    path: object,
    checkpointables: dict[str, Any],
    *,
    until: Until = "staged",
    overwrite: bool = False,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> AsyncResponse[None]:
    """Saves several checkpointables in the background.

    Returns as soon as the caller may go on: trees are staged, and handlers have done what they do
    before they return the rest of their work.

    Args:
      path: Directory of the checkpoint.
      checkpointables: What to save, by name, as for ``save_checkpointables``.
      until: When to return. ``"captured"`` is earlier: what was passed must stay as it is until
        ``response.staged.wait()`` has returned.
      overwrite: Whether a checkpoint at ``path`` may be replaced.
      custom_metadata: A dict of JSON values to keep beside them.
      context: Settings to use instead of the current ones.

    Returns:
      A hold on the save: ``result()`` waits until the checkpoint is sealed.

    Raises:
      SealwaxError: What can be told at once: a wrong path, name or leaf.

    >>> import numpy as np, sealwax as ocp
    >>> path, w = getfixture("tmp_path") / "ckpt", np.zeros(3)
    >>> response = ocp.save_checkpointables_async(path, {"params": {"w": w}})
    >>> w[:] = 1
    >>> response.result()
    >>> ocp.load_checkpointables(path)["params"]["w"]
    array([0., 0., 0.])
    """
    operation = Save(
        path,
        several(checkpointables),
        named=True,
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=True,
    )
    return start(operation.run, operation.operation, until)


def plan_save_checkpointables(
    path: object,
    checkpointables: dict[str, Any],
    *,
    overwrite: bool = False,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> Plan:
    """The plan of what ``save_checkpointables`` would do, without doing it.

    Args:
      path: Directory of the checkpoint.
      checkpointables: What would be saved, by name.
      overwrite: Whether a checkpoint at ``path`` might be replaced.
      custom_metadata: A dict of JSON values to keep beside them.
      context: Settings to use instead of the current ones.

    Returns:
      The plan.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.plan_save_checkpointables(path, {"params": {"w": np.zeros(3)}}).names
    ('params/w',)
    """
    operation = Save(
        path,
        several(checkpointables),
        named=True,
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=False,
    )
    watch = operation.operation.watch
    return background.run(operation.plan, "plan_save_checkpointables", watch)
