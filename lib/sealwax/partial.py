"""Saving a checkpoint in parts: any number of saves, then one call that makes it whole.

Parts may come in any order, from several contexts, threads and programs, and each is on stable
storage when its save returns. Nothing is at the path until ``finalize``.
"""

from __future__ import annotations

from typing import Any

from sealwax.context import Context
from sealwax.effects import Plan
from sealwax.options import Options
from sealwax.runtime.background import run
from sealwax.runtime.response import AsyncResponse
from sealwax.runtime.starting import start
from sealwax.trees.structure import PyTree
from sealwax.verbs.partial_operation import Discard, Finalize, SavePart

__all__ = [
    "discard",
    "finalize",
    "plan_finalize",
    "plan_save",
    "save",
    "save_async",
]


def __dir__() -> list[str]:
    return __all__


def save(
    path: object,
    state: PyTree,
    *,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> None:
    """Saves one part of a checkpoint, and returns when it is on stable storage.

    The first part begins a session, in the directory ``<path>.partial_save``. A part adds keys
    and replaces none; one that fails leaves the session as it was.

    Args:
      path: Directory that the whole checkpoint will have.
      state: A pytree of what this part adds: any tree that ``sealwax.save`` takes, not empty.
      custom_metadata: A dict of JSON values. Those of all parts are merged; later ones win.
      context: Settings to use instead of the current ones. All parts must ask for the same
        version of Zarr, and for a database or for none.

    Raises:
      PartialSaveReplacementError: An earlier part has something where this one has a leaf.
      CheckpointExistsError: Something is at ``path`` already.
      LeafError: A leaf cannot be stored.
      StorageError: The file system refused; nothing is left behind.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.partial.save(path, {"params": {"w": np.arange(3.0)}})
    >>> ocp.partial.save(path, {"params": {"b": 0.5}, "step": 7})
    >>> ocp.partial.finalize(path)
    >>> ocp.load(path)
    {'params': {'b': 0.5, 'w': array([0., 1., 2.])}, 'step': 7}
    """
    operation = _part(path, state, custom_metadata, context)
    run(operation.run, operation.operation.title, operation.operation.watch)


def save_async(
    path: object,
    state: PyTree,
    *,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> AsyncResponse[None]:
    """Saves one part in the background; the caller may change what was passed at once.

    Several may be under way. They write side by side, and join the session one after another.

    Args:
      path: Directory that the whole checkpoint will have.
      state: A pytree of what this part adds.
      custom_metadata: A dict of JSON values, merged with those of other parts.
      context: Settings to use instead of the current ones.

    Returns:
      A hold on the save. Of two parts under way that have a leaf in one place, one is saved and
      the other's ``result()`` raises.

    Raises:
      SealwaxError: What can be told at once, such as a key that an earlier part has.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> parts = [ocp.partial.save_async(path, {f"layer_{n}": np.ones(n)}) for n in (1, 2)]
    >>> ocp.partial.finalize(path)
    >>> sorted(ocp.load(path))
    ['layer_1', 'layer_2']
    """
    operation = _part(path, state, custom_metadata, context, background=True)
    return start(operation.run, operation.operation, "staged")


def finalize(path: object, *, context: Context | Options | None = None) -> None:
    """Makes one checkpoint of all parts, at ``path``, in one step.

    It waits for parts that are still being saved. Data is not written again: the checkpoint's
    files are those of the parts. An interruption leaves the parts or the whole, and calling
    again finishes what was begun.

    Args:
      path: Directory of the checkpoint, as it was given to ``save``; the session's will do.
      context: Settings to use instead of the current ones.

    Raises:
      CheckpointExistsError: Something else is at ``path``; the parts stay.
      CheckpointNotFoundError: No part was saved, or one that was still being saved failed.
      StorageError: The file system refused; the parts stay.

    >>> import sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.partial.save(path, {"step": 7})
    >>> ocp.partial.finalize(path)
    >>> ocp.load(path)
    {'step': 7}
    """
    operation = Finalize(path, context=context)
    run(operation.run, operation.operation.title, operation.operation.watch)


def discard(
    path: object, *, missing_ok: bool = False, context: Context | Options | None = None
) -> None:
    """Gives up all parts that were saved and not finalized.

    Args:
      path: Directory that the checkpoint would have had.
      missing_ok: Whether it is fine that there are none.
      context: Settings to use instead of the current ones.

    Raises:
      CheckpointNotFoundError: No part was saved.

    >>> import sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.partial.save(path, {"step": 7})
    >>> ocp.partial.discard(path)
    """
    operation = Discard(path, missing_ok=missing_ok, context=context)
    run(operation.run, operation.operation.title, operation.operation.watch)


def plan_save(
    path: object,
    state: PyTree,
    *,
    custom_metadata: dict[str, Any] | None = None,
    background: bool = False,
    context: Context | Options | None = None,
) -> Plan:
    """The plan of what ``save`` or ``save_async`` would do, without doing it.

    >>> import numpy as np, sealwax as ocp
    >>> ocp.partial.plan_save(getfixture("tmp_path") / "ckpt", {"w": np.zeros(1000)}).bytes
    8000
    """
    operation = _part(path, state, custom_metadata, context, background=background)
    return run(operation.plan, "partial.plan_save")


def plan_finalize(path: object, *, context: Context | Options | None = None) -> Plan:
    """The plan of what ``finalize`` would do with the parts that are there, without doing it.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.partial.save(path, {"w": np.zeros(1000)})
    >>> ocp.partial.plan_finalize(path).bytes
    0
    """
    return run(Finalize(path, context=context).plan, "partial.plan_finalize")


def _part(
    path: object,
    state: PyTree,
    custom_metadata: object,
    context: Context | Options | None,
    *,
    background: bool = False,
) -> SavePart:
    return SavePart(
        path, state, custom_metadata=custom_metadata, context=context, background=background
    )
