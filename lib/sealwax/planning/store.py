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
from sealwax.layouts.ocdbt_format import DataRef, Value
from sealwax.options import ArrayOptions
from sealwax.planning.inventory import Inventory


class Store(NamedTuple):
    """What writing the arrays came to.

    Attributes:
      stored: For every array, where its chunks went.
      compressed: The arrays that were compressed.
      entries: Keys and values: the metadata of every array, and where each chunk lies.
    """

    stored: Sequence[Sequence[Stored]]
    compressed: frozenset[int]
    entries: Sequence[tuple[bytes, Value]]

    def metadata(self) -> dict[str, bytes]:
        """The metadata of every array, by key."""
        return {key.decode(): value for key, value in self.entries if isinstance(value, bytes)}


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
    entries: list[tuple[bytes, Value]] = []
    for array, (name, form) in enumerate(zip(inventory.names, forms, strict=True)):
        above = prefix(name).encode()
        entries.append((above + last, metadata(form, array in compressed)))
        for chunk in stored[array]:
            found = DataRef(chunk.file, chunk.offset, chunk.length)
            entries.append((above + place(chunk.place), found))
    return Store(stored, compressed, entries)


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
