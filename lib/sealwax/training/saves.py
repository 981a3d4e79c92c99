"""Saving a step, and what follows once it is sealed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from sealwax.context import Context
from sealwax.effects import Now
from sealwax.errors import CheckpointExistsError
from sealwax.options import Options
from sealwax.planning.pipeline import raised
from sealwax.planning.requests import check_metadata
from sealwax.runtime.background import to_the_end
from sealwax.runtime.observe import Perform
from sealwax.runtime.operation import Operation
from sealwax.runtime.response import AsyncResponse
from sealwax.runtime.starting import prepare
from sealwax.training.flights import Flight
from sealwax.training.history import Step
from sealwax.training.measured import plain, with_metrics
from sealwax.training.preservation_policies import PreserveAll
from sealwax.training.retention import Retention, retain
from sealwax.training.retiring import delete_now, retire, sweep
from sealwax.training.run_directory import Run, number_of
from sealwax.training.store import METRICS, Seen
from sealwax.verbs.save_operation import Capture, Save


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked of a checkpointer.

    Attributes:
      capture: Captures what is saved.
      named: Whether these are several checkpointables.
      force: Whether the policy is not asked.
      overwrite: Whether a step that is there may be replaced.
      metrics: What was measured.
      custom_metadata: The caller's own metadata.
      context: Settings for this call alone.
    """

    capture: Capture
    named: bool = False
    force: bool
    overwrite: bool
    metrics: Any
    custom_metadata: Any
    context: Context | Options | None


def save(run: Run, step: object, order: Order, *, background: bool) -> AsyncResponse[bool] | None:
    """Saves a step, unless the policy declines; without ``background``, to the end.

    Returns:
      A hold on the save, or ``None`` where there is none.
    """
    number, options = number_of(step), run.options(order.context)
    with run.turn:
        began = run.now(options)
        run.begin()
        if not order.overwrite:
            run.refuse_existing(number)
        if not run.decide(number, began, options, force=order.force):
            run.warn_of_later(number)
            return None
        run.flights.wait()
        response = _start(run, number, order, options, began, background)
        run.pace = run.pace.stood_still(began, run.now(options))
    return response


def _start(
    run: Run, step: int, order: Order, options: Options, began: int, background: bool
) -> AsyncResponse[bool]:
    capture = with_metrics(order.capture, order.metrics)
    made = Save(
        run.path_of(step),
        capture,
        named=order.named or order.metrics is not None,
        overwrite=order.overwrite,
        custom_metadata=order.custom_metadata,
        context=options,
        background=background,
    )
    what = Step(
        step=step,
        time_nsecs=began,
        path=options.file.path_class(run.path_of(step)),
        metrics=None if order.metrics is None else plain(order.metrics),
        custom_metadata=raised(check_metadata(order.custom_metadata)),
        items=frozenset(made.sources) - {METRICS},
    )
    work = functools.partial(_save_and_keep, run, made, what, order)
    job, response, _ = prepare(work, made.operation, "staged")
    job.owed = background
    run.flights.launch(Flight(job=job, saves=what))
    if background:
        job.attend(response.staged.over)
        response.staged.wait()
    else:
        job.attend(job.finished)
        response.result()
    return response


async def _save_and_keep(
    run: Run, made: Save, what: Step, order: Order, on_staged: Callable[[], None]
) -> bool:
    options = made.operation.options
    try:
        await made.run(on_staged)
    except BaseException as error:
        await to_the_end(functools.partial(_look_again, run, options, error))
        if isinstance(error, CheckpointExistsError) and not order.overwrite:
            raise run.exists(what.step, error) from error
        raise
    await to_the_end(functools.partial(_keep, run, options, what))
    return True


async def _look_again(run: Run, options: Options, error: BaseException) -> None:
    """Looks whether a step is there whose save failed: what failed may have come after the seal."""
    operation = Operation(title="search", path=run.root, options=options)
    try:
        async with operation.performing() as perform:
            await run.look(perform, options, read=False)
    except Exception as another:
        error.add_note(f"Looking which steps are there failed too: {another}")


async def _keep(run: Run, options: Options, what: Step) -> None:
    """Lists a step that was sealed, and deletes what the policy does not keep."""
    operation = Operation(title="retention", path=run.root, options=options)
    replaced = [step.path for step in run.seen.history if step.step == what.step]
    run.tell(lambda seen: seen.including(what))
    try:
        async with operation.performing() as perform:
            await run.log(perform, "save", what.step, what.time_nsecs)
            for path in replaced:
                # It had another name, in a format that only reads.
                if str(path) != str(what.path):
                    await delete_now(str(path), None, options)
            await _retain(perform, run, options, what)
    except Exception as error:
        error.add_note(f"Step {what.step} is saved; this happened afterwards.")
        raise


async def _retain(perform: Perform, run: Run, options: Options, what: Step) -> None:
    settings = run.settings
    everything = isinstance(settings.preserving, PreserveAll)
    # Another program may have replaced a step: what is deleted is decided on what is there now.
    read = not (everything and settings.lightweight)
    await run.look(perform, options, read=read, forget=None if everything else Seen.forgetting)
    if not everything:
        retention = plan_retention(run, await perform(Now()))
        just = frozenset({what.step} if settings.keep_newest else ())
        await retire(
            perform, retention, run.seen.doubtful | run.seen.guarded | just, options, run.tell
        )
    await sweep(perform, run.root)


def plan_retention(run: Run, now: int) -> Retention:
    """What the policy makes of the steps that there are."""
    return retain(
        run.timed(now),
        run.settings.preserving,
        now=Step(step=0, time_nsecs=now).time,
        keep_newest=run.settings.keep_newest,
    )
