"""Paths: what the verbs take, and what they give; and names of steps."""

from sealwax.checkpointables.protocols import PathAwaitingCreation
from sealwax.path import step
from sealwax.path.types import Path, PathLike

__all__ = [
    "Path",
    "PathAwaitingCreation",
    "PathLike",
    "step",
]


def __dir__() -> list[str]:
    return __all__
