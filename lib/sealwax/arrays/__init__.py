"""Arrays as pure values: how they are described, chunked, encoded and classified.

The names here are those that Orbax v1 has in its own ``arrays``; none of them imports jax.
"""

from sealwax.arrays.abstract import (
    AbstractArray,
    AbstractScalar,
    AbstractShardedArray,
    ArrayLike,
    DType,
    Scalar,
    Shape,
    to_shape_dtype_struct,
)

__all__ = [
    "AbstractArray",
    "AbstractScalar",
    "AbstractShardedArray",
    "ArrayLike",
    "DType",
    "Scalar",
    "Shape",
    "to_shape_dtype_struct",
]


def __dir__() -> list[str]:
    return __all__
