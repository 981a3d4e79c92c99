"""Planning the end of a session: its parts become one checkpoint, or are given up.

The checkpoint grows beside the session. Its data files are those of the parts, under a second
name; only what describes them is written anew. The parts stay until it is sealed, and are then
removed after one rename that takes them out of sight: whatever is interrupted can be repeated.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import msgspec
from returns.pipeline import flow
from returns.result import Failure, Result, Success

from sealwax.checkpointables.typestrings import PYTREE
from sealwax.effects import (
    Call,
    Entry,
    LinkFiles,
    MakeDirectory,
    MergeDatabases,
    Now,
    Plan,
    Present,
    RemoveTree,
    Rename,
    SyncDirectory,
    WriteFiles,
)
from sealwax.errors import (
    CheckpointExistsError,
    CheckpointNotFoundError,
    CorruptionError,
    InvalidLayoutError,
    InvalidPathError,
    SealwaxError,
)
from sealwax.layouts import manifest, orbax, strangers
from sealwax.options import Options
from sealwax.planning import names
from sealwax.planning.builder import Builder, result
from sealwax.planning.combine import Combined, combine
from sealwax.planning.describe import Header
from sealwax.planning.items import own_token
from sealwax.planning.partial import already_there
from sealwax.planning.parts import (
    DESCRIPTIONS,
    PENDING,
    STATE,
    Part,
    Stamp,
    manifest_of,
    order,
    read_parts,
    session_of,
)
from sealwax.planning.pipeline import bind, lift

EVERYTHING = (
    *DESCRIPTIONS,
    f"*{PENDING}*/{orbax.CHECKPOINT_METADATA}",
    f"*{PENDING}*/{manifest.NAME}_*",
    f"*{PENDING}*/{STATE}/{orbax.SHARDING}",
    f"*{PENDING}*/{STATE}/{orbax.STRINGS}",
    f"*{PENDING}*/{STATE}/{orbax.ARRAY_METADATAS}/*",
)
"""The files of a session that are not moved as they are."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FinalizeRequest:
    """What is to be put together, or given up.

    Attributes:
      path: Absolute path of the checkpoint.
      options: The settings.
      missing_ok: Whether it is fine that there is no session.
    """

    path: str
    options: Options
    missing_ok: bool = False

    @property
    def session(self) -> str:
        """The directory of the parts."""
        return session_of(self.path)

    @property
    def durable(self) -> bool:
        """Whether every change is brought to stable storage."""
        return self.options.file.durability == "durable"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SessionSite:
    """What is at the path of the checkpoint, and in its session.

    Attributes:
      target: What is at the path of the checkpoint.
      sealed: The manifest of the checkpoint that is there.
      entry: What is at the path of the session.
      present: Everything in the session, by name relative to it.
      files: The files that describe its parts.
      siblings: What is beside it.
      token: Random digits that make temporary names ours.
      now: Nanoseconds since the epoch.
    """

    target: Entry | None = None
    sealed: manifest.Checkpoint | None = None
    entry: Entry | None = None
    present: Mapping[str, Present] = dataclasses.field(default_factory=dict[str, Present])
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict[str, bytes])
    siblings: tuple[str, ...] = ()
    token: str
    now: int

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts, in the order in which they were saved."""
        return tuple(sorted((name for name in self.inside if PENDING in name), key=order))

    @property
    def inside(self) -> tuple[str, ...]:
        """The names in the session's directory."""
        return tuple(name for name in self.present if "/" not in name)

    @property
    def consumed(self) -> bool:
        """Whether the checkpoint at the path was made of all that is in the session."""
        return bool(self.parts) and {*self.parts} <= {*self.made}

    @property
    def made(self) -> tuple[str, ...]:
        """The parts of which the checkpoint at the path was made."""
        made = msgspec.UNSET if self.sealed is None else self.sealed.parts
        return () if made is msgspec.UNSET else tuple(made)


def plan_finalize(request: FinalizeRequest, site: SessionSite) -> Result[Plan, SealwaxError]:
    """Plans the end of a session.

    Args:
      request: Which one, and how.
      site: What is there now.

    Returns:
      The plan; an error when the parts do not make a checkpoint, or it cannot be at the path.
    """
    if site.consumed:
        # All is done but for the removing.
        build = Builder()
        _remove(build, request, site, _clean(build, request, site))
        return Success(_plan("partial.finalize", request, build))
    planned: Result[Plan, SealwaxError] = flow(
        Success(request),
        bind(functools.partial(_check, site=site)),
        bind(functools.partial(_check_strangers, site=site)),
        bind(functools.partial(_check_digests, site=site)),
        bind(functools.partial(_combine, site=site)),
        lift(functools.partial(_finalize, request, site)),
    )
    return planned


