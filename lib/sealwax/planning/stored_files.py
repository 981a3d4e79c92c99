"""Holding the files of an item against what the checkpoint was sealed with."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from sealwax.effects import CheckExtents, Entry, Extent, ListTree, Mismatch, Present
from sealwax.errors import CorruptionError
from sealwax.layouts import manifest
from sealwax.layouts.manifest import Digest
from sealwax.layouts.orbax import DAMAGED
from sealwax.planning import names
from sealwax.planning.builder import Builder, result
from sealwax.planning.handler_items import StoredItem


def check_file(item: StoredItem, name: str, data: bytes | None) -> bytes:
    """The content of a file, which is there and as it was written.

    Raises:
      CorruptionError: It is not.
    """
    path = names.join(item.directory, name)
    if data is None:
        raise CorruptionError("A file of the checkpoint is missing", path=path, hint=DAMAGED)
    digest = item.digests.get(name) if item.verifies else None
    if digest is not None and not manifest.agrees(digest, data):
        raise _changed(path, digest, _said(manifest.digest(data)))
    return data


def add_check(build: Builder, item: StoredItem) -> tuple[int, ...]:
    """Adds the steps that hold every file of an item against its digest."""
    if not item.digests or not item.verifies:
        return ()
    extents = tuple([Extent.whole(file, digest) for file, digest in item.digests.items()])
    nbytes = sum(extent.length for extent in extents)
    listed = build.add(ListTree(path=item.directory))
    effect = CheckExtents(directory=item.directory, extents=extents, nbytes=nbytes)
    read = build.add(effect, reads=nbytes)
    check = functools.partial(_check_files, item)
    return (build.derive("that its files are as they were", check, result(listed), result(read)),)


def _check_files(
    item: StoredItem, listed: Mapping[str, Present], mismatches: Sequence[Mismatch]
) -> None:
    files = list(item.digests)
    wrong = {files[mismatch.number]: mismatch.found for mismatch in mismatches}
    for file, digest in item.digests.items():
        path = names.join(item.directory, file)
        present = listed.get(file)
        if present is None or present.entry is not Entry.FILE:
            raise CorruptionError("A file of the checkpoint is missing", path=path, hint=DAMAGED)
        if present.nbytes != digest[0] or file in wrong:
            raise _changed(path, digest, wrong.get(file) or f"{present.nbytes} bytes")


def _changed(path: str, digest: Digest, found: str) -> CorruptionError:
    return CorruptionError(
        "A file is not the one that the checkpoint was sealed with",
        path=path,
        expected=_said(digest),
        found=found,
        hint=DAMAGED,
    )


def _said(digest: Digest) -> str:
    return f"{digest[0]} bytes with CRC-32C {digest[1]:08x}"
