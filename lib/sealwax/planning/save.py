"""Planning a save: from what there is to save and what is at the path to a plan.

The steps of a plan are, in order: make the directories, bring data to the host and write it,
write the files that describe it, sync every directory from the bottom up, seal with one rename
or exchange, sync the directory above. Whatever happens before the seal is undone by removing
one temporary directory; nothing that was there before is touched until the seal is durable.
"""

from __future__ import annotations

import dataclasses
import functools

from returns.pipeline import flow
from returns.result import Failure, Result, Success

from sealwax.effects import (
    Call,
    Entry,
    Exchange,
    From,
    MakeDirectory,
    Now,
    Plan,
    RemoveTree,
    Rename,
    SyncDirectory,
    SyncTree,
    WriteFile,
    WriteFiles,
)
from sealwax.errors import CheckpointExistsError, InvalidPathError, SealwaxError
from sealwax.layouts import orbax
from sealwax.layouts.detect import has_marker
from sealwax.planning import names
from sealwax.planning.builder import Builder, result
from sealwax.planning.complete import check
from sealwax.planning.describe import Description, Header
from sealwax.planning.moves import add_moves, cut, host_budget
from sealwax.planning.pipeline import bind, lift
from sealwax.planning.requests import SaveRequest, Site
from sealwax.planning.separate import check_paths
from sealwax.planning.store import Store, fill


def plan_save(request: SaveRequest, site: Site) -> Result[Plan, SealwaxError]:
    """Plans a save.

    Args:
      request: What to save, where, and how.
      site: What is at the path now.

    Returns:
      The plan; an error when the path cannot hold the checkpoint.
    """
    planned: Result[Plan, SealwaxError] = flow(
        Success(request),
        bind(functools.partial(_check_path, site=site)),
        bind(functools.partial(_check_target, site=site)),
        bind(check_paths),
        lift(functools.partial(_plan, site=site)),
    )
    return planned


def _check_path(request: SaveRequest, site: Site) -> Result[SaveRequest, SealwaxError]:
    if names.is_temporary(names.base(request.path)):
        return Failure(
            InvalidPathError(
                f"A path that contains {orbax.TEMPORARY!r} names an unfinished checkpoint, and "
                "none could be loaded from it",
                path=request.path,
                hint="Choose another name.",
            )
        )
    if site.obstacle is not None:
        return Failure(
            InvalidPathError(
                f"{site.obstacle!r} is not a directory, so nothing can be saved below it",
                path=request.path,
            )
        )
    return Success(request)


def _check_target(request: SaveRequest, site: Site) -> Result[SaveRequest, SealwaxError]:
    match site.entry:
        case None:
            return Success(request)
        case Entry.DIRECTORY:
            pass
        case other:
            return Failure(
                CheckpointExistsError(
                    f"A {other.value} is at the path, which is never replaced by a checkpoint",
                    path=request.path,
                    hint="Remove it, or choose another path.",
                )
            )
    if not request.overwrite:
        what = "A checkpoint" if has_marker(site.names) else "A directory"
        return Failure(
            CheckpointExistsError(
                f"{what} is at the path already",
                path=request.path,
                hint="Pass overwrite=True to replace it, or choose another path.",
            )
        )
    if site.names and not has_marker(site.names):
        return Failure(
            CheckpointExistsError(
                "The directory at the path is not a checkpoint, so overwrite=True does not "
                "replace it",
                path=request.path,
                expected="a checkpoint or an empty directory",
                found=f"a directory with {', '.join(map(repr, site.names[:3]))}"
                + (", ..." if len(site.names) > 3 else ""),
                hint="Remove it yourself, or choose another path.",
            )
        )
    return Success(request)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    """The directories of a checkpoint while it grows; ``inner`` are those of the item's files."""

    root: str
    item: str
    inner: tuple[str, ...]


def _plan(request: SaveRequest, site: Site) -> Plan:
    build = Builder()
    root = names.temporary(request.path, site.token)
    item = names.join(root, request.item)
    batches = cut(request)
    description = _description(request, site, len(batches))
    inner = tuple(names.join(item, name) for name in description.directories())
    places = _Places(root=root, item=item, inner=inner)
    for name in names.leftovers(request.path, site.siblings):
        leftover = names.join(names.parent(request.path), name)
        build.add(RemoveTree(path=leftover, abandoned=True))
    made = _directories(build, request, site, places)
    moved = add_moves(build, request, item, batches, made)
    stock, saving = request.inventory, request.options.array.saving
    moves = (*map(result, moved.written), *map(result, moved.probes))
    store = build.derive("the keys of the store", fill, stock, saving, len(batches), *moves)
    content = _describe(build, request, description, places, made, store)
    _sync_item(build, request, places)
    _seal_files(build, request, site, places, content)
    _sync(build, request, places.root)
    if saving.enable_post_merge_validation:
        # Last, so that only the seal waits for it.
        found = (result(store), result(content))
        build.derive("that nothing is missing", check, stock, saving, *found)
    seal = _seal(build, request, site, places)
    return Plan(
        title="save" if not request.background else "save_async",
        path=request.path,
        steps=tuple(build.steps),
        undo=(RemoveTree(path=root),),
        seal=seal,
        names=request.inventory.names,
        host_budget=host_budget(request.options.memory, request.background),
    )


