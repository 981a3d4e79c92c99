"""Planning the deletion of one checkpointable, beginning it or finishing one that was begun.

A record says first what is going to happen, so that at every instant the rest of the checkpoint
loads, and whoever finds the record, Orbax or sealwax, can finish. Then the item leaves with one
rename, the checkpoint's metadata is replaced, and the record goes.
"""

from __future__ import annotations

import functools
from typing import cast

from returns.pipeline import flow
from returns.result import Failure, Result, Success

from sealwax.effects import Effect, Entry, Plan, RemoveFile, RemoveTree, Rename, Replace, WriteFile
from sealwax.errors import (
    CheckpointNotFoundError,
    CorruptionError,
    DeletionRecoveryError,
    InvalidLayoutError,
    SealwaxError,
)
from sealwax.layouts import deletion, manifest, orbax
from sealwax.layouts.deletion import Record
from sealwax.planning import names
from sealwax.planning.delete import (
    DeleteRequest,
    DeleteSite,
    Sequence,
    check_site,
    listed,
    not_found,
)
from sealwax.planning.pipeline import bind

_BEGUN = "The checkpointable no longer counts, but not all of it is done: delete it again to finish"


def plan_delete_item(
    request: DeleteRequest, site: DeleteSite, item: str
) -> Result[Plan, SealwaxError]:
    """Plans the deletion of the checkpointable ``item``.

    Args:
      request: What to delete, and how.
      site: What is at the path now.
      item: The name of the checkpointable.

    Returns:
      The plan; an error when it is not to be deleted.
    """
    if site.found.entry is None:
        return _nothing(request, site, not_found(site.found))
    planned: Result[Plan, SealwaxError] = flow(
        check_site(request, site),
        bind(functools.partial(_plan_at, site=site, item=item)),
    )
    return planned


def _nothing(
    request: DeleteRequest, site: DeleteSite, error: SealwaxError
) -> Result[Plan, SealwaxError]:
    if request.missing_ok:
        return Success(Sequence(request, site).plan(deleted=False))
    return Failure(error)


def _plan_at(request: DeleteRequest, site: DeleteSite, item: str) -> Result[Plan, SealwaxError]:
    if site.target not in (None, Entry.DIRECTORY):
        return Failure(
            InvalidLayoutError(
                f"A {site.target.value} has the name {item!r}, not a checkpointable",
                path=request.path,
                hint="Remove it yourself; links are neither followed nor removed.",
            )
        )
    if site.found.deletion is None:
        return _begin(request, site, item)
    begun = site.found.deletion.value_or(None)
    if begun is None:
        return Failure(site.found.deletion.failure())
    if begun.item != item:
        return Failure(
            DeletionRecoveryError(
                f"The deletion of another checkpointable, {begun.item!r}, is not finished",
                path=request.path,
                hint=f"Finish it with delete(path, checkpointable_name={begun.item!r}).",
            )
        )
    if begun.destination is not None and not _beside(begun.destination):
        return Failure(
            DeletionRecoveryError(
                "The unfinished deletion moves the checkpointable to another file system",
                path=request.path,
                found=repr(begun.destination),
                hint="Let whoever began it finish it, or delete the whole checkpoint.",
            )
        )
    return _plan(request, site, begun, begins=False)


def _beside(destination: str) -> bool:
    relative = bool(destination) and not names.leads_outside(destination)
    return relative and "://" not in destination