def plan_discard(request: FinalizeRequest, site: SessionSite) -> Result[Plan, SealwaxError]:
    """Plans to give up a session: an error where there is none, or it holds something else."""
    if site.entry is None and not request.missing_ok:
        return Failure(_no_session(request))
    build = Builder()
    last = _clean(build, request, site)
    if site.entry is None:
        return Success(_plan("partial.discard", request, build))
    checked: Result[FinalizeRequest, SealwaxError] = flow(
        _check_entry(request, site), bind(functools.partial(_check_strangers, site=site))
    )
    if isinstance(checked, Failure):
        return Failure(checked.failure())
    seal = _remove(build, request, site, last)
    return Success(_plan("partial.discard", request, build, seal=seal))


def _check(request: FinalizeRequest, site: SessionSite) -> Result[FinalizeRequest, SealwaxError]:
    if names.is_temporary(names.base(request.path)):
        return Failure(
            InvalidPathError(
                f"A path that contains {orbax.TEMPORARY!r} names an unfinished checkpoint",
                path=request.path,
            )
        )
    if site.target is None:
        return _check_entry(request, site)
    if site.entry is not None:
        return Failure(already_there(request.path))
    whose = "was finalized already" if site.made else "was not saved in parts"
    return Failure(
        CheckpointExistsError(
            f"There are no parts to put together, and what is at the path {whose}",
            path=request.path,
            hint="Let one caller finalize it."
            if site.made
            else "Save parts to a path at which there is nothing.",
        )
    )


def _check_entry(
    request: FinalizeRequest, site: SessionSite
) -> Result[FinalizeRequest, SealwaxError]:
    if site.entry is None or (site.entry is Entry.DIRECTORY and not site.inside):
        return Success(request) if site.entry else Failure(_no_session(request))
    if site.entry is not Entry.DIRECTORY:
        return Failure(
            InvalidLayoutError(
                f"A {site.entry.value} is where parts would be kept", path=request.session
            )
        )
    return Success(request)


def _no_session(request: FinalizeRequest) -> CheckpointNotFoundError:
    return CheckpointNotFoundError(
        "No part of this checkpoint was saved",
        path=request.session,
        hint="Call sealwax.partial.save(path, ...) first, with the same path.",
    )


def _check_strangers(
    request: FinalizeRequest, site: SessionSite
) -> Result[FinalizeRequest, SealwaxError]:
    """Refuses to remove, with the session, what somebody else put there."""
    other = [name for name in site.inside if PENDING not in name]
    for name in site.present:
        part, _, rest = name.partition("/")
        if rest and "/" not in rest and PENDING in part:
            own = rest in (STATE, manifest_of(part)) or strangers.known(rest, flat=False)
            other += [] if own else [name]
    other = [name for name in other if not strangers.litter(name)]
    if not other:
        return Success(request)
    return Failure(
        InvalidLayoutError(
            "The session also holds what is not a part",
            path=request.session,
            found=", ".join(map(repr, other[:5])),
            hint="Move it elsewhere. A finalize by Orbax that was interrupted leaves such a "
            "session; then save all parts again, to another path.",
        )
    )


def _check_digests(
    request: FinalizeRequest, site: SessionSite
) -> Result[FinalizeRequest, SealwaxError]:
    """Holds what describes each part against the digests that it was sealed with."""
    for part in site.parts:
        root = f"{part}/{manifest_of(part)}"
        if root not in site.files:
            continue
        where = f"{request.session}/{root}"
        try:
            sealed = manifest.decode(site.files[root], manifest.Checkpoint, where)
            known = {f"{part}/{name}": digest for name, digest in sealed.digests.items()}
            for name in [n for n in known if n.startswith(f"{part}/{STATE}/{manifest.NAME}_")]:
                item = manifest.decode(site.files.get(name, b""), manifest.Item, name)
                known |= {f"{part}/{STATE}/{n}": digest for n, digest in item.digests.items()}
        except SealwaxError as error:
            return Failure(error.located(path=where))
        for name, digest in known.items():
            if name in site.files and not manifest.agrees(digest, site.files[name]):
                return Failure(
                    CorruptionError(
                        "A file of a part is not what was written",
                        path=f"{request.session}/{name}",
                        hint="Restore it from a copy, or save all parts again.",
                    )
                )
    return Success(request)


