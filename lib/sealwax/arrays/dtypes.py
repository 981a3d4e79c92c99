"""How each dtype is stored.

Zarr names dtypes; TensorStore, and so Orbax, knows fewer of them than JAX and ml_dtypes do. A
dtype that TensorStore lacks is *carried*: stored under ``uint8``, bit for bit, with its true
name recorded beside it. Elements are little-endian; a sub-byte dtype takes one byte per element.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from sealwax.errors import UnsupportedLeafError

_DType: TypeAlias = "np.dtype[Any]"

_NATIVE = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
_EXTENDED = (
    *("bfloat16", "int2", "int4", "float4_e2m1fn", "float8_e3m4", "float8_e4m3fn"),
    *("float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2", "float8_e5m2fnuz"),
    "float8_e8m0fnu",
)
_CARRIED = (*("int1", "uint1", "uint2", "uint4", "float8_e4m3", "float6_e2m3fn", "float6_e3m2fn"),)

_PARTLY = frozenset({"bool", "int2", "int4", "float4_e2m1fn"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How the elements of one dtype lie in a store.

    Attributes:
      logical: Name of the dtype itself.
      dtype: The dtype, little-endian.
      zarr_name: The ``data_type`` of the Zarr v3 array.
      zarr2_name: The ``dtype`` of a Zarr v2 array.
      carrier: Dtype of the stored elements: ``dtype``, or an unsigned integer of its width.
    """

    logical: str
    dtype: _DType
    zarr_name: str
    zarr2_name: str
    carrier: _DType

    @property
    def carried(self) -> bool:
        """Whether the store knows the elements only as unsigned integers."""
        return self.logical != self.zarr_name

    @property
    def whole(self) -> bool:
        """Whether all bits of the stored bytes count, so that any bytes are elements."""
        return not self.carried and self.logical not in _PARTLY

    def encode(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, _DType]:
        """``array`` as the store holds it; a view wherever the bytes are right already."""
        return array.astype(self.dtype, copy=False).view(self.carrier)

    def decode(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, _DType]:
        """What ``encode`` was given, as a view."""
        return array.view(self.dtype)


def _storages() -> dict[str, Storage]:
    found: dict[str, Storage] = {}
    for name in _NATIVE:
        dtype = np.dtype(name).newbyteorder("<")
        found[name] = Storage(
            logical=name, dtype=dtype, zarr_name=name, zarr2_name=dtype.str, carrier=dtype
        )
    for name in _EXTENDED + _CARRIED:
        scalar = getattr(ml_dtypes, name, None)
        if scalar is None:
            continue
        dtype = np.dtype(scalar)
        carrier = np.dtype(np.uint8) if name in _CARRIED else dtype
        found[name] = Storage(
            logical=name,
            dtype=dtype,
            zarr_name=carrier.name,
            zarr2_name=carrier.name if carrier is dtype else carrier.str,
            carrier=carrier,
        )
    return found


_BY_NAME = _storages()
_BY_DTYPE: dict[_DType, Storage] = {
    **{storage.dtype: storage for storage in _BY_NAME.values()},
    **{storage.dtype.newbyteorder(">"): storage for storage in _BY_NAME.values()},
}
_BY_ZARR2 = {s.zarr2_name: s.dtype for s in _BY_NAME.values() if not s.carried}


def find_storage(dtype: _DType) -> Storage | None:
    """The storage of a dtype, or ``None`` where there is none; a dictionary look-up."""
    return _BY_DTYPE.get(dtype)


def storage_dtype(dtype: Any) -> Storage:
    """The storage of a dtype.

    Raises:
      UnsupportedLeafError: No checkpoint can hold elements of this dtype.

    >>> storage_dtype(np.float32).zarr_name, storage_dtype(np.float32).carried
    ('float32', False)
    >>> storage_dtype("uint4").zarr_name, storage_dtype("uint4").carried
    ('uint8', True)
    """
    dtype = from_name(dtype) if isinstance(dtype, str) else np.dtype(dtype)
    storage = _BY_DTYPE.get(dtype)
    if storage is None:
        raise UnsupportedLeafError(
            "No checkpoint can hold this dtype",
            expected="a boolean, integer, float or complex dtype of JAX",
            found=str(dtype),
        )
    return storage


def from_name(name: str) -> _DType:
    """The dtype of this name, native or of ml_dtypes.

    Raises:
      UnsupportedLeafError: No dtype has this name, or this version of ml_dtypes lacks it.
    """
    if name in _BY_NAME:
        return _BY_NAME[name].dtype
    near = difflib.get_close_matches(name, _BY_NAME, n=3)
    raise UnsupportedLeafError(
        "The dtype is not known here",
        expected=" or ".join(near) if near else "the name of a dtype of JAX",
        found=repr(name),
        hint="Upgrade ml_dtypes." if name in _EXTENDED + _CARRIED else None,
    )


def from_zarr2_name(name: str) -> _DType | None:
    """The dtype of a Zarr v2 ``dtype`` string, big-endian ones included, or ``None``."""
    if name in _BY_ZARR2:
        return _BY_ZARR2[name]
    little = _BY_ZARR2.get(f"<{name[1:]}") if name.startswith(">") else None
    return little.newbyteorder(">") if little is not None else None


def fill_value(zarr_name: str) -> bool | int | float | list[float]:
    """The JSON fill value that TensorStore writes for a Zarr v3 ``data_type``."""
    if zarr_name == "bool":
        return False
    if zarr_name.startswith("complex"):
        return [0.0, 0.0]
    return 0 if zarr_name.startswith(("int", "uint")) else 0.0
