"""Capturing what is to be saved: from the caller's objects to items, and to what moving needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from returns.result import Failure, Result, Success

from sealwax.checkpointables.protocols import Handler
from sealwax.checkpointables.registry import Registry
from sealwax.checkpointables.resolution import resolve_for_save
from sealwax.errors import HandlerError, InvalidCheckpointableError, SealwaxError
from sealwax.options import Options
from sealwax.planning.capture_tree import Captured as Captured
from sealwax.planning.capture_tree import capture_tree as capture_tree
from sealwax.planning.handler_items import NewItem
from sealwax.planning.pipeline import first, raised
from sealwax.planning.planners import capture_by, planner_of
from sealwax.planning.requests import check_item_name


def capture_items(
    checkpointables: object,
    options: Options,
    registry: Registry,
    *,
    reserved: frozenset[str] = frozenset(),
) -> Result[tuple[Captured, ...], SealwaxError]:
    """Captures several checkpointables, each by the handler that is to save it.

    Args:
      checkpointables: A dict of them, by name.
      options: The settings.
      registry: The handlers.
      reserved: Names that are the library's own, and allowed here.

    Returns:
      The items in the order of the dict; the error for the first that cannot be saved, with those
      for the others as notes.
    """
    if not isinstance(checkpointables, dict) or not checkpointables:
        return Failure(
            InvalidCheckpointableError(
                "The argument checkpointables names nothing to save",
                expected="a dict of at least one checkpointable by its name",
                found="an empty dict"
                if isinstance(checkpointables, dict)
                else f"a {type(checkpointables).__name__}",
                hint="Call save(path, tree) for one tree without a name of its own.",
            )
        )
    captured: list[Captured] = []
    failures: list[SealwaxError] = []
    for name, value in cast("dict[object, object]", checkpointables).items():
        try:
            captured.append(_capture(name, value, options, registry, reserved))
        except SealwaxError as error:
            failures.append(error)
    return Failure(first(failures)) if failures else Success(tuple(captured))


def _capture(
    name: object, value: object, options: Options, registry: Registry, reserved: frozenset[str]
) -> Captured:
    library = isinstance(name, str) and name in reserved
    known = str(name) if library else raised(check_item_name(name))
    try:
        handler: Handler = raised(resolve_for_save(registry, known, value)).handler
        return capture_by(planner_of(handler), value, NewItem(name=known, options=options))
    except HandlerError:
        raise  # It names the checkpointable itself.
    except SealwaxError as error:
        raise error.located(item=known) from error.__cause__


def sources_of(captured: Sequence[Captured]) -> dict[str, Any]:
    """What an execution is called with, by the name of the item."""
    return {each.item.name: each.source for each in captured}
