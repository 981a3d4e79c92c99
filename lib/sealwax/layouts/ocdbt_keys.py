"""Sorted keys as OCDBT nodes store them: each without what it shares with the one before it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sealwax.layouts import varint


def common_prefix(a: bytes, b: bytes) -> int:
    """Returns the number of leading bytes that ``a`` and ``b`` share."""
    size = min(len(a), len(b))
    difference = int.from_bytes(a[:size], "big") ^ int.from_bytes(b[:size], "big")
    return size - (difference.bit_length() + 7) // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedKeys:
    """The keys of one level of the tree.

    Attributes:
      keys: The keys, in ascending order.
      lengths: Length of each, in bytes.
      shared: Number of leading bytes that each shares with the one before it; 0 for the first.
    """

    keys: list[bytes]
    lengths: npt.NDArray[np.int64]
    shared: npt.NDArray[np.int64]

    @classmethod
    def of(cls, keys: list[bytes]) -> SortedKeys:
        """Compares neighbours; ``keys`` are sorted, and not empty."""
        lengths = np.fromiter(map(len, keys), dtype=np.int64, count=len(keys))
        width = max(int(lengths.max()), 1)
        shared = np.zeros(len(keys), dtype=np.int64)
        if len(keys) * width <= 4 * int(lengths.sum()) + (1 << 20):
            padded = np.array(keys, dtype=f"S{width}")[:, None].view(np.uint8)
            differ = padded[1:] != padded[:-1]
            first = np.where(differ.any(axis=1), differ.argmax(axis=1), width)
            shared[1:] = np.minimum(first, np.minimum(lengths[1:], lengths[:-1]))
        else:  # so few keys are so long that padding the others would multiply the memory
            shared[1:] = [common_prefix(a, b) for a, b in pairwise(keys)]
        return cls(keys=keys, lengths=lengths, shared=shared)

    def prefix(self, start: int, end: int) -> int:
        """Returns the length of the prefix that all keys from ``start`` to ``end`` share."""
        return int(self.shared[start + 1 : end].min(initial=int(self.lengths[start])))

    def columns(self, start: int, end: int, excluded: int) -> tuple[bytes, bytes, bytes]:
        """Encodes the shared lengths, suffix lengths and suffixes of the keys of a node.

        Args:
          start: The first key of the node.
          end: The key after its last.
          excluded: Length of the prefix that the node leaves out.
        """
        shared = self.shared[start:end].copy()
        shared[0] = excluded
        cut = zip(self.keys[start:end], shared.tolist(), strict=True)
        suffixes = b"".join([key[skip:] for key, skip in cut])
        suffix_lengths = self.lengths[start:end] - shared
        return varint.encode(shared[1:] - excluded), varint.encode(suffix_lengths), suffixes

    def repeated(self) -> bytes | None:
        """Returns a key that occurs twice, if there is one."""
        whole = self.shared[1:] == self.lengths[1:]
        same = np.flatnonzero(whole & (self.lengths[1:] == self.lengths[:-1]))
        return self.keys[int(same[0])] if same.size else None