def _description(request: SaveRequest, site: Site, batches: int) -> Description:
    metadata = request.options.pytree.saving.pytree_metadata_options
    return Description(
        inventory=request.inventory,
        batches=batches,
        token=site.token,
        now=site.now,
        saving=request.options.array.saving,
        rich=metadata.support_rich_types,
    )


def _directories(
    build: Builder, request: SaveRequest, site: Site, places: _Places
) -> tuple[int, ...]:
    staging = request.background and not (
        request.options.asynchronous.create_directories_asynchronously
    )
    mode = request.options.file.path_permission_mode
    last: tuple[int, ...] = ()
    for path in site.missing:
        last = (build.add(MakeDirectory(path=path, parents=True), after=last, staging=staging),)
        if _durable(request):
            last = (build.add(SyncDirectory(path=names.parent(path)), after=last),)
    root = MakeDirectory(path=places.root, mode=mode, lease=True)
    made = build.add(root, after=last, staging=staging)
    item = build.add(MakeDirectory(path=places.item), after=(made,), staging=staging)
    inner = [
        build.add(MakeDirectory(path=path), after=(item,), staging=staging) for path in places.inner
    ]
    return tuple(inner or [item])


def _describe(
    build: Builder,
    request: SaveRequest,
    description: Description,
    places: _Places,
    made: tuple[int, ...],
    store: int,
) -> int:
    """Adds the files that describe the item's data; returns the step that derives them."""
    if not description.saving.use_ocdbt:
        arrays = build.derive("the metadata of the arrays", Store.metadata, result(store))
        build.add(
            WriteFiles(directory=places.item, contents=result(arrays), sync=_durable(request)),
            after=made,
        )
    content = build.derive("the item's files", Description.item_files, description, result(store))
    for name in description.item_names():
        path = names.join(places.item, name)
        build.add(_file(request, path, result(content, name)), after=made)
    return content


def _seal_files(
    build: Builder, request: SaveRequest, site: Site, places: _Places, item: int
) -> None:
    now = build.add(Now(), after=(len(build.steps) - 1,))
    header = Header(
        path=request.path,
        item=request.item,
        init_timestamp_nsecs=site.now,
        custom_metadata=request.custom_metadata,
        options=request.options,
    )
    content = build.derive(
        "the checkpoint's files", Header.files, header, result(now), result(item)
    )
    for name in header.names():
        build.add(_file(request, names.join(places.root, name), result(content, name)))


def _file(request: SaveRequest, path: str, content: From[bytes]) -> WriteFile:
    return WriteFile(path=path, content=content, sync=_durable(request))


def _durable(request: SaveRequest) -> bool:
    return request.options.file.durability == "durable"


def _sync(build: Builder, request: SaveRequest, *directories: str) -> None:
    """Syncs directories after everything that was put into them."""
    if _durable(request):
        before = tuple(step.number for step in build.steps)
        for path in directories:
            build.add(SyncDirectory(path=path), after=before)


def _sync_item(build: Builder, request: SaveRequest, places: _Places) -> None:
    if request.options.array.saving.use_ocdbt:
        _sync(build, request, *places.inner)
        _sync(build, request, places.item)
    elif _durable(request):
        build.add(SyncTree(path=places.item), after=tuple(range(len(build.steps))))


def _seal(build: Builder, request: SaveRequest, site: Site, places: _Places) -> int:
    """Adds the step that makes the checkpoint visible, and what may only follow it."""
    before = tuple(step.number for step in build.steps)
    # Another save may put something at the path meanwhile; then that is what is replaced.
    replaces = request.overwrite
    seal = build.add(
        Exchange(first=places.root, second=request.path)
        if replaces
        else Rename(source=places.root, target=request.path),
        after=before,
    )
    last = seal
    if _durable(request):
        last = build.add(SyncDirectory(path=names.parent(request.path)), after=(last,))
    if replaces:
        build.add(RemoveTree(path=places.root, replaced=True), after=(last,))
    callback = request.options.asynchronous.post_finalization_callback
    if callback is not None:
        build.add(Call(name="post_finalization_callback", function=callback), after=(last,))
    return seal
