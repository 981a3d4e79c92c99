"""What a checkpointer tells of its steps, and how it loads them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

from sealwax.context import Context
from sealwax.layouts.orbax import AUTO, DEFAULT_ITEM
from sealwax.options import Options
from sealwax.runtime.response import AsyncResponse
from sealwax.training import loads
from sealwax.training.deciding import Costs
from sealwax.training.history import Metric
from sealwax.training.metadata import CheckpointMetadata, RootMetadata
from sealwax.training.old_names import OldNames
from sealwax.training.retention import Retention
from sealwax.training.root_file import read_root
from sealwax.training.run_directory import Run
from sealwax.training.saves import plan_retention
from sealwax.training.store import described
from sealwax.trees.structure import PyTree


class Reading(OldNames):
    """The part of a checkpointer that changes nothing."""

    _run: Run

    @property
    def directory(self) -> Any:
        """Where the steps are."""
        return self._run.options(None).file.path_class(self._run.root)

    @property
    def checkpoints(self) -> Sequence[CheckpointMetadata[None]]:
        """The sealed steps, ascending, without what is in them.

        What other programs save and delete is seen by ``reload()``, and by the next save.
        """
        return described(self._run.seen.history)

    @property
    def latest(self) -> CheckpointMetadata[None] | None:
        """The sealed step with the highest number; one that is being saved is none yet."""
        return next(iter(described(self._run.seen.history[-1:])), None)

    @property
    def costs(self) -> Costs:
        """What steps and saves took so far, as policies are told."""
        return self._run.pace.costs

    def best(self, metric: Metric, *, mode: str = "max") -> CheckpointMetadata[None] | None:
        """The step with the highest value of a metric, or with ``mode="min"`` the lowest.

        Args:
          metric: Its name, or a function from a step's metrics to a number.
          mode: ``"max"`` or ``"min"``.

        Returns:
          That step, or ``None`` if no step has the metric.
        """
        found = self._run.seen.history.best(metric, mode=mode)
        return None if found is None else described([found])[0]

    def retention(self) -> Retention:
        """What the preservation policy would keep now, without deleting anything; print it."""
        return plan_retention(self._run, self._run.now(self._run.options(None)))

    def load(
        self,
        step: Any = None,
        abstract_state: Any = None,
        *,
        checkpointable_name: str = DEFAULT_ITEM,
        context: Context | Options | None = None,
    ) -> PyTree:
        """Loads the tree of a step.

        Args:
          step: Its number, or what ``latest`` or ``checkpoints`` gave; ``None`` for the last one in
            the directory. Of one that is being saved, the end is waited for.
          abstract_state: What to restore, as for ``sealwax.load``.
          checkpointable_name: Name of the item that holds the tree.
          context: Settings to use instead of the checkpointer's.

        Raises:
          StepNotFoundError: There is no such step.
          CheckpointableNotFoundError: The step has no such item.
        """
        wanted = _wanted(abstract_state, checkpointable_name)
        return loads.load(self._run, step, wanted, context)[checkpointable_name]

    def load_async(
        self,
        step: Any = None,
        abstract_state: Any = None,
        *,
        checkpointable_name: str = DEFAULT_ITEM,
        context: Context | Options | None = None,
    ) -> AsyncResponse[PyTree]:
        """Loads the tree of a step in the background; takes what ``load`` takes."""
        wanted = _wanted(abstract_state, checkpointable_name)

        def pick(made: dict[str, Any]) -> Any:
            return made[checkpointable_name]

        return loads.load_async(self._run, step, wanted, context, pick)

    def load_checkpointables(
        self,
        step: Any = None,
        abstract_checkpointables: Any = None,
        *,
        context: Context | Options | None = None,
    ) -> dict[str, Any]:
        """Loads several checkpointables of a step, as ``sealwax.load_checkpointables`` does."""
        return loads.load(self._run, step, abstract_checkpointables, context)

    def load_checkpointables_async(
        self,
        step: Any = None,
        abstract_checkpointables: Any = None,
        *,
        context: Context | Options | None = None,
    ) -> AsyncResponse[dict[str, Any]]:
        """Loads several checkpointables of a step in the background."""
        return loads.load_async(self._run, step, abstract_checkpointables, context, dict)

    def metadata(
        self,
        step: Any = None,
        *,
        checkpointable_name: str | None = AUTO,
        context: Context | Options | None = None,
    ) -> CheckpointMetadata[Any]:
        """Tells what a step holds, without reading its arrays, and its metrics.

        Args:
          step: Its number; ``None`` for the last one in the directory.
          checkpointable_name: Name of the item, or ``"AUTO"`` for the first that holds a tree.
          context: Settings to use instead of the checkpointer's.
        """
        return loads.metadata(self._run, step, checkpointable_name, context)

    def checkpointables_metadata(
        self, step: Any = None, *, context: Context | Options | None = None
    ) -> CheckpointMetadata[dict[str, Any]]:
        """Tells what each checkpointable of a step holds, without loading it, and its metrics."""
        return loads.checkpointables_metadata(self._run, step, context)

    def root_metadata(self) -> RootMetadata:
        """Tells what was recorded of the run as a whole."""
        run = self._run
        run.begin()
        read = functools.partial(read_root, root=run.root)
        found = run.run("root_metadata", run.options(None), read)
        return RootMetadata(directory=self.directory, custom_metadata=found or {})


def _wanted(abstract: Any, name: str) -> dict[str, Any]:
    if isinstance(abstract, CheckpointMetadata):
        abstract = cast("CheckpointMetadata[Any]", abstract).metadata
    return {name: abstract}
