"""Effects on several checkpoints at once: those by which parts of one are put together."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Waits until nobody else has a directory in use; the answer is whether it is still there.

    With ``keep`` it is then in use by this operation, until that ends.
    """

    path: str
    keep: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadMatching:
    """The files below ``path`` that match a pattern: their bytes, by name relative to it.

    A pattern has a component for each directory, in which ``*`` stands for any characters. A
    directory that is not there holds none.
    """

    path: str
    patterns: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LinkFiles:
    """Files get a second name, and the directories that this needs are made.

    ``links`` has pairs: a file below ``source``, and its new name below ``target``. Where the file
    system has no hard links they are copied. With ``sync`` what they hold is on stable storage.
    """

    source: str
    target: str
    links: tuple[tuple[str, str], ...]
    sync: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MergeDatabases:
    """Makes a database in ``directory`` of those in directories in it, whose values stay there."""

    directory: str
    parts: tuple[str, ...]


Joining: TypeAlias = LinkFiles | MergeDatabases
