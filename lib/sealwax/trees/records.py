"""Entries of ``_METADATA``: what Orbax records about each leaf."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec
from msgspec import Struct
from returns.result import safe

from sealwax.errors import CorruptionError, InvalidLayoutError
from sealwax.trees.keys import Key, KeyKind, Path, entry_key, name
from sealwax.trees.plain import excerpt, items, members
from sealwax.trees.structure import EmptyKind

_About: TypeAlias = tuple[str, bool, tuple[int, ...] | None]
_EMPTY = {kind.value: kind for kind in EmptyKind} | {"NamedTuple": EmptyKind.NONE}


class Entry(Struct, frozen=True, gc=False):
    """What is recorded about one leaf.

    Attributes:
      path: Keys from the root to the leaf.
      value_type: Orbax's name for the kind of leaf, such as ``jax.Array`` or ``scalar``.
      skip_deserialize: Whether nothing is stored for it.
      write_shape: Shape of the parts in which it was written, or ``None``.
    """

    path: Path
    value_type: str
    skip_deserialize: bool = False
    write_shape: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """Name of the leaf in the store."""
        return name(self.path)

    @property
    def empty(self) -> EmptyKind | None:
        """The empty container that it stands for, or ``None`` where it is a real leaf."""
        return _EMPTY.get(self.value_type)


def empty_entry(path: Path, kind: EmptyKind) -> Entry:
    """Records an empty container."""
    return Entry(path, kind.value, skip_deserialize=True)


class Record(Struct, frozen=True, gc=False):
    """An entry of ``tree_metadata``, as it is encoded."""

    key_metadata: Path
    value_metadata: msgspec.Raw


def to_records(entries: Iterable[Entry]) -> dict[str, Record]:
    """Gives ``tree_metadata``, ready to be encoded, in the order of ``entries``.

    >>> to_records([Entry((Key("w", KeyKind.MAPPING),), "scalar")]).keys()
    dict_keys(["('w',)"])
    """
    values: dict[_About, msgspec.Raw] = {}
    records: dict[str, Record] = {}
    # Neighbours mostly lie in one container, and what leads there is the same for all of them.
    container: Path = ()
    label = ""
    for entry in entries:
        path = entry.path
        if path[:-1] != container:
            container = path[:-1]
            label = "".join([f"{key.text!r}, " for key in container])
        about = entry.value_type, entry.skip_deserialize, entry.write_shape
        value = values.get(about)
        if value is None:
            value = values[about] = _value_metadata(*about)
        if not path:
            key = entry_key(path)
        else:
            key = f"({label}{path[-1].text!r})" if label else f"({path[-1].text!r},)"
        records[key] = Record(path, value)
    return records


def _value_metadata(
    value_type: str, skip: bool, write_shape: tuple[int, ...] | None
) -> msgspec.Raw:
    value: dict[str, object] = {"value_type": value_type, "skip_deserialize": skip}
    if write_shape is not None:
        value["write_shape"] = write_shape
    return msgspec.Raw(msgspec.json.encode(value))


@safe(exceptions=(InvalidLayoutError, CorruptionError))
def from_entries(data: object) -> tuple[Entry, ...]:
    """Reads ``tree_metadata``, in the order of the file.

    An entry whose path leads to a container of other entries is what a partial save left
    behind, and is dropped. The keys of ``data`` are not looked at, as Orbax does not either.

    Returns:
      The entries; an ``InvalidLayoutError`` where ``data`` is not what Orbax writes, a
      ``CorruptionError`` where two entries have one name.
    """
    records = members(data)
    if not records:
        raise _wrong("an object with at least one entry", data)
    known: dict[tuple[object, object], Key] = {}
    entries = [_read_entry(label, record, known) for label, record in records.items()]
    return _without_prefixes(entries)


def _read_entry(label: str, data: object, known: dict[tuple[object, object], Key]) -> Entry:
    record = members(data)
    keys, about = items(record.get("key_metadata")), members(record.get("value_metadata"))
    if keys is None or not about:
        raise _wrong("key_metadata and value_metadata", data, label)
    path = tuple([_read_key(label, key, known) for key in keys])
    value_type, skip = about.get("value_type"), about.get("skip_deserialize")
    if not isinstance(value_type, str) or not isinstance(skip, bool):
        raise _wrong("a value_type and skip_deserialize", about, label)
    shape = about.get("write_shape")
    return Entry(path, value_type, skip, None if shape is None else _read_shape(label, shape))


def _read_key(label: str, data: object, known: dict[tuple[object, object], Key]) -> Key:
    record = members(data)
    text, kind = record.get("key"), record.get("key_type")
    if not isinstance(text, str) or type(kind) is not int or kind not in (1, 2):
        raise _wrong("a key of text and a key_type of 1 or 2", data, label)
    return known.get((text, kind)) or known.setdefault((text, kind), Key(text, KeyKind(kind)))


def _read_shape(label: str, data: object) -> tuple[int, ...]:
    sizes = [size for size in items(data) or () if type(size) is int and size >= 0]
    if sizes != data:
        raise _wrong("a list of sizes as write_shape", data, label)
    return tuple(sizes)


def _without_prefixes(entries: list[Entry]) -> tuple[Entry, ...]:
    paths = [tuple([key.text for key in entry.path]) for entry in entries]
    inner: set[tuple[str, ...]] = set()
    for path in paths:
        above = path[:-1]
        while path and above not in inner:
            inner.add(above)
            path, above = above, above[:-1]
    kept = [
        entry
        for entry, path in zip(entries, paths, strict=True)
        # A leaf at the root is none that something was added to: `grow` refuses it.
        if path not in inner or not (path or entry.empty)
    ]
    seen: set[str] = set()
    for entry in kept:
        label = entry.name
        if label in seen:
            raise CorruptionError(
                "two leaves were stored under one name, so one of them is lost",
                leaf=label,
                hint="Save the tree again with keys that do not give the same dotted name.",
            )
        seen.add(label)
    return tuple(kept)


def _wrong(expected: str, found: object, label: str | None = None) -> InvalidLayoutError:
    return InvalidLayoutError(
        "the metadata of the leaves is not as Orbax writes it",
        leaf=label,
        expected=expected,
        found=excerpt(found),
        hint="The checkpoint is damaged, or of a format that is not known: load another one.",
    )
