"""Whether what was written is all there: a last look before the seal, at what readers will see."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sealwax.arrays.forms import Form
from sealwax.arrays.zarr import ZarrFormat, chunk_key, metadata_key, parse_zarr2, parse_zarr3
from sealwax.effects import Stored
from sealwax.errors import InternalError
from sealwax.layouts import orbax
from sealwax.layouts.ocdbt_decode import decode_manifest, entries
from sealwax.layouts.ocdbt_format import DataRef, Manifest, Value
from sealwax.planning.describe import Description


def check(description: Description, files: Mapping[str, bytes], *results: Any) -> None:
    """Finds the metadata and every chunk of every array, or says which of them is not there.

    The database is decoded again, from the bytes that are written.

    Args:
      description: What the item should hold.
      files: The content of its files.
      *results: What the steps that write arrays answered, as ``Description.item_files`` takes it.

    Raises:
      InternalError: Something is missing, or is not what it should be.
    """
    stock = description.inventory
    if not stock.arrays:
        return
    stored = description.gather(results[: description.batches]).stored
    if description.saving.use_ocdbt:
        found = _database(files)
    else:
        found = dict(_separate(stored)) | {key: data for key, data in results[-1].items()}
    for name, form, chunks in zip(stock.names, stock.arrays, stored, strict=True):
        problem = _problem(name, form, chunks, found, description.format)
        if problem is not None:
            raise InternalError(
                f"{problem} after it was written; the checkpoint was not sealed", leaf=name
            )


def _database(files: Mapping[str, bytes]) -> dict[str, Value]:
    made = decode_manifest(files[orbax.DATABASE])
    if not isinstance(made, Manifest):
        raise InternalError("The database was compressed")

    def read(ref: DataRef) -> bytes:
        return files[ref.path][ref.offset : ref.offset + ref.length]

    return {key.decode(): value for key, value in entries(made.versions[-1], read)}


def _separate(stored: Sequence[Sequence[Stored]]) -> Iterator[tuple[str, Value]]:
    for chunk in itertools.chain.from_iterable(stored):
        yield chunk.file, DataRef(file=chunk.file, offset=chunk.offset, length=chunk.length)


def _problem(
    name: str,
    form: Form,
    chunks: Sequence[Stored],
    found: Mapping[str, Value],
    format: ZarrFormat,
) -> str | None:
    metadata = found.get(metadata_key(name, format))
    if not isinstance(metadata, bytes):
        return "The metadata of an array is missing"
    array = parse_zarr3(metadata) if format is ZarrFormat.V3 else parse_zarr2(metadata)
    if array.shape != form.shape or array.chunk_shape != form.chunk_shape:
        return "The metadata of an array is not its own"
    if len(chunks) != sum(map(len, form.chunks)):
        return "A chunk of an array is missing"
    for chunk in chunks:
        value = found.get(chunk_key(name, chunk.place, format))
        wanted = DataRef(file=chunk.file, offset=chunk.offset, length=chunk.length)
        if value != wanted:
            return f"Chunk {chunk.place} of an array is missing"
    return None
