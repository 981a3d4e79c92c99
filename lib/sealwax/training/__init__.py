"""Training loops: which steps are saved, which are kept, and how they are found again."""

from sealwax.training import errors as errors
from sealwax.training import preservation_policies as preservation_policies
from sealwax.training import save_decision_policies as save_decision_policies
from sealwax.training.history import History as History
from sealwax.training.history import Step as Step
from sealwax.training.metadata import CheckpointMetadata as CheckpointMetadata
from sealwax.training.metadata import RootMetadata as RootMetadata
from sealwax.training.retention import Retention as Retention
from sealwax.training.retention import Verdict as Verdict
from sealwax.training.retention import retain as retain
