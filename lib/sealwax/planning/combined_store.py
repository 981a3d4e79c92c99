"""What the manifest and the database say of data files that several parts wrote."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec
import numpy as np

from sealwax.arrays.zarr import (
    Codec,
    ZarrFormat,
    chunk_key,
    metadata_key,
    zarr2_metadata,
    zarr3_metadata,
)
from sealwax.layouts import manifest, ocdbt, orbax
from sealwax.layouts.ocdbt_format import DataRef, Value
from sealwax.planning.describe import INLINE_BYTES
from sealwax.planning.parts import Stamp
from sealwax.planning.store import prefix


class Forms:
    """The forms of all parts, each once, and what those of each part became."""

    def __init__(self, items: Sequence[manifest.Item]) -> None:
        self.all: list[manifest.Form] = []
        self.of: list[list[int]] = []
        known: dict[bytes, int] = {}
        for item in items:
            numbers: list[int] = []
            for form in item.forms:
                number = known.setdefault(msgspec.json.encode(form), len(self.all))
                if number == len(self.all):
                    self.all.append(form)
                numbers.append(number)
            self.of.append(numbers)


def zarr_of(items: Sequence[manifest.Item]) -> ZarrFormat:
    """The version of Zarr of the parts that have arrays."""
    used = [item.zarr for item in items if any(row.form >= 0 for row in item.rows)]
    return ZarrFormat((used or [items[0].zarr])[0])


def database_of(
    rows: Sequence[manifest.Row],
    forms: Sequence[manifest.Form],
    files: Sequence[str],
    format: ZarrFormat,
    stamp: Stamp,
) -> dict[str, bytes]:
    """A database over the data files of all parts."""
    describe = zarr3_metadata if format is ZarrFormat.V3 else zarr2_metadata
    last = metadata_key("", format)
    place = functools.cache(functools.partial(chunk_key, "", format=format))

    @functools.cache
    def known(number: int) -> tuple[bytes, list[tuple[int, ...]]]:
        form = forms[number]
        data = describe(form.shape, form.chunk_shape, form.dtype, Codec(form.codec))
        grid = [
            -(-extent // size) for extent, size in zip(form.shape, form.chunk_shape, strict=True)
        ]
        return data, list(np.ndindex(*grid))

    entries: list[tuple[bytes, Value]] = []
    for row in rows:
        if row.form < 0:
            continue
        above = prefix(row.name)
        data, places = known(row.form)
        entries.append(((above + last).encode(), data))
        pieces = (row.chunks[0::4], row.chunks[1::4], row.chunks[2::4])
        for index, file, offset, length in zip(places, *pieces, strict=True):
            ref = DataRef(files[file], offset, length)
            entries.append(((above + place(index)).encode(), ref))
    nodes = orbax.data_file(len(files))
    made = ocdbt.encode(
        entries,
        nodes_file=nodes,
        uuid=bytes.fromhex(stamp.token),
        commit_time_ns=stamp.now,
        max_inline_value_bytes=INLINE_BYTES,
    )
    return {nodes: made.nodes, orbax.DATABASE: made.manifest}
