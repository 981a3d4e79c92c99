"""What the store of an item's arrays holds: its keys, and where each value lies."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from sealwax.arrays.forms import Form
from sealwax.arrays.zarr import (
    Codec,
    ZarrFormat,
    chunk_key,
    metadata_key,
    zarr2_metadata,
    zarr3_metadata,
)
from sealwax.effects import Stored
from sealwax.layouts.ocdbt_columns import Columns
from sealwax.options import ArrayOptions
from sealwax.planning.inventory import Inventory


class Store(NamedTuple):
    """What writing the arrays came to.

    Attributes:
      stored: For every array, where its chunks went.
      compressed: The arrays that were compressed.
      keys: The key of the metadata of every array.
      documents: The metadata of every array.
      entries: Keys and values: that metadata, and where each chunk lies.
    """

    stored: Sequence[Sequence[Stored]]
    compressed: frozenset[int]
    keys: Sequence[bytes]
    documents: Sequence[bytes]
    entries: Columns

    def metadata(self) -> dict[str, bytes]:
        """The metadata of every array, by key."""
        return {key.decode(): found for key, found in zip(self.keys, self.documents, strict=True)}


def zarr_format(saving: ArrayOptions.Saving) -> ZarrFormat:
    """The version of Zarr that the settings ask for."""
    return ZarrFormat.V3 if saving.use_zarr3 else ZarrFormat.V2


def always(saving: ArrayOptions.Saving) -> bool:
    """Whether the settings ask for compression, whatever the data looks like."""
    return saving.use_compression and saving.compression == "always"


def fill(inventory: Inventory, saving: ArrayOptions.Saving, batches: int, *results: Any) -> Store:
    """Makes the entries of a store.

    Args:
      inventory: What was written.
      saving: How.
      batches: Number of the steps that wrote it.
      *results: The answers of those, then of the steps that looked at the data.
    """
    format = zarr_format(saving)
    forms = inventory.arrays
    stored: list[list[Stored]] = [[] for _ in forms]
    for part in cast("Sequence[Sequence[Stored]]", results[:batches]):
        for chunk in part:
            stored[chunk.leaf].append(chunk)
    found = cast("Sequence[frozenset[int]]", results[batches:])
    compressed = frozenset(range(len(forms))) if always(saving) else frozenset[int]().union(*found)
    # Thousands of leaves share a handful of forms, and of places of chunks.
    metadata = functools.cache(functools.partial(_metadata, format=format))

    @functools.cache
    def place(index: tuple[int, ...]) -> bytes:
        return chunk_key("", index, format).encode()

    last = metadata_key("", format).encode()
    above = [prefix(name).encode() for name in inventory.names]
    keys = [start + last for start in above]
    documents = [metadata(form, array in compressed) for array, form in enumerate(forms)]
    chunks = [chunk for each in stored for chunk in each]
    entries = Columns.sorted(
        inline_keys=keys,
        inline=documents,
        outside_keys=[above[chunk.leaf] + place(chunk.place) for chunk in chunks],
        homes=[("", chunk.file) for chunk in chunks],
        offsets=[chunk.offset for chunk in chunks],
        lengths=[chunk.length for chunk in chunks],
    )
    return Store(stored, compressed, keys, documents, entries)


def prefix(name: str) -> str:
    """What all keys of an array begin with.

    >>> prefix("w"), prefix("")
    ('w/', '')
    """
    # TensorStore takes "w" and "w/" for the same place, and so does metadata_key.
    inside = name.removesuffix("/")
    return f"{inside}/" if inside else ""


def codec(squeezed: bool) -> Codec:
    """How the chunks of an array are encoded."""
    return Codec.ZSTD if squeezed else Codec.RAW


def _metadata(form: Form, squeezed: bool, format: ZarrFormat) -> bytes:
    describe = zarr3_metadata if format is ZarrFormat.V3 else zarr2_metadata
    return describe(form.shape, form.chunk_shape, form.storage.logical, codec(squeezed))
