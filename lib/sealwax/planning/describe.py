"""The files that describe a checkpoint, derived once its data is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sealwax.arrays.forms import Form
from sealwax.arrays.leafkinds import LeafKind
from sealwax.effects import Stored
from sealwax.layouts import manifest, ocdbt, orbax
from sealwax.options import ArrayOptions
from sealwax.planning.inventory import Inventory
from sealwax.planning.store import Store, codec, zarr_format
from sealwax.trees.records import Entry, empty_entry, to_records
from sealwax.trees.rich import name_empty_namedtuples, value_tree
from sealwax.trees.structure import EmptyKind
from sealwax.trees.structure_json import to_json
from sealwax.version import __version__

INLINE_BYTES = 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Derives the files of one item.

    Attributes:
      inventory: What the item holds.
      batches: How many data files it has.
      token: Random digits, from which the database takes its identity.
      now: When the save began, in nanoseconds since the epoch.
      saving: In which form arrays lie there, and which of Orbax's optional files to write.
      rich: Whether tuples and named tuples are recorded as such in Orbax's metadata too.
      manifest: The name of the manifest.
      database: Where the database is; empty, or a path that ends in a slash.
    """

    inventory: Inventory
    batches: int
    token: str
    now: int
    saving: ArrayOptions.Saving
    rich: bool = False
    manifest: str = manifest.NAME
    database: str = ""

    def directories(self) -> tuple[str, ...]:
        """The directories that the files of the item need."""
        arrays = self.inventory.arrays
        needed = [self.database + orbax.DATA] if arrays and self.saving.use_ocdbt else []
        needed += [self.database[:-1]] if needed and self.database else []
        if self.saving.array_metadata_store and any(f.value_type == "jax.Array" for f in arrays):
            needed.append(orbax.ARRAY_METADATAS)
        return tuple(sorted(needed))

    def item_files(self, store: Store) -> dict[str, bytes]:
        """The content of every file of the item but those of the arrays, by name."""
        files = self._described()
        if self.inventory.arrays and self.saving.use_ocdbt:
            files |= self._database(store)
        separate = {} if self.saving.use_ocdbt else store.metadata()
        files[self.manifest] = self._manifest(store, files | separate)
        return files

    def _described(self) -> dict[str, bytes]:
        """The files that do not depend on where the data went."""
        stock = self.inventory
        entries: list[Entry] = []
        arrays: list[orbax.ArrayFacts] = []
        shardings: list[tuple[str, str]] = []
        notes = self.saving.array_metadata_store
        for number, (leaf, array) in enumerate(zip(stock.flat.leaves, stock.array_of, strict=True)):
            if array < 0:
                entries.append(_entry(number, stock))
                continue
            form, path = stock.arrays[array], leaf.path
            if form.value_type != "jax.Array":
                hidden = form.value_type == "None"
                entries.append(Entry(path, form.value_type, skip_deserialize=hidden))
                continue
            shape = form.written
            entries.append(Entry(path, "jax.Array", False, shape if notes else None))
            arrays.append(orbax.ArrayFacts(leaf.name, shape, form.chunk_shape, form.key_impl))
            if form.sharding is not None:
                shardings.append((leaf.name, form.sharding))
        files = {orbax.TREE_METADATA: self._tree_metadata(entries)}
        if arrays and self.saving.enable_write_sharding_file:
            files[orbax.SHARDING] = orbax.shardings(shardings)
        if arrays and self.saving.array_metadata_store:
            files[orbax.PROCESS_METADATA] = orbax.array_metadatas(arrays)
        if stock.strings:
            files[orbax.STRINGS] = msgspec.json.encode(stock.strings, order="sorted")
        return files

    def _tree_metadata(self, entries: Sequence[Entry]) -> bytes:
        saving, structure = self.saving, self.inventory.flat.structure
        if self.rich:
            entries = name_empty_namedtuples(structure, entries)
        return orbax.tree_metadata(
            to_records(entries),
            database=saving.use_ocdbt,
            zarr3=saving.use_zarr3,
            rich=value_tree(structure, entries) if self.rich else None,
        )

    def _database(self, store: Store) -> dict[str, bytes]:
        nodes = orbax.data_file(self.batches)
        made = ocdbt.encode(
            store.entries,
            nodes_file=nodes,
            uuid=bytes.fromhex(self.token),
            commit_time_ns=self.now,
            max_inline_value_bytes=INLINE_BYTES,
        )
        return {
            self.database + nodes: made.nodes,
            self.database + orbax.DATABASE: made.manifest,
        }

    def _manifest(self, store: Store, files: Mapping[str, bytes]) -> bytes:
        stock = self.inventory
        data_files = self._data_files(store)
        numbers = {file: number for number, file in enumerate(data_files)}
        forms: dict[tuple[int, bool], int] = {}
        made: list[manifest.Form] = []
        rows: list[manifest.Row] = []
        for number, (leaf, kind, array) in enumerate(
            zip(stock.flat.leaves, stock.kinds, stock.array_of, strict=True)
        ):
            if array < 0:
                data = stock.inline.get(number)
                if isinstance(leaf.value, EmptyKind):
                    data = leaf.value.value
                rows.append(manifest.Row(leaf.name, kind.value, data=data))
                continue
            form, squeezed = stock.arrays[array], array in store.compressed
            place = forms.setdefault((id(form), squeezed), len(made))
            if place == len(made):
                made.append(self._form_row(form, squeezed))
            chunks: list[int] = []
            stored = store.stored[array]
            for chunk in stored if len(stored) == 1 else sorted(stored, key=_by_place):
                chunks += (numbers[chunk.file], chunk.offset, chunk.length, chunk.crc32c)
            rows.append(manifest.Row(leaf.name, kind.value, place, chunks))
        item = manifest.Item(
            structure=to_json(stock.flat.structure),
            forms=made,
            rows=rows,
            files=[self.database + file for file in data_files]
            if self.saving.use_ocdbt
            else data_files,
            digests={name: manifest.digest(data) for name, data in files.items()},
            zarr=zarr_format(self.saving).value,
            composites=list(stock.composites) or msgspec.UNSET,
        )
        return manifest.encode(item)

    def _form_row(self, form: Form, squeezed: bool) -> manifest.Form:
        noted = form.value_type == "jax.Array" and self.saving.array_metadata_store
        return manifest.Form(
            value_type=form.value_type,
            dtype=form.storage.logical,
            shape=form.shape,
            chunk_shape=form.chunk_shape,
            codec=codec(squeezed).value,
            key_impl=form.key_impl,
            sharding=form.sharding,
            write_shape=form.written if noted else None,
        )

    def _data_files(self, store: Store) -> list[str]:
        if self.saving.use_ocdbt:
            return [orbax.data_file(number) for number in range(self.batches)]
        return [chunk.file for chunks in store.stored for chunk in chunks]


