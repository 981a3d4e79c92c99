"""Which items a checkpoint has, and what is known of each before it is read."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from returns.result import Failure, Result, Success, safe

from sealwax.checkpointables import typestrings
from sealwax.checkpointables.protocols import Handler
from sealwax.checkpointables.registry import Registry
from sealwax.checkpointables.resolution import make, none_can_load, resolve_for_load
from sealwax.errors import CheckpointableNotFoundError, InvalidLayoutError, SealwaxError
from sealwax.layouts import orbax
from sealwax.layouts.detect import Found, trees_in, why_not, why_not_item
from sealwax.layouts.manifest import Checkpoint
from sealwax.options import Options
from sealwax.planning import names
from sealwax.planning.handler_items import StoredItem
from sealwax.planning.pipeline import first, raised
from sealwax.planning.planners import planner_of, recognizes
from sealwax.planning.requests import check_item_name

JSON_FILE = "data.json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """The items of a checkpoint.

    Attributes:
      found: What is at the path.
      recorded: For each item, what the checkpoint recorded of its handler.
      sealed: Our own manifest of the checkpoint, if there is one.
    """

    found: Found
    recorded: Mapping[str, str]
    sealed: Checkpoint | None

    def item(self, name: str, options: Options) -> StoredItem:
        """One item, whose directory is there, for an operation with these settings."""
        digests = {} if self.sealed is None else self.sealed.digests
        prefix = f"{name}/"
        return StoredItem(
            name=name,
            directory=names.join(self.found.path, name),
            listed=self.found.items[name],
            typestring=self.recorded.get(name),
            digests={
                path.removeprefix(prefix): digest
                for path, digest in digests.items()
                if path.startswith(prefix)
            },
            options=options,
        )


def has_items(found: Found) -> Result[Found, SealwaxError]:
    """An error where there is no checkpoint, or one without items."""
    problem = why_not(found)
    if problem is None and orbax.TREE_METADATA in found.names:
        problem = InvalidLayoutError(
            "The checkpoint is one tree, without checkpointables",
            path=found.path,
            hint="Load it with load(path).",
        )
    return Success(found) if problem is None else Failure(problem)


def take_stock(found: Found, facts: orbax.Facts, sealed: Checkpoint | None) -> Stock:
    """Takes stock of a checkpoint that has items."""
    return Stock(found=found, recorded=orbax.recorded(facts.item_handlers), sealed=sealed)


def choose(
    stock: Stock, wanted: Iterable[object] | None, bound: Iterable[str] = ()
) -> Result[tuple[tuple[str, ...], tuple[str, ...]], SealwaxError]:
    """Chooses items of a checkpoint.

    Args:
      stock: What it has.
      wanted: Their names, or ``None`` for all but the library's own.
      bound: Names for which there is a handler, whatever the checkpoint says.

    Returns:
      The names of the items, and those of directories that are no items, as far as can be told.
    """
    if wanted is not None:
        named = tuple(wanted)
        failures = [error for name in named if (error := _why_not(stock, name)) is not None]
        return Failure(first(failures)) if failures else Success((cast("Any", named), ()))
    found = stock.found
    hidden = {*orbax.RESERVED, found.deleting}
    known = [name for name in stock.recorded if name not in hidden]
    lost = [name for name in known if name not in found.items]
    if lost:
        return Failure(_missing(stock, lost[0]))
    readable = {*trees_in(found), *bound}
    others = [name for name in found.items if name not in hidden and name not in stock.recorded]
    items = [n for n in others if n in readable or JSON_FILE in found.items[n]]
    strays = tuple([name for name in others if name not in items])
    return Success(((*known, *items), strays))


@safe(exceptions=(SealwaxError,))
def handler_for(registry: Registry, item: StoredItem, abstract: object) -> Handler:
    """The handler that loads an item: as resolved, but none that says that it is not of its making.

    Args:
      registry: The handlers.
      item: The item.
      abstract: What the caller passed for it.

    Returns:
      The handler; a ``NoEntryError`` where none of them can load what is there.
    """
    resolved = raised(resolve_for_load(registry, item.name, abstract, item.typestring))
    handler: Handler = resolved.handler
    if recognizes(planner_of(handler), item):
        return handler
    # What a handler that is not known wrote is no JSON, even where it looks like that.
    recorded = item.typestring
    if recorded is None and JSON_FILE in item.listed:
        recorded = typestrings.JSON[0]
    kind = None if recorded is None else registry.by_typestring(recorded)
    other = None if kind is None else make(kind, item.name)
    if other is not None and recognizes(planner_of(other), item):
        return other
    raise none_can_load(item.name, item.typestring, kind).located(path=item.directory)


def _why_not(stock: Stock, name: object) -> SealwaxError | None:
    checked = check_item_name(name)
    if isinstance(checked, Failure):
        return checked.failure().located(path=stock.found.path)
    known = checked.unwrap()
    problem = why_not_item(stock.found, known)
    if problem is not None:
        return problem
    return None if known in stock.found.items else _missing(stock, known)


def _missing(stock: Stock, name: str) -> SealwaxError:
    there = sorted(set(stock.found.items) - orbax.RESERVED)
    near = difflib.get_close_matches(name, there, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    recorded = name in stock.recorded
    return CheckpointableNotFoundError(
        f"The checkpoint has no checkpointable {name!r}"
        + (", although it was saved with one" if recorded else ""),
        path=stock.found.path,
        found=_list(there),
        hint="The checkpoint is damaged: load an earlier one, or name those that you need."
        if recorded
        else f"{hint}Leave it out, or name one of these.",
    )


def _list(known: Sequence[str]) -> str:
    return ", ".join(map(repr, known)) or "none"
