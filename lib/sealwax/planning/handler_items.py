"""What a handler that plans is told of an item."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sealwax.layouts import orbax
from sealwax.layouts.manifest import NAME, Digest
from sealwax.options import Options
from sealwax.planning import names
from sealwax.planning.file_names import file_names_problem


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """A checkpointable that is to be saved.

    Attributes:
      name: Its name.
      options: The settings.
    """

    name: str
    options: Options


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoredItem:
    """A checkpointable of a checkpoint, as a look at its directory shows it.

    Attributes:
      name: Its name.
      directory: Its directory.
      listed: What is in there.
      typestring: What the checkpoint recorded of its handler, if it did.
      digests: Size and checksum of files in it by which the others can be checked; empty where
        sealwax did not write it.
      options: The settings.
      observed: What its handler's ``observe`` found.
    """

    name: str
    directory: str
    listed: tuple[str, ...]
    typestring: str | None
    digests: Mapping[str, Digest]
    options: Options
    observed: Any = None

    @property
    def is_tree(self) -> bool:
        """Whether there is a tree in it."""
        return orbax.TREE_METADATA in self.listed or NAME in self.listed

    @property
    def verifies(self) -> bool:
        """Whether what is read is held against the digests."""
        return self.options.array.loading.verify == "always"

    def has(self, file: str) -> bool:
        """Whether a file is there, as far as can be told: files deeper down by their digests."""
        return file in self.listed or file in self.digests

    def path(self, file: str) -> str:
        """The path of one of its files.

        Raises:
          InvalidHandlerError: The name could lead out of the item.
        """
        problem = file_names_problem([file])
        if problem is not None:
            raise problem
        return names.join(self.directory, file)
