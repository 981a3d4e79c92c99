"""What can be an item of a checkpoint, as far as planning a save needs to know."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from returns.result import Result

from sealwax.effects import (
    SOURCES,
    Effect,
    From,
    Later,
    MakeDirectory,
    WriteFile,
    WriteFiles,
)
from sealwax.errors import SealwaxError
from sealwax.layouts import manifest, orbax
from sealwax.layouts.manifest import Digest
from sealwax.options import Options
from sealwax.planning import names
from sealwax.planning.builder import Builder


class Saved(NamedTuple):
    """What planning an item gives to the plan of the checkpoint.

    Attributes:
      digests: Size and checksum of those files by which all others of the item can be checked.
      after_seal: What is to happen when the checkpoint is complete.
    """

    digests: Later[Mapping[str, Digest]]
    after_seal: tuple[Effect, ...] = ()


class Item(Protocol):
    """Something to be saved under a name, in a directory of its own."""

    @property
    def name(self) -> str:
        """Its name, and that of its directory."""
        ...

    @property
    def typestring(self) -> str:
        """The name by which Orbax finds the handler that loads it."""
        ...

    @property
    def leaves(self) -> tuple[str, ...]:
        """The names of the leaves whose data is moved, as slabs count them."""
        ...

    def refuse(self, directory: str, options: Options) -> Result[None, SealwaxError]:
        """Whether it can be saved into a directory with such a path."""
        ...

    def plan(self, build: Builder, place: Place) -> Saved:
        """Adds the steps that put it there.

        Where that is asked, they bring its files to stable storage; the entries of its directories
        are left to the plan of the checkpoint.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an item grows, and how.

    Attributes:
      item: The name of the item.
      directory: Its directory, which is not there yet.
      above: The step that makes the directory around it.
      token: Random digits, different for each item.
      now: When the save began, in nanoseconds since the epoch.
      options: The settings.
      background: Whether the caller goes on before the checkpoint is sealed.
      part: Whether it is one part of an item, that others are added to.
    """

    item: str
    directory: str
    above: int
    token: str
    now: int
    options: Options
    background: bool
    part: bool = False

    @property
    def manifest(self) -> str:
        """The name of its manifest, which is that of no other part."""
        return f"{manifest.NAME}_{self.token}" if self.part else manifest.NAME

    @property
    def database(self) -> str:
        """Where in its directory the database is: empty, or a path that ends in a slash."""
        return f"{orbax.OWN_DATABASE}/" if self.part else ""

    @property
    def sources(self) -> From[Any]:
        """What the operation was given for this item."""
        return From(step=SOURCES, part=self.item)

    @property
    def durable(self) -> bool:
        """Whether files are brought to stable storage."""
        return self.options.file.durability == "durable"

    def path(self, name: str) -> str:
        """The path of one of its files."""
        return names.join(self.directory, name)

    def make(self, build: Builder, inner: Iterable[str] = ()) -> tuple[int, ...]:
        """Adds the steps that make its directory and those in it; returns the last of them."""
        staging = self.background and not (
            self.options.asynchronous.create_directories_asynchronously
        )
        own = MakeDirectory(path=self.directory)
        made = build.add(own, after=(self.above,), staging=staging)
        below = {"": made}
        for name in sorted(inner):
            above = below.get(name.rpartition("/")[0], made)
            effect = MakeDirectory(path=self.path(name))
            below[name] = build.add(effect, after=(above,), staging=staging)
        return tuple([step for name, step in below.items() if name or len(below) == 1])

    def write(
        self, build: Builder, name: str, content: Later[bytes], after: Sequence[int] = ()
    ) -> int:
        """Adds the step that writes one of its files."""
        effect = WriteFile(path=self.path(name), content=content, sync=self.durable)
        nbytes = len(content) if isinstance(content, bytes) else 0
        return build.add(effect, after=after, writes=nbytes)

    def write_all(
        self, build: Builder, contents: Later[Mapping[str, bytes]], after: Sequence[int] = ()
    ) -> int:
        """Adds the step that writes several of its files."""
        effect = WriteFiles(directory=self.directory, contents=contents, sync=self.durable)
        return build.add(effect, after=after)


def own_token(token: str, item: str) -> str:
    """Digits for one item, from those of the operation."""
    return hashlib.blake2b(f"{token}/{item}".encode(), digest_size=16).hexdigest()
