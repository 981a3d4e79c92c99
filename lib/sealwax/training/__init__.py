"""Training loops: which steps are saved, which are kept, and how they are found again."""

from sealwax.training import errors, pathways, preservation_policies, save_decision_policies
from sealwax.training.checkpointer import Checkpointer
from sealwax.training.history import History, Step
from sealwax.training.metadata import CheckpointMetadata, RootMetadata
from sealwax.training.retention import Retention, Verdict, retain
from sealwax.training.running import Preempted, run

__all__ = [
    "CheckpointMetadata",
    "Checkpointer",
    "History",
    "Preempted",
    "Retention",
    "RootMetadata",
    "Step",
    "Verdict",
    "errors",
    "pathways",
    "preservation_policies",
    "retain",
    "run",
    "save_decision_policies",
]


def __dir__() -> list[str]:
    return __all__
