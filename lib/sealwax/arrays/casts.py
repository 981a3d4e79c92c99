"""What a cast from one dtype to another can lose."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import ml_dtypes
import numpy as np

from sealwax.arrays import dtypes
from sealwax.errors import LeafMismatchError

_BOOL, _INT, _FLOAT, _COMPLEX = range(4)


class Cast(enum.Enum):
    """What a cast can lose.

    ``IDENTICAL``: nothing changes. ``WIDENING``: every value stays exactly what it is.
    ``SAME_KIND``: values are rounded to the nearest that the target has, and may overflow, as
    float32 to bfloat16, int32 to float32, or float64 to complex64. ``LOSSY``: a part, a sign or
    a range is dropped, as float to int, complex to real, int32 to int8, or anything to bool.
    """

    IDENTICAL = "identical"
    WIDENING = "widening"
    SAME_KIND = "same kind"
    LOSSY = "lossy"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """The numbers that a dtype holds: from low to high, in steps of ``2**-digits`` relative."""

    rank: int
    low: float
    high: float
    digits: int
    smallest: float
    has_zero: bool
    special: int

    def holds(self, other: _Range) -> bool:
        """Whether every number of ``other`` is one of these."""
        return (
            self.low <= other.low
            and other.high <= self.high
            and self.digits >= other.digits
            and self.smallest <= other.smallest
            and self.has_zero >= other.has_zero
            and self.special | other.special == self.special
        )


def classify_cast(src: Any, dst: Any) -> Cast:
    """What a cast from ``src`` to ``dst`` can lose; the first two and the third are silent.

    >>> classify_cast(np.float16, np.float32), classify_cast(np.float32, np.int32)
    (<Cast.WIDENING: 'widening'>, <Cast.LOSSY: 'lossy'>)
    """
    return _classify(dtypes.storage_dtype(src).logical, dtypes.storage_dtype(dst).logical)


def narrows(src: Any, dst: Any) -> bool:
    """Whether both hold integers, so that it depends on the values whether a cast loses any."""
    names = (dtypes.storage_dtype(src).logical, dtypes.storage_dtype(dst).logical)
    return all(name.startswith(("int", "uint")) for name in names)


def convert(
    array: np.ndarray[Any, Any], dtype: np.dtype[Any], *, lossy: bool = False
) -> np.ndarray[Any, Any]:
    """``array`` as ``dtype``, which ``classify_cast`` or ``narrows`` allows; no copy if it is that.

    Args:
      array: What to convert.
      dtype: What to convert it to.
      lossy: Whether values that do not fit are cut as NumPy does, in silence.

    Raises:
      LeafMismatchError: An integer is beyond the range of a narrower dtype.

    >>> convert(np.array([1, 2]), np.dtype("int8")).dtype
    dtype('int8')
    """
    if array.dtype == dtype:
        return array
    if array.size and not lossy and narrows(array.dtype, dtype):
        low, high, _ = _int_range(dtypes.storage_dtype(dtype).logical)
        # The dtypes of ml_dtypes have no minimum of their own.
        wide = array if array.dtype.kind in "iu" else array.astype(np.int8)
        least, most = int(wide.min()), int(wide.max())
        if least < low or most > high:
            raise LeafMismatchError(
                f"A value does not fit into {dtype}",
                expected=f"values from {low} to {high}",
                found=f"values from {least} to {most}",
                hint="Load it with the stored dtype, and cast it afterwards with astype.",
            )
    if array.dtype.kind == "c" and dtype.kind not in "cb":
        array = array.real
    with np.errstate(all="ignore"):
        try:
            return array.astype(dtype)
        except TypeError:  # NumPy does not know the way between some dtypes of ml_dtypes.
            return array.astype(np.float32).astype(dtype)


def overflow(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> Any:
    """A finite value of an array of floats that is beyond the dtype to which it was converted.

    >>> wide = np.array([1.0, 1e6, np.inf])
    >>> overflow(wide, convert(wide, np.dtype("float16"))), overflow(wide, wide)
    (np.float64(1000000.0), None)
    """
    kinds = [dtypes.storage_dtype(array.dtype).logical for array in (before, after)]
    source, target = map(_range, kinds)
    if source.rank < _FLOAT or target.high >= source.high:
        return None
    # What has neither infinities nor NaN takes its largest value in their place.
    lost = ~np.isfinite(after) if target.special & 3 else np.abs(before) > target.high
    if not lost.any():
        return None
    lost &= np.isfinite(before)
    return before[lost][0] if lost.any() else None


@cache
def _classify(src: str, dst: str) -> Cast:
    if src == dst:
        return Cast.IDENTICAL
    a, b = _range(src), _range(dst)
    if b.rank >= a.rank and b.holds(a):
        return Cast.WIDENING
    keeps_kind = b.rank >= max(a.rank, _FLOAT) and b.has_zero >= a.has_zero
    return Cast.SAME_KIND if keeps_kind else Cast.LOSSY


def _range(name: str) -> _Range:
    if name == "bool" or name.startswith(("int", "uint")):
        low, high, bits = (0, 1, 1) if name == "bool" else _int_range(name)
        return _Range(
            rank=_BOOL if name == "bool" else _INT,
            low=low,
            high=high,
            # A float holds integers of one bit more than its mantissa stores.
            digits=bits - 1,
            smallest=1,
            has_zero=True,
            special=0,
        )
    part = {"complex64": "float32", "complex128": "float64"}.get(name, name)
    dtype = dtypes.from_name(part)
    info = cast(Any, ml_dtypes).finfo(dtype)
    with np.errstate(all="ignore"):
        values = np.array([np.inf, np.nan, -0.0]).astype(dtype).astype(np.float64)
    inf, nan, negative_zero = values
    specials = (np.isinf(inf), np.isnan(nan), negative_zero == 0 and np.signbit(negative_zero))
    return _Range(
        rank=_FLOAT if part == name else _COMPLEX,
        low=float(info.min),
        high=float(info.max),
        digits=int(info.nmant),
        smallest=float(info.smallest_subnormal),
        has_zero=float(info.min) < 0,
        special=sum(1 << bit for bit, test in enumerate(specials) if test),
    )


def _int_range(name: str) -> tuple[int, int, int]:
    info = ml_dtypes.iinfo(dtypes.from_name(name))
    return int(info.min), int(info.max), int(info.max).bit_length()
