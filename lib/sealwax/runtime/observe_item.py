"""Letting a handler that plans look at an item before it does: there, and nowhere else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, cast, get_args

from sealwax.effects import ListDirectory, ListTree, ReadEntries, ReadFile
from sealwax.errors import InvalidHandlerError, SealwaxError
from sealwax.layouts import manifest
from sealwax.planning import names
from sealwax.planning.handler_faults import failed
from sealwax.planning.handler_items import StoredItem
from sealwax.planning.planners import Looking, Observe, PlanningHandler, method, name_of, told
from sealwax.planning.stored_files import check_file
from sealwax.runtime.observe import Perform
from sealwax.runtime.operation import looking


async def observed(
    planner: PlanningHandler[Any, Any], item: StoredItem, perform: Perform
) -> StoredItem:
    """An item with what its handler wants to know before it plans.

    Raises:
      SealwaxError: What it looked at is damaged, or the handler is broken.
    """
    try:
        found: object = await method(planner, "observe")(item, _within(item, perform))
    except SealwaxError as error:
        raise told(error, item.name) from error.__cause__
    except Exception as error:
        raise failed(name_of(planner), "observe", error).located(item=item.name) from error
    return dataclasses.replace(item, observed=found)


def _within(item: StoredItem, perform: Perform) -> Observe:
    """Performs effects that look at an item, and checks the files that are read."""

    async def look(effect: Looking) -> Any:
        known: object = effect
        if not isinstance(known, get_args(Looking)):
            raise InvalidHandlerError(
                "A handler may only look at what it is to load",
                expected="an effect such as sealwax.effects.ReadFile",
                found=f"an object of type {type(known).__qualname__}",
            )
        path = effect.directory if isinstance(effect, ReadEntries) else effect.path
        below = _below(item.directory, path)
        if below is None:
            raise InvalidHandlerError(
                "A handler may only look at what is in the checkpointable's directory",
                path=path,
                expected=f"a path below {item.directory}",
                hint="Make paths with item.path(name).",
            )
        answer = await looking(perform, cast("Any", effect))
        # The handler of trees looks after its manifest itself.
        checked = isinstance(effect, ReadFile) and below != manifest.NAME
        if checked and (answer is not None or below in item.digests):
            check_file(item, below, answer)
        if isinstance(effect, (ListDirectory, ListTree)):
            _check_list(item, below, answer or (), deep=isinstance(effect, ListTree))
        return answer

    return look


def _check_list(item: StoredItem, below: str, listed: Iterable[str], *, deep: bool) -> None:
    """Sees that a list lacks no file that was there, for a handler would do without it."""
    above, there = f"{below}/" if below else "", frozenset(listed)
    for file in item.digests:
        inside = file.removeprefix(above)
        if file.startswith(above) and (inside if deep else inside.partition("/")[0]) not in there:
            check_file(item, file, None)


def _below(directory: str, path: str) -> str | None:
    """A path relative to a directory; empty for that itself, ``None`` for what is elsewhere."""
    if path == directory:
        return ""
    inside = path.startswith(f"{directory}/")
    name = path[len(directory) + 1 :]
    return name if inside and not names.leads_outside(name) else None
