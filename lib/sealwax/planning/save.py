"""Planning a save: from what there is to save and what is at the path to a plan.

The steps of a plan are: make the directories; for each item, bring data to the host, write it and
what describes it, and sync its directories from the bottom up, all items side by side; write the
files of the checkpoint itself; seal with one rename or exchange; sync the directory above.
Whatever happens before the seal is undone by removing one temporary directory; nothing that was
there before is touched until the seal is durable.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

from returns.pipeline import flow
from returns.result import Failure, Result, Success

from sealwax.effects import (
    Call,
    Effect,
    Entry,
    Exchange,
    Later,
    MakeDirectory,
    Now,
    Plan,
    RemoveTree,
    Rename,
    SyncDirectory,
    WriteFile,
)
from sealwax.errors import (
    CheckpointExistsError,
    DeletionInProgressError,
    InvalidPathError,
    SealwaxError,
)
from sealwax.layouts import manifest, orbax
from sealwax.layouts.detect import has_marker
from sealwax.layouts.manifest import Digest
from sealwax.lens import to_dict
from sealwax.planning import names
from sealwax.planning.builder import Builder, result
from sealwax.planning.describe import Header
from sealwax.planning.items import Item, Place, Saved, own_token
from sealwax.planning.moves import host_budget
from sealwax.planning.pipeline import bind, first, lift
from sealwax.planning.requests import SaveRequest, Site, title


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
        bind(functools.partial(check_path, site=site)),
        bind(functools.partial(_check_target, site=site)),
        bind(functools.partial(check_items, site=site)),
        lift(functools.partial(_plan, site=site)),
    )
    return planned


def check_path(request: SaveRequest, site: Site) -> Result[SaveRequest, SealwaxError]:
    """Refuses a path at which nothing could be loaded, or made."""
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
    if orbax.DELETION in site.names:
        return Failure(
            DeletionInProgressError(
                "The deletion of a part of the checkpoint at the path is not finished",
                path=request.path,
                hint="Repeat that deletion to finish it, or delete the whole checkpoint.",
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


def check_items(request: SaveRequest, site: Site) -> Result[SaveRequest, SealwaxError]:
    """Refuses items that cannot be saved there, the first with the others as notes."""
    root = names.temporary(request.path, site.token)
    failures: list[SealwaxError] = []
    for item in request.items:
        refused = item.refuse(names.join(root, item.name), request.options)
        if isinstance(refused, Failure):
            failures.append(refused.failure().located(item=_label(request, item)))
    return Success(request) if not failures else Failure(first(failures))


def _label(request: SaveRequest, item: Item) -> str | None:
    return item.name if request.named else None


def _plan(request: SaveRequest, site: Site) -> Plan:
    build = Builder()
    root = names.temporary(request.path, site.token)
    told = grow(build, request, site, root)
    return finished(build, request, root, _seal(build, request, root, told))


def grow(build: Builder, request: SaveRequest, site: Site, root: str) -> list[Effect]:
    """Adds the steps that make a checkpoint, complete but for its name, in a new directory.

    Returns:
      What is to happen when it is sealed.
    """
    for name in names.leftovers(request.path, site.siblings):
        leftover = names.join(names.parent(request.path), name)
        build.add(RemoveTree(path=leftover, abandoned=True))
    made = _make_root(build, request, site, root)
    begun = len(build.steps)
    saved = [_add_item(build, request, site, root, made, item) for item in request.items]
    _add_files(build, request, site, root, begun, [each.digests for each in saved])
    if _durable(request):
        build.add(SyncDirectory(path=root), after=range(made, len(build.steps)))
    for item, each in zip(request.items, saved, strict=True):
        for effect in each.before_seal:
            build.within(_label(request, item)).add(effect)
    return [effect for each in saved for effect in each.after_seal]


def finished(build: Builder, request: SaveRequest, root: str, seal: int) -> Plan:
    """The plan of the steps so far."""
    return Plan(
        title=title(request.named, request.background, request.part),
        path=request.path,
        steps=tuple(build.steps),
        undo=(RemoveTree(path=root),),
        seal=seal,
        names=_names(request),
        host_budget=host_budget(request.budgeted.memory, request.background),
    )


def _names(request: SaveRequest) -> tuple[str, ...]:
    if not request.named:
        return request.items[0].leaves
    return tuple([f"{item.name}/{leaf}" for item in request.items for leaf in item.leaves])


def _make_root(build: Builder, request: SaveRequest, site: Site, root: str) -> int:
    # Whoever puts parts together must see every one that was begun.
    staging = request.background and (
        request.part or not request.options.asynchronous.create_directories_asynchronously
    )
    last: tuple[int, ...] = ()
    for path in site.missing:
        last = (build.add(MakeDirectory(path=path, parents=True), after=last, staging=staging),)
        if _durable(request):
            last = (build.add(SyncDirectory(path=names.parent(path)), after=last),)
    mode = request.options.file.path_permission_mode
    return build.add(MakeDirectory(path=root, mode=mode, lease=True), after=last, staging=staging)


def _add_item(
    build: Builder, request: SaveRequest, site: Site, root: str, made: int, item: Item
) -> Saved:
    place = Place(
        item=item.name,
        directory=names.join(root, item.name),
        above=made,
        token=own_token(site.token, item.name),
        now=site.now,
        options=request.budgeted,
        background=request.background,
        part=request.part,
    )
    return item.plan(build.within(_label(request, item), item.leaves), place)


def _add_files(
    build: Builder,
    request: SaveRequest,
    site: Site,
    root: str,
    begun: int,
    digests: Sequence[Later[Mapping[str, Digest]]],
) -> None:
    now = build.add(Now(), after=range(begun, len(build.steps)))
    header = Header(
        path=request.path,
        handlers={item.name: item.typestring for item in request.items},
        init_timestamp_nsecs=site.now,
        custom_metadata=request.custom_metadata,
        settings=to_dict(request.options),
        manifest=f"{manifest.NAME}_{site.token}" if request.part else manifest.NAME,
    )
    content = build.derive("the checkpoint's files", Header.files, header, result(now), *digests)
    for name in header.names():
        path = names.join(root, name)
        build.add(WriteFile(path=path, content=result(content, name), sync=_durable(request)))


def _durable(request: SaveRequest) -> bool:
    return request.options.file.durability == "durable"


def _seal(build: Builder, request: SaveRequest, root: str, told: Iterable[Effect]) -> int:
    """Adds the step that makes the checkpoint visible, and what may only follow it."""
    # Another save may put something at the path meanwhile; then that is what is replaced.
    replaces = request.overwrite
    seal = build.add(
        Exchange(first=root, second=request.path)
        if replaces
        else Rename(source=root, target=request.path),
        after=range(len(build.steps)),
    )
    last = seal
    if _durable(request):
        last = build.add(SyncDirectory(path=names.parent(request.path)), after=(last,))
    if replaces:
        build.add(RemoveTree(path=root, replaced=True), after=(last,))
    callback = request.options.asynchronous.post_finalization_callback
    if callback is not None:
        build.add(Call(name="post_finalization_callback", function=callback), after=(last,))
    for effect in told:
        build.add(effect, after=(last,))
    return seal
