"""Loading a part of a checkpoint into a state that is there already."""

from __future__ import annotations

from typing import Generic, Literal, NamedTuple, TypeVar, cast

from sealwax.context import Context
from sealwax.errors import OptionValueError
from sealwax.layouts.orbax import AUTO
from sealwax.options import Options
from sealwax.planning.select import Into, Report, plan_into
from sealwax.planning.selection import Selection, as_selection
from sealwax.runtime import background
from sealwax.runtime.observe import Perform, raised, undisturbed
from sealwax.verbs.checkpoint_metadata import leaf_metadata
from sealwax.verbs.loading import Load

T = TypeVar("T")


class Loaded(NamedTuple, Generic[T]):
    """A state into which a checkpoint's leaves were put, and what became of every leaf."""

    tree: T
    report: Report


class LoadInto(Load):
    """One load into a state, captured."""

    def __init__(
        self,
        path: object,
        state: object,
        selection: Selection,
        missing: str,
        *,
        item: str | None,
        context: Context | Options | None,
    ) -> None:
        super().__init__(path, state, item=item, context=context)
        if missing not in ("error", "keep"):
            raise OptionValueError(
                "Argument 'missing' has a value that it cannot have",
                expected="'error' or 'keep'",
                found=repr(missing),
            )
        self.into = selection
        self.keep = missing == "keep"

    async def run_into(self) -> Loaded[object]:
        """Does it, and returns the state and the report."""
        async with self.operation.performing() as perform:

            async def look() -> Loaded[object]:
                made = await self._plan_into(perform)
                tree = await self.operation.execute(made.plan, perform)
                return Loaded(tree, made.report)

            return await undisturbed(perform, self.request.path, look)

    async def _plan_into(self, perform: Perform) -> Into:
        contents = await self.contents(perform)
        planned = plan_into(
            self.request,
            contents,
            selection=self.into,
            about=leaf_metadata,
            keep_missing=self.keep,
        )
        return raised(planned)


def load_into(
    path: object,
    state: T,
    *,
    select: object = Selection(),
    missing: Literal["error", "keep"] = "error",
    checkpointable_name: str | None = AUTO,
    context: Context | Options | None = None,
) -> Loaded[T]:
    """Puts leaves of a checkpoint into a state, such as a pretrained backbone into a new model.

    Every leaf that is asked for must be there: of the checkpoint, what ``select`` takes has to
    have a place in the state; of the state, the leaves that ``select`` could fill have to be in
    the checkpoint. Everything else in the state stays the very object that it is.

    Args:
      path: Directory of the checkpoint.
      state: Any tree. Its leaves say how to restore those of their name, as for ``load``.
      select: A ``Selection``; or a pattern, or several, of what it includes.
      missing: ``"keep"`` lets leaves of the state that the checkpoint does not have be.
      checkpointable_name: Name of the item, or ``"AUTO"`` for the first that holds a tree.
      context: Settings to use instead of the current ones.

    Returns:
      The new state, and a report of what was taken, what was left and what is missing.

    Raises:
      TreeMismatchError: Something was asked for that is not there, or that has no place.
      LeafMismatchError: A leaf does not fit the state's.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "pretrained"
    >>> ocp.save(path, {"params": {"backbone": {"w": np.ones(2)}, "head": np.ones(9)}})
    >>> model = {"encoder": {"w": np.zeros(2)}, "head": np.zeros(3)}
    >>> select = ocp.Selection(
    ...     include="params.backbone", rename={"params.backbone": "encoder"}
    ... )
    >>> loaded = ocp.load_into(path, model, select=select)
    >>> loaded.tree["encoder"]["w"], loaded.report.left
    (array([1., 1.]), ('params.head',))
    """
    operation = LoadInto(
        path, state, as_selection(select), missing, item=checkpointable_name, context=context
    )
    return cast("Loaded[T]", background.run(operation.run_into, "load_into"))
