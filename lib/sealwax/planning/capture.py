"""Capturing what is to be saved: from the caller's objects to items, and to what moving needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, assert_never, cast

from returns.result import Failure, Result, Success, safe

from sealwax.arrays.forms import Source
from sealwax.checkpointables import json_codec, proto_codec
from sealwax.checkpointables.kinds import (
    CustomKind,
    Handler,
    JsonKind,
    ProtoKind,
    StatefulKind,
    TreeKind,
    kind_of,
)
from sealwax.checkpointables.registry import Registry
from sealwax.checkpointables.resolution import resolve_for_save
from sealwax.checkpointables.typestrings import PYTREE, typestrings
from sealwax.errors import HandlerError, InvalidCheckpointableError, SealwaxError
from sealwax.options import Options
from sealwax.planning.composites import record
from sealwax.planning.inventory import take_inventory
from sealwax.planning.items import Item
from sealwax.planning.pipeline import first, raised
from sealwax.planning.priorities import needs_key_paths
from sealwax.planning.requests import check_item_name
from sealwax.planning.small_items import FilesItem, HandledItem
from sealwax.planning.tree_item import TreeItem
from sealwax.trees.expansion import expand
from sealwax.trees.flatten import flatten, key_paths
from sealwax.trees.structure import PyTree


class Captured(NamedTuple):
    """An item, and what its effects are given when they are performed."""

    item: Item
    source: object


@safe(exceptions=(SealwaxError,))
def capture_tree(
    name: str, state: PyTree, options: Options, typestring: str = PYTREE[0]
) -> Captured:
    """Captures a tree.

    Args:
      name: The name of the item that it becomes.
      state: The tree.
      options: The settings by which it is stored.
      typestring: The name by which its handler is found again.
    """
    saving, memory = options.array.saving, options.memory
    flat = raised(flatten(state))
    asks = saving.scoped_storage_options_creator is not None or needs_key_paths(memory)
    paths = key_paths(state) if asks else ()
    apart = raised(expand(flat, options.pytree.leaf_handlers, paths))
    taken = take_inventory(apart.flat, saving, memory, key_paths=apart.key_paths)
    inventory, sources = raised(taken)
    if apart.handled:
        composites = record(apart.flat, apart.handled)
        inventory = dataclasses.replace(inventory, composites=composites)
    kept: tuple[Source, ...] = sources
    item = TreeItem(name=name, inventory=inventory, options=options, typestring=typestring)
    return Captured(item, kept)


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
        return _handled(known, value, options, handler)
    except HandlerError:
        raise  # It names the checkpointable itself.
    except SealwaxError as error:
        raise error.located(item=known) from error.__cause__


def _handled(name: str, value: object, options: Options, handler: Handler) -> Captured:
    typestring, kind = typestrings(type(handler))[0], kind_of(handler)
    match kind:
        case TreeKind(options=own):
            return raised(capture_tree(name, value, merged(options, own), typestring))
        case JsonKind(filename=filename):
            files = json_codec.files(raised(json_codec.encode(value, name)), filename)
            return Captured(FilesItem(name=name, typestring=typestring, files=files), None)
        case ProtoKind(filename=filename):
            files = {filename: raised(proto_codec.encode(value, name))}
            return Captured(FilesItem(name=name, typestring=typestring, files=files), None)
        case StatefulKind() | CustomKind():
            return Captured(HandledItem(name=name, typestring=typestring, handler=handler), value)
        case _:
            assert_never(kind)


def merged(options: Options, own: Options | None) -> Options:
    """The settings of an operation, with those for trees that a handler brings along."""
    if own is None:
        return options
    return dataclasses.replace(options, array=own.array, pytree=own.pytree)


def sources_of(captured: Sequence[Captured]) -> dict[str, Any]:
    """What an execution is called with, by the name of the item."""
    return {each.item.name: each.source for each in captured}
