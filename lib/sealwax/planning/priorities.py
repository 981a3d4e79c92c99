"""When each array is brought to the host, as the settings and their owner's callbacks say."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Sequence
from typing import Any

from sealwax.arrays.forms import Form
from sealwax.errors import OptionValueError
from sealwax.options import MemoryOptions
from sealwax.settings.checks import shown
from sealwax.settings.option_types import TransferPriority

CALLBACK = "memory.serialization_status_callback"
KeyPath = tuple[object, ...]


class Rank(enum.IntEnum):
    """The order in which arrays are brought to the host.

    Attributes:
      FIRST: Before the caller goes on, ahead of all others.
      SYNCHRONOUS: Before the caller goes on.
      BACKGROUND: After that.
      LAST: When all others are on the host.
    """

    FIRST = 0
    SYNCHRONOUS = 1
    BACKGROUND = 2
    LAST = 3


_RANKS = {
    TransferPriority.SYNCHRONOUS: Rank.SYNCHRONOUS,
    TransferPriority.ASYNCHRONOUS_PRIORITIZED: Rank.BACKGROUND,
    TransferPriority.ASYNCHRONOUS_DEPRIORITIZED: Rank.LAST,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Transfers:
    """What is known of the transfer of each array, by its number.

    Attributes:
      ranks: The rank of each; empty where all are ``SYNCHRONOUS``.
      key_paths: JAX's key path of each; empty where nobody is to be told of them.
    """

    ranks: tuple[Rank, ...] = ()
    key_paths: tuple[KeyPath, ...] = ()


NO_TRANSFERS = Transfers()


def needs_key_paths(memory: MemoryOptions) -> bool:
    """Whether these settings ask something about each leaf."""
    asks = (memory.is_prioritized_key_fn, memory.serialization_status_callback)
    return any(each is not None for each in asks)


def transfers(
    memory: MemoryOptions, key_paths: Sequence[KeyPath], forms: Sequence[Form]
) -> Transfers:
    """What the settings say of arrays.

    Args:
      memory: The settings.
      key_paths: JAX's key path of each array.
      forms: How each is cut.

    Raises:
      OptionValueError: The callback gives no priority that can be followed.
    """
    if not needs_key_paths(memory):
        return NO_TRANSFERS
    told = memory.serialization_status_callback is not None
    pairs = zip(key_paths, forms, strict=True)
    return Transfers(
        ranks=tuple([_rank(memory, *pair) for pair in pairs]),
        key_paths=tuple(key_paths) if told else (),
    )


def _rank(memory: MemoryOptions, key_path: KeyPath, form: Form) -> Rank:
    callback, prioritized = memory.serialization_status_callback, memory.is_prioritized_key_fn
    rank = Rank.SYNCHRONOUS
    # What its owner may change in place must be copied before the owner goes on.
    if callback is not None and form.immutable:
        rank = _as_rank(callback.key_priority(key_path), key_path)
    first = prioritized is not None and rank is Rank.SYNCHRONOUS and prioritized(key_path)
    return Rank.FIRST if first else rank


def _as_rank(priority: Any, key_path: KeyPath) -> Rank:
    rank = _RANKS.get(priority) if isinstance(priority, TransferPriority) else None
    if rank is None:
        raise OptionValueError(
            f"The key_priority of option {CALLBACK!r} gave no priority for the leaf at "
            f"{''.join(map(str, key_path)) or 'the root'}",
            expected="SYNCHRONOUS, ASYNCHRONOUS_PRIORITIZED or ASYNCHRONOUS_DEPRIORITIZED of "
            "sealwax.memory.TransferPriority",
            found=shown(priority),
        )
    return rank


def tiers(ranks: Sequence[Rank], count: int) -> Iterator[tuple[Rank, list[int]]]:
    """The numbers of ``count`` arrays by rank, those of one rank in their own order.

    >>> list(tiers([Rank.LAST, Rank.FIRST, Rank.LAST], 3))
    [(<Rank.FIRST: 0>, [1]), (<Rank.LAST: 3>, [0, 2])]
    """
    if not ranks:
        yield Rank.SYNCHRONOUS, list(range(count))
        return
    for rank in Rank:
        found = [number for number, own in enumerate(ranks) if own is rank]
        if found:
            yield rank, found
