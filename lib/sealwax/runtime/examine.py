"""Observing for a verification: everything at a path, and what its own records say of it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from sealwax.effects import Entry, ListTree, Present, ReadFile
from sealwax.errors import CorruptionError, SealwaxError
from sealwax.layouts import manifest, orbax
from sealwax.layouts.detect import Found, why_not
from sealwax.options import Options
from sealwax.planning import contents, names
from sealwax.planning.census import Census, Sealed
from sealwax.planning.contents import Contents
from sealwax.planning.pipeline import raised
from sealwax.runtime.observe import Perform, find, read_contents
from sealwax.runtime.operation import looking

_DOCUMENTS = frozenset({"data.json", "metadata", "metrics"})
"""Files of items that hold JSON, in any version of Orbax."""


async def examine(perform: Perform, path: str, options: Options | None = None) -> Census:
    """Looks at all of a checkpoint.

    Raises:
      CheckpointNotFoundError: Nothing is at the path.
      InvalidLayoutError: What is there is not a checkpoint, or of a newer version.
    """
    found = await find(perform, path, options)
    problem = why_not(found, "Verify")
    if problem is not None:
        raise problem
    perform = functools.partial(looking, perform)
    present: dict[str, Present] = await perform(ListTree(path=path))
    root = await _manifest(perform, path, manifest.NAME, present)
    listed = root.said.digests if root and isinstance(root.said, manifest.Checkpoint) else {}
    present = _as_loaded(present, listed, found)
    items = {name for name in listed if name.endswith(f"/{manifest.NAME}")}
    items |= {f"{item}/{manifest.NAME}" for item in found.items}.intersection(present)
    ours = {name for name in items if _of_item(name, found)}
    if root is None and not ours:
        trees, documents = await _foreign(perform, found, present)
        return Census(
            path=path,
            present=present,
            trees=trees,
            documents=documents,
            deletion=found.deletion,
        )
    manifests = {} if root is None else {manifest.NAME: root}
    held: dict[str, Contents] = {}
    for where in sorted(ours):
        sealed = await _manifest(perform, path, where, present)
        if sealed is not None:
            manifests[where], inside = _item(sealed, where, path)
            held |= {} if inside is None else {where: inside}
    return Census(
        path=path, present=present, manifests=manifests, contents=held, deletion=found.deletion
    )


def _of_item(name: str, found: Found) -> bool:
    """Whether a manifest is that of an item, and not of a checkpoint that a handler put there."""
    item, _, rest = name.partition("/")
    nested = {orbax.INDICATOR, orbax.CHECKPOINT_METADATA}.intersection(found.items.get(item, ()))
    return rest == manifest.NAME and not nested


def _as_loaded(
    present: dict[str, Present], listed: Iterable[str], found: Found
) -> dict[str, Present]:
    """What is there, without what no load sees: a link in the place of an item is not followed."""
    hidden = {item for item, slash, _ in (n.partition("/") for n in listed) if slash}
    hidden -= found.items.keys()
    return {file: there for file, there in present.items() if file.partition("/")[0] not in hidden}


async def _manifest(
    perform: Perform, path: str, name: str, present: dict[str, Present]
) -> Sealed | None:
    """A manifest, if there is a file of its name."""
    where = names.join(path, name)
    data: bytes | None = None
    if name in present and present[name].entry is Entry.FILE:
        data = await perform(ReadFile(path=where))
    if data is None:
        return None
    kind: Any = manifest.Item if "/" in name else manifest.Checkpoint
    try:
        said = manifest.decode(data, kind, where)
    except CorruptionError as error:
        said = error
    return Sealed(manifest.digest(data), said)


def _item(sealed: Sealed, where: str, path: str) -> tuple[Sealed, Contents | None]:
    """What the manifest of an item says; one that contradicts itself counts as damaged."""
    if not isinstance(sealed.said, manifest.Item):
        return sealed, None
    try:
        said = contents.from_manifest(sealed.said, names.parent(names.join(path, where)))
        return sealed, raised(said)
    except CorruptionError as error:
        return Sealed(sealed.digest, error), None


async def _foreign(
    perform: Perform, found: Found, present: dict[str, Present]
) -> tuple[dict[str, Contents | SealwaxError], dict[str, bytes]]:
    """The trees and the other JSON files of a checkpoint that sealwax did not write."""
    trees: dict[str, Contents | SealwaxError] = {}
    flat = orbax.TREE_METADATA in found.names
    items = {
        name
        for name, inside in found.items.items()
        if orbax.TREE_METADATA in inside and name != found.deleting
    }
    for item in sorted({""} if flat else items):
        try:
            trees[item] = await read_contents(perform, found, item)
        except SealwaxError as error:
            if not found.treeless(item):
                trees[item] = error
    documents: dict[str, bytes] = {}
    for file, there in present.items():
        item, _, name = file.rpartition("/")
        wanted = file == orbax.CHECKPOINT_METADATA or (
            item in found.items and item not in items and name in _DOCUMENTS
        )
        if wanted and there.entry is Entry.FILE:
            data = await perform(ReadFile(path=names.join(found.path, file)))
            documents |= {} if data is None else {file: data}
    return trees, documents