def _combine(request: FinalizeRequest, site: SessionSite) -> Result[Combined, SealwaxError]:
    parts: Result[tuple[Part, ...], SealwaxError] = read_parts(site.files, request.session)
    if isinstance(parts, Failure):
        return Failure(parts.failure())
    known = {part.name for part in parts.unwrap()}
    bare = next((name for name in site.parts if name not in known), None)
    if bare is not None:
        return Failure(
            CorruptionError(
                "A part has no metadata",
                path=f"{request.session}/{bare}",
                hint="Restore it from a copy, or save all parts again.",
            )
        )
    if not known:
        return Failure(_no_session(request))
    stamp = Stamp(token=own_token(site.token, STATE), now=site.now)
    return combine(parts.unwrap(), request.session, site.files, site.present, stamp)


def _finalize(request: FinalizeRequest, site: SessionSite, combined: Combined) -> Plan:
    build = Builder()
    _clean(build, request, site)
    root = names.temporary(request.path, site.token)
    state = names.join(root, STATE)
    mode = request.options.file.path_permission_mode
    made = build.add(MakeDirectory(path=root, mode=mode, lease=True))
    made = build.add(MakeDirectory(path=state), after=(made,))
    durable = request.durable
    links = LinkFiles(source=request.session, target=state, links=combined.links, sync=durable)
    last = build.add(links, after=(made,)) if combined.links else made
    if combined.databases:
        last = build.add(MergeDatabases(directory=state, parts=combined.databases), after=(last,))
    files = WriteFiles(directory=state, contents=combined.files, sync=durable)
    last = build.add(files, after=(last,))
    now = build.add(Now(), after=(last,))
    header = Header(
        path=request.path,
        handlers={STATE: PYTREE[0]},
        init_timestamp_nsecs=combined.begun or site.now,
        custom_metadata=combined.custom_metadata,
        settings=combined.settings,
        parts=site.parts,
    )
    content = build.derive(
        "the checkpoint's files", Header.files, header, result(now), combined.digests
    )
    header_files = WriteFiles(directory=root, contents=result(content), sync=durable)
    build.add(header_files, after=(last,))
    if durable:
        build.sync_tree(root, after=range(made, len(build.steps)))
    seal = build.add(Rename(source=root, target=request.path), after=range(len(build.steps)))
    last = seal
    if durable:
        last = build.add(SyncDirectory(path=names.parent(request.path)), after=(seal,))
    callback = request.options.asynchronous.post_finalization_callback
    if callback is not None:
        build.add(Call(name="post_finalization_callback", function=callback), after=(last,))
    _remove(build, request, site, (last,))
    return _plan("partial.finalize", request, build, seal=seal, undo=(RemoveTree(path=root),))


def _clean(build: Builder, request: FinalizeRequest, site: SessionSite) -> tuple[int, ...]:
    """Removes what interrupted operations left."""
    above = names.parent(request.path)
    left = [
        *names.leftovers(request.path, site.siblings),
        *names.leftovers(request.session, site.siblings),
    ]
    return tuple([build.add(RemoveTree(path=names.join(above, n), abandoned=True)) for n in left])


def _remove(
    build: Builder, request: FinalizeRequest, site: SessionSite, after: tuple[int, ...]
) -> int:
    """Removes the session: out of sight in one step, then from the disk."""
    aside = names.temporary(request.path, own_token(site.token, request.session))
    seal = last = build.add(Rename(source=request.session, target=aside), after=after)
    if request.durable:
        last = build.add(SyncDirectory(path=names.parent(request.path)), after=(last,))
    build.add(RemoveTree(path=aside), after=(last,))
    return seal


def _plan(
    title: str,
    request: FinalizeRequest,
    build: Builder,
    *,
    seal: int | None = None,
    undo: tuple[RemoveTree, ...] = (),
) -> Plan:
    return Plan(title=title, path=request.path, steps=tuple(build.steps), undo=undo, seal=seal)
