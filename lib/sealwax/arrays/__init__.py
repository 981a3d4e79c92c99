"""Arrays as pure values: how they are described, chunked, encoded and classified.

The names here are those that Orbax v1 has in its own ``arrays``; none of them imports jax.
"""

from sealwax.arrays.abstract import AbstractArray as AbstractArray
from sealwax.arrays.abstract import AbstractScalar as AbstractScalar
from sealwax.arrays.abstract import AbstractShardedArray as AbstractShardedArray
from sealwax.arrays.abstract import ArrayLike as ArrayLike
from sealwax.arrays.abstract import DType as DType
from sealwax.arrays.abstract import Scalar as Scalar
from sealwax.arrays.abstract import Shape as Shape
from sealwax.arrays.abstract import to_shape_dtype_struct as to_shape_dtype_struct
