"""Putting the parts of a checkpoint together: what describes the whole, and where its data is."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
from returns.result import Failure, Result, Success

from sealwax.arrays.leafkinds import LeafKind
from sealwax.effects import Entry, Present
from sealwax.errors import CorruptionError, NameCollisionError, SealwaxError
from sealwax.layouts import manifest, orbax, strangers
from sealwax.planning.combined_store import Forms, database_of, zarr_of
from sealwax.planning.parts import (
    STATE,
    Part,
    Place,
    Stamp,
    check_parts,
    digits,
    item_manifest,
)
from sealwax.trees.records import from_entries
from sealwax.trees.rich import value_tree
from sealwax.trees.structure import Structure
from sealwax.trees.structure_json import to_json

Links = tuple[tuple[str, str], ...]
"""Pairs: a file of the session, and what it becomes in the item."""

_Both = tuple[dict[str, Any], dict[str, Any]]
_DESCRIBED = frozenset({orbax.TREE_METADATA, orbax.SHARDING, orbax.STRINGS, orbax.PROCESS_METADATA})
_PROCESS_DATABASE = orbax.OWN_DATABASE.rpartition("_")[0] + "_"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Combined:
    """A checkpoint made of parts.

    Attributes:
      files: The files that describe the item, by name.
      links: Its data files.
      databases: Directories among these whose databases are yet to be merged.
      digests: Size and checksum of those files by which all others can be checked.
      custom_metadata: The metadata of all parts; a later one wins.
      settings: The settings that wrote them; a later one wins.
      begun: When the first part was begun, in nanoseconds since the epoch.
    """

    files: Mapping[str, bytes]
    links: Links
    databases: tuple[str, ...] = ()
    digests: Mapping[str, manifest.Digest]
    custom_metadata: dict[str, Any]
    settings: dict[str, Any]
    begun: int | None


def combine(
    parts: Sequence[Part],
    session: str,
    files: Mapping[str, bytes],
    present: Mapping[str, Present],
    stamp: Stamp,
) -> Result[Combined, SealwaxError]:
    """Puts parts together.

    Args:
      parts: The parts, in the order in which they were saved.
      session: The path of the session.
      files: The files that describe them, by name relative to it.
      present: Everything in the session.
      stamp: What makes the result differ from any other.

    Returns:
      The whole; an error where parts do not fit together, or one is damaged.
    """
    whole = check_parts(parts)
    if isinstance(whole, Failure):
        return Failure(whole.failure().located(path=session))
    structure, places = whole.unwrap()
    try:
        make = _Whole(parts, session, files, present, places)
        if all(part.structure is not None for part in parts):
            made = make.ours(structure, stamp)
        else:
            made = make.theirs()
    except SealwaxError as error:
        return Failure(error.located(path=session))
    return Success(made)


class _Whole:
    """What the parts hold, parsed."""

    def __init__(
        self,
        parts: Sequence[Part],
        session: str,
        files: Mapping[str, bytes],
        present: Mapping[str, Present],
        places: Sequence[Place],
    ) -> None:
        self._parts = parts
        self._session = session
        self._files = files
        self._present = present
        self._places = places
        self._trees = [self._json(part, orbax.TREE_METADATA) for part in parts]
        self._records = [list(tree["tree_metadata"].items()) for tree in self._trees]
        self._strings: dict[str, Any] = {}

    def ours(self, structure: Structure, stamp: Stamp) -> Combined:
        """The whole of parts that all have our manifests."""
        read = [item_manifest(part.name, self._files, self._session) for part in self._parts]
        items = [item for item in read if item is not None]
        forms = Forms(items)
        starts = list(itertools.accumulate((len(item.files) for item in items), initial=0))
        format = next((part.format for part in self._parts if part.format), None)
        database = format is None or format.database
        links = list(self._data_links(items, database))
        rows = [
            self._row(items[part], forms.of[part], starts[part], part, leaf)
            for part, leaf in self._places
        ]
        targets = [new for _, new in links]
        described = self._described(structure)
        if database and any(row.form >= 0 for row in rows):
            described |= database_of(rows, forms.all, targets, zarr_of(items), stamp)
        if not database:
            links += self._metadata_links(items)
        whole = manifest.Item(
            structure=to_json(structure),
            forms=forms.all,
            rows=rows,
            files=targets[: starts[-1]],
            digests=self._kept_digests(items, database)
            | {name: manifest.digest(data) for name, data in described.items()},
            zarr=zarr_of(items).value,
            composites=self._composites(items) or msgspec.UNSET,
        )
        described[manifest.NAME] = manifest.encode(whole)
        own = {manifest.NAME: manifest.digest(described[manifest.NAME])}
        return self._combined(described, links, own)

    def theirs(self) -> Combined:
        """The whole where a part has no manifest of ours: what Orbax would make of it."""
        links: list[tuple[str, str]] = []
        databases: dict[str, None] = {}
        for part in self._parts:
            above = f"{part.name}/{STATE}/"
            for name in self._present:
                below = name.removeprefix(above)
                if below == name or self._present[name].entry is not Entry.FILE:
                    continue
                first, _, rest = below.partition("/")
                if first.startswith(_PROCESS_DATABASE):
                    own = f"{first}{digits(part.name)}"
                    databases[own] = None
                    links.append((name, f"{own}/{rest}"))
                elif not (
                    below in _DESCRIBED
                    or first.startswith((orbax.ARRAY_METADATAS, manifest.NAME))
                    or strangers.litter(below.rpartition("/")[2])
                ):
                    links.append((name, below))
        self._take_strings()
        described = self._described(None)
        digests = {name: manifest.digest(data) for name, data in described.items()}
        return self._combined(described, links, digests, tuple(databases))

    def _combined(
        self,
        described: Mapping[str, bytes],
        links: list[tuple[str, str]],
        own: Mapping[str, manifest.Digest],
        databases: tuple[str, ...] = (),
    ) -> Combined:
        seen: set[str] = set()
        for _, new in links:
            if new in seen or new in described:
                raise NameCollisionError(
                    "Two parts have a file of one name", found=new, hint="Rename one of the keys."
                )
            seen.add(new)
        custom: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        begun: list[int] = []
        for part in self._parts:
            name = f"{part.name}/{orbax.CHECKPOINT_METADATA}"
            facts = orbax.read_checkpoint_metadata(self._files.get(name), f"{self._session}/{name}")
            custom = _merged(custom, facts.custom_metadata)
            begun += [] if facts.init_timestamp_nsecs is None else [facts.init_timestamp_nsecs]
            root = f"{part.name}/{manifest.NAME}_{digits(part.name)}"
            if root in self._files:
                sealed = manifest.decode(self._files[root], manifest.Checkpoint, root)
                settings = _merged(settings, sealed.settings)
        return Combined(
            files=described,
            links=tuple(links),
            databases=databases,
            digests=own,
            custom_metadata=custom,
            settings=settings,
            begun=min(begun, default=None),
        )

    def _json(self, part: Part, name: str) -> dict[str, Any]:
        key = f"{part.name}/{STATE}/{name}"
        return orbax.parse(self._files[key], f"{self._session}/{key}") if key in self._files else {}

    def _described(self, structure: Structure | None) -> dict[str, bytes]:
        """Orbax's files; the strings have been placed."""
        records = dict([self._records[part][leaf] for part, leaf in self._places])
        rich = None
        if structure is not None and all(tree.get("value_metadata_tree") for tree in self._trees):
            entries = from_entries(records).value_or(())
            rich = value_tree(structure, entries)
        first = next(
            (t for t, part in zip(self._trees, self._parts, strict=True) if part.format),
            self._trees[0],
        )
        files = {
            orbax.TREE_METADATA: orbax.tree_metadata(
                records,
                database=first.get("use_ocdbt") is not False,
                zarr3=bool(first.get("use_zarr3")),
                rich=rich,
            )
        }
        arrays: dict[str, list[Any]] = {}
        for part in self._parts:
            above = f"{part.name}/{STATE}/"
            for name in [n for n in self._files if n.startswith(above + orbax.ARRAY_METADATAS)]:
                below = name.removeprefix(above)
                arrays.setdefault(below, []).extend(
                    self._json(part, below).get("array_metadatas") or ()
                )
        shardings = self._shardings()
        if shardings:
            files[orbax.SHARDING] = msgspec.json.encode(shardings)
        for name, each in arrays.items():
            files[name] = msgspec.json.encode({"array_metadatas": each})
        if self._strings:
            files[orbax.STRINGS] = msgspec.json.encode(self._strings, order="sorted")
        return files

    def _shardings(self) -> dict[str, Any]:
        """What is recorded of shardings, for all arrays or for none: Orbax wants each or no file.

        A part that was saved without that file has them in our manifest.
        """
        files = [self._json(part, orbax.SHARDING) for part in self._parts]
        found = {name: text for file in files for name, text in file.items()}
        bare = [part for part, file in zip(self._parts, files, strict=True) if not file]
        for part in bare if found else ():
            item = item_manifest(part.name, self._files, self._session)
            for row in () if item is None else item.rows:
                text = item.forms[row.form].sharding if item and row.form >= 0 else None
                found |= {} if text is None else {orbax.sharding_key(row.name): text}
        entries = [self._parts[part].entries[leaf] for part, leaf in self._places]
        needed = {orbax.sharding_key(e.name) for e in entries if e.value_type == "jax.Array"}
        return found if needed.issubset(found) else {}

    def _take_strings(self) -> None:
        """Brings the strings of all parts into one document."""
        documents = [self._json(part, orbax.STRINGS) for part in self._parts]
        for part, leaf in self._places:
            entry = self._parts[part].entries[leaf]
            if entry.value_type != "string":
                continue
            text = orbax.find_string(documents[part], entry.name)
            if text is None or not orbax.place_string(self._strings, entry.name, text):
                raise CorruptionError(
                    "The string of a leaf is missing, or has no place beside those of other parts",
                    leaf=entry.name,
                )

    def _row(
        self, item: manifest.Item, forms: Sequence[int], start: int, part: int, leaf: int
    ) -> manifest.Row:
        row = item.rows[leaf]
        if row.form >= 0:
            chunks = list(row.chunks)
            chunks[::4] = [number + start for number in chunks[::4]]
            return manifest.Row(row.name, row.kind, forms[row.form], chunks, row.data)
        if row.kind != LeafKind.STRING.value or not isinstance(row.data, str):
            return row
        if orbax.place_string(self._strings, row.name, row.data):
            return row
        # Orbax has no place for it beside those of other parts; the manifest has.
        label, record = self._records[part][leaf]
        hidden = {"value_type": "None", "skip_deserialize": True}
        self._records[part][leaf] = label, record | {"value_metadata": hidden}
        return manifest.Row(row.name, row.kind, data={"hidden": row.data})

    def _data_links(
        self, items: Sequence[manifest.Item], database: bool
    ) -> Iterator[tuple[str, str]]:
        number = itertools.count()
        for part, item in zip(self._parts, items, strict=True):
            ends = [0] * len(item.files)
            for row in item.rows:
                for file, offset, length in zip(
                    row.chunks[::4], row.chunks[1::4], row.chunks[2::4], strict=True
                ):
                    ends[file] = max(ends[file], offset + length)
            for file, end in zip(item.files, ends, strict=True):
                yield (
                    self._whole_file(part, file, end),
                    orbax.data_file(next(number)) if database else file,
                )

    def _metadata_links(self, items: Sequence[manifest.Item]) -> Iterator[tuple[str, str]]:
        for part, item in zip(self._parts, items, strict=True):
            for file, digest in item.digests.items():
                if file not in _DESCRIBED:
                    yield self._whole_file(part, file, digest[0]), file

    def _whole_file(self, part: Part, file: str, nbytes: int) -> str:
        """The name in the session of a file of a part, which has so many bytes or more."""
        name = f"{part.name}/{STATE}/{file}"
        there = self._present.get(name)
        if there is None or there.nbytes < nbytes:
            raise CorruptionError(
                "A file of a part is missing or cut short",
                path=f"{self._session}/{name}",
                expected=f"{nbytes} bytes",
                found="nothing" if there is None else f"{there.nbytes} bytes",
                hint="Restore it from a copy, or save all parts again.",
            )
        return name

    def _kept_digests(
        self, items: Sequence[manifest.Item], database: bool
    ) -> dict[str, manifest.Digest]:
        """The digests of files that are taken over as they are."""
        return {
            name: digest
            for item in items
            for name, digest in item.digests.items()
            if not database and name not in _DESCRIBED
        }

    def _composites(self, items: Sequence[manifest.Item]) -> list[manifest.Composite]:
        first = {
            (part, composite.first): composite
            for part, item in enumerate(items)
            if item.composites is not msgspec.UNSET
            for composite in item.composites
        }
        return [
            msgspec.structs.replace(first[place], first=number)
            for number, place in enumerate(self._places)
            if place in first
        ]


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Two JSON objects as one: objects are merged, of anything else the later stays."""
    made = dict(old)
    for key, value in new.items():
        before: Any = made.get(key)
        both = isinstance(before, dict) and isinstance(value, dict)
        made[key] = _merged(*cast("_Both", (before, value))) if both else value
    return made
