"""The file that says something of a run as a whole, as Orbax keeps it: written once."""

from __future__ import annotations

import json
import logging
from typing import Any

from sealwax.effects import MakeDirectory, ReadFile, Rename, SyncDirectory, Token, WriteFile
from sealwax.errors import StorageError
from sealwax.layouts import orbax
from sealwax.planning import names
from sealwax.runtime.observe import Perform
from sealwax.runtime.operation import looking

_FILE = "metadata/_ROOT_METADATA"
_OLD_FILE = "metadata/metadata"
_log = logging.getLogger("sealwax")


async def read_root(perform: Perform, root: str) -> dict[str, Any] | None:
    """The custom metadata of a run; ``None`` where it has none.

    Raises:
      CorruptionError: The file is not what Orbax writes.
    """
    where = names.join(root, _FILE)
    data = await looking(perform, ReadFile(path=where))
    if data is not None:
        return orbax.parse(data, where).get("custom_metadata") or {}
    where = names.join(root, _OLD_FILE)
    data = await looking(perform, ReadFile(path=where))
    return None if data is None else orbax.parse(data, where)


async def write_root(perform: Perform, root: str, custom: dict[str, Any], *, durable: bool) -> None:
    """Writes the custom metadata of a run, unless it has some: that stays, whoever wrote it."""
    there = await read_root(perform, root)
    if there is None:
        there = custom if await _write(perform, root, custom, durable) else None
        there = await read_root(perform, root) if there is None else there
    if there != custom:
        _log.warning(
            "The run in %s keeps the custom metadata that it was begun with, %r, and not %r.",
            root,
            there,
            custom,
        )


async def _write(perform: Perform, root: str, custom: dict[str, Any], durable: bool) -> bool:
    """Writes it; ``False`` where somebody else was faster."""
    target = names.join(root, _FILE)
    aside = names.temporary(target, await looking(perform, Token()))
    content = json.dumps({"internal_metadata": {}, "custom_metadata": custom}).encode()
    await looking(perform, MakeDirectory(path=names.parent(target), parents=True))
    await looking(perform, WriteFile(path=aside, content=content, sync=durable))
    try:
        await looking(perform, Rename(source=aside, target=target))
    except (FileExistsError, StorageError) as error:
        if await looking(perform, ReadFile(path=target)) is None:
            raise error
        return False
    for directory in (names.parent(target), root) if durable else ():
        await looking(perform, SyncDirectory(path=directory))
    return True
