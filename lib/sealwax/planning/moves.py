"""Planning how array data moves: brought to the host, looked at, written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from sealwax.effects import SOURCES, From, Probe, Stage, WriteBatch, WriteChunks
from sealwax.layouts import orbax
from sealwax.options import ArrayOptions, MemoryOptions
from sealwax.planning import names
from sealwax.planning.batches import BATCH_BYTES, Batch, batches
from sealwax.planning.builder import Builder, result
from sealwax.planning.requests import SaveRequest
from sealwax.planning.store import always, zarr_format

PROBED_BYTES = 64 << 10
"""Smaller chunks are not worth a look: packing them is what makes them cheap."""


def host_budget(memory: MemoryOptions, background: bool) -> int | None:
    """Bytes that may be staged at once; an async save must stage everything before it returns."""
    if memory.transfer_concurrent_bytes is not None:
        return memory.transfer_concurrent_bytes
    return None if background else 8 * BATCH_BYTES


def cut(request: SaveRequest) -> tuple[Batch, ...]:
    """The batches in which the arrays move: as large as files, writes and transfers may be."""
    saving, memory = request.options.array.saving, request.options.memory
    limit = min(
        BATCH_BYTES,
        (saving.use_ocdbt and saving.ocdbt_target_data_file_size) or BATCH_BYTES,
        memory.write_concurrent_bytes or BATCH_BYTES,
        memory.transfer_concurrent_bytes or BATCH_BYTES,
    )
    return tuple(batches(request.inventory.arrays, limit))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The numbers of the steps that write batches, and of those that look at them."""

    written: tuple[int, ...]
    probes: tuple[int, ...]


def add_moves(
    build: Builder,
    request: SaveRequest,
    item: str,
    cut: Sequence[Batch],
    made: tuple[int, ...],
) -> Moved:
    """Adds the steps that bring batches to the host and write them.

    Args:
      build: Takes the steps.
      request: What is saved.
      item: The directory of the item.
      cut: The batches.
      made: The steps that make the directories.
    """
    mover = _Mover(request, item)
    written: list[int] = []
    probes: list[int] = []
    probe_of: dict[int, int] = {}
    for number, batch in enumerate(cut):
        stage = mover.stage(build, batch)
        candidates = mover.candidates(batch)
        if candidates:
            effect = Probe(slabs=batch.slabs, candidates=candidates, buffers=result(stage))
            probes.append(build.add(effect))
            probe_of |= dict.fromkeys(candidates, probes[-1])
        present = {slab.leaf for slab in batch.slabs}
        chosen = sorted({probe_of[leaf] for leaf in present if leaf in probe_of})
        write = mover.write(number, batch, stage, frozenset(present), chosen)
        written.append(build.add(write, after=made, writes=batch.nbytes))
    return Moved(written=tuple(written), probes=tuple(probes))


class _Mover:
    """Makes the effects that move batches of one save."""

    def __init__(self, request: SaveRequest, item: str) -> None:
        self._request = request
        self._item = item
        self._forms = request.inventory.arrays
        self._saving: ArrayOptions.Saving = request.options.array.saving
        self._names = () if self._saving.use_ocdbt else request.inventory.names
        self._copied = request.background and request.options.memory.deepcopy_host_arrays
        self._leaves: From[Sequence[Any]] = From(step=SOURCES)

    def stage(self, build: Builder, batch: Batch) -> int:
        effect = Stage(
            slabs=batch.slabs, leaves=self._leaves, copy=self._copied, nbytes=batch.nbytes
        )
        return build.add(effect, holds=self._held(batch), staging=self._request.background)

    def candidates(self, batch: Batch) -> frozenset[int]:
        if not self._saving.use_compression or always(self._saving):
            return frozenset()
        return frozenset([n for n in batch.first if self._forms[n].chunk_bytes >= PROBED_BYTES])

    def write(
        self,
        number: int,
        batch: Batch,
        stage: int,
        present: frozenset[int],
        chosen: Sequence[int],
    ) -> WriteBatch | WriteChunks:
        every = present if always(self._saving) else frozenset[int]()
        compressed = (every, *map(result, chosen))
        zarr = zarr_format(self._saving).value
        sync = self._request.options.file.durability == "durable"
        if not self._saving.use_ocdbt:
            return WriteChunks(
                directory=self._item,
                names=self._names,
                slabs=batch.slabs,
                forms=self._request.inventory.arrays,
                buffers=result(stage),
                compressed=compressed,
                nbytes=batch.nbytes,
                zarr=zarr,
                sync=sync,
            )
        name = orbax.data_file(number)
        return WriteBatch(
            path=names.join(self._item, name),
            name=name,
            slabs=batch.slabs,
            forms=self._request.inventory.arrays,
            buffers=result(stage),
            compressed=compressed,
            nbytes=batch.nbytes,
            zarr=zarr,
            sync=sync,
        )

    def _held(self, batch: Batch) -> int:
        """Bytes of host memory that staging a batch takes, beside the arrays themselves."""
        held = 0
        for slab in batch.slabs:
            form = self._forms[slab.leaf]
            view = (
                form.on_host and form.rows and not (self._copied and form.value_type != "jax.Array")
            )
            held += 0 if view else (slab.last - slab.first) * form.chunk_bytes
        return held
