"""Looking at what is to be deleted, without following any link at its path or below."""

from __future__ import annotations

import dataclasses
import functools

from sealwax.effects import Entry, Hold, ListDirectory, Look, Now, ReadFile, Token
from sealwax.layouts import manifest, orbax, strangers
from sealwax.layouts.detect import Found
from sealwax.planning import names
from sealwax.planning.delete import DeleteRequest, DeleteSite
from sealwax.runtime.observe import Perform, find
from sealwax.runtime.operation import looking


async def survey_deletion(
    perform: Perform, request: DeleteRequest, *, hold: bool = False
) -> DeleteSite:
    """Looks at the path of a deletion and around it.

    With ``hold``, the deletion of an item waits for others that are under way in the checkpoint,
    and lets no other begin until the operation ends.
    """
    path, item = request.path, request.item
    perform = functools.partial(looking, perform)
    entry = await perform(Look(path=path))
    if hold and item is not None and entry is Entry.DIRECTORY:
        await perform(Hold(path=path))
        entry = await perform(Look(path=path))
    above = await _listed(perform, names.parent(path))
    kept: tuple[str, ...] = ()
    if item is not None and request.kept_in is not None:
        kept = await _listed(perform, names.join(names.parent(path), request.kept_in))
    token, now = await perform(Token()), await perform(Now())
    if entry is not Entry.DIRECTORY:
        found = Found(path=path, entry=entry, above=above)
        return DeleteSite(found=found, token=token, now=now)
    found = dataclasses.replace(await find(perform, path, warn=False), above=above)
    flat = orbax.TREE_METADATA in found.names
    entries: dict[str, Entry] = {}
    inside = dict(found.items)
    for name in found.names if item is None else ():
        below = names.join(path, name)
        if strangers.known(name, flat=flat):
            continue
        there = await perform(Look(path=below))
        if there is not None:
            entries[name] = there
        if there is Entry.DIRECTORY and name not in inside:
            inside[name] = await perform(ListDirectory(path=below))
    return DeleteSite(
        found=found,
        entries=entries,
        inside=inside,
        target=None if item is None else await perform(Look(path=names.join(path, item))),
        metadata=await perform(ReadFile(path=names.join(path, orbax.CHECKPOINT_METADATA))),
        manifest=await perform(ReadFile(path=names.join(path, manifest.NAME))),
        kept=kept,
        token=token,
        now=now,
    )


async def _listed(perform: Perform, path: str) -> tuple[str, ...]:
    # A link above the checkpoint leads where every program takes it to lead.
    entry = await perform(Look(path=f"{path}/."))
    return await perform(ListDirectory(path=path)) if entry is Entry.DIRECTORY else ()
