"""Looking at the directory of a run: which steps are there, and what is recorded of each."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any, cast

from sealwax.effects import Entry, ListDirectory, Look, MakeDirectory, ReadFile, SyncDirectory
from sealwax.errors import (
    CorruptionError,
    InvalidLayoutError,
    NotADirectoryLayoutError,
    SealwaxError,
)
from sealwax.layouts import deletion, orbax
from sealwax.layouts.detect import has_marker
from sealwax.options import Options
from sealwax.path.step import FoundStep, NameFormat, all_steps
from sealwax.planning import names
from sealwax.runtime.observe import Perform
from sealwax.runtime.operation import looking
from sealwax.training.history import History, Step
from sealwax.training.metadata import CheckpointMetadata

METRICS = "metrics"
NO_STEPS = History()
_log = logging.getLogger("sealwax")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen in the directory of a run.

    Attributes:
      history: The finished steps.
      unread: Those of which nothing but the name is known yet.
      doubtful: Those whose records could not be read.
      guarded: Those that hold what is not to be deleted.
    """

    history: History = NO_STEPS
    unread: frozenset[int] = frozenset()
    doubtful: frozenset[int] = frozenset()
    guarded: frozenset[int] = frozenset()

    def including(self, step: Step) -> Seen:
        """This and one more step, of which not everything is known."""
        unread = self.unread | {step.step}
        return dataclasses.replace(self, history=self.history.including(step), unread=unread)

    def without(self, *steps: int) -> Seen:
        """This less some steps."""
        return Seen(
            history=self.history.without(*steps),
            unread=self.unread.difference(steps),
            doubtful=self.doubtful.difference(steps),
            guarded=self.guarded.difference(steps),
        )

    def forgetting(self) -> Seen:
        """This with everything to be read again but the names."""
        return dataclasses.replace(self, unread=frozenset(self.history.numbers))

    def less(self, number: int, item: str) -> Seen:
        """This with one item of a step gone."""
        steps = [
            dataclasses.replace(step, items=step.items - {item}) if step.step == number else step
            for step in self.history
        ]
        return dataclasses.replace(self, history=History(steps))

    def timed(self, now: int) -> History:
        """The steps, each with a time.

        An old checkpoint may not say when it was made. It is taken to be as young as the next one
        that does, so that no policy takes it for older than it is.
        """
        steps: list[Step] = []
        for step in reversed(self.history.steps):
            now = step.time_nsecs or now
            steps.append(dataclasses.replace(step, time_nsecs=now))
        return History(steps)


async def make_root(perform: Perform, root: str, *, durable: bool) -> None:
    """Makes the directory of a run, where it is not there.

    Raises:
      NotADirectoryLayoutError: Something else is there.
      InvalidLayoutError: A checkpoint is there.
    """
    entry = await looking(perform, Look(path=root))
    if entry is not None:
        if await looking(perform, Look(path=f"{root}/.")) is not Entry.DIRECTORY:
            raise NotADirectoryLayoutError(
                f"A {entry.value} is where the steps of a run should go",
                path=root,
                hint="Pass a directory, or a path at which there is nothing.",
            )
        if has_marker(await looking(perform, ListDirectory(path=root))):
            raise InvalidLayoutError(
                "A checkpoint is where the steps of a run should go",
                path=root,
                expected="a directory whose subdirectories are checkpoints",
                hint=f"Load it with sealwax.load({root!r}). If it is a step of a run, pass "
                f"{names.parent(root)!r}, which holds it.",
            )
        return
    missing = [root]
    while await looking(perform, Look(path=names.parent(missing[-1]))) is None:
        missing.append(names.parent(missing[-1]))
    await looking(perform, MakeDirectory(path=root, parents=True))
    for path in missing if durable else ():
        await looking(perform, SyncDirectory(path=names.parent(path)))


