"""Loading a step, looking at one, and deleting one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from sealwax.context import Context
from sealwax.errors import CheckpointNotFoundError, StepNotFoundError
from sealwax.options import Options
from sealwax.path.step import FoundStep
from sealwax.runtime import background
from sealwax.runtime.background import Job
from sealwax.runtime.observe import Perform
from sealwax.runtime.response import AsyncResponse
from sealwax.runtime.starting import prepare
from sealwax.training.flights import Flight
from sealwax.training.metadata import CheckpointMetadata
from sealwax.training.run_directory import Run, number_of
from sealwax.training.store import read_step
from sealwax.verbs import checkpoint_metadata
from sealwax.verbs.deleting import Delete
from sealwax.verbs.inspecting import Inspect
from sealwax.verbs.items_operation import InspectItems, LoadItems


class Loading(NamedTuple):
    """A load of a step that was found, and the save that it has to wait for."""

    step: int
    operation: LoadItems
    began: int
    options: Options
    awaited: Job[Any] | None


def prepare_load(
    run: Run, step: object, wanted: object, context: Context | Options | None
) -> Loading:
    """Finds the step that is to be loaded.

    Raises:
      StepNotFoundError: It is not there.
    """
    options = run.options(context)
    run.begin()
    number = None if step is None else number_of(step)
    flight = run.flights.current
    awaited = None
    if number is not None and flight is not None and flight.saves is not None:
        awaited = flight.job if flight.saves.step == number else None
    began = run.now(options)
    if number is not None and awaited is not None:
        path = run.path_of(number)
    else:
        found = _found(run, number, options)
        number, path = found.step, str(found.path)
    return Loading(number, LoadItems(path, wanted, options), began, options, awaited)


def _found(run: Run, number: int | None, options: Options) -> FoundStep:
    resolve = functools.partial(run.resolve, step=number, options=options)
    return run.run("search", options, resolve)


async def load_items(run: Run, loading: Loading) -> dict[str, Any]:
    """Loads checkpointables of a step, after the save of it that is under way."""
    if loading.awaited is not None:
        await loading.awaited.finished.reached()
        run.flights.settle()
    try:
        made = await loading.operation.run()
    except CheckpointNotFoundError as error:
        run.tell(lambda seen: seen.without(loading.step))
        raise StepNotFoundError(
            f"Step {loading.step} is gone", step=loading.step, path=error.path
        ) from error
    if run.settings.logger is not None:
        async with loading.operation.operation.performing() as perform:
            await run.log(perform, "restore", loading.step, loading.began)
    return made


def load(
    run: Run, step: object, wanted: object, context: Context | Options | None
) -> dict[str, Any]:
    """Loads checkpointables of a step."""
    loading = prepare_load(run, step, wanted, context)
    watch = loading.operation.operation.watch
    return background.run(functools.partial(load_items, run, loading), "load", watch)


def load_async(
    run: Run,
    step: object,
    wanted: object,
    context: Context | Options | None,
    pick: Callable[[dict[str, Any]], Any],
) -> AsyncResponse[Any]:
    """Loads checkpointables of a step in the background; ``pick`` makes the answer of them."""
    loading = prepare_load(run, step, wanted, context)

    async def work() -> Any:
        return pick(await load_items(run, loading))

    operation = loading.operation.operation
    job = Job(work, f"load_async of {operation.path!r}", watch=operation.watch)
    response = AsyncResponse(job)
    job.start()
    return response


def metadata(
    run: Run, step: object, item: str | None, context: Context | Options | None
) -> CheckpointMetadata[Any]:
    """What is known of a step, and of one tree in it."""
    return _described(
        run, step, context, lambda path, options: Inspect(path, item, options).metadata
    )


def checkpointables_metadata(
    run: Run, step: object, context: Context | Options | None
) -> CheckpointMetadata[dict[str, Any]]:
    """What is known of a step, and of each of its checkpointables."""
    return _described(run, step, context, lambda path, options: InspectItems(path, options).run)


def _described(
    run: Run, step: object, context: Context | Options | None, look: Callable[[str, Options], Any]
) -> CheckpointMetadata[Any]:
    options = run.options(context)
    run.begin()
    number = None if step is None else number_of(step)
    found = _found(run, number, options)
    looked: Any = background.run(look(str(found.path), options), "metadata")

    async def measured(perform: Perform) -> Any:
        read = await read_step(perform, found)
        return None if read is None else read.metrics

    known = cast("checkpoint_metadata.CheckpointMetadata[Any]", looked)
    parts = {f.name: getattr(known, f.name) for f in dataclasses.fields(known)}
    metrics = run.run("metadata", options, measured)
    return CheckpointMetadata(step=found.step, metrics=metrics, **parts)


def delete(
    run: Run,
    step: object,
    item: str | None,
    *,
    missing_ok: bool,
    context: Context | Options | None,
    background: bool,
) -> AsyncResponse[bool]:
    """Deletes a step or an item of it; without ``background``, to the end."""
    number, options = number_of(step), run.options(context)
    with run.turn:
        run.begin()
        run.flights.wait()
        try:
            path = str(_found(run, number, options).path)
        except StepNotFoundError:
            # What an interrupted deletion has left is under the name that is written.
            path = run.path_of(number)
        made = Delete(
            path, item=item, missing_ok=missing_ok, context=options, background=background
        )
        work = functools.partial(_delete, run, made, number)
        job, response, _ = prepare(work, made.operation, "staged")
        job.owed = background
        run.flights.launch(Flight(job=job))
        job.attend(response.staged.over if background else job.finished)
        if background:
            response.staged.wait()
        else:
            response.result()
        return response


async def _delete(run: Run, made: Delete, step: int, on_staged: Callable[[], None]) -> bool:
    whole, early = made.request.item is None, made.request.background

    def gone() -> None:
        if whole and early:
            run.tell(lambda seen: seen.without(step))
        on_staged()

    try:
        done = await made.run(gone)
    except CheckpointNotFoundError as error:
        if not whole and step in run.seen.history.numbers:
            raise
        raise StepNotFoundError(
            f"There is no step {step} that could be deleted", step=step, path=error.path
        ) from error
    item = made.request.item
    run.tell(lambda seen: seen.without(step) if item is None else seen.less(step, item))
    return done
