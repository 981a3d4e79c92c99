"""Effects that act on files and directories."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

from sealwax.effects.later import Later


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MakeDirectory:
    """A new directory. ``lease`` marks it as in use until the operation ends or dies."""

    path: str
    mode: int | None = None
    parents: bool = False
    lease: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WriteFile:
    """A new file with these bytes, on stable storage when ``sync``."""

    path: str
    content: Later[bytes]
    sync: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WriteFiles:
    """New files below ``directory``, by name, with the directories that they need in between."""

    directory: str
    contents: Later[Mapping[str, bytes]]
    sync: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SyncDirectory:
    """The entries of a directory are brought to stable storage."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SyncTree:
    """The entries of a directory and of all below it are brought to stable storage, last first.

    Of these, ``directories`` must be there still.
    """

    path: str
    directories: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """``source`` becomes ``target``, which must not exist."""

    source: str
    target: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """``first`` and ``second`` change places in one step; if there is no second, first gets it."""

    first: str
    second: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """The file ``source`` takes the place of the file ``target`` in one step."""

    source: str
    target: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFile:
    """A file is removed; one that is gone already is fine."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retract:
    """An unfinished checkpoint leaves its place, and is at ``aside`` from then on.

    It fails where a save still is at it, or has finished it. With ``own`` only what this operation
    has in use is taken away, and anything else is let be.
    """

    path: str
    aside: str
    own: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RemoveDirectory:
    """A directory is removed if this operation made it, with those above it, and it is empty."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RemoveTree:
    """A directory and everything below it is removed.

    ``abandoned`` spares one that is in use, ``replaced`` one that is not a checkpoint.
    """

    path: str
    abandoned: bool = False
    replaced: bool = False


Moving: TypeAlias = Rename | Exchange | Replace | Retract
Removing: TypeAlias = RemoveFile | RemoveDirectory | RemoveTree
