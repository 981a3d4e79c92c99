"""Putting the parts of a checkpoint together: finding what describes them, links, one database."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorstore

from sealwax.effects import LinkFiles, MergeDatabases, ReadMatching
from sealwax.errors import CorruptionError
from sealwax.runtime import files, foreign
from sealwax.runtime.foreign import Held

ts: Any = tensorstore  # Half of its own types are unknown to a strict checker.
_NO_LINKS = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}
)


def read_matching(
    effect: ReadMatching,
    names: Callable[[str], Sequence[str]] = files.list_directory,
    content: Callable[[str], bytes | None] = files.read_file,
) -> dict[str, bytes]:
    """Reads the files that match; only directories that can hold one are listed."""
    found: dict[str, bytes] = {}
    for pattern in effect.patterns:
        for name in _matching(effect.path, "", pattern.split("/"), names):
            data = content(f"{effect.path}/{name}")
            if data is not None:
                found[name] = data
    return found


def _matching(
    root: str, above: str, pattern: list[str], names: Callable[[str], Sequence[str]]
) -> Iterator[str]:
    first, *rest = pattern
    listed: Sequence[str] = ()
    # What is not there, or is no directory, or was put together meanwhile, holds nothing.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        listed = (first,) if "*" not in first else names(f"{root}/{above}")
    for name in listed:
        if not fnmatch.fnmatchcase(name, first):
            continue
        if rest:
            yield from _matching(root, f"{above}{name}/", rest, names)
        else:
            yield above + name


def link_files(effect: LinkFiles) -> None:
    """Gives files second names, or copies them where there are no links."""
    made: set[str] = set()
    for old, new in effect.links:
        source, target = f"{effect.source}/{old}", f"{effect.target}/{new}"
        above = os.path.dirname(target)
        if above not in made:
            os.makedirs(above, exist_ok=True)
            made.add(above)
        try:
            # A second name of a symbolic link would lead elsewhere from another directory.
            os.link(os.path.realpath(source), target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # A copy never goes over what is there, as a link does not.
            with (
                open(source, "rb") as content,
                open(target, "xb") as file,
                files.naming(target),
            ):
                shutil.copyfileobj(content, file, 1 << 20)
        if effect.sync:
            _sync(target)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with files.naming(path):
            files.sync(descriptor)
    finally:
        os.close(descriptor)


def merge_databases(effect: MergeDatabases, held: Held | None = None) -> dict[str, bytes]:
    """Merges databases through TensorStore, which knows every form that they may have.

    Returns:
      The new files, where the others are ``held`` in memory; else they are written.

    Raises:
      CorruptionError: One of them is damaged.
    """
    place, context = foreign.location(effect.directory, held)

    def opened(name: str, **config: Any) -> Any:
        base = {**place, "path": f"{place['path']}{name}"}
        spec = {"driver": "ocdbt", "base": base, **config}
        return ts.KvStore.open(spec, context=context).result()

    whole = opened("", config={"compression": None})
    try:
        transaction = ts.Transaction(atomic=True)
        into = whole.with_transaction(transaction)
        pending = [opened(f"{part}/").experimental_copy_range_to(into) for part in effect.parts]
        for future in pending:
            future.result()
        transaction.commit_async().result()
    except ValueError as error:
        raise CorruptionError(
            "The database of a part is damaged",
            path=effect.directory,
            hint="Save the part again, or give the session up with sealwax.partial.discard.",
        ) from error
    if held is None:
        return {}
    store = ts.KvStore.open(place, context=context).result()
    return {
        name: store[name] for name in map(bytes.decode, store.list().result()) if name not in held
    }
