"""Arrays without their data: what is known of an array before a byte of it is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np

from sealwax.errors import UnsupportedLeafError

if TYPE_CHECKING:
    import jax

Shape: TypeAlias = tuple[int, ...]
DType: TypeAlias = "np.dtype[Any]"
Scalar: TypeAlias = "int | float | complex | bool | bytes | np.number[Any]"
AbstractScalar: TypeAlias = Scalar


@runtime_checkable
class AbstractArray(Protocol):
    """Anything with a shape and a dtype."""

    @property
    def shape(self) -> Shape: ...

    @property
    def dtype(self) -> DType: ...


@runtime_checkable
class AbstractShardedArray(AbstractArray, Protocol):
    """Anything with a shape, a dtype and a sharding."""

    @property
    def sharding(self) -> Any: ...


ArrayLike: TypeAlias = AbstractArray | AbstractShardedArray


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """The shape and dtype of an array.

    >>> spec = ArraySpec.of(np.zeros((2, 3), np.float32))
    >>> spec.size, spec.nbytes
    (6, 24)
    """

    shape: Shape
    dtype: DType

    @classmethod
    def of(cls, array: AbstractArray) -> ArraySpec:
        """The spec of anything that has a shape and a dtype."""
        return cls(shape=tuple(map(int, array.shape)), dtype=np.dtype(array.dtype))

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take; sub-byte dtypes take one byte per element."""
        return self.size * self.dtype.itemsize


def to_shape_dtype_struct(
    arr: object,
    dtype: object = None,
    scalar_dtype: Callable[[Any], Any] | None = None,
    support_format: bool = False,
) -> Any:
    """Describes a leaf as ``jax.ShapeDtypeStruct``, the template that a load takes.

    Args:
      arr: A JAX or NumPy array, a tracer, anything else with a shape and a dtype, or a scalar.
        A typed PRNG key array is described by its ``uint32`` key data.
      dtype: The dtype of the result; that of ``arr`` by default.
      scalar_dtype: Called on a scalar to convert it, as ``int``, ``float`` or ``np.float32``.
      support_format: Keep the layout on the device as well as the sharding.

    Returns:
      A ``jax.ShapeDtypeStruct``, with the sharding where ``arr`` has one; a scalar unchanged.

    Raises:
      UnsupportedLeafError: ``arr`` is neither a scalar nor has it a shape and a dtype.

    >>> to_shape_dtype_struct(np.zeros((2, 3), np.float32))
    ShapeDtypeStruct(shape=(2, 3), dtype=float32)
    >>> to_shape_dtype_struct(3, scalar_dtype=float)
    3.0
    """
    if isinstance(arr, (bool, int, float, complex, np.generic)):
        return cast(Any, arr) if scalar_dtype is None else scalar_dtype(arr)
    if not (hasattr(arr, "shape") and hasattr(arr, "dtype")):
        raise UnsupportedLeafError(
            "The leaf cannot be described as an array",
            expected="an array, a scalar, or an object with a shape and a dtype",
            found=f"{type(arr).__name__}",
        )
    return _describe(cast(AbstractArray, arr), dtype, support_format)


def _describe(arr: AbstractArray, dtype: object, support_format: bool) -> jax.ShapeDtypeStruct:
    import jax

    kinds = cast(Any, jax.dtypes)
    if isinstance(arr, jax.Array) and kinds.issubdtype(arr.dtype, kinds.prng_key):
        arr = cast(AbstractArray, jax.random.key_data(arr))
    placement = getattr(arr, "sharding", None)
    if support_format:
        form = getattr(arr, "format", None)
        placement = placement if getattr(form, "layout", None) is None else form
    return jax.ShapeDtypeStruct(
        tuple(arr.shape),
        cast(DType, arr.dtype if dtype is None else dtype),
        sharding=placement,
    )
