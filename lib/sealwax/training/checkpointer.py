"""``Checkpointer``: the steps of a training run in one directory."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from sealwax.context import Context, current_options, resolve
from sealwax.errors import SealwaxError
from sealwax.layouts.orbax import DEFAULT_ITEM
from sealwax.options import Options
from sealwax.path.step import NameFormat, standard_name_format
from sealwax.planning.pipeline import raised
from sealwax.planning.requests import check_metadata
from sealwax.runtime.observe import Perform
from sealwax.runtime.response import AsyncResponse
from sealwax.training import loads
from sealwax.training.deciding import SaveDecisionPolicy, any_of
from sealwax.training.keeping import PreservationPolicy
from sealwax.training.preservation_policies import PreserveAll
from sealwax.training.reading import Reading
from sealwax.training.retiring import sweep, sweep_foreign
from sealwax.training.root_file import write_root
from sealwax.training.run_directory import Run, Settings, number_of
from sealwax.training.save_decision_policies import (
    ContinuousCheckpointingPolicy,
    InitialSavePolicy,
    PreemptionCheckpointingPolicy,
)
from sealwax.training.saves import Order, save
from sealwax.training.store import make_root
from sealwax.trees.structure import PyTree
from sealwax.verbs.save_operation import one_tree, several

DEFAULT_POLICY = any_of(
    InitialSavePolicy(), ContinuousCheckpointingPolicy(), PreemptionCheckpointingPolicy()
)


class Checkpointer(Reading):
    """Saves and loads the steps of a training run, as many threads as there may be.

    What is in the directory counts: a step is listed when it is sealed, and not before. One save
    or deletion goes on at a time; another that is decided on waits for it. The failure of one in
    the background is raised once: by its response, or at the next call, at ``wait()``, at
    ``close()``, or told when the interpreter exits.

    Args:
      directory: Where the steps are; it is made where there is none.
      context: Settings for all that this checkpointer does, whatever context is current then.
        Without it, those that are current at a call, or else at this one, count.
      save_decision_policy: When to save; by default at first, whenever no save is under way, and
        when the job is told that it will be stopped.
      preservation_policy: Which steps to keep; by default all. It is asked, and what it does not
        keep is deleted, after each save, when the new step is sealed.
      step_name_format: How the directories of steps are called.
      custom_metadata: What to record of the run as a whole. That of its first checkpointer stays.
      cleanup_tmp_directories: Whether to remove now what saves that were killed have left. What
        saves of Orbax have left is removed too, even if one of them is under way.
      lightweight_initialize: Whether to read what is recorded of a step only when it is needed;
        ``checkpoints`` has no metrics and no times until then.
      logger: An object with ``log_entry(dict)``, told of each save and load.
      keep_newest: Whether the newest step, and the one that was just saved, are kept whatever
        ``preservation_policy`` says.

    Raises:
      NotADirectoryLayoutError: Something that is not a directory is there.
      InvalidLayoutError: A checkpoint is there.

    >>> import numpy as np, sealwax as ocp
    >>> policies = ocp.training.preservation_policies
    >>> run = getfixture("tmp_path") / "run"
    >>> with ocp.training.Checkpointer(run, preservation_policy=policies.LatestN(2)) as ckptr:
    ...     for step in range(4):
    ...         saved = ckptr.save(step, {"w": np.full(3, step)}, metrics={"loss": 1 / (1 + step)})
    ...     [each.step for each in ckptr.checkpoints], ckptr.load()["w"]
    ([2, 3], array([3, 3, 3]))
    """

    def __init__(
        self,
        directory: object,
        *,
        context: Context | Options | None = None,
        save_decision_policy: SaveDecisionPolicy | None = None,
        preservation_policy: PreservationPolicy | None = None,
        step_name_format: NameFormat[Any] | None = None,
        custom_metadata: Mapping[str, Any] | None = None,
        cleanup_tmp_directories: bool = False,
        lightweight_initialize: bool = False,
        logger: Any = None,
        keep_newest: bool = True,
    ) -> None:
        settings = Settings(
            explicit=None if context is None else resolve(context),
            around=current_options(),
            saving=save_decision_policy or DEFAULT_POLICY,
            preserving=preservation_policy or PreserveAll(),
            name_format=step_name_format or standard_name_format(),
            keep_newest=keep_newest,
            lightweight=lightweight_initialize,
            logger=logger,
        )
        custom = None if custom_metadata is None else raised(check_metadata(custom_metadata))
        self._run = Run(directory, settings)
        options = self._run.options(None)
        begin = functools.partial(
            self._begin, options=options, custom=custom, clean=cleanup_tmp_directories
        )
        self._run.run("checkpointer", options, begin)

    async def _begin(
        self, perform: Perform, options: Options, custom: dict[str, Any] | None, clean: bool
    ) -> None:
        run, durable = self._run, options.file.durability == "durable"
        await make_root(perform, run.root, durable=durable)
        if clean:
            await sweep(perform, run.root)
            await sweep_foreign(perform, run.root, run.settings.name_format)
        if custom is not None:
            await write_root(perform, run.root, custom, durable=durable)
        await run.look(perform, options, read=not run.settings.lightweight)

    def should_save(self, step: Any) -> bool:
        """Whether ``save`` would save this step; never one before the last.

        Raises:
          SealwaxError: The last save in the background failed, and nobody was told.
        """
        run, number = self._run, number_of(step)
        options = run.options(None)
        with run.turn:
            run.begin()
            return run.decide(number, run.now(options), options)

    def save(
        self,
        step: Any,
        state: PyTree,
        *,
        checkpointable_name: str = DEFAULT_ITEM,
        force: bool = False,
        overwrite: bool = False,
        metrics: Any = None,
        custom_metadata: dict[str, Any] | None = None,
        context: Context | Options | None = None,
    ) -> bool:
        """Saves a tree as a step, if the policy wants it; then deletes what is not to be kept.

        Args:
          step: The number of the step.
          state: Any pytree, as for ``sealwax.save``.
          checkpointable_name: Name of the item that holds the tree.
          force: Whether to save without asking the policy, also before the last step.
          overwrite: Whether the step may be there already; it stays until the new one takes its
            place, and if the policy declines.
          metrics: JSON values to keep beside it; scalars of NumPy and JAX are taken too.
          custom_metadata: A dict of JSON values to keep beside it.
          context: Settings to use instead of the checkpointer's.

        Returns:
          Whether the step was saved.

        Raises:
          StepAlreadyExistsError: The step is there, or is being saved.
          ArgumentValueError: The number is negative.
          SealwaxError: This save failed; or the last one in the background did, nobody was told,
            and this one was not begun.
        """
        order = Order(
            capture=one_tree(state, checkpointable_name),
            force=force,
            overwrite=overwrite,
            metrics=metrics,
            custom_metadata=custom_metadata,
            context=context,
        )
        return save(self._run, step, order, background=False) is not None

    def save_async(
        self,
        step: Any,
        state: PyTree,
        *,
        checkpointable_name: str = DEFAULT_ITEM,
        force: bool = False,
        overwrite: bool = False,
        metrics: Any = None,
        custom_metadata: dict[str, Any] | None = None,
        context: Context | Options | None = None,
    ) -> AsyncResponse[bool] | None:
        """Saves a tree as a step in the background, if the policy wants it.

        Returns as soon as the caller may go on, as ``sealwax.save_async`` does. Where an earlier
        save is under way it waits for that first: at most one copy of the state is held. Takes
        what ``save`` takes.

        Returns:
          A hold on the save, or ``None`` if the policy declined. ``result()`` waits until the
          step is sealed and what is not to be kept is deleted.
        """
        order = Order(
            capture=one_tree(state, checkpointable_name),
            force=force,
            overwrite=overwrite,
            metrics=metrics,
            custom_metadata=custom_metadata,
            context=context,
        )
        return save(self._run, step, order, background=True)

    def save_checkpointables(
        self,
        step: Any,
        checkpointables: dict[str, Any],
        *,
        force: bool = False,
        overwrite: bool = False,
        metrics: Any = None,
        custom_metadata: dict[str, Any] | None = None,
        context: Context | Options | None = None,
    ) -> bool:
        """Saves several checkpointables as a step, as ``save`` does one tree."""
        order = Order(
            capture=several(checkpointables),
            named=True,
            force=force,
            overwrite=overwrite,
            metrics=metrics,
            custom_metadata=custom_metadata,
            context=context,
        )
        return save(self._run, step, order, background=False) is not None

    def save_checkpointables_async(
        self,
        step: Any,
        checkpointables: dict[str, Any],
        *,
        force: bool = False,
        overwrite: bool = False,
        metrics: Any = None,
        custom_metadata: dict[str, Any] | None = None,
        context: Context | Options | None = None,
    ) -> AsyncResponse[bool] | None:
        """Saves several checkpointables as a step in the background, as ``save_async`` does."""
        order = Order(
            capture=several(checkpointables),
            named=True,
            force=force,
            overwrite=overwrite,
            metrics=metrics,
            custom_metadata=custom_metadata,
            context=context,
        )
        return save(self._run, step, order, background=True)

    def delete(
        self,
        step: Any,
        *,
        checkpointable_name: str | None = None,
        missing_ok: bool = False,
        context: Context | Options | None = None,
    ) -> bool:
        """Deletes a step, or one checkpointable of it, whatever the preservation policy says.

        Waits for what is under way first. Deleting again finishes what was interrupted.

        Args:
          step: Its number.
          checkpointable_name: Name of the only checkpointable to delete; ``None`` for all.
          missing_ok: Whether it is fine that there is nothing to delete.
          context: Settings to use instead of the checkpointer's.

        Returns:
          Whether something was deleted.

        Raises:
          StepNotFoundError: There is no such step.
          SealwaxError: What ``sealwax.delete`` raises.
        """
        response = loads.delete(
            self._run,
            step,
            checkpointable_name,
            missing_ok=missing_ok,
            context=context,
            background=False,
        )
        return response.result()

    def delete_async(
        self,
        step: Any,
        *,
        checkpointable_name: str | None = None,
        missing_ok: bool = False,
        context: Context | Options | None = None,
    ) -> AsyncResponse[bool]:
        """Deletes in the background; when this returns the step is gone, and files may be left."""
        return loads.delete(
            self._run,
            step,
            checkpointable_name,
            missing_ok=missing_ok,
            context=context,
            background=True,
        )

    def cancel(self, step: Any = None) -> bool:
        """Asks the save that is under way to stop; its ``result()`` then raises.

        A step that is sealed stays: this deletes nothing.

        Args:
          step: Only if it is this one that is being saved.

        Returns:
          Whether a save was asked to stop.
        """
        number = None if step is None else number_of(step)
        flight = self._run.flights.current
        if flight is None or flight.saves is None or number not in (None, flight.saves.step):
            return False
        flight.job.cancel()
        return True

    def reload(self) -> None:
        """Looks at the directory again, for what other programs have saved and deleted there."""
        self._run.begin()
        self._run.reload(self._run.options(None))

    def is_saving_in_progress(self) -> bool:
        """Whether a save is under way."""
        return self._run.flights.saving is not None

    def wait(self) -> None:
        """Waits until nothing is under way.

        Raises:
          SealwaxError: It failed, and nobody was told.
        """
        self._run.flights.wait()

    def close(self) -> None:
        """Waits until nothing is under way; afterwards nothing can be saved or loaded.

        Raises:
          SealwaxError: What was under way failed, and nobody was told.
        """
        with self._run.turn:
            try:
                self._run.flights.wait()
            finally:
                self._run.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except SealwaxError as failure:
            if error is None:
                raise
            error.add_note(f"A save in the background failed too: {failure}")

    def __repr__(self) -> str:
        return f"Checkpointer({self._run.root!r}, steps={list(self._run.seen.history.numbers)})"
