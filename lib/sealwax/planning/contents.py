"""What a checkpoint holds, as values: the same for one of ours and for one of Orbax's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
from msgspec import Struct
from returns.result import Failure, Result, Success

from sealwax.arrays import dtypes
from sealwax.arrays.leafforms import empty_array
from sealwax.arrays.leafkinds import LeafKind
from sealwax.arrays.zarr import Codec, Tail, ZarrFormat, parse_zarr2, parse_zarr3
from sealwax.errors import CorruptionError, InternalError, SealwaxError
from sealwax.layouts import manifest, orbax
from sealwax.leaf_handlers import LeafHandler
from sealwax.planning import names
from sealwax.planning.soundness import check_chunks, count_chunks, wrong_keys
from sealwax.trees.build import build
from sealwax.trees.keys import Path
from sealwax.trees.keys import name as name_of
from sealwax.trees.paths import paths
from sealwax.trees.records import Entry
from sealwax.trees.structure import EmptyKind, PyTree, Structure, rebuild
from sealwax.trees.structure_json import from_json


class Native(Struct, frozen=True, gc=False):
    """Chunks that lie in data files as sealwax wrote them.

    ``chunks`` has a file number, offset, length and checksum for each chunk, in C order.
    """

    chunks: Sequence[int]
    codec: Codec


class Foreign(Struct, frozen=True, gc=False):
    """An array that only TensorStore's driver of this name is sure to read; its place there.

    Attributes:
      driver: Name of the driver.
      key: Where the array lies in the store.
      checksummed: Whether its chunks carry a checksum.
      codec: How a chunk is encoded, if it can be decoded as it is read.
      indexed: Whether the index of a shard follows each chunk then.
    """

    driver: str
    key: str
    checksummed: bool = False
    codec: Codec | None = None
    indexed: bool = False

    @property
    def format(self) -> ZarrFormat:
        """The version of Zarr."""
        return ZarrFormat.V3 if self.driver == "zarr3" else ZarrFormat.V2


class StoredArray(Struct, frozen=True, gc=False):
    """An array in a checkpoint: its shape, dtype and chunks, and where they lie."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_shape: tuple[int, ...]
    place: Native | Foreign
    key_impl: str | None = None
    sharding: str | None = None
    write_shape: tuple[int, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return math.prod(self.shape) * self.dtype.itemsize


class StoredLeaf(Struct, frozen=True):
    """A leaf in a checkpoint: an array, or a value that the metadata holds itself.

    Attributes:
      entry: What is recorded of it.
      kind: What it was when it was saved.
      array: The array, if it is one.
      data: The value, or the record of it, if it is none.
      damage: Why it cannot be loaded. The others can all the same.
      parts: What it is put together from, where a leaf handler took it apart.
    """

    entry: Entry
    kind: LeafKind
    array: StoredArray | None = None
    data: Any = None
    damage: SealwaxError | None = None
    parts: Parts | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a leaf is put together from.

    Attributes:
      type_name: What its handler calls its type.
      handler: The handler; ``None`` where none is registered.
      data: The plain data beside the leaves.
      structure: The small tree.
      leaves: The leaves of that.
    """

    type_name: str
    handler: LeafHandler | None
    data: Any
    structure: Structure
    leaves: tuple[StoredLeaf, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What one item of a checkpoint holds.

    Attributes:
      directory: The item's directory.
      leaves: Its leaves, empty containers among them.
      structure: The recorded structure; ``None`` when only Orbax's entries are there.
      files: Data files that native chunks refer to by number, below the directory.
      database: Whether foreign arrays lie in one OCDBT database.
      trailer: Bytes of the checksum that follows each native chunk.
      rich: Whether trees have named tuples where there were some, and no dicts in their place.
      composites: Which leaves are parts of others, and have not been put together again.
    """

    directory: str
    leaves: tuple[StoredLeaf, ...]
    structure: Structure | None
    files: tuple[str, ...] = ()
    database: bool = True
    trailer: int = ZarrFormat.V3.trailer
    rich: bool = False
    composites: tuple[manifest.Composite, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is known of each leaf beside its data."""
        return tuple(leaf.entry for leaf in self.leaves)

    def tree(self, values: Sequence[object]) -> Result[PyTree, SealwaxError]:
        """A tree with one value for each leaf, built without a template."""
        if self.structure is not None:
            return rebuild(self.structure, values, namedtuples=self.rich).alt(_widen)
        return build(self.entries, values).alt(_widen)


def _widen(error: SealwaxError) -> SealwaxError:
    return error


def from_manifest(item: manifest.Item, directory: str) -> Result[Contents, SealwaxError]:
    """Reads the manifest of one of our items."""
    where = f"{directory}/{manifest.NAME}"
    match from_json(item.structure):
        case Success(structure):
            return _from_rows(item, directory, structure)
        case Failure(error):
            return Failure(error.located(path=where))
        case _:
            raise InternalError("A result is neither a success nor a failure")


def _from_rows(
    item: manifest.Item, directory: str, structure: Structure
) -> Result[Contents, SealwaxError]:
    outside = next((file for file in item.files if names.leads_outside(file)), None)
    if outside is not None:
        return Failure(
            CorruptionError(
                "The manifest names a data file outside the checkpoint", found=repr(outside)
            )
        )
    try:
        trailer = ZarrFormat(item.zarr).trailer
        forms = [_stored_form(form) for form in item.forms]
        counts = [count_chunks(form) for form in item.forms]
        check_chunks(item.rows, counts, len(item.files))
        leaves = tuple(
            [
                _from_row(row, path, forms)
                for row, path in zip(item.rows, paths(structure), strict=True)
            ]
        )
    except (ValueError, IndexError, KeyError) as error:
        failure = CorruptionError(
            "The manifest does not describe its own tree",
            hint="Please report it, with the version of sealwax that wrote the checkpoint.",
        )
        failure.__cause__ = error
        return Failure(failure)
    return Success(
        Contents(
            directory=directory,
            leaves=leaves,
            structure=structure,
            files=tuple(item.files),
            trailer=trailer,
            composites=() if item.composites is msgspec.UNSET else tuple(item.composites),
        )
    )


def _stored_form(form: manifest.Form) -> StoredArray:
    return StoredArray(
        shape=form.shape,
        dtype=dtypes.from_name(form.dtype),
        chunk_shape=form.chunk_shape,
        place=Native(chunks=(), codec=Codec(form.codec)),
        key_impl=form.key_impl,
        sharding=form.sharding,
        write_shape=form.write_shape,
    )


def _from_row(row: manifest.Row, path: Path, forms: Sequence[StoredArray]) -> StoredLeaf:
    kind, number = _KIND_OF[row.kind], row.form
    if kind is LeafKind.EMPTY_ARRAY:
        return _without_elements(row, path)
    if number < 0:
        empty = kind is LeafKind.EMPTY_NODE
        value_type: str = EmptyKind(row.data).value if empty else kind.value
        return StoredLeaf(entry=Entry(path, value_type, empty), kind=kind, data=row.data)
    form = forms[number]
    place, impl = form.place, form.key_impl
    native = Native(row.chunks, place.codec if isinstance(place, Native) else Codec.RAW)
    array = StoredArray(
        form.shape, form.dtype, form.chunk_shape, native, impl, form.sharding, form.write_shape
    )
    entry = Entry(path, row.kind, False, form.write_shape)
    damage = None if impl is None else wrong_keys(impl, form.shape, form.dtype)
    return StoredLeaf(entry, kind, array, None, damage)


def _without_elements(row: manifest.Row, path: Path) -> StoredLeaf:
    """An array like any other, but of no chunks, so that nothing is read for it."""
    known = empty_array(row.data)
    array = StoredArray(
        shape=known.shape,
        dtype=known.dtype,
        chunk_shape=tuple(max(1, extent) for extent in known.shape),
        place=Native(chunks=(), codec=Codec.RAW),
        key_impl=known.key_impl,
    )
    return StoredLeaf(entry=Entry(path, row.kind), kind=known.kind, array=array)


_KIND_OF = {kind.value: kind for kind in LeafKind}
_KINDS: dict[str, LeafKind] = {
    "jax.Array": LeafKind.JAX_ARRAY,
    "np.ndarray": LeafKind.NUMPY_ARRAY,
    "string": LeafKind.STRING,
}
ZarrMetadata: TypeAlias = Mapping[str, bytes | None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OrbaxFiles:
    """The metadata of an item as Orbax wrote it, parsed."""

    directory: str
    entries: tuple[Entry, ...]
    zarr3: bool
    database: bool
    arrays: ZarrMetadata
    strings: Mapping[str, Any]
    shardings: Mapping[str, str]
    key_impls: Mapping[str, str]
    structure: Structure | None = None


def array_entries(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The entries whose leaves are arrays in the store."""
    return tuple(e for e in entries if e.empty is None and e.value_type != "string")


def from_orbax(files: OrbaxFiles) -> Result[Contents, SealwaxError]:
    """Joins the metadata that Orbax spreads over several files."""
    leaves: list[StoredLeaf] = []
    structure, entries = files.structure, files.entries
    if structure is not None:
        by_name = {entry.name: entry for entry in entries}
        ordered = [by_name.pop(name_of(path), None) for path in paths(structure)]
        fits = not by_name and None not in ordered
        entries = tuple([e for e in ordered if e is not None]) if fits else entries
        structure = structure if fits else None
    for entry in entries:
        leaf = _from_entry(entry, files)
        if isinstance(leaf, SealwaxError):
            damage = leaf.located(leaf=entry.name, path=files.directory)
            leaf = StoredLeaf(entry=entry, kind=LeafKind.NUMPY_ARRAY, damage=damage)
        leaves.append(leaf)
    return Success(
        Contents(
            directory=files.directory,
            leaves=tuple(leaves),
            structure=structure,
            database=files.database,
        )
    )


def _from_entry(entry: Entry, files: OrbaxFiles) -> StoredLeaf | SealwaxError:
    if entry.empty is not None:
        return StoredLeaf(entry=entry, kind=LeafKind.EMPTY_NODE, data=entry.empty.value)
    name = entry.name
    if entry.value_type == "string":
        text = orbax.find_string(files.strings, name)
        if text is None:
            return CorruptionError(
                f"The string of this leaf is missing from {orbax.STRINGS}",
                hint="The checkpoint is not complete: load an earlier one, or skip the leaf with "
                "... in a template.",
            )
        return StoredLeaf(entry=entry, kind=LeafKind.STRING, data=text)
    data = files.arrays.get(name)
    if data is None:
        return CorruptionError(
            "The array of this leaf is missing from the store",
            hint="The checkpoint is not complete: load an earlier one, or restore it from a copy.",
        )
    try:
        zarr = parse_zarr3(data) if files.zarr3 else parse_zarr2(data)
    except SealwaxError as error:
        return error
    impl = files.key_impls.get(name)
    # The order of bytes in the store is the driver's concern: what it gives has that of the host.
    dtype = zarr.dtype if zarr.dtype.isnative else zarr.dtype.newbyteorder("=")
    problem = wrong_keys(impl, zarr.shape, dtype)
    if problem is not None:
        return problem
    known = (
        zarr.tail is not Tail.CHECKSUM
        and dtypes.storage_dtype(dtype).whole
        and len(zarr.chunk_shape) == len(zarr.shape)
        and min(zarr.chunk_shape, default=1) > 0
    )
    array = StoredArray(
        shape=zarr.shape,
        dtype=dtype,
        chunk_shape=zarr.chunk_shape,
        place=Foreign(
            driver="zarr3" if zarr.format is ZarrFormat.V3 else "zarr",
            key=name,
            checksummed=zarr.checksummed,
            codec=zarr.codec if known else None,
            indexed=zarr.tail is Tail.INDEX,
        ),
        key_impl=impl,
        sharding=files.shardings.get(name),
    )
    return StoredLeaf(entry=entry, kind=_kind(entry, array), array=array)


def _kind(entry: Entry, array: StoredArray) -> LeafKind:
    if array.key_impl is not None:
        return LeafKind.JAX_KEY
    if entry.value_type in _KINDS:
        return _KINDS[entry.value_type]
    if array.shape:
        return LeafKind.NUMPY_ARRAY
    scalars = {"b": LeafKind.BOOL, "i": LeafKind.INT, "u": LeafKind.INT, "c": LeafKind.COMPLEX}
    return scalars.get(array.dtype.kind, LeafKind.FLOAT)


def empty_value(leaf: StoredLeaf) -> object:
    """The empty container that a leaf stands for."""
    return EmptyKind(leaf.data).make()
