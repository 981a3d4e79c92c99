"""Looking at the parts of a checkpoint that is saved in parts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping

from sealwax.effects import (
    Entry,
    Hold,
    ListDirectory,
    ListTree,
    Look,
    Now,
    Present,
    ReadFile,
    ReadMatching,
    Token,
)
from sealwax.errors import CheckpointNotFoundError
from sealwax.layouts import manifest
from sealwax.planning import names
from sealwax.planning.finalize import EVERYTHING, SessionSite
from sealwax.planning.partial import PartSite
from sealwax.planning.parts import DESCRIPTIONS, digits, session_of, target_of
from sealwax.runtime.observe import Perform, read_manifest, survey
from sealwax.runtime.operation import looking


async def survey_part(perform: Perform, session: str) -> PartSite:
    """Looks around the path of a session, to which a part is to be added."""
    around = await survey(perform, session)
    perform = functools.partial(looking, perform)
    there = around.entry is Entry.DIRECTORY
    known: Mapping[str, bytes] = {}
    if there:
        known = await perform(ReadMatching(path=session, patterns=DESCRIPTIONS))
    target = await perform(Look(path=target_of(session)))
    return PartSite(
        **{field.name: getattr(around, field.name) for field in dataclasses.fields(around)},
        target=target,
        parts=known,
    )


async def survey_session(perform: Perform, path: str, *, hold: bool) -> SessionSite:
    """Looks at a session that is to be finalized.

    With ``hold`` it waits for parts that are still being saved, and lets no other come.

    Raises:
      CheckpointNotFoundError: One of those parts failed.
    """
    perform = functools.partial(looking, perform)
    session = session_of(path)
    token, now = await perform(Token()), await perform(Now())
    under_way = names.leftovers(session, await _beside(perform, path)) if hold else ()
    ended = [digits for name in under_way if (digits := await _awaited(perform, path, name))]
    if hold:
        await perform(Hold(path=session))
    entry = await perform(Look(path=session))
    present: Mapping[str, Present] = {}
    if entry is Entry.DIRECTORY:
        present = await perform(ListTree(path=session))
    target = await perform(Look(path=path))
    marked = target is Entry.DIRECTORY and await perform(
        ReadFile(path=names.join(path, manifest.NAME))
    )
    sealed = await read_manifest(perform, path) if marked else None
    site = SessionSite(
        target=target,
        sealed=sealed,
        entry=entry,
        present=present,
        files=await perform(ReadMatching(path=session, patterns=EVERYTHING)),
        siblings=await _beside(perform, path),
        token=token,
        now=now,
    )
    for each in ended:
        # Somebody else may have put it together with the others meanwhile.
        _check_sealed(each, (*site.present, *site.made), session)
    return site


async def _beside(perform: Perform, path: str) -> tuple[str, ...]:
    above = names.parent(path)
    if await perform(Look(path=f"{above}/.")) is not Entry.DIRECTORY:
        return ()
    return await perform(ListDirectory(path=above))


async def _awaited(perform: Perform, path: str, name: str) -> str | None:
    """Waits for a part that grows; its digits, unless whoever saved it has died."""
    abandoned = await perform(Hold(path=names.join(names.parent(path), name), keep=False))
    return None if abandoned else name.rpartition("-")[2]


def _check_sealed(token: str, parts: Iterable[str], session: str) -> None:
    if all(digits(name) != token for name in parts if "/" not in name):
        raise CheckpointNotFoundError(
            "A part that was still being saved has failed",
            path=session,
            hint="Its own call or response tells why. Save it again; or finalize again, without "
            "it.",
        )