def _begin(request: DeleteRequest, site: DeleteSite, item: str) -> Result[Plan, SealwaxError]:
    where = names.join(request.path, orbax.CHECKPOINT_METADATA)
    try:
        metadata = orbax.parse(site.metadata or b"{}", where)
    except CorruptionError as error:
        return Failure(error)
    handlers: object = metadata.get("item_handlers")
    if not isinstance(handlers, dict) or orbax.TREE_METADATA in site.found.names:
        return Failure(
            InvalidLayoutError(
                "The checkpoint does not list checkpointables that could be deleted one by one",
                path=request.path,
                hint="Delete the whole checkpoint.",
            )
        )
    items = tuple(cast("dict[str, object]", handlers))
    if item not in items or site.target is None:
        there = site.target is not None
        error = CheckpointNotFoundError(
            f"The checkpoint has no checkpointable {item!r}"
            + (", but a directory of that name" if there else ""),
            path=request.path,
            expected=f"one of {listed(items)}" if items else None,
            hint="Remove the directory yourself." if there else None,
        )
        return Failure(error) if there else _nothing(request, site, error)
    if len(items) == 1:
        return Failure(
            InvalidLayoutError(
                f"{item!r} is the last checkpointable, and a checkpoint has at least one",
                path=request.path,
                hint="Delete the whole checkpoint, without checkpointable_name.",
            )
        )
    kept = request.kept_in
    # In a directory of its own it can be loaded from there, as the only item of a checkpoint.
    kept_as = f"{kept}/{names.base(request.path)}-{site.stamp}/{item}"
    destination = None if kept is None else kept_as
    return _plan(
        request, site, deletion.begin(metadata, item, site.token, destination), begins=True
    )


def _plan(
    request: DeleteRequest, site: DeleteSite, record: Record, *, begins: bool
) -> Result[Plan, SealwaxError]:
    root = names.join(request.path, manifest.NAME)
    where = names.join(request.path, orbax.CHECKPOINT_METADATA)
    metadata, changes = site.metadata or b"{}", dict[str, bytes]()
    if orbax.parse_or_nothing(metadata) != record.updated:
        metadata = deletion.encode_metadata(record.updated)
        changes[where] = metadata
    if site.manifest is not None:
        try:
            updated = deletion.updated_manifest(site.manifest, record, metadata, root)
        except SealwaxError as error:
            return Failure(error)
        if updated != site.manifest:
            changes = {root: updated, **changes}
    return Success(_steps(request, site, record, changes, begins=begins))


def _steps(
    request: DeleteRequest,
    site: DeleteSite,
    record: Record,
    changes: dict[str, bytes],
    *,
    begins: bool,
) -> Plan:
    steps = Sequence(request, site)
    path, published = request.path, names.join(request.path, orbax.DELETION)

    def write(source: str, content: bytes) -> str:
        steps.add(WriteFile(path=source, content=content, sync=request.durable))
        return source

    for name in (orbax.DELETION, orbax.CHECKPOINT_METADATA, manifest.NAME):
        for leftover in names.leftovers(names.join(path, name), site.found.names):
            steps.add(RemoveFile(path=names.join(path, leftover)))
    seal: int | None = None
    undo: tuple[Effect, ...] = ()
    aside = _aside(steps, record)
    if begins:
        source = names.temporary(published, site.token)
        if request.kept_in is not None:
            # What cannot be renamed from where the item is to go, neither can be to there.
            kept = names.join(steps.beside, request.kept_in)
            for leftover in names.leftovers(path, site.kept):
                steps.add(RemoveFile(path=names.join(kept, leftover)))
            source = names.join(kept, names.base(names.temporary(path, site.token)))
            undo = steps.make_room(source)
        write(source, deletion.encode(record))
        undo = (RemoveFile(path=source), *undo)
        seal = steps.add(Rename(source=source, target=published), staging=True)
        steps.sync(path)
    if site.target is not None:
        if record.destination is not None:
            steps.make_room(aside)
        # Nothing, where it was moved before an interruption.
        steps.add(Rename(source=names.join(path, record.item), target=aside))
        steps.sync(names.parent(aside), path)
    for target, content in changes.items():
        source = write(names.temporary(target, site.token), content)
        steps.add(Replace(source=source, target=target))
    steps.sync(path)
    steps.add(RemoveFile(path=published))
    steps.sync(path)
    if record.destination is None and site.target is not None:
        steps.add(RemoveTree(path=aside))
    return steps.plan(seal=seal, undo=undo, sealed=_BEGUN)


def _aside(steps: Sequence, record: Record) -> str:
    """Where the item goes: out of sight beside the checkpoint, or to where it is kept."""
    if record.destination is None:
        return names.temporary(steps.request.path, record.operation_id)
    return names.join(steps.beside, record.destination)
