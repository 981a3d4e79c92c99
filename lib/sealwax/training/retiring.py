"""Deleting what a policy does not keep, once the new checkpoint is sealed."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Set
from typing import TypeAlias, assert_never

from sealwax.effects import ListDirectory, RemoveTree
from sealwax.errors import InvalidLayoutError, SealwaxError
from sealwax.layouts.orbax import TEMPORARY
from sealwax.options import Options
from sealwax.path.step import CompositeNameFormat, NameFormat, StandardNameFormat
from sealwax.planning import names
from sealwax.planning.pipeline import first
from sealwax.runtime.observe import Perform, find
from sealwax.runtime.operation import looking
from sealwax.training.history import Step
from sealwax.training.keeping import Delete, Keep, KeepItems
from sealwax.training.retention import Retention
from sealwax.training.store import Seen
from sealwax.verbs.deleting import Delete as Deletion

Change: TypeAlias = Callable[[Seen], Seen]
_log = logging.getLogger("sealwax")


async def retire(
    perform: Perform,
    retention: Retention,
    spared: Set[int],
    options: Options,
    tell: Callable[[Change], object],
) -> None:
    """Deletes steps, and items of steps, one after another, the oldest first.

    What is not to be deleted, because it holds what no checkpoint library wrote, stays with a
    warning. One failure does not keep the others from being deleted.

    Args:
      perform: Performs effects.
      retention: What happens to each step.
      spared: Steps that stay, whatever it says.
      options: The settings.
      tell: Is told of each change.

    Raises:
      SealwaxError: Something could not be deleted.
    """
    failures: list[SealwaxError] = []
    for verdict in retention.verdicts:
        step, decision = verdict.step, verdict.decision
        if step.step in spared:
            continue
        try:
            match decision:
                case Keep():
                    pass
                case Delete():
                    await delete_now(str(step.path), None, options)
                    tell(lambda seen, gone=step.step: seen.without(gone))
                case KeepItems(items=items):
                    await _thin(perform, step, step.items - items, options, tell)
                case _:
                    assert_never(decision)
        except InvalidLayoutError as error:
            _log.warning("Step %d stays, whatever the policy says: %s", step.step, error)
            tell(_guarded(step.step))
        except SealwaxError as error:
            failures.append(error)
    if failures:
        raise first(failures)


async def delete_now(path: str, item: str | None, options: Options) -> None:
    """Deletes a checkpoint or one item of it, if it is there."""
    deletion = Deletion(path, item=item, missing_ok=True, context=options, background=False)
    await deletion.run()


async def _thin(
    perform: Perform,
    step: Step,
    goes: Set[str],
    options: Options,
    tell: Callable[[Change], object],
) -> None:
    path = str(step.path)
    # A deletion that was interrupted has to be finished before the next one.
    begun = (await find(perform, path, warn=False)).deleting
    for item in sorted(goes, key=lambda name: (name != begun, name)):
        await delete_now(path, item, options)
        tell(lambda seen, item=item: seen.less(step.step, item))


def _guarded(number: int) -> Change:
    return lambda seen: dataclasses.replace(seen, guarded=seen.guarded | {number})


async def sweep(perform: Perform, root: str) -> None:
    """Removes what operations of ours left below the root when they were killed.

    What is in use is marked as such, and stays.
    """
    for name in names.unfinished(await looking(perform, ListDirectory(path=root))):
        await looking(perform, RemoveTree(path=names.join(root, name), abandoned=True))


async def sweep_foreign(perform: Perform, root: str, name_format: NameFormat[object]) -> None:
    """Removes what saves of Orbax left of steps; that of one under way, too."""
    for name in await looking(perform, ListDirectory(path=root)):
        base, mark, _ = name.partition(TEMPORARY)
        if mark and not names.unfinished([name]) and _is_step(name_format, base):
            await looking(perform, RemoveTree(path=names.join(root, name)))


def _is_step(name_format: NameFormat[object], name: str) -> bool:
    match name_format:
        case StandardNameFormat():
            return name_format.parse_name(name) is not None
        case CompositeNameFormat(read_name_formats=formats):
            return any(_is_step(each, name) for each in formats)
        case _:
            digits = name.rpartition("_")[2]
            return digits.isdecimal() and name_format.build_name(int(digits)) == name
