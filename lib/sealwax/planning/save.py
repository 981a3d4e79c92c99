"""Planning a save: from what there is to save and what is at the path to a plan.

The steps of a plan are: make the directories; for each item, bring data to the host, write it and
what describes it, all items side by side; beside them, once it is known what they hold, write the
files of the checkpoint itself; sync all directories from the bottom up; seal with one rename or
exchange; sync the directory above.
Whatever happens before the seal is undone by removing one temporary directory; nothing that was
there before is touched until the seal is durable.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from returns.pipeline import flow
from returns.result import Result, Success

from sealwax.effects import (
    BeginSave,
    Call,
    Effect,
    Exchange,
    From,
    ListDirectory,
    MakeDirectory,
    Now,
    Plan,
    RemoveDirectory,
    RemoveFile,
    RemoveTree,
    Rename,
    Retract,
    SyncDirectory,
    WriteFile,
    WriteFiles,
)
from sealwax.errors import SealwaxError
from sealwax.layouts import manifest, orbax
from sealwax.layouts.detect import is_growing
from sealwax.planning import names
from sealwax.planning.atomicity import in_place
from sealwax.planning.builder import Builder, result
from sealwax.planning.describe import Header
from sealwax.planning.items import Item, Place, Saved, own_token
from sealwax.planning.moves import host_budget
from sealwax.planning.pipeline import bind, lift
from sealwax.planning.requests import SaveRequest, Site, title
from sealwax.planning.save_checks import check_beside, check_items, check_path, check_target
from sealwax.settings.lens import to_dict


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
        bind(functools.partial(check_target, site=site)),
        bind(functools.partial(check_items, site=site)),
        lift(functools.partial(_plan, site=site)),
    )
    return planned


def _plan(request: SaveRequest, site: Site) -> Plan:
    # What is to be replaced stays until the new one is complete, and only a rename can do that.
    if not request.overwrite and in_place(request.options.atomicity, request.path):
        return _plan_in_place(request, site)
    build = Builder()
    root = names.temporary(request.path, site.token)
    told = grow(build, request, site, root)
    return finished(build, request, root, _seal(build, request, root, told))


def grow(build: Builder, request: SaveRequest, site: Site, root: str) -> list[Effect]:
    """Adds the steps that make a checkpoint, complete but for its name, in a new directory.

    Returns:
      What is to happen when it is sealed.
    """
    cleaned = _clean(build, request, site)
    made = _make_root(build, request, site, root, cleaned)
    told, content = _fill(build, request, site, root, made)
    files = WriteFiles(directory=root, contents=result(content), sync=request.durable)
    build.add(files, after=(made,))
    if request.durable:
        build.sync_tree(root, after=range(made, len(build.steps)))
    return told


def _plan_in_place(request: SaveRequest, site: Site) -> Plan:
    """Plans a checkpoint that grows where it will be, and is complete with its commit file.

    What takes the place is a directory that says that it is ours and unfinished: whoever comes
    second finds it there. What readers of Orbax look for comes after all that it promises.
    """
    build = Builder()
    root, path = names.temporary(request.path, site.token), request.path

    sync = functools.partial(_sync, build, request)
    made = _make_root(build, request, site, root, _clean(build, request, site))
    mark = WriteFile(path=names.join(root, manifest.UNFINISHED), content=b"", sync=request.durable)
    marked = sync(root, build.add(mark, after=(made,)))
    taken = build.add(Rename(source=root, target=path), after=(marked,))
    indicator = WriteFile(path=names.join(path, orbax.INDICATOR), content=b"", sync=request.durable)
    begun = build.add(indicator, after=(taken,))
    told, content = _fill(build, request, site, path, begun)
    last = _write(build, request, path, content, manifest.NAME)
    filled = range(begun, last + 1)
    if request.durable:
        filled = (build.sync_tree(path, after=filled),)
    last = sync(path, _write(build, request, path, content, orbax.CHECKPOINT_METADATA, *filled))
    seal = _write(build, request, path, content, orbax.COMMIT, last)
    last = sync(names.parent(path), sync(path, seal))
    unmarked = build.add(RemoveFile(path=names.join(path, manifest.UNFINISHED)), after=(last,))
    _finish(build, request, told, sync(path, unmarked))
    gone = [SyncDirectory(path=names.parent(path))] if request.durable else []
    return finished(build, request, root, seal, Retract(path=path, aside=root, own=True), *gone)


def finished(build: Builder, request: SaveRequest, root: str, seal: int, *undo: Effect) -> Plan:
    """The plan of the steps so far; ``undo`` is what comes before the removing of ``root``."""
    above = [
        RemoveDirectory(path=step.effect.path)
        for step in build.steps
        if isinstance(step.effect, MakeDirectory) and step.effect.parents
        if request.path.startswith(f"{step.effect.path}/")
    ]
    return Plan(
        title=title(request.named, request.background, request.part),
        path=request.path,
        steps=tuple(build.steps),
        undo=(*undo, RemoveTree(path=root), *reversed(above)),
        seal=seal,
        names=_names(request),
        host_budget=host_budget(request.budgeted.memory, request.background),
    )


def _clean(build: Builder, request: SaveRequest, site: Site) -> tuple[int, ...]:
    """Removes what interrupted saves left; what is at the path itself must go first."""
    above = names.parent(request.path)
    for name in names.leftovers(request.path, site.siblings):
        build.add(RemoveTree(path=names.join(above, name), abandoned=True))
    if not is_growing(site.names):
        return ()
    aside = names.temporary(request.path, own_token(site.token, request.path))
    # Only when it is certainly gone from its place may it lose what says that it is unfinished.
    gone = _sync(build, request, above, build.add(Retract(path=request.path, aside=aside)))
    build.add(RemoveTree(path=aside), after=(gone,))
    return (gone,)


def _sync(build: Builder, request: SaveRequest, directory: str, after: int) -> int:
    """Adds the syncing of a directory where that is asked; returns the last step."""
    return build.add(SyncDirectory(path=directory), after=(after,)) if request.durable else after


def _names(request: SaveRequest) -> tuple[str, ...]:
    if not request.named:
        return request.items[0].leaves
    return tuple([f"{item.name}/{leaf}" for item in request.items for leaf in item.leaves])


def _make_root(
    build: Builder, request: SaveRequest, site: Site, root: str, cleaned: tuple[int, ...]
) -> int:
    # Whoever puts parts together must see every one that was begun.
    staging = request.background and (
        request.part or not request.options.asynchronous.create_directories_asynchronously
    )
    last = cleaned
    for path in site.missing:
        last = (build.add(MakeDirectory(path=path, parents=True), after=last, staging=staging),)
        if request.durable:
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
    return item.plan(build.within(request.label(item), item.leaves), place)


def _fill(
    build: Builder, request: SaveRequest, site: Site, root: str, made: int
) -> tuple[list[Effect], int]:
    """Adds all items.

    Returns:
      What is to happen when they are sealed; the step whose result are the files of the checkpoint.
    """
    begun = len(build.steps)
    saved = [_add_item(build, request, site, root, made, item) for item in request.items]
    looked = _look_beside(build, request, root, begun)
    digests = [each.digests for each in saved]
    # What is recorded of the items is known long before the disk has all of it.
    written = [digest.step for digest in digests if isinstance(digest, From)]
    now = build.add(Now(), after=[*written, *looked] or range(begun, len(build.steps)))
    header = Header(
        path=request.path,
        handlers={item.name: item.typestring for item in request.items},
        init_timestamp_nsecs=site.now,
        custom_metadata=request.custom_metadata,
        settings=to_dict(request.options),
        manifest=f"{manifest.NAME}_{site.token}" if request.part else manifest.NAME,
    )
    content = build.derive("the checkpoint's files", Header.files, header, result(now), *digests)
    told = [effect for each in saved for effect in each.after_seal]
    return told, content


def _look_beside(build: Builder, request: SaveRequest, root: str, begun: int) -> tuple[int, ...]:
    """Lets what handlers put beside their own directories be noticed, where there are any.

    Returns:
      The step after which files of the checkpoint itself may come.
    """
    steps = build.steps[begun:]
    called = {step.item: None for step in steps if isinstance(step.effect, BeginSave)}
    if not called:
        return ()
    listed = build.add(ListDirectory(path=root), after=range(begun, len(build.steps)))
    known = frozenset(item.name for item in request.items)
    given = (request.path, known, tuple(called), result(listed))
    return (build.derive("what lies beside the items", check_beside, *given),)


def _write(
    build: Builder, request: SaveRequest, root: str, content: int, name: str, *after: int
) -> int:
    file = WriteFile(
        path=names.join(root, name), content=result(content, name), sync=request.durable
    )
    return build.add(file, after=after)


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
    if request.durable:
        last = build.add(SyncDirectory(path=names.parent(request.path)), after=(last,))
    if replaces:
        build.add(RemoveTree(path=root, replaced=True), after=(last,))
    _finish(build, request, told, last)
    return seal


def _finish(build: Builder, request: SaveRequest, told: Iterable[Effect], last: int) -> None:
    """Adds what is told when the checkpoint is complete."""
    callback = request.options.asynchronous.post_finalization_callback
    if callback is not None:
        build.add(Call(name="post_finalization_callback", function=callback), after=(last,))
    for effect in told:
        build.add(effect, after=(last,))
