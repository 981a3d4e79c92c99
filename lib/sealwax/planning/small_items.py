"""Items of a few files: those that a plan says, and those that a called handler writes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from returns.result import Result, Success

from sealwax.effects import BeginSave, DigestTree, FinishSave, Later
from sealwax.errors import SealwaxError
from sealwax.layouts import manifest
from sealwax.layouts.manifest import Digest
from sealwax.options import Options
from sealwax.planning.builder import Builder, result
from sealwax.planning.file_names import directories
from sealwax.planning.items import Place, Saved


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FilesItem:
    """An item that is some files, such as JSON.

    Attributes:
      name: The name of the item.
      typestring: The name by which its handler is found again.
      files: The content of each file; ``None`` for one that a function among the sources of the
        operation makes.
    """

    name: str
    typestring: str
    files: Mapping[str, bytes | None]

    @property
    def leaves(self) -> tuple[str, ...]:
        """None: it has no arrays."""
        return ()

    def refuse(self, directory: str, options: Options) -> Result[None, SealwaxError]:
        """Nothing is in its way."""
        return Success(None)

    def plan(self, build: Builder, place: Place) -> Saved:
        """Adds the steps that write the files."""
        made = place.make(build, directories(self.files))
        contents = {name: self._content(build, place, name) for name in self.files}
        for name, data in contents.items():
            place.write(build, name, data, made)
        digests = functools.partial(_digests, tuple(contents))
        if None not in self.files.values():
            return Saved(digests(*contents.values()))
        summed = build.derive("the checksums of the files", digests, *contents.values())
        return Saved(result(summed))

    def _content(self, build: Builder, place: Place, name: str) -> Later[bytes]:
        data = self.files[name]
        if data is not None:
            return data
        make = functools.partial(_made, name)
        return result(build.derive(f"the content of {name}", make, place.sources, brief=False))


def _made(name: str, sources: Mapping[str, Callable[[], bytes]]) -> bytes:
    return sources[name]()


def _digests(names: tuple[str, ...], *contents: Any) -> Mapping[str, Digest]:
    return {name: manifest.digest(data) for name, data in zip(names, contents, strict=True)}


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
