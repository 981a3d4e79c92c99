"""Planning how array data moves: brought to the host, looked at, written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sealwax.effects import Effect, Probe, Stage, WriteBatch, WriteChunks
from sealwax.layouts import orbax
from sealwax.options import ArrayOptions, MemoryOptions, Options
from sealwax.planning.batches import BATCH_BYTES, Batch, batches
from sealwax.planning.builder import Builder, result
from sealwax.planning.inventory import Inventory
from sealwax.planning.items import Place
from sealwax.planning.notices import Notices
from sealwax.planning.priorities import Rank
from sealwax.planning.store import always, zarr_format

PROBED_BYTES = 64 << 10
"""Smaller chunks are not worth a look: packing them is what makes them cheap."""


def host_budget(memory: MemoryOptions, background: bool) -> int | None:
    """Bytes that may be staged at once; an async save must stage everything before it returns."""
    if memory.transfer_concurrent_bytes is not None:
        return memory.transfer_concurrent_bytes
    return None if background else 8 * BATCH_BYTES


def cut(inventory: Inventory, options: Options) -> tuple[Batch, ...]:
    """The batches in which the arrays move: as large as files, writes and transfers may be."""
    saving, memory = options.array.saving, options.memory
    limit = min(
        BATCH_BYTES,
        (saving.use_ocdbt and saving.ocdbt_target_data_file_size) or BATCH_BYTES,
        memory.write_concurrent_bytes or BATCH_BYTES,
        memory.transfer_concurrent_bytes or BATCH_BYTES,
    )
    return tuple(batches(inventory.arrays, limit, inventory.transfers.ranks))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What moves the arrays of an item.

    Attributes:
      written: The numbers of the steps that write batches.
      probes: Those of the steps that look at them.
      after_seal: What is only told when the checkpoint is complete.
    """

    written: tuple[int, ...]
    probes: tuple[int, ...]
    after_seal: tuple[Effect, ...] = ()


def add_moves(
    build: Builder,
    place: Place,
    inventory: Inventory,
    cut: Sequence[Batch],
    made: tuple[int, ...],
) -> Moved:
    """Adds the steps that bring batches to the host and write them.

    Args:
      build: Takes the steps.
      place: Where the item grows.
      inventory: What is saved.
      cut: The batches.
      made: The steps that make the directories.
    """
    mover = _Mover(build, place, inventory)
    callback = place.options.memory.serialization_status_callback
    notices = Notices(build, callback, inventory.transfers.key_paths, cut)
    written: list[int] = []
    probes: list[int] = []
    probe_of: dict[int, int] = {}
    for number, batch in enumerate(cut):
        stage = mover.stage(batch, after=notices.begin("transfer", number, batch))
        told = notices.end("transfer", number, batch, stage)
        candidates = mover.candidates(batch)
        if candidates:
            effect = Probe(slabs=batch.slabs, candidates=candidates, buffers=result(stage))
            probes.append(build.add(effect))
            probe_of |= dict.fromkeys(candidates, probes[-1])
        present = {slab.leaf for slab in batch.slabs}
        chosen = sorted({probe_of[leaf] for leaf in present if leaf in probe_of})
        write = mover.write(number, batch, stage, frozenset(present), chosen)
        begun = notices.begin("write", number, batch, after=told or [stage])
        written.append(build.add(write, after=(*made, *begun), writes=batch.nbytes))
        notices.end("write", number, batch, written[-1])
    return Moved(written=tuple(written), probes=tuple(probes), after_seal=notices.complaints())


class _Mover:
    """Makes the effects that move batches of one item."""

    def __init__(self, build: Builder, place: Place, inventory: Inventory) -> None:
        self._build = build
        self._place = place
        self._forms = inventory.arrays
        self._saving: ArrayOptions.Saving = place.options.array.saving
        self._every_name = inventory.names
        self._names = () if self._saving.use_ocdbt else self._every_name
        self._copied = place.background and place.options.memory.deepcopy_host_arrays
        self._staged: dict[Rank, list[int]] = {}

    def stage(self, batch: Batch, after: Sequence[int]) -> int:
        effect = Stage(
            slabs=batch.slabs,
            leaves=self._place.sources,
            copy=self._copied,
            nbytes=batch.nbytes,
            names=self._every_name,
        )
        earlier = [steps for rank, steps in self._staged.items() if rank < batch.rank]
        number = self._build.add(
            effect,
            after=(*after, *(earlier[-1] if earlier else ())),
            holds=self._held(batch),
            staging=self._place.background and batch.rank <= Rank.SYNCHRONOUS,
        )
        self._staged.setdefault(batch.rank, []).append(number)
        return number

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
        sync = self._place.durable
        if not self._saving.use_ocdbt:
            return WriteChunks(
                directory=self._place.directory,
                names=self._names,
                slabs=batch.slabs,
                forms=self._forms,
                buffers=result(stage),
                compressed=compressed,
                nbytes=batch.nbytes,
                zarr=zarr,
                sync=sync,
            )
        name = orbax.data_file(number)
        return WriteBatch(
            path=self._place.path(self._place.database + name),
            name=name,
            slabs=batch.slabs,
            forms=self._forms,
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
            view = form.on_host and form.rows and (form.immutable or not self._copied)
            held += 0 if view else (slab.last - slab.first) * form.chunk_bytes
        return held
