"""Observing: looking at what is there, so that planning can be pure."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from returns.result import Result

from sealwax.arrays.zarr import ZarrFormat, metadata_key
from sealwax.effects import Effect, Entry, ListDirectory, Look, Now, ReadEntries, ReadFile, Token
from sealwax.errors import CorruptionError, InvalidLayoutError, SealwaxError
from sealwax.layouts import deletion, manifest, orbax
from sealwax.layouts.detect import Found
from sealwax.options import Options
from sealwax.planning import contents, names
from sealwax.planning.atomicity import needs_commit
from sealwax.planning.contents import Contents
from sealwax.planning.pipeline import raised as raised
from sealwax.planning.requests import Site
from sealwax.runtime import garbage
from sealwax.runtime.operation import looking
from sealwax.trees.records import from_entries
from sealwax.trees.rich import read_value_tree

Perform: TypeAlias = Callable[[Effect], Awaitable[Any]]
T = TypeVar("T")
_MOST_LOOKS = 100
_log = logging.getLogger("sealwax")
_DELETING = (
    "The checkpointable %r of %s is being deleted and is passed over; "
    "delete(path, checkpointable_name=%r) finishes it."
)


async def survey(perform: Perform, path: str, *, target: bool = True) -> Site:
    """Looks around the path of a save, and where ``target`` at what is there."""
    perform = functools.partial(looking, perform)
    entry = await perform(Look(path=path)) if target else None
    inside = await perform(ListDirectory(path=path)) if entry is Entry.DIRECTORY else ()
    missing: list[str] = []
    above = names.parent(path)
    while (found := await perform(Look(path=above))) is None:
        missing.insert(0, above)
        above = names.parent(above)
    # A symbolic link above the path may well lead to a directory: looking behind it will tell.
    behind = found is not Entry.SYMLINK or await perform(Look(path=f"{above}/."))
    obstacle = above if found in (Entry.FILE, Entry.OTHER) or not behind else None
    siblings = () if missing or obstacle else await perform(ListDirectory(path=above))
    return Site(
        entry=entry,
        names=inside,
        siblings=siblings,
        missing=tuple(missing),
        obstacle=obstacle,
        token=await perform(Token()),
        now=await perform(Now()),
    )


async def undisturbed(perform: Perform, path: str, look: Callable[[], Awaitable[T]]) -> T:
    """Looks at a checkpoint, again if another one took its place meanwhile.

    Its files are opened one after another, and must all be of one checkpoint.
    """
    before = await _state(perform, path)
    for _ in range(_MOST_LOOKS):
        try:
            answer = await look()
        except Exception:
            if await _state(perform, path) == before:
                raise
        else:
            if await _state(perform, path) == before:
                return answer
        before = await _state(perform, path)
    raise InvalidLayoutError(
        "The checkpoint was replaced each time before all of it was read",
        path=path,
        found=f"{_MOST_LOOKS} other checkpoints there, one after another",
        hint="Load from a path that is not overwritten all the time.",
    )


async def _state(perform: Perform, path: str) -> tuple[bytes | None, bytes | None]:
    """What changes before an item of the checkpoint is taken away, and when all of it is."""
    return await mark(perform, path), await _read(perform, path, orbax.DELETION)


async def mark(perform: Perform, path: str) -> bytes | None:
    """What tells a checkpoint from any other that was or will be at its path."""
    return await _read(perform, path, orbax.CHECKPOINT_METADATA)


async def _read(perform: Perform, path: str, name: str) -> bytes | None:
    try:
        return await perform(ReadFile(path=names.join(path, name)))
    except OSError:
        return None


async def find(
    perform: Perform, path: str, options: Options | None = None, *, warn: bool = True
) -> Found:
    """Looks at a path from which a checkpoint is to be loaded, complete as the settings see it.

    With ``warn``, an item that does not count because it is being deleted is told to the log.
    """
    perform = functools.partial(looking, perform)
    entry = await perform(Look(path=path))
    if entry is Entry.SYMLINK:
        # Whatever it leads to is what was asked for.
        entry = Entry.DIRECTORY if await _lists(perform, path) else Entry.SYMLINK
    if entry is not Entry.DIRECTORY:
        return Found(path=path, entry=entry, above=await _neighbours(perform, path))
    inside = await perform(ListDirectory(path=path))
    items: dict[str, tuple[str, ...]] = {}
    # In a flat checkpoint there may be a directory for each leaf.
    for name in () if orbax.TREE_METADATA in inside else inside:
        below = names.join(path, name)
        if await perform(Look(path=below)) is Entry.DIRECTORY:
            items[name] = await perform(ListDirectory(path=below))
    known = orbax.CHECKPOINT_METADATA in inside
    metadata = await _readable(perform, names.join(path, orbax.CHECKPOINT_METADATA), known)
    handlers = orbax.parse_or_nothing(metadata or b"").get("item_handlers")
    found = Found(
        path=path,
        entry=entry,
        names=inside,
        items=items,
        recorded=orbax.recorded(handlers),
        above=await _neighbours(perform, path),
        deletion=await _deletion(perform, path, metadata) if orbax.DELETION in inside else None,
        commit=options is not None and needs_commit(options.atomicity, path),
    )
    if warn and found.deleting is not None:
        _log.warning(_DELETING, found.deleting, path, found.deleting)
    return found


async def _readable(perform: Perform, path: str, known: bool) -> bytes | None:
    """A file that helps where it is one; who cannot do without it finds out that it is not."""
    try:
        return await perform(ReadFile(path=path)) if known else None
    except IsADirectoryError:
        return None


async def _deletion(
    perform: Perform, path: str, metadata: bytes | None
) -> Result[deletion.Record, SealwaxError] | None:
    where = names.join(path, orbax.DELETION)
    data = await perform(ReadFile(path=where))
    return None if data is None else deletion.read(data, metadata, where)


async def _lists(perform: Perform, path: str) -> bool:
    try:
        await perform(ListDirectory(path=path))
    except OSError:
        return False
    return True


async def _neighbours(perform: Perform, path: str) -> tuple[str, ...]:
    above = names.parent(path)
    if await perform(Look(path=above)) is not Entry.DIRECTORY:
        return ()
    return await perform(ListDirectory(path=above))


async def read_manifest(perform: Perform, path: str) -> manifest.Checkpoint | None:
    """The checkpoint's own manifest; ``None`` for one that sealwax did not write."""
    where = names.join(path, manifest.NAME)
    data = await perform(ReadFile(path=where))
    return None if data is None else manifest.decode(data, manifest.Checkpoint, where)


