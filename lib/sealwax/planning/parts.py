"""The parts of a checkpoint that is saved in parts, and whether they fit together.

A *session* is a directory beside the checkpoint, with a directory in it for each part. Each of
those is a checkpoint of its own but for two things: the database lies where Orbax has that of one
process, and the manifests have the part's own digits in their names, so that nothing of two parts
has one name and either library can put them together.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from returns.result import Failure, Result, Success, safe

from sealwax.arrays.leafkinds import LeafKind
from sealwax.errors import (
    CorruptionError,
    NameCollisionError,
    OptionValueError,
    SealwaxError,
    UnsupportedLeafError,
)
from sealwax.layouts import manifest, orbax
from sealwax.planning import names
from sealwax.planning.inventory import Inventory
from sealwax.planning.pipeline import raised
from sealwax.trees.build import Grown, grow
from sealwax.trees.joining import Node, filled, joined
from sealwax.trees.keys import KeyKind
from sealwax.trees.records import Entry, from_entries
from sealwax.trees.structure import (
    LEAF,
    Branch,
    DictOf,
    EmptyKind,
    Plain,
    Structure,
)
from sealwax.trees.structure_json import from_json

SUFFIX = orbax.SESSION
PENDING = orbax.PENDING
_PENDING_NAME = re.compile(r".*\.pending_(\d+)_([0-9a-f]{32})")
STATE = orbax.DEFAULT_ITEM
DESCRIPTIONS = (
    f"*{PENDING}*/{STATE}/{orbax.TREE_METADATA}",
    f"*{PENDING}*/{STATE}/{manifest.NAME}_*",
)
"""The files of a session from which it can be told whether another part fits."""


def session_of(path: str) -> str:
    """The session that belongs to a path; a session's own path is one, too.

    >>> session_of("/runs/1"), session_of("/runs/1.partial_save")
    ('/runs/1.partial_save', '/runs/1.partial_save')
    """
    return f"{target_of(path)}{SUFFIX}"


def target_of(path: str) -> str:
    """The path of the checkpoint that a session is for."""
    return path.removesuffix(SUFFIX) if names.base(path) != SUFFIX else path


def pending(session: str, token: str, now: int, others: Iterable[str]) -> str:
    """The path of a new part, which comes after the others when they are sorted."""
    latest = max([order(name)[0] for name in others], default=0)
    return f"{session}/{names.base(session)}{PENDING}_{max(now, latest + 1)}_{token}"


def order(name: str) -> tuple[int, str]:
    """By what parts are sorted: when they were made, and the rest of the name."""
    found = _PENDING_NAME.fullmatch(name)
    return (int(found[1]) if found else 0), name


def digits(name: str) -> str:
    """The digits that no other part has in its name."""
    return name.rpartition("_")[2]


class Stamp(NamedTuple):
    """Random digits, and when it happens, in nanoseconds since the epoch."""

    token: str
    now: int


class Format(NamedTuple):
    """In which form the arrays of a part lie."""

    zarr3: bool
    database: bool

    def __str__(self) -> str:
        return f"use_zarr3={self.zarr3} and use_ocdbt={self.database}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a part holds.

    Attributes:
      name: That of its directory; empty for one that is yet to be saved.
      entries: What Orbax records of each leaf.
      structure: The containers; ``None`` where only Orbax's entries are there.
      composites: The leaves that were taken apart.
      format: In which form arrays lie; ``None`` if it has none.
      hidden: The first leaf that only our manifest can hold.
    """

    name: str
    entries: tuple[Entry, ...]
    structure: Structure | None
    composites: tuple[manifest.Composite, ...] = ()
    format: Format | None
    hidden: str | None = None


Place = tuple[int, int]
"""The number of a part, and that of a leaf in it."""


def new_part(stock: Inventory, format: Format) -> Part:
    """The part that an inventory will make."""
    leaves = stock.flat.leaves
    hidden: str | None = stock.composites[0].type_name if stock.composites else None
    for leaf, kind, array in zip(leaves, stock.kinds, stock.array_of, strict=True):
        held = kind in (LeafKind.EMPTY_NODE, LeafKind.STRING)
        held = stock.arrays[array].value_type != "None" if array >= 0 else held
        if hidden is None and not held:
            hidden = leaf.name
    return Part(
        name="",
        entries=tuple(
            [
                Entry(leaf.path, v.value if isinstance(v := leaf.value, EmptyKind) else "leaf")
                for leaf in leaves
            ]
        ),
        structure=stock.flat.structure,
        composites=stock.composites,
        format=format if stock.arrays else None,
        hidden=hidden,
    )


def read_parts(
    files: Mapping[str, bytes], session: str, known: Sequence[Part] = ()
) -> Result[tuple[Part, ...], SealwaxError]:
    """The parts of a session, from the files that describe them.

    Args:
      files: Their contents, by name relative to the session.
      session: Its path, for errors.
      known: Parts that were read before, and never change.
    """
    before = {part.name: part for part in known}
    found = sorted({name.partition("/")[0] for name in files}, key=order)
    try:
        parts = [before.get(name) or raised(read_part(name, files, session)) for name in found]
    except SealwaxError as error:
        return Failure(error)
    return Success(tuple(parts))


