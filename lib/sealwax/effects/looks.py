"""Effects that only look."""

from __future__ import annotations

import dataclasses
import enum
from typing import NamedTuple


class Entry(enum.Enum):
    """What a path names."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    OTHER = "special file"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is at ``path``; the answer is an ``Entry``, or ``None`` for nothing."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ListDirectory:
    """The names in the directory ``path``, sorted."""

    path: str


class Present(NamedTuple):
    """What a name in a directory stands for; a symbolic link for what it leads to."""

    entry: Entry
    nbytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ListTree:
    """All that is below the directory ``path``: a ``Present`` for each name relative to it."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadFile:
    """The bytes of the file ``path``, or ``None`` when there is none."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """The time, in nanoseconds since the epoch."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Thirty-two random hexadecimal digits."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadEntries:
    """The values of ``keys`` in the key-value database in ``directory``; ``None`` if absent."""

    directory: str
    keys: tuple[str, ...]
    database: bool
