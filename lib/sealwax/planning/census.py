"""What there is at the path of a checkpoint, and what its own records say of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from returns.result import Result

from sealwax.effects import Present
from sealwax.errors import CorruptionError, SealwaxError
from sealwax.layouts import manifest
from sealwax.layouts.deletion import Record
from sealwax.layouts.orbax import CHECKPOINT_METADATA
from sealwax.planning.contents import Contents
from sealwax.planning.verification import Problem, from_error


class Sealed(NamedTuple):
    """A manifest as it was read: the digest of its bytes, and what they say or why not."""

    digest: manifest.Digest
    said: manifest.Checkpoint | manifest.Item | CorruptionError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """All that is at the path of a checkpoint, and what its own records say of it.

    Attributes:
      path: The checkpoint.
      present: What is there, by path below the checkpoint.
      manifests: Those of sealwax, by path below the checkpoint.
      contents: What each sealed item holds, by the path of its manifest.
      trees: What each item that sealwax did not write holds, or why that is not known.
      documents: Other files that a checkpoint of Orbax must be able to read, by path.
      deletion: The record of an unfinished deletion of an item, or what is wrong with it.
    """

    path: str
    present: Mapping[str, Present]
    manifests: Mapping[str, Sealed] = dataclasses.field(default_factory=dict[str, Sealed])
    contents: Mapping[str, Contents] = dataclasses.field(default_factory=dict[str, Contents])
    trees: Mapping[str, Contents | SealwaxError] = dataclasses.field(
        default_factory=dict[str, "Contents | SealwaxError"]
    )
    documents: Mapping[str, bytes] = dataclasses.field(default_factory=dict[str, bytes])
    deletion: Result[Record, SealwaxError] | None = None

    @property
    def root(self) -> manifest.Checkpoint | None:
        """The checkpoint's own manifest, if it is there and intact."""
        sealed = self.manifests.get(manifest.NAME)
        said = None if sealed is None else sealed.said
        return said if isinstance(said, manifest.Checkpoint) else None

    @property
    def leaving(self) -> frozenset[str]:
        """What an unfinished deletion may have taken away or changed already."""
        record = None if self.deletion is None else self.deletion.value_or(None)
        return frozenset() if record is None else frozenset({record.item, CHECKPOINT_METADATA})

    def counts(self, file: str) -> bool:
        """Whether a file is still what the manifests say of it."""
        return file.partition("/")[0] not in self.leaving

    def broken_deletion(self) -> list[Problem]:
        """The problem of a record that cannot be followed, if there is one."""
        error = None if self.deletion is None else self.deletion.swap().value_or(None)
        return [] if error is None else [from_error(error, self.path, "")]
