"""Effects that run handlers which are not ours, and look after the files that these write."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

from sealwax.effects.later import Later


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BeginSave:
    """Lets ``handler`` begin to save ``value`` into the directory ``path``.

    The answer is the rest of the save, for ``FinishSave``. Once this is performed the caller may
    change the value.
    """

    path: str
    handler: Any
    value: Later[Any]
    path_class: type[Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FinishSave:
    """Lets a handler do the rest of its save into the directory ``path``."""

    path: str
    rest: Later[Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunLoad:
    """Lets ``handler`` load from the directory ``path``; the answer is what it gives."""

    path: str
    handler: Any
    abstract: Any
    path_class: type[Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunMetadata:
    """Lets ``handler`` tell what is in the directory ``path``, without loading it."""

    path: str
    handler: Any
    path_class: type[Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DigestTree:
    """Size, CRC-32C and CRC-32 of each file below the directory ``path``, by name relative to it.

    With ``sync`` what they hold is on stable storage before it is read.
    """

    path: str
    sync: bool = True


HandlerEffect: TypeAlias = BeginSave | FinishSave | RunLoad | RunMetadata
