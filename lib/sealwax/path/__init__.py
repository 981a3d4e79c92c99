"""Paths: what the verbs take, and what they give; and names of steps."""

from sealwax.checkpointables.protocols import PathAwaitingCreation as PathAwaitingCreation
from sealwax.path import step as step
from sealwax.path.types import Path as Path
from sealwax.path.types import PathLike as PathLike
