"""Whether what was written is all there: a last look before the seal, at what readers will see."""

from __future__ import annotations

from collections.abc import Mapping

from sealwax.arrays.forms import Form
from sealwax.arrays.zarr import ZarrFormat, parse_zarr2, parse_zarr3
from sealwax.errors import InternalError
from sealwax.layouts import orbax
from sealwax.layouts.ocdbt_columns import Columns
from sealwax.layouts.ocdbt_decode import columns, decode_manifest
from sealwax.layouts.ocdbt_format import DataRef
from sealwax.options import ArrayOptions
from sealwax.planning.inventory import Inventory
from sealwax.planning.store import Store, zarr_format


def check(
    inventory: Inventory,
    saving: ArrayOptions.Saving,
    store: Store,
    files: Mapping[str, bytes],
    database: str = "",
) -> None:
    """Finds the metadata and every chunk of every array, or says which of them is not there.

    A database is decoded again, from the bytes that are written.

    Args:
      inventory: What should be there.
      saving: How it was written.
      store: What writing it came to.
      files: The content of the files that describe it.
      database: Where the database is among these.

    Raises:
      InternalError: Something is missing, or is not what it should be.
    """
    if not inventory.arrays:
        return
    _check_forms(inventory, store, zarr_format(saving))
    if not saving.use_ocdbt:
        return
    found = _decode({name.removeprefix(database): data for name, data in files.items()})
    if not found.same(store.entries):
        there = dict(found.entries())
        lost = next((k for k, value in store.entries.entries() if there.get(k) != value), None)
        raise _unsealed(
            "The database holds something else than was put into it",
            "a key too many" if lost is None else repr(lost.decode()),
        )


def _check_forms(inventory: Inventory, store: Store, format: ZarrFormat) -> None:
    names, forms, documents = inventory.names, inventory.arrays, store.documents
    for name, form, chunks in zip(names, forms, store.stored, strict=True):
        if len(chunks) != form.chunk_count:
            raise _unsealed(
                "Not every chunk of a leaf was written", f"{len(chunks)} of {form.chunk_count}"
            ).located(leaf=name)
    # Thousands of leaves share a handful of forms.
    alike = dict(zip(zip(map(id, documents), forms, strict=True), names, strict=True))
    content = {id(data): data for data in documents}
    for (data, form), name in alike.items():
        if not _describes(content[data], form, format):
            raise _unsealed("The metadata of a leaf is not its own", repr(content[data])).located(
                leaf=name
            )


def _describes(data: bytes, form: Form, format: ZarrFormat) -> bool:
    array = parse_zarr3(data) if format is ZarrFormat.V3 else parse_zarr2(data)
    return (array.shape, array.chunk_shape) == (form.shape, form.chunk_shape)


def _decode(files: Mapping[str, bytes]) -> Columns:
    made = decode_manifest(files[orbax.DATABASE])

    def read(ref: DataRef) -> bytes:
        return files[ref.path][ref.offset : ref.offset + ref.length]

    return columns(made.versions[-1], read)


def _unsealed(what: str, found: str) -> InternalError:
    return InternalError(f"{what}, so the checkpoint was not sealed", found=found)
