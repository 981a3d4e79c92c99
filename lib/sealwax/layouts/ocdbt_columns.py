"""Entries of an OCDBT database as columns: what its nodes are encoded from and decoded into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sealwax.layouts.ocdbt_format import DataRef, Value

Column: TypeAlias = npt.NDArray[np.int64]
Home: TypeAlias = tuple[str, str]
"""The base and the path of a data file, as in ``DataRef``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """Entries, in ascending order of their keys.

    Attributes:
      keys: The key of every entry.
      sizes: The size of its value in bytes.
      outside: Whether that is a range of a file.
      data: The other values, one after the other.
      homes: The files, in ascending order.
      home: For each value outside, the number of its file.
      offset: Where it starts there, in bytes.
    """

    keys: list[bytes]
    sizes: Column
    outside: npt.NDArray[np.bool_]
    data: bytes
    homes: tuple[Home, ...]
    home: Column
    offset: Column

    @classmethod
    def of(cls, entries: Iterable[tuple[bytes, Value]]) -> Columns:
        """Takes entries in any order."""
        inline: list[tuple[bytes, bytes]] = []
        outside: list[tuple[bytes, DataRef]] = []
        for key, value in entries:
            if isinstance(value, DataRef):
                outside.append((key, value))
            else:
                inline.append((key, value))
        return cls.sorted(
            inline_keys=[key for key, _ in inline],
            inline=[value for _, value in inline],
            outside_keys=[key for key, _ in outside],
            homes=[(ref.base, ref.file) for _, ref in outside],
            offsets=[ref.offset for _, ref in outside],
            lengths=[ref.length for _, ref in outside],
        )

    @classmethod
    def sorted(
        cls,
        *,
        inline_keys: Sequence[bytes],
        inline: Sequence[bytes],
        outside_keys: Sequence[bytes],
        homes: Sequence[Home],
        offsets: Sequence[int],
        lengths: Sequence[int],
    ) -> Columns:
        """Takes the two kinds of entries apart from each other, each in any order."""
        keys, count = [*inline_keys, *outside_keys], len(inline_keys)
        order = sorted(range(len(keys)), key=keys.__getitem__)
        at = np.array(order, dtype=np.int64)
        outside = at >= count
        which = at[outside] - count
        numbers = _numbers(homes)
        return cls(
            keys=[keys[number] for number in order],
            sizes=np.array([*map(len, inline), *lengths], dtype=np.int64)[at],
            outside=outside,
            data=b"".join([inline[number] for number in order if number < count]),
            homes=tuple(numbers),
            home=np.array([numbers[home] for home in homes], dtype=np.int64)[which],
            offset=np.array(offsets, dtype=np.int64)[which],
        )

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """Puts columns one after another; each has greater keys than the one before it."""
        numbers = _numbers([home for part in parts for home in part.homes])
        mapped = [np.array([numbers[home] for home in part.homes], np.int64) for part in parts]
        nothing = np.empty(0, np.int64)
        return cls(
            keys=[key for part in parts for key in part.keys],
            sizes=np.concatenate([nothing, *[part.sizes for part in parts]]),
            outside=np.concatenate([nothing.astype(np.bool_), *[part.outside for part in parts]]),
            data=b"".join([part.data for part in parts]),
            homes=tuple(numbers),
            home=np.concatenate(
                [nothing, *[own[part.home] for own, part in zip(mapped, parts, strict=True)]]
            ),
            offset=np.concatenate([nothing, *[part.offset for part in parts]]),
        )

    @property
    def length(self) -> Column:
        """The size of each value outside."""
        return self.sizes[self.outside]

    def same(self, other: Columns) -> bool:
        """Whether both have the same entries."""
        mine, theirs = (
            (each.sizes, each.outside, each.home, each.offset) for each in (self, other)
        )
        return (
            (self.keys, self.data, self.homes) == (other.keys, other.data, other.homes)
        ) and all(map(np.array_equal, mine, theirs))

    def entries(self) -> Iterator[tuple[bytes, Value]]:
        """The entries, one by one."""
        homes: list[int] = self.home.tolist()
        refs = zip(homes, self.offset.tolist(), strict=True)
        at = 0
        for key, size, outside in zip(
            self.keys, self.sizes.tolist(), self.outside.tolist(), strict=True
        ):
            if outside:
                home, offset = next(refs)
                base, file = self.homes[home]
                yield key, DataRef(file, offset, size, base)
            else:
                yield key, self.data[at : at + size]
                at += size


def _numbers(homes: Iterable[Home]) -> dict[Home, int]:
    """The number of each file, in ascending order of their names as they are encoded."""
    return {home: number for number, home in enumerate(sorted(set(homes), key=_encoded))}


def _encoded(home: Home) -> tuple[bytes, bytes]:
    return home[0].encode(), home[1].encode()
