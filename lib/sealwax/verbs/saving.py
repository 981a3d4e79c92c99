"""Saving: capture, observe, plan, execute, seal."""

from __future__ import annotations

from typing import Any

from sealwax.context import Context
from sealwax.effects import Plan
from sealwax.layouts.orbax import DEFAULT_ITEM
from sealwax.options import Options
from sealwax.runtime.background import run
from sealwax.runtime.response import AsyncResponse
from sealwax.runtime.starting import Until, start
from sealwax.trees.structure import PyTree
from sealwax.verbs.save_operation import Save, one_tree


def save(
    path: object,
    state: PyTree,
    *,
    checkpointable_name: str = DEFAULT_ITEM,
    overwrite: bool = False,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> None:
    """Saves a tree, and returns when the checkpoint is complete and on stable storage.

    Args:
      path: Directory of the checkpoint; its parents are made as needed.
      state: Any pytree of arrays, scalars, strings, bytes and PRNG keys.
      checkpointable_name: Name of the item that holds the tree.
      overwrite: Whether a checkpoint at ``path`` may be replaced. It stays until the new one
        takes its place, in one step.
      custom_metadata: A dict of JSON values to keep beside the tree.
      context: Settings to use instead of the current ones.

    Raises:
      CheckpointExistsError: Something is at ``path``, and may not be replaced.
      LeafError: A leaf cannot be stored.
      StorageError: The file system refused; nothing is left behind.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"w": np.arange(3.0), "step": 7})
    >>> ocp.load(path)
    {'step': 7, 'w': array([0., 1., 2.])}
    """
    operation = Save(
        path,
        one_tree(state, checkpointable_name),
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=False,
    )
    run(operation.run, "save", operation.operation.watch)


def save_async(
    path: object,
    state: PyTree,
    *,
    until: Until = "staged",
    checkpointable_name: str = DEFAULT_ITEM,
    overwrite: bool = False,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> AsyncResponse[None]:
    """Saves a tree in the background.

    Returns as soon as the caller may go on: donating, changing or deleting what was passed no
    longer alters the checkpoint. The interpreter does not exit before the save has ended.

    Args:
      path: Directory of the checkpoint.
      state: Any pytree, as for ``save``.
      until: When to return. ``"captured"`` is earlier: the shape of the tree is fixed, but its
        arrays must stay as they are until ``response.staged.wait()`` has returned.
      checkpointable_name: Name of the item that holds the tree.
      overwrite: Whether a checkpoint at ``path`` may be replaced.
      custom_metadata: A dict of JSON values to keep beside the tree.
      context: Settings to use instead of the current ones.

    Returns:
      A hold on the save: ``result()`` waits until the checkpoint is sealed.

    Raises:
      SealwaxError: What can be told at once: a wrong path or leaf.

    >>> import numpy as np, sealwax as ocp
    >>> path, w = getfixture("tmp_path") / "ckpt", np.zeros(3)
    >>> response = ocp.save_async(path, {"w": w})
    >>> w[:] = 1
    >>> response.result()
    >>> ocp.load(path)["w"]
    array([0., 0., 0.])
    """
    operation = Save(
        path,
        one_tree(state, checkpointable_name),
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=True,
    )
    return start(operation.run, operation.operation, until)


def plan_save(
    path: object,
    state: PyTree,
    *,
    checkpointable_name: str = DEFAULT_ITEM,
    overwrite: bool = False,
    custom_metadata: dict[str, Any] | None = None,
    background: bool = False,
    context: Context | Options | None = None,
) -> Plan:
    """The plan of what ``save`` or ``save_async`` would do, without doing it.

    Args:
      path: Directory of the checkpoint.
      state: Any pytree, as for ``save``.
      checkpointable_name: Name of the item that would hold the tree.
      overwrite: Whether a checkpoint at ``path`` might be replaced.
      custom_metadata: A dict of JSON values to keep beside the tree.
      background: Whether it is the plan of ``save_async``.
      context: Settings to use instead of the current ones.

    Returns:
      The plan: print it, or ask it for ``bytes``, ``effects`` and ``peak_host_bytes``.

    >>> import numpy as np, sealwax as ocp
    >>> plan = ocp.plan_save(getfixture("tmp_path") / "ckpt", {"w": np.zeros(1000)})
    >>> plan.bytes
    8000
    """
    operation = Save(
        path,
        one_tree(state, checkpointable_name),
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=background,
    )
    return run(operation.plan, "plan_save")
