"""Items of a few files: those whose bytes are known, and those that a handler of a user writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from returns.result import Result, Success

from sealwax.effects import BeginSave, DigestTree, FinishSave
from sealwax.errors import SealwaxError
from sealwax.layouts import manifest
from sealwax.options import Options
from sealwax.planning.builder import Builder, result
from sealwax.planning.items import Place, Saved


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FilesItem:
    """An item that was turned into bytes when the save was called, such as JSON.

    Attributes:
      name: The name of the item.
      typestring: The name by which its handler is found again.
      files: The content of each file.
    """

    name: str
    typestring: str
    files: Mapping[str, bytes]

    @property
    def leaves(self) -> tuple[str, ...]:
        """None: it has no arrays."""
        return ()

    def refuse(self, directory: str, options: Options) -> Result[None, SealwaxError]:
        """Nothing is in its way."""
        return Success(None)

    def plan(self, build: Builder, place: Place) -> Saved:
        """Adds the steps that write the files."""
        made = place.make(build)
        written = [place.write(build, name, data, made) for name, data in self.files.items()]
        place.sync(build, after=(*made, *written))
        return Saved({name: manifest.digest(data) for name, data in self.files.items()})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HandledItem:
    """An item that is written by a handler of its own.

    Whatever it writes is synced and summed up afterwards, so that it is as durable and as
    well guarded as what sealwax writes itself.

    Attributes:
      name: The name of the item.
      typestring: The name by which its handler is found again.
      handler: The handler; what it is to save is among the sources of the operation.
    """

    name: str
    typestring: str
    handler: Any

    @property
    def leaves(self) -> tuple[str, ...]:
        """None that anybody but the handler knows of."""
        return ()

    def refuse(self, directory: str, options: Options) -> Result[None, SealwaxError]:
        """Nothing is in its way that could be told before."""
        return Success(None)

    def plan(self, build: Builder, place: Place) -> Saved:
        """Adds the steps that let the handler do its two parts, and sum up what it wrote."""
        begin = BeginSave(
            path=place.directory,
            handler=self.handler,
            value=place.sources,
            path_class=place.options.file.path_class,
        )
        begun = build.add(begin, after=place.make(build), staging=place.background)
        ended = build.add(FinishSave(path=place.directory, rest=result(begun)))
        digest = DigestTree(path=place.directory, sync=place.durable)
        return Saved(result(build.add(digest, after=(ended,))))
