"""Loading: capture, observe, plan, execute."""

from __future__ import annotations

from typing import Any, cast

from sealwax.context import Context, resolve
from sealwax.effects import Plan
from sealwax.layouts.detect import choose_item
from sealwax.layouts.orbax import AUTO
from sealwax.options import Options
from sealwax.planning.contents import Contents
from sealwax.planning.load import LoadRequest
from sealwax.planning.load import plan_load as plan
from sealwax.planning.select import plan_selected
from sealwax.planning.selection import as_selection
from sealwax.runtime import background, garbage
from sealwax.runtime.observe import Perform, find, raised, read_contents, undisturbed
from sealwax.runtime.operation import Operation, raise_unavailable
from sealwax.runtime.response import AsyncResponse
from sealwax.trees.structure import PyTree
from sealwax.verbs.checkpoint_metadata import CheckpointMetadata, leaf_metadata
from sealwax.verbs.paths import absolute


class Load:
    """One load, captured."""

    def __init__(
        self,
        path: object,
        abstract_state: PyTree | CheckpointMetadata[PyTree] | None,
        *,
        item: str | None,
        context: Context | Options | None,
        select: object = None,
    ) -> None:
        options = resolve(context)
        raise_unavailable(options, "load")
        template: Any = abstract_state
        if isinstance(abstract_state, CheckpointMetadata):
            template = cast("CheckpointMetadata[Any]", abstract_state).metadata
        self.item = item
        self.selection = None if select is None else as_selection(select)
        self.operation = Operation(title="load", path=absolute(path), options=options)
        self.request = request_for(self.operation.path, options, template)

    async def plan(self) -> Plan:
        """Observes and plans, and does nothing."""
        async with self.operation.performing() as perform:
            return await self._plan(perform)

    async def run(self) -> PyTree:
        """Does it, and returns the tree."""
        async with self.operation.performing() as perform:

            async def look() -> PyTree:
                made = await self._plan(perform)
                return await self.operation.execute(made, perform)

            return await undisturbed(perform, self.request.path, look)

    async def contents(self, perform: Perform) -> Contents:
        """What the item holds."""
        found = await find(perform, self.request.path, self.request.options)
        item = raised(choose_item(found, self.item))
        return await read_contents(perform, found, item, rich=self.operation.rich)

    async def _plan(self, perform: Perform) -> Plan:
        contents = await self.contents(perform)
        with garbage.paused():
            if self.selection is None:
                return raised(plan(self.request, contents))
            return raised(plan_selected(self.request, contents, self.selection, leaf_metadata))


def request_for(path: str, options: Options, template: PyTree) -> LoadRequest:
    """A request with what JAX has set in the thread of the call."""
    import jax as _jax

    jax: Any = _jax
    restore = options.array.loading.saved_shardings == "restore"
    return LoadRequest(
        path=path,
        options=options,
        template=template,
        devices=tuple(jax.devices()) if restore else None,
        default_device=jax.config.jax_default_device,
        mesh=_current_mesh(),
        x64=jax.config.jax_enable_x64,
    )


def _current_mesh() -> Any:
    import jax

    try:
        mesh: Any = jax.sharding.get_mesh()
    except ValueError:  # Inside jit, where only an abstract mesh can be current.
        return None
    return None if mesh.empty else mesh


def load(
    path: object,
    abstract_state: PyTree | CheckpointMetadata[PyTree] | None = None,
    *,
    checkpointable_name: str | None = AUTO,
    select: object = None,
    context: Context | Options | None = None,
) -> PyTree:
    """Loads a tree, checking every byte that it reads.

    Args:
      path: Directory of the checkpoint.
      abstract_state: A tree like the saved one whose leaves say what to restore: arrays,
        ``jax.ShapeDtypeStruct`` with or without a sharding, scalars, or types of these, and
        ``...`` for what to skip. ``None`` restores everything as it was saved, with JAX arrays
        where JAX puts arrays by default.
      checkpointable_name: Name of the item, or ``"AUTO"`` for the first that holds a tree.
      select: A ``Selection``; or a pattern, or several, of what it includes. Only what it takes
        is there for the load, and under the names that it gives.
      context: Settings to use instead of the current ones.

    Returns:
      The tree.

    Raises:
      CheckpointNotFoundError: Nothing is at ``path``.
      InvalidLayoutError: What is there is not a checkpoint, or has no such item.
      TreeMismatchError: The template and the checkpoint have different leaves.
      LeafMismatchError: A leaf does not fit the template's.
      CorruptionError: Stored bytes have changed or are missing.

    >>> import numpy as np, jax, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"w": np.arange(3, dtype=np.float32)})
    >>> template = {"w": jax.ShapeDtypeStruct((3,), "float32")}
    >>> ocp.load(path, template)["w"]
    Array([0., 1., 2.], dtype=float32)
    """
    operation = Load(path, abstract_state, item=checkpointable_name, select=select, context=context)
    return background.run(operation.run, "load", operation.operation.watch)


def load_async(
    path: object,
    abstract_state: PyTree | CheckpointMetadata[PyTree] | None = None,
    *,
    checkpointable_name: str | None = AUTO,
    select: object = None,
    context: Context | Options | None = None,
) -> AsyncResponse[PyTree]:
    """Loads a tree in the background.

    Args:
      path: Directory of the checkpoint.
      abstract_state: What to restore, as for ``load``.
      checkpointable_name: Name of the item, or ``"AUTO"`` for the first that holds a tree.
      select: What to take of the checkpoint, as for ``load``.
      context: Settings to use instead of the current ones.

    Returns:
      A hold on the load: ``result()`` waits for the tree.

    >>> import sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"step": 1})
    >>> ocp.load_async(path).result()
    {'step': 1}
    """
    operation = Load(path, abstract_state, item=checkpointable_name, select=select, context=context)
    name = f"load_async of {operation.request.path!r}"
    job = background.Job(operation.run, name, watch=operation.operation.watch)
    response = AsyncResponse(job)
    job.start()
    return response


def plan_load(
    path: object,
    abstract_state: PyTree | CheckpointMetadata[PyTree] | None = None,
    *,
    checkpointable_name: str | None = AUTO,
    select: object = None,
    context: Context | Options | None = None,
) -> Plan:
    """The plan of what ``load`` would do, without reading any array.

    Args:
      path: Directory of the checkpoint.
      abstract_state: What to restore, as for ``load``.
      checkpointable_name: Name of the item, or ``"AUTO"`` for the first that holds a tree.
      select: What to take of the checkpoint, as for ``load``.
      context: Settings to use instead of the current ones.

    Returns:
      The plan: print it, or ask it for ``bytes``, ``effects`` and ``peak_host_bytes``.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"w": np.zeros(1000)})
    >>> ocp.plan_load(path).names
    ('w',)
    """
    operation = Load(path, abstract_state, item=checkpointable_name, select=select, context=context)
    return background.run(operation.plan, "plan_load")
