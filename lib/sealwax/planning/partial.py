"""Planning one part of a checkpoint that is saved in parts.

A part grows like a checkpoint, beside the session, and becomes one of the session's by one rename.
Until then nobody else's part is waited for; only the look whether every key is still new, and the
rename, are done while the session is in no one else's use.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from returns.pipeline import flow
from returns.result import Failure, Result, Success

from sealwax.effects import (
    Entry,
    Hold,
    Look,
    MakeDirectory,
    Plan,
    ReadMatching,
    Rename,
    SyncDirectory,
)
from sealwax.errors import (
    ArgumentValueError,
    CheckpointExistsError,
    CheckpointNotFoundError,
    InternalError,
    SealwaxError,
)
from sealwax.planning import names
from sealwax.planning.builder import Builder, result
from sealwax.planning.parts import (
    DESCRIPTIONS,
    Format,
    Part,
    check_parts,
    new_part,
    pending,
    read_parts,
    target_of,
)
from sealwax.planning.pipeline import bind, lift, raised
from sealwax.planning.requests import SaveRequest, Site
from sealwax.planning.save import finished, grow
from sealwax.planning.save_checks import check_items, check_path
from sealwax.planning.tree_item import TreeItem
from sealwax.trees.structure import Mark

_GIVE_UP = "or give the session up with sealwax.partial.discard"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PartSite(Site):
    """What is at and around the path of a session.

    Attributes:
      target: What is at the path of the checkpoint itself.
      parts: The files that describe the parts of the session, by name relative to it.
    """

    target: Entry | None = None
    parts: Mapping[str, bytes] = dataclasses.field(default_factory=dict[str, bytes])


def plan_part(request: SaveRequest, site: PartSite) -> Result[Plan, SealwaxError]:
    """Plans one part.

    Args:
      request: What to save; its path is that of the session.
      site: What is there now.

    Returns:
      The plan; an error where the part cannot be added to those that are there.
    """
    planned: Result[Plan, SealwaxError] = flow(
        Success(request),
        bind(functools.partial(check_path, site=site)),
        bind(functools.partial(_check_target, site=site)),
        bind(_check_content),
        bind(functools.partial(check_items, site=site)),
        bind(functools.partial(_known_parts, site=site)),
        lift(functools.partial(_plan, request, site)),
    )
    return planned


def _check_target(request: SaveRequest, site: PartSite) -> Result[SaveRequest, SealwaxError]:
    if site.target is not None:
        return Failure(already_there(target_of(request.path)))
    if site.entry not in (None, Entry.DIRECTORY):
        return Failure(
            CheckpointExistsError(
                f"A {site.entry.value if site.entry else 'file'} is where the parts would be kept",
                path=request.path,
                hint="Remove it, or choose another path.",
            )
        )
    return Success(request)


def already_there(path: str) -> CheckpointExistsError:
    """The error for a path at which there is something already."""
    return CheckpointExistsError(
        "Something is at the path already, and parts cannot be added to it",
        path=path,
        hint=f"Choose another path, or delete what is there; parts that were saved are kept: "
        f"finalize them then, {_GIVE_UP}.",
    )


def _check_content(request: SaveRequest) -> Result[SaveRequest, SealwaxError]:
    flat = _tree(request).inventory.flat
    empty = not isinstance(flat.structure, Mark) and not flat.structure.children
    if not empty:
        return Success(request)
    return Failure(
        ArgumentValueError(
            "The part is an empty tree, which adds nothing",
            path=request.path,
            expected="a tree of at least one key",
        )
    )


def _tree(request: SaveRequest) -> TreeItem:
    item = request.items[0]
    if not isinstance(item, TreeItem):
        raise InternalError("A part is something else than a tree")
    return item


def _new(request: SaveRequest) -> Part:
    item = _tree(request)
    saving = item.options.array.saving
    return new_part(item.inventory, Format(saving.use_zarr3, saving.use_ocdbt))


def _known_parts(request: SaveRequest, site: PartSite) -> Result[tuple[Part, ...], SealwaxError]:
    known = read_parts(site.parts, request.path)
    if isinstance(known, Failure):
        return known
    return check_parts([*known.unwrap(), _new(request)]).map(lambda _: known.unwrap())


def _plan(request: SaveRequest, site: PartSite, known: Sequence[Part]) -> Plan:
    build = Builder()
    session, target = request.path, target_of(request.path)
    root = names.temporary(session, site.token)
    told = grow(build, request, site, root)
    durable = request.options.file.durability == "durable"
    last = build.add(MakeDirectory(path=session, parents=True), after=range(len(build.steps)))
    if durable:
        last = build.add(SyncDirectory(path=names.parent(session)), after=(last,))
    held = build.add(Hold(path=session), after=(last,))
    there = build.add(Look(path=target), after=(held,))
    found = build.add(ReadMatching(path=session, patterns=DESCRIPTIONS), after=(held,))
    build.derive(
        "that every key is still new",
        still_new,
        request.path,
        _new(request),
        tuple(known),
        *map(result, (held, there, found)),
    )
    made = pending(session, site.token, site.now, [part.name for part in known])
    seal = build.add(Rename(source=root, target=made), after=range(len(build.steps)))
    last = seal
    if durable:
        # A rename from one directory to another is certain when both are on the disk.
        last = build.add(SyncDirectory(path=session), after=(seal,))
        last = build.add(SyncDirectory(path=names.parent(session)), after=(last,))
    for effect in told:
        build.add(effect, after=(last,))
    return finished(build, request, root, seal)


def still_new(
    session: str,
    part: Part,
    known: tuple[Part, ...],
    held: bool,
    there: Entry | None,
    found: Mapping[str, bytes],
) -> None:
    """Looks again, now that no other part can come to the session.

    Raises:
      SealwaxError: The part does not fit to those that came meanwhile, or comes too late.
    """
    if there is not None:
        raise already_there(target_of(session))
    if not held:
        raise CheckpointNotFoundError(
            "The session was finalized or given up while this part was being saved",
            path=session,
            hint="Save the part again, and wait for it before the session is finalized.",
        )
    parts: tuple[Part, ...] = raised(read_parts(found, session, known))
    if parts != known:
        raised(check_parts([*parts, part]))
