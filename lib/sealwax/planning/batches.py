"""Grouping array data into batches, so that the cost of a save follows its bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from sealwax.arrays.forms import Form
from sealwax.effects import Slab
from sealwax.planning.priorities import Rank, tiers

BATCH_BYTES = 64 << 20
"""The size of a batch: one file, one sync, and the piece in which budgets are counted."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Slabs that move together.

    Attributes:
      slabs: What it holds.
      nbytes: Their size, before compression.
      first: The arrays whose first chunk is here.
      rank: When it is brought to the host.
    """

    slabs: tuple[Slab, ...]
    nbytes: int
    first: frozenset[int]
    rank: Rank = Rank.SYNCHRONOUS


def batches(
    forms: Sequence[Form], limit: int = BATCH_BYTES, ranks: Sequence[Rank] = ()
) -> Iterator[Batch]:
    """Packs arrays, by rank and then in order, into batches of at most ``limit`` bytes.

    Every chunk is in exactly one batch, with others of its rank. A chunk larger than ``limit`` has
    a batch of its own.
    """
    for rank, leaves in tiers(ranks, len(forms)):
        slabs: list[Slab] = []
        total = 0
        for leaf in leaves:
            for shard, first, last, nbytes in forms[leaf].cuts(limit):
                if slabs and total + nbytes > limit:
                    yield _batch(slabs, total, rank)
                    slabs, total = [], 0
                slabs.append(Slab(leaf, shard, first, last))
                total += nbytes
        if slabs:
            yield _batch(slabs, total, rank)


def _batch(slabs: list[Slab], nbytes: int, rank: Rank) -> Batch:
    first = frozenset([slab.leaf for slab in slabs if slab.shard == 0 and slab.first == 0])
    return Batch(slabs=tuple(slabs), nbytes=nbytes, first=first, rank=rank)
