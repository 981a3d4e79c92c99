"""A tree as an item: its arrays, and the files that describe them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from returns.result import Result

from sealwax.checkpointables.typestrings import PYTREE
from sealwax.errors import SealwaxError
from sealwax.layouts import manifest
from sealwax.options import ArrayOptions, Options
from sealwax.planning.builder import Builder, result
from sealwax.planning.complete import check
from sealwax.planning.describe import Description
from sealwax.planning.inventory import Inventory
from sealwax.planning.items import Place, Saved
from sealwax.planning.moves import add_moves, cut
from sealwax.planning.separate import check_paths
from sealwax.planning.store import Store, fill


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TreeItem:
    """A tree to be saved.

    Attributes:
      name: The name of the item.
      inventory: The leaves of the tree.
      options: The settings by which arrays and structure are stored.
      typestring: The name by which its handler is found again.
    """

    name: str
    inventory: Inventory
    options: Options
    typestring: str = PYTREE[0]

    @property
    def leaves(self) -> tuple[str, ...]:
        """The names of the arrays."""
        return self.inventory.names

    def refuse(self, directory: str, options: Options) -> Result[None, SealwaxError]:
        """Whether every leaf can have the place that the settings ask for."""
        return check_paths(self.inventory, self.options.array.saving, directory)

    def plan(self, build: Builder, place: Place) -> Saved:
        """Adds the steps that move the arrays and write what describes them."""
        options = dataclasses.replace(self.options, memory=place.options.memory)
        place = dataclasses.replace(place, options=options)
        stock, saving = self.inventory, options.array.saving
        batches = cut(stock, options)
        description = _description(stock, place, len(batches))
        made = place.make(build, description.directories())
        moved = add_moves(build, place, stock, batches, made)
        moves = (*map(result, moved.written), *map(result, moved.probes))
        store = build.derive("the keys of the store", fill, stock, saving, len(batches), *moves)
        if not saving.use_ocdbt:
            arrays = build.derive("the metadata of the arrays", Store.metadata, result(store))
            place.write_all(build, result(arrays), after=made)
        content = build.derive(
            "the item's files", Description.item_files, description, result(store)
        )
        checked = self._check(build, saving, result(store), result(content), place=place)
        place.write_all(build, result(content), after=(*made, *checked))
        own = place.manifest
        digests = build.derive("the digest of the item", _digests, own, result(content, own))
        return Saved(result(digests), after_seal=moved.after_seal)

    def _check(
        self, build: Builder, saving: ArrayOptions.Saving, *found: object, place: Place
    ) -> tuple[int, ...]:
        """Adds the check of what is to be written, where the settings ask for it.

        It comes first, since the threads that write would wait for the interpreter meanwhile.
        """
        if not saving.enable_post_merge_validation:
            return ()
        inputs = (self.inventory, saving, *found, place.database)
        return (build.derive("that nothing is missing", check, *inputs),)


def _digests(name: str, item: bytes) -> Mapping[str, manifest.Digest]:
    # The item's own manifest has those of its other files, and of each chunk.
    return {name: manifest.digest(item)}


def _description(stock: Inventory, place: Place, batches: int) -> Description:
    metadata = place.options.pytree.saving.pytree_metadata_options
    return Description(
        inventory=stock,
        batches=batches,
        token=place.token,
        now=place.now,
        saving=place.options.array.saving,
        rich=metadata.support_rich_types,
        manifest=place.manifest,
        database=place.database,
    )
