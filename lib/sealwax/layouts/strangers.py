"""What lies in a checkpoint's directory and is not of it: nobody's to delete but its owner's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from sealwax.effects import Entry
from sealwax.layouts import manifest, orbax

_CHECKPOINT = frozenset(
    {
        orbax.INDICATOR,
        orbax.CHECKPOINT_METADATA,
        orbax.COMMIT,
        orbax.DELETION,
        orbax.TREE_METADATA,
        manifest.NAME,
        "metrics",
    }
)
_TREE = frozenset(
    {
        orbax.SHARDING,
        orbax.STRINGS,
        orbax.ARRAY_METADATAS,
        orbax.DATABASE,
        orbax.DATA,
        "checkpoint",
    }
)
_OWN_PROCESS = "ocdbt.process_"
# Left by file managers and network file systems, without anybody asking for it.
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_LITTER_STARTS = ("._", ".nfs")
_ITEM_SIGNS = frozenset({orbax.TREE_METADATA, manifest.NAME, orbax.COMMIT})
# Where no list of items says what belongs there, what handlers of old versions wrote.
_OLD_SIGNS = frozenset(
    {
        *(orbax.DATABASE, orbax.SHARDING, ".zarray", "zarr.json", "checkpoint"),
        *("data.json", "metadata", "proto.pbtxt"),
    }
)


def litter(name: str) -> bool:
    """Whether it is what file managers and network file systems leave, unasked."""
    return name in _LITTER or name.startswith(_LITTER_STARTS)


def known(name: str, *, flat: bool) -> bool:
    """Whether a checkpoint has something of this name, whatever its items are called."""
    # A part of a checkpoint, that Orbax put together, leaves its manifest behind.
    own = name in _CHECKPOINT or orbax.TEMPORARY in name or name.startswith(f"{manifest.NAME}_")
    return litter(name) or own or (flat and (name in _TREE or name.startswith(_OWN_PROCESS)))


def strangers(
    entries: Mapping[str, Entry], inside: Mapping[str, tuple[str, ...]], handlers: object
) -> Iterator[str]:
    """Those of the entries of a checkpoint's directory that no checkpoint library wrote.

    Args:
      entries: What each name is, of all that are not ``known``.
      inside: For each that is a directory, what is in there.
      handlers: What the checkpoint says of its items.

    >>> list(strangers({"state": Entry.DIRECTORY, "a.txt": Entry.FILE}, {}, {"state": "Tree"}))
    ['a.txt']
    """
    listed = cast("dict[str, Any]", handlers) if isinstance(handlers, dict) else None
    signs = _ITEM_SIGNS if listed is not None else _ITEM_SIGNS | _OLD_SIGNS
    for name, entry in entries.items():
        if entry is not Entry.DIRECTORY:
            yield name
            continue
        found = inside.get(name, ())
        # A directory with these is a checkpoint of its own.
        nested = not {orbax.INDICATOR, orbax.CHECKPOINT_METADATA}.isdisjoint(found)
        if (listed is not None and name in listed) or not found:
            continue
        if nested or signs.isdisjoint(found):
            yield name
