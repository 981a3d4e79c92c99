"""What an operation may do to the world, as values.

An effect says *what* is to happen, never *how*: handlers in ``sealwax.runtime`` give it its
meaning. Its granularity follows cost: a thousand small arrays are one ``WriteBatch``, one huge
array is several. A field of type ``Later`` holds either the value itself or a ``From`` that
names the step of the plan whose result it will be; handlers only ever see the value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

from sealwax.effects.checks import CheckArrays, CheckExtents
from sealwax.effects.data import Allocate as Allocate
from sealwax.effects.data import Buffer as Buffer
from sealwax.effects.data import ChunkStream as ChunkStream
from sealwax.effects.data import Fetch as Fetch
from sealwax.effects.data import Place as Place
from sealwax.effects.data import Placement as Placement
from sealwax.effects.data import Probe as Probe
from sealwax.effects.data import ReadBatch as ReadBatch
from sealwax.effects.data import ReadRegions as ReadRegions
from sealwax.effects.data import Slab as Slab
from sealwax.effects.data import Stage as Stage
from sealwax.effects.data import Stored as Stored
from sealwax.effects.data import WriteBatch as WriteBatch
from sealwax.effects.data import WriteChunks as WriteChunks
from sealwax.effects.files import Exchange as Exchange
from sealwax.effects.files import MakeDirectory as MakeDirectory
from sealwax.effects.files import Moving as Moving
from sealwax.effects.files import RemoveDirectory as RemoveDirectory
from sealwax.effects.files import RemoveFile as RemoveFile
from sealwax.effects.files import RemoveTree as RemoveTree
from sealwax.effects.files import Removing as Removing
from sealwax.effects.files import Rename as Rename
from sealwax.effects.files import Replace as Replace
from sealwax.effects.files import Retract as Retract
from sealwax.effects.files import SyncDirectory as SyncDirectory
from sealwax.effects.files import SyncTree as SyncTree
from sealwax.effects.files import WriteFile as WriteFile
from sealwax.effects.files import WriteFiles as WriteFiles
from sealwax.effects.handling import DigestTree, HandlerEffect
from sealwax.effects.later import From as From
from sealwax.effects.later import Later as Later
from sealwax.effects.looks import Entry as Entry
from sealwax.effects.looks import ListDirectory as ListDirectory
from sealwax.effects.looks import ListTree as ListTree
from sealwax.effects.looks import Look as Look
from sealwax.effects.looks import Now as Now
from sealwax.effects.looks import Present as Present
from sealwax.effects.looks import ReadEntries as ReadEntries
from sealwax.effects.looks import ReadFile as ReadFile
from sealwax.effects.looks import Token as Token
from sealwax.effects.parts import Hold, Joining, ReadMatching


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Derive:
    """A pure function of earlier results. It touches nothing, and no handler sees it.

    One that may take long, such as a user's, is not ``brief``.
    """

    name: str
    function: Callable[..., Any]
    inputs: tuple[Later[Any], ...]
    brief: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function of the user's, called with ``inputs``."""

    name: str
    function: Callable[..., object]
    inputs: tuple[Later[Any], ...] = ()


Observation: TypeAlias = (
    Look | ListDirectory | ListTree | ReadFile | ReadMatching | Now | Token | ReadEntries
)
FileEffect: TypeAlias = (
    MakeDirectory
    | WriteFile
    | WriteFiles
    | SyncDirectory
    | SyncTree
    | Moving
    | Removing
    | DigestTree
)
DataEffect: TypeAlias = (
    Stage
    | Probe
    | WriteBatch
    | WriteChunks
    | Allocate
    | ReadBatch
    | ReadRegions
    | CheckExtents
    | CheckArrays
    | Place
)
Effect: TypeAlias = (
    Observation | FileEffect | DataEffect | HandlerEffect | Joining | Hold | Derive | Call
)
