"""What is known of a checkpoint of a run, and of the run."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, TypeVar

from sealwax.training.history import EPOCH
from sealwax.verbs import checkpoint_metadata

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointMetadata(checkpoint_metadata.CheckpointMetadata[T]):
    """What is known of one step without reading its arrays.

    Attributes:
      step: Its number.
      metrics: What was measured, or ``None``.
    """

    path: Any = dataclasses.field(kw_only=True)
    step: int
    metrics: Any = None

    @property
    def time(self) -> datetime.datetime:
        """When it was sealed, in UTC, to the microsecond; of one without a timestamp, long ago."""
        nsecs = self.commit_timestamp_nsecs or 0
        return EPOCH + datetime.timedelta(microseconds=nsecs // 1000)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RootMetadata:
    """What is known of a run as a whole.

    Attributes:
      directory: Where its steps are.
      custom_metadata: The caller's own metadata; empty where there is none.
    """

    directory: Any
    custom_metadata: Any = None