def _by_place(chunk: Stored) -> tuple[int, ...]:
    return chunk.place


def _entry(number: int, stock: Inventory) -> Entry:
    """The entry of a leaf that is not an array; Orbax takes what it cannot hold for ``None``."""
    leaf = stock.flat.leaves[number]
    if isinstance(leaf.value, EmptyKind):
        return empty_entry(leaf.path, leaf.value)
    if stock.kinds[number] is LeafKind.STRING and isinstance(stock.inline[number], str):
        return Entry(leaf.path, "string")
    return empty_entry(leaf.path, EmptyKind.NONE)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Derives the files of the checkpoint itself, which are written last.

    Attributes:
      path: Where the checkpoint will be.
      handlers: For each item, the name by which its handler is found again.
      init_timestamp_nsecs: When the save began, in nanoseconds since the epoch.
      custom_metadata: The caller's metadata.
      settings: The plain-data part of the settings.
      manifest: The name of the manifest.
      parts: The names of the parts of which it was put together.
    """

    path: str
    handlers: Mapping[str, str]
    init_timestamp_nsecs: int
    custom_metadata: dict[str, Any]
    settings: dict[str, Any]
    manifest: str = manifest.NAME
    parts: tuple[str, ...] = ()

    def files(self, now: int, *known: Mapping[str, manifest.Digest]) -> dict[str, bytes]:
        """The content of every file beside the items' directories, by name.

        Args:
          now: When they are written, in nanoseconds since the epoch.
          *known: For each item, size and checksum of files in it.
        """
        facts = orbax.Facts(self.init_timestamp_nsecs, now, self.custom_metadata)
        files = {
            orbax.INDICATOR: b"",
            orbax.CHECKPOINT_METADATA: orbax.checkpoint_metadata(self.handlers, facts),
            orbax.COMMIT: orbax.commit(self.path),
        }
        digests = {name: manifest.digest(data) for name, data in files.items()}
        for item, inside in zip(self.handlers, known, strict=True):
            digests |= {f"{item}/{name}": digest for name, digest in inside.items()}
        root = manifest.Checkpoint(
            writer=f"sealwax {__version__}",
            settings=self.settings,
            digests=digests,
            parts=list(self.parts) or msgspec.UNSET,
        )
        return files | {self.manifest: manifest.encode(root)}
