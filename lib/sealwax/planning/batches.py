"""Grouping array data into batches, so that the cost of a save follows its bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from sealwax.arrays.forms import Form
from sealwax.effects import Slab

BATCH_BYTES = 64 << 20
"""The size of a batch: one file, one sync, and the piece in which budgets are counted."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Slabs that move together.

    Attributes:
      slabs: What it holds.
      nbytes: Their size, before compression.
      first: The arrays whose first chunk is here.
    """

    slabs: tuple[Slab, ...]
    nbytes: int
    first: frozenset[int]


def batches(forms: Sequence[Form], limit: int = BATCH_BYTES) -> Iterator[Batch]:
    """Packs arrays, in order, into batches of at most ``limit`` bytes.

    Every chunk is in exactly one batch. A chunk larger than ``limit`` has a batch of its own.
    """
    slabs: list[Slab] = []
    total = 0
    for leaf, form in enumerate(forms):
        for slab, nbytes in form.slabs(leaf, limit):
            if slabs and total + nbytes > limit:
                yield _batch(slabs, total)
                slabs, total = [], 0
            slabs.append(slab)
            total += nbytes
    if slabs:
        yield _batch(slabs, total)


def _batch(slabs: list[Slab], nbytes: int) -> Batch:
    first = frozenset(slab.leaf for slab in slabs if slab.shard == 0 and slab.first == 0)
    return Batch(slabs=tuple(slabs), nbytes=nbytes, first=first)