async def read_contents(
    perform: Perform, found: Found, item: str, *, rich: bool = False
) -> Contents:
    """What one item of a checkpoint holds; ``item`` is empty for a flat checkpoint.

    With ``rich``, named tuples are told from dicts, where the checkpoint tells them apart.

    Raises:
      SealwaxError: The item's metadata is missing, damaged, or not understood.
    """
    perform = functools.partial(looking, perform)
    directory = names.join(found.path, item) if item else found.path
    root = await read_manifest(perform, found.path) if manifest.NAME in found.names else None
    digest = None if root is None else root.digests.get(f"{item}/{manifest.NAME}")
    listed = found.items[item] if item else found.names
    return await read_tree(perform, directory, listed, digest, rich=rich, flat=not item)


async def read_tree(
    perform: Perform,
    directory: str,
    listed: tuple[str, ...],
    digest: manifest.Digest | None,
    *,
    rich: bool,
    flat: bool = False,
) -> Contents:
    """What a directory holds that is a tree.

    Args:
      perform: Performs effects that only look.
      directory: The directory.
      listed: What is in there.
      digest: That of its manifest, where the checkpoint has one.
      rich: Whether named tuples are told from dicts, where that is known.
      flat: Whether it is the checkpoint's own directory, whose manifest is another one.

    Raises:
      SealwaxError: Its metadata is missing, damaged, or not understood.
    """
    where = names.join(directory, manifest.NAME)
    if not flat and manifest.NAME in listed:
        data: bytes = await perform(ReadFile(path=where)) or b""
        if digest is not None and not manifest.agrees(digest, data):
            raise CorruptionError(
                "The item's manifest is not the one that the checkpoint was sealed with",
                path=where,
                hint="Files of two checkpoints were mixed: load another one, or restore this one "
                "from a copy.",
            )
        with garbage.paused():
            item_manifest = manifest.decode(data, manifest.Item, where)
            native = contents.from_manifest(item_manifest, directory)
        return dataclasses.replace(raised(native), rich=rich)
    if digest is not None:
        raise CorruptionError(
            "The item's manifest is missing",
            path=where,
            hint="The checkpoint is damaged: load an earlier one, or restore this file from a "
            "copy.",
        )
    made = await _read_orbax(perform, directory, listed, rich)
    return dataclasses.replace(made, rich=rich)


async def _read_orbax(
    perform: Perform, directory: str, listed: tuple[str, ...], rich: bool
) -> Contents:
    async def read(name: str) -> tuple[bytes | None, str]:
        where = names.join(directory, name)
        return await perform(ReadFile(path=where)), where

    data, where = await read(orbax.TREE_METADATA)
    tree = orbax.parse(data or b"", where)
    entries = raised(from_entries(tree.get("tree_metadata")).alt(lambda e: e.located(path=where)))
    zarr3 = bool(tree.get("use_zarr3", False))
    use_ocdbt = tree.get("use_ocdbt")
    database = orbax.DATABASE in listed if use_ocdbt is None else bool(use_ocdbt)
    arrays = [entry.name for entry in contents.array_entries(entries)]
    format = ZarrFormat.V3 if zarr3 else ZarrFormat.V2
    keys = tuple(metadata_key(name, format) for name in arrays)
    values: Mapping[str, bytes | None] = {}
    if arrays:
        _refuse_escapes(arrays, database, directory)
        effect = ReadEntries(directory=directory, keys=keys, database=database)
        values = dict(zip(arrays, await perform(effect), strict=True))
    strings, where = await read(orbax.STRINGS)
    return raised(
        contents.from_orbax(
            contents.OrbaxFiles(
                directory=directory,
                entries=entries,
                zarr3=zarr3,
                database=database,
                arrays=values,
                strings={} if strings is None else orbax.parse(strings, where),
                shardings=orbax.read_shardings(*await read(orbax.SHARDING)),
                key_impls=await _key_impls(perform, directory, listed),
                structure=read_value_tree(tree.get("value_metadata_tree")) if rich else None,
            )
        )
    )


async def _key_impls(perform: Perform, directory: str, listed: tuple[str, ...]) -> dict[str, str]:
    """What any process recorded of typed keys: each has all of them."""
    if orbax.ARRAY_METADATAS not in listed:
        return {}
    where = names.join(directory, orbax.ARRAY_METADATAS)
    inside = await perform(ListDirectory(path=where))
    found: dict[str, str] = {}
    for name in inside:
        if name.startswith(orbax.PROCESS):
            file = names.join(where, name)
            found |= orbax.read_key_impls(await perform(ReadFile(path=file)), file)
    return found


def _refuse_escapes(arrays: list[str], database: bool, directory: str) -> None:
    """Refuses names that, as paths, would lead out of the checkpoint."""
    for name in arrays if not database else ():
        if names.leads_outside(name):
            raise CorruptionError(
                "The name of a leaf leads outside the checkpoint", leaf=name, path=directory
            )
