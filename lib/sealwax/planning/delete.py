"""Planning a deletion: from what is at the path to a plan.

Before anything is removed, one rename takes the checkpoint out of sight, to a name that no reader
takes for a checkpoint and that the next save or deletion there cleans up. It is there or it is not,
at every instant. The deletion of one item is planned in ``delete_item``.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Mapping

from returns.pipeline import flow
from returns.result import Failure, Result, Success

from sealwax.effects import (
    Effect,
    Entry,
    MakeDirectory,
    Plan,
    RemoveDirectory,
    RemoveTree,
    Rename,
    SyncDirectory,
)
from sealwax.errors import (
    CheckpointNotFoundError,
    InvalidLayoutError,
    InvalidPathError,
    NotADirectoryLayoutError,
    OptionUnavailableError,
    SealwaxError,
)
from sealwax.layouts import orbax
from sealwax.layouts.detect import Found, has_marker, why_not
from sealwax.layouts.strangers import strangers
from sealwax.options import CheckpointLayout, Options
from sealwax.planning import names
from sealwax.planning.builder import Builder, result
from sealwax.planning.pipeline import bind, lift

_SHOWN = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRequest:
    """What is to be deleted.

    Attributes:
      path: Absolute path of the checkpoint.
      item: The checkpointable, or ``None`` for the whole checkpoint.
      missing_ok: Whether it is fine that there is nothing to delete.
      options: The settings.
      background: Whether the caller goes on before everything is removed.
    """

    path: str
    item: str | None
    missing_ok: bool
    options: Options
    background: bool = False

    @property
    def durable(self) -> bool:
        """Whether every change is brought to stable storage."""
        return self.options.file.durability == "durable"

    @property
    def kept_in(self) -> str | None:
        """The directory, relative to that of the checkpoint, to which it is moved instead."""
        deletion = self.options.deletion
        chosen = deletion.todelete_subdir or deletion.gcs_deletion_options.todelete_full_path
        if chosen is None:
            return None
        return "/".join(part for part in chosen.split("/") if part not in ("", "."))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeleteSite:
    """What is at and around the path of a deletion.

    Attributes:
      found: What readers would find at the path; the path itself is not followed.
      entries: What everything in the directory is that a checkpoint does not have of itself.
      inside: For each directory among these, what is in there.
      target: What the item's own name is there.
      metadata: The file ``_CHECKPOINT_METADATA``.
      manifest: The file ``_SEALWAX``.
      kept: What is in the directory to which an item is to be moved instead.
      token: Random digits that make a temporary name ours.
      now: Nanoseconds since the epoch.
    """

    found: Found
    entries: Mapping[str, Entry] = dataclasses.field(default_factory=dict[str, Entry])
    inside: Mapping[str, tuple[str, ...]] = dataclasses.field(
        default_factory=dict[str, tuple[str, ...]]
    )
    target: Entry | None = None
    metadata: bytes | None = None
    manifest: bytes | None = None
    kept: tuple[str, ...] = ()
    token: str
    now: int

    @property
    def stamp(self) -> str:
        """The time, in UTC, as part of a name: ``20260131-235959-000000``."""
        seconds, rest = divmod(self.now, 10**9)
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
        return f"{moment:%Y%m%d-%H%M%S}-{rest // 1000:06}"


class Sequence:
    """Builds a plan whose steps follow one another."""

    def __init__(self, request: DeleteRequest, site: DeleteSite) -> None:
        self.request = request
        self.build = Builder()
        self.last: tuple[int, ...] = ()
        self.cleaned = [
            self.add(RemoveTree(path=names.join(self.beside, name), abandoned=True))
            for name in names.leftovers(request.path, site.found.above)
        ]

    @property
    def beside(self) -> str:
        """The directory that holds the checkpoint."""
        return names.parent(self.request.path)

    def add(self, effect: Effect, *, staging: bool = False) -> int:
        """Adds what is done next."""
        number = self.build.add(
            effect, after=self.last, staging=staging and self.request.background
        )
        self.last = (number,)
        return number

    def sync(self, *directories: str) -> None:
        """Brings the entries of directories to stable storage, where that is asked for."""
        for path in directories if self.request.durable else ():
            self.add(SyncDirectory(path=path))

    def make_room(self, target: str) -> tuple[Effect, ...]:
        """Makes the directories above ``target``, which is beside the checkpoint or below that.

        Returns:
          What undoes it.
        """
        below = target.removeprefix(self.beside.rstrip("/")).strip("/").split("/")[:-1]
        made = [names.join(self.beside, "/".join(below[: n + 1])) for n in range(len(below))]
        for path in made:
            self.add(MakeDirectory(path=path, parents=True))
        self.sync(*(names.parent(path) for path in reversed(made)))
        return tuple([RemoveDirectory(path=path) for path in reversed(made)])

    def plan(
        self,
        *,
        seal: int | None = None,
        deleted: bool = True,
        undo: tuple[Effect, ...] = (),
        sealed: str | None = None,
    ) -> Plan:
        """The plan, whose result is whether something was deleted."""
        told = map(result, () if deleted else self.cleaned)
        answer = self.build.derive("whether something was deleted", _any, deleted, *told)
        return Plan(
            title="delete_async" if self.request.background else "delete",
            path=self.request.path,
            steps=tuple(self.build.steps),
            undo=undo,
            seal=seal,
            sealed=sealed,
            result=answer,
        )


def _any(*told: bool) -> bool:
    return any(told)


def plan_delete(request: DeleteRequest, site: DeleteSite) -> Result[Plan, SealwaxError]:
    """Plans the deletion of a whole checkpoint.

    Args:
      request: What to delete, and how.
      site: What is at the path now.

    Returns:
      The plan; an error when what is there is not to be deleted.
    """
    if site.found.entry is None:
        # Perhaps a deletion was interrupted, and has to be finished.
        steps = Sequence(request, site)
        if steps.cleaned or request.missing_ok:
            return Success(steps.plan(deleted=False))
        return Failure(not_found(site.found))
    planned: Result[Plan, SealwaxError] = flow(
        check_site(request, site),
        bind(functools.partial(_check_strangers, site=site)),
        lift(functools.partial(_plan, site=site)),
    )
    return planned


def not_found(found: Found) -> SealwaxError:
    """The error for a path with nothing at it."""
    return why_not(found, "Delete") or CheckpointNotFoundError(
        "There is nothing at the path", path=found.path
    )


def check_site(request: DeleteRequest, site: DeleteSite) -> Result[DeleteRequest, SealwaxError]:
    """Refuses what is not a checkpoint."""
    found = site.found
    if request.options.checkpoint_layout is CheckpointLayout.SAFETENSORS:
        return Failure(
            OptionUnavailableError(
                "Only checkpoints in the layout of Orbax can be deleted",
                path=request.path,
                expected="checkpoint_layout 'orbax' or 'auto'",
                found="'safetensors'",
            )
        )
    match found.entry:
        case Entry.SYMLINK:
            return Failure(
                InvalidPathError(
                    "A symbolic link is at the path, and links are neither followed nor removed",
                    path=request.path,
                    hint="Delete the checkpoint that it leads to, by its own path.",
                )
            )
        case Entry.FILE | Entry.OTHER:
            return Failure(
                NotADirectoryLayoutError(
                    f"A {found.entry.value} is at the path, not a checkpoint", path=request.path
                )
            )
        case _:
            pass
    problem = why_not(found, "Delete")
    empty = not found.names and not names.is_temporary(names.base(request.path))
    inside = orbax.CHECKPOINT_METADATA in found.above
    if problem is not None and not (empty and not inside and request.item is None):
        return Failure(problem)
    if found.names and not has_marker(found.names):
        return Failure(
            InvalidLayoutError(
                "Nothing in this directory says that it is a checkpoint, so it is not deleted",
                path=request.path,
                expected=f"a file such as {orbax.CHECKPOINT_METADATA} in it",
                found=listed(found.names),
                hint="Delete what is in there one by one, or remove the directory yourself.",
            )
        )
    return Success(request)


def _check_strangers(
    request: DeleteRequest, site: DeleteSite
) -> Result[DeleteRequest, SealwaxError]:
    """Refuses to remove what belongs to somebody; where it is only moved, it moves along."""
    if request.kept_in is not None:
        return Success(request)
    metadata = site.metadata or b"{}"
    handlers = orbax.parse_or_nothing(metadata).get("item_handlers")
    others = tuple(strangers(site.entries, site.inside, handlers))
    if not others:
        return Success(request)
    return Failure(
        InvalidLayoutError(
            "The directory also holds what no checkpoint library wrote, so it is not deleted",
            path=request.path,
            found=listed(others),
            hint="Move that elsewhere, or remove it yourself, and delete the checkpoint then.",
        )
    )


def listed(found: tuple[str, ...]) -> str:
    """The first few of many names."""
    shown = ", ".join(map(repr, found[:_SHOWN]))
    return shown + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def _plan(request: DeleteRequest, site: DeleteSite) -> Plan:
    steps = Sequence(request, site)
    undo: tuple[Effect, ...] = ()
    if request.kept_in is None:
        aside = names.temporary(request.path, site.token)
    else:
        kept = names.join(steps.beside, request.kept_in)
        aside = names.join(kept, f"{names.base(request.path)}-{site.stamp}")
        undo = steps.make_room(aside)
    seal = steps.add(Rename(source=request.path, target=aside), staging=True)
    # What it became must be on stable storage no later than that it is gone.
    if request.kept_in is not None:
        steps.sync(names.parent(aside))
    steps.sync(steps.beside)
    if request.kept_in is None:
        steps.add(RemoveTree(path=aside))
    return steps.plan(seal=seal, undo=undo)
