"""Columns of unsigned integers in base 128, seven bits a byte, lowest first.

The OCDBT format stores whatever it has many of as columns. Encoding and decoding a column at a
time keeps the cost of a database of 100,000 keys in numpy rather than in a Python loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = Sequence[int] | npt.NDArray[np.integer[Any]]
Column: TypeAlias = npt.NDArray[np.uint64]

_LONGEST = 10  # bytes of a 64-bit integer
_LOW = np.uint64(0x7F)


def encode(values: Integers) -> bytes:
    """Returns the encoded integers, one after the other.

    Args:
      values: Integers from 0 to 2**64 - 1.

    >>> encode([1, 300]).hex()
    '01ac02'
    """
    column = np.asarray(values, dtype=np.uint64)
    largest = int(column.max(initial=0))
    if largest < 0x80:
        return column.astype(np.uint8).tobytes()
    shifts = np.arange(0, largest.bit_length(), 7, dtype=np.uint64)
    rest = column[:, None] >> shifts
    groups = (rest & _LOW).astype(np.uint8)
    more = rest[:, 1:] > 0
    groups[:, :-1] |= more.astype(np.uint8) << np.uint8(7)
    kept = np.ones(groups.shape, dtype=np.bool_)
    kept[:, 1:] = more
    return groups[kept].tobytes()


def decode(data: bytes, start: int, count: int) -> tuple[Column, int]:
    """Reads ``count`` integers of ``data`` from ``start`` on.

    Returns:
      The integers, and the position after the last.

    Raises:
      ValueError: ``data`` ends before the last integer, or one does not fit 64 bits.

    >>> decode(bytes.fromhex("01ac02"), 0, 2)
    (array([  1, 300], dtype=uint64), 3)
    """
    window = np.frombuffer(data, np.uint8)[start : start + _LONGEST * count]
    plain = window[:count]
    if plain.size == count and not (plain & 0x80).any():
        return plain.astype(np.uint64), start + count
    last = np.flatnonzero(window < 0x80)[:count]
    if last.size < count:
        raise ValueError(f"{count} integers announced, {last.size} present")
    first = np.concatenate((np.zeros(1, dtype=last.dtype), last[:-1] + 1))
    lengths = last - first + 1
    if int(lengths.max()) > _LONGEST or bool((window[last[lengths == _LONGEST]] > 1).any()):
        raise ValueError("an integer needs more than 64 bits")
    size = int(last[-1]) + 1
    shifts = 7 * (np.arange(size) - np.repeat(first, lengths)).astype(np.uint64)
    groups = (window[:size].astype(np.uint64) & _LOW) << shifts
    return np.add.reduceat(groups, first), start + size
