"""Capturing a tree: from the caller's objects to an item, and to what moving them needs."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from returns.result import safe

from sealwax.arrays.forms import Source
from sealwax.checkpointables.typestrings import PYTREE
from sealwax.errors import SealwaxError
from sealwax.options import Options
from sealwax.planning.composites import record
from sealwax.planning.inventory import take_inventory
from sealwax.planning.items import Item
from sealwax.planning.pipeline import raised
from sealwax.planning.priorities import needs_key_paths
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
