"""Saving: capture, observe, plan, execute, seal."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from sealwax.arrays.forms import Source
from sealwax.context import Context, resolve
from sealwax.effects import Plan
from sealwax.errors import SealwaxError
from sealwax.layouts.orbax import DEFAULT_ITEM
from sealwax.options import Options
from sealwax.paths import absolute
from sealwax.planning.inventory import take_inventory
from sealwax.planning.requests import SaveRequest, Site, check_item_name, check_metadata
from sealwax.planning.save import plan_save as plan
from sealwax.runtime import background, garbage
from sealwax.runtime.executor import execute
from sealwax.runtime.meter import Meter
from sealwax.runtime.moments import Moment
from sealwax.runtime.observe import Perform, raised, survey
from sealwax.runtime.operation import Operation, raise_unavailable
from sealwax.runtime.response import AsyncResponse
from sealwax.trees.flatten import flatten, key_paths
from sealwax.trees.structure import PyTree


class Save:
    """One save, captured: nothing that its caller does later changes what it will write."""

    def __init__(
        self,
        path: object,
        state: PyTree,
        *,
        item: str,
        overwrite: bool,
        custom_metadata: object,
        context: Context | Options | None,
        background: bool,
    ) -> None:
        options = resolve(context)
        raise_unavailable(options, "save")
        target = absolute(path)
        self.operation = Operation(path=target, options=options)
        self.meter = Meter()
        try:
            saving = options.array.saving
            creates = saving.scoped_storage_options_creator is not None
            with garbage.paused():
                flat = raised(flatten(state))
                paths = key_paths(state) if creates else ()
                inventory, sources = raised(take_inventory(flat, saving, key_paths=paths))
            self.request = SaveRequest(
                path=target,
                item=raised(check_item_name(item)),
                inventory=inventory,
                options=options,
                overwrite=overwrite,
                custom_metadata=raised(check_metadata(custom_metadata)),
                background=background,
            )
        except SealwaxError as error:
            raise error.located(path=target) from error.__cause__
        self.sources: tuple[Source, ...] = sources

    async def plan(self) -> Plan:
        """Observes and plans, and does nothing."""
        async with self.operation.performing() as perform:
            return raised(plan(self.request, await self._survey(perform)))

    async def _survey(self, perform: Perform) -> Site:
        # What may be replaced must be looked at: nothing but a checkpoint ever is.
        request = self.request
        look = request.overwrite or not request.options.file.skip_sync_file_validations
        return await survey(perform, request.path, target=look)

    async def run(self, on_staged: Callable[[], None] | None = None) -> None:
        """Does it."""
        async with self.operation.performing() as perform:
            site = await self._survey(perform)
            with garbage.paused():
                made: Plan = raised(plan(self.request, site))
            sources, self.sources = self.sources, ()
            await execute(
                made,
                perform,
                sources=sources,
                limits=self.operation.limits,
                meter=self.meter,
                on_staged=on_staged,
            )


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
        state,
        item=checkpointable_name,
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=False,
    )
    background.run(operation.run, "save")


def save_async(
    path: object,
    state: PyTree,
    *,
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
        state,
        item=checkpointable_name,
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=True,
    )
    return start(operation)


def start(operation: Save) -> AsyncResponse[None]:
    """Starts a captured save in the background, and returns once it is staged.

    Raises:
      SealwaxError: It failed before that.
    """
    staging = Staging(operation)
    staging.job.attend(staging.over)
    return staging.response()


class Staging:
    """The part of a save in the background that its caller waits for."""

    def __init__(self, operation: Save) -> None:
        name = f"save_async to {operation.request.path!r}"
        self.job = background.Job(functools.partial(operation.run, self._staged), name)
        self.over = Moment(name)
        self.job.finished.call(self.over.set)
        self._response = AsyncResponse(self.job, operation.meter)
        self._well = False

    def response(self) -> AsyncResponse[None]:
        """A hold on the rest of the save, once this part is over."""
        if not self._well:
            self._response.result()
        return self._response

    def _staged(self) -> None:
        self._well = True
        self.over.set()


def plan_save(
    path: object,
    state: PyTree,
    *,
    checkpointable_name: str = DEFAULT_ITEM,
    overwrite: bool = False,
    custom_metadata: dict[str, Any] | None = None,
    context: Context | Options | None = None,
) -> Plan:
    """The plan of what ``save`` would do, without doing it.

    Args:
      path: Directory of the checkpoint.
      state: Any pytree, as for ``save``.
      checkpointable_name: Name of the item that would hold the tree.
      overwrite: Whether a checkpoint at ``path`` might be replaced.
      custom_metadata: A dict of JSON values to keep beside the tree.
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
        state,
        item=checkpointable_name,
        overwrite=overwrite,
        custom_metadata=custom_metadata,
        context=context,
        background=False,
    )
    return background.run(operation.plan, "plan_save")