@safe(exceptions=(SealwaxError,))
def read_part(name: str, files: Mapping[str, bytes], session: str) -> Part:
    """One part of a session."""
    where = f"{session}/{name}/{STATE}/{orbax.TREE_METADATA}"
    record = orbax.parse(files.get(f"{name}/{STATE}/{orbax.TREE_METADATA}", b""), where)
    entries = raised(from_entries(record.get("tree_metadata")).alt(lambda e: e.located(path=where)))
    arrays = any(entry.empty is None and entry.value_type != "string" for entry in entries)
    format = Format(bool(record.get("use_zarr3")), record.get("use_ocdbt") is not False)
    item = item_manifest(name, files, session)
    if item is None:
        return Part(name=name, entries=entries, structure=None, format=format if arrays else None)
    hidden = [
        row.name
        for row, entry in zip(item.rows, entries, strict=False)
        if entry.value_type == "None" and row.kind != LeafKind.EMPTY_NODE.value
    ]
    if len(item.rows) != len(entries):
        raise CorruptionError(
            "The manifest of a part does not fit its metadata", path=where, hint=orbax.DAMAGED
        )
    composites = () if item.composites is msgspec.UNSET else tuple(item.composites)
    return Part(
        name=name,
        entries=entries,
        structure=raised(from_json(item.structure).alt(lambda e: e.located(path=where))),
        composites=composites,
        format=format if any(row.form >= 0 for row in item.rows) else None,
        hidden=composites[0].type_name if composites else hidden[0] if hidden else None,
    )


def manifest_of(name: str) -> str:
    """What the manifests of a part are called."""
    return f"{manifest.NAME}_{digits(name)}"


def item_manifest(name: str, files: Mapping[str, bytes], session: str) -> manifest.Item | None:
    """The manifest of what a part holds; ``None`` for one that Orbax saved.

    Raises:
      CorruptionError: It is damaged.
    """
    above = f"{name}/{STATE}/{manifest.NAME}_"
    found = next((each for each in files if each.startswith(above)), None)
    if found is None:
        return None
    return manifest.decode(files[found], manifest.Item, f"{session}/{found}")


def check_parts(parts: Sequence[Part]) -> Result[tuple[Structure, tuple[Place, ...]], SealwaxError]:
    """Puts parts together.

    Returns:
      The containers, and where each leaf of them is. An error where two parts have something in
      one place, or cannot be in one checkpoint.
    """
    rich = all(part.structure is not None for part in parts)
    hidden = None if rich else next((part.hidden for part in parts if part.hidden), None)
    if hidden is not None:
        return Failure(
            UnsupportedLeafError(
                "Another part was saved by Orbax, and a leaf of this one is of a kind that its "
                "checkpoints cannot hold",
                leaf=hidden,
                hint="Save it in a checkpoint of its own, or all parts with sealwax.",
            )
        )
    formats = [part.format for part in parts if part.format is not None]
    other = next((format for format in formats if format != formats[0]), None)
    if other is not None:
        return Failure(
            OptionValueError(
                "The arrays of all parts of a checkpoint must be stored in one form",
                expected=f"array.saving with {formats[0]}, as in an earlier part",
                found=str(other),
                hint="Save every part with the same settings.",
            )
        )
    try:
        nodes = [_node(number, part, rich) for number, part in enumerate(parts)]
    except CorruptionError as error:
        return Failure(error)
    whole = joined(nodes)
    if isinstance(whole, Failure):
        return Failure(whole.failure())
    return _distinct(parts, *whole.unwrap())


def _distinct(
    parts: Sequence[Part], structure: Structure, places: tuple[Place, ...]
) -> Result[tuple[Structure, tuple[Place, ...]], SealwaxError]:
    seen: set[str] = set()
    for part, leaf in places:
        name = parts[part].entries[leaf].name
        if name.removesuffix("/") in seen:
            return Failure(
                NameCollisionError(
                    "Leaves of two parts would be stored under one name",
                    leaf=name,
                    hint="Rename one of the keys: names on disk are the keys joined by dots.",
                )
            )
        seen.add(name.removesuffix("/"))
    return Success((structure, places))


def _node(number: int, part: Part, rich: bool) -> Node[Place]:
    places = [(number, leaf) for leaf in range(len(part.entries))]
    if rich and part.structure is not None:
        whole = [(each.first, each.depth) for each in part.composites]
        return filled(part.structure, places, whole)
    grown: Grown = raised(grow(part.entries))
    positions: list[int] = []
    structure = _plain(grown, part.entries, positions)
    return filled(structure, [places[position] for position in positions], ())


def _plain(grown: Grown, entries: Sequence[Entry], positions: list[int]) -> Structure:
    """The containers as far as Orbax's entries tell them, and the entries in their order."""
    if isinstance(grown, int):
        positions.append(grown)
        match entries[grown].empty:
            case None:
                return LEAF
            case EmptyKind.NONE:
                return Branch(Plain.NONE, ())
            case EmptyKind.DICT:
                return Branch(DictOf(keys=()), ())
            case EmptyKind.LIST | EmptyKind.TUPLE:
                return Branch(Plain.LIST, ())
    children = tuple([_plain(child, entries, positions) for child in grown.children.values()])
    if grown.kind is KeyKind.SEQUENCE:
        return Branch(Plain.LIST, children)
    return Branch(DictOf(keys=tuple(grown.children)), children)