async def look_around(
    perform: Perform,
    root: str,
    name_format: NameFormat[Any],
    options: Options,
    before: Seen,
    *,
    read: bool,
) -> Seen:
    """Looks which steps are there now.

    Args:
      perform: Performs effects.
      root: The directory of the run.
      name_format: How its steps are called.
      options: The settings.
      before: What was seen before, and need not be looked at again.
      read: Whether to read what is recorded of each step; else only of the last.
    """
    old = {str(step.path): step for step in before.history}
    found = await all_steps(
        perform,
        root,
        name_format,
        options.file.path_class,
        options.atomicity,
        known=frozenset(map(names.base, old)),
    )
    wanted = {each.step for each in (found if read else found[-1:])}
    steps: list[Step] = []
    unread, doubtful = set[int](), set[int]()
    for each in found:
        known = old.get(str(each.path))
        if known is not None and each.step not in before.unread:
            steps.append(known)
            doubtful |= {each.step} & before.doubtful
        elif each.step in wanted:
            step = await read_step(perform, each)
            steps.append(step or Step(step=each.step, path=each.path))
            doubtful |= {each.step} if step is None else set()
        else:
            steps.append(known or Step(step=each.step, path=each.path))
            unread.add(each.step)
    return Seen(
        history=History(steps),
        unread=frozenset(unread),
        doubtful=frozenset(doubtful),
        guarded=before.guarded.intersection(each.step for each in found),
    )


async def read_step(perform: Perform, found: FoundStep) -> Step | None:
    """What is recorded of a step; ``None``, and a warning, where that cannot be read."""
    path = str(found.path)
    try:
        where = names.join(path, orbax.CHECKPOINT_METADATA)
        data = await looking(perform, ReadFile(path=where))
        facts = orbax.read_checkpoint_metadata(data, where)
        time_nsecs = _dated(facts.commit_timestamp_nsecs or facts.init_timestamp_nsecs or 0, where)
        begun = await _being_deleted(perform, path, data)
        metrics = await _metrics(perform, names.join(path, f"{METRICS}/{METRICS}"))
    except SealwaxError as error:
        _log.warning("What is recorded of step %d could not be read: %s", found.step, error)
        return None
    handlers = facts.item_handlers
    listed = cast("Mapping[str, object]", handlers if isinstance(handlers, Mapping) else {})
    return Step(
        step=found.step,
        path=found.path,
        time_nsecs=time_nsecs,
        metrics=metrics,
        custom_metadata=dict(facts.custom_metadata),
        items=(frozenset(listed) | begun) - orbax.RESERVED,
    )


def _dated(nsecs: int, where: str) -> int:
    if abs(nsecs) >= 2**63:
        raise CorruptionError(
            "A timestamp is out of range",
            path=where,
            expected="nanoseconds since 1970, of 64 bits",
            found=f"an integer of {nsecs.bit_length()} bits",
        )
    return nsecs


async def _being_deleted(perform: Perform, path: str, metadata: bytes | None) -> frozenset[str]:
    """An item whose deletion was begun: whoever thins the step is to finish that."""
    where = names.join(path, orbax.DELETION)
    data = await looking(perform, ReadFile(path=where))
    if data is None:
        return frozenset()
    record: deletion.Record | None = deletion.read(data, metadata, where).value_or(None)
    return frozenset() if record is None else frozenset({record.item})


async def _metrics(perform: Perform, where: str) -> Any:
    data = await looking(perform, ReadFile(path=where))
    try:
        return None if data is None else json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptionError("The metrics cannot be read as JSON", path=where) from error


def described(steps: Iterable[Step]) -> list[CheckpointMetadata[None]]:
    """Steps as their users see them."""
    return [
        CheckpointMetadata(
            step=step.step,
            path=step.path,
            metadata=None,
            metrics=step.metrics,
            commit_timestamp_nsecs=step.time_nsecs or None,
            custom_metadata=step.custom_metadata or {},
        )
        for step in steps
    ]
