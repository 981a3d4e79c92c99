"""Where each kind of leaf lies in a checkpoint, and what Orbax makes of it there.

===============================  =======================  =================================
leaf                             stored                   Orbax reads
===============================  =======================  =================================
JAX array, typed key array       array                    the same
NumPy array                      array                    the same
``int``, ``float``, ``bool``     array of rank 0          the same
NumPy scalar, int or float       array of rank 0          a Python number
NumPy scalar, any other dtype;   array of rank 0          an array of rank 0
``complex``
``str``                          ``_strings.json``        the same
``bytes`` beyond 64 KiB          array of ``uint8``       the ``uint8`` array
any array of a carried dtype     array of ``uint8``       ``None``
array of more than 32 axes       array                    ``None``
other ``bytes``, integer beyond  inline in the manifest   ``None``
64 bits, array without elements
===============================  =======================  =================================

Orbax would load the third row's dtypes as scalars too, but cannot then list the checkpoint.
"""

from __future__ import annotations

import base64
import binascii
import enum
from typing import Any, NamedTuple, TypeAlias, assert_never, cast

import numpy as np

from sealwax.arrays import dtypes
from sealwax.arrays.leafkinds import LeafKind, key_impl
from sealwax.errors import CorruptionError, InternalError

INLINE_BYTES = 64 * 1024
_TENSORSTORE_AXES = 32

_Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


class Placement(enum.Enum):
    """Where a leaf is stored; ``STRUCTURE`` leaves are all said by the record of the tree."""

    ARRAY = "array"
    STRING = "string"
    INLINE = "inline"
    STRUCTURE = "structure"


def placement(kind: LeafKind, value: object) -> Placement:
    """Where the leaf is stored."""
    match kind:
        case LeafKind.STRING:
            return Placement.STRING
        case LeafKind.BIG_INT | LeafKind.EMPTY_ARRAY:
            return Placement.INLINE
        case LeafKind.BYTES:
            inline = len(cast(bytes, value)) <= INLINE_BYTES
            return Placement.INLINE if inline else Placement.ARRAY
        case LeafKind.EMPTY_NODE:
            return Placement.STRUCTURE
        case (
            LeafKind.JAX_ARRAY
            | LeafKind.JAX_KEY
            | LeafKind.NUMPY_ARRAY
            | LeafKind.NUMPY_SCALAR
            | LeafKind.INT
            | LeafKind.FLOAT
            | LeafKind.COMPLEX
            | LeafKind.BOOL
        ):
            return Placement.ARRAY
        case _:
            assert_never(kind)


def array_value_type(name: str, storage: dtypes.Storage, rank: int) -> str:
    """``name``, or ``"None"`` for an array that Orbax could only misread or not open."""
    return "None" if storage.carried or rank > _TENSORSTORE_AXES else name


def orbax_value_type(kind: LeafKind, value: Any) -> str:
    """The ``value_type`` of the leaf in Orbax's metadata; ``"None"`` hides it from Orbax.

    >>> orbax_value_type(LeafKind.INT, 3), orbax_value_type(LeafKind.BYTES, b"x")
    ('scalar', 'None')
    """
    match kind:
        case LeafKind.JAX_KEY:
            return "jax.Array"
        case LeafKind.JAX_ARRAY:
            return array_value_type("jax.Array", dtypes.storage_dtype(value.dtype), value.ndim)
        case LeafKind.NUMPY_ARRAY:
            return array_value_type("np.ndarray", dtypes.storage_dtype(value.dtype), value.ndim)
        case LeafKind.NUMPY_SCALAR:
            if dtypes.storage_dtype(value.dtype).carried:
                return "None"
            return "scalar" if isinstance(value, (np.integer, np.floating)) else "np.ndarray"
        case LeafKind.INT | LeafKind.FLOAT | LeafKind.BOOL:
            return "scalar"
        case LeafKind.COMPLEX:
            return "np.ndarray"
        case LeafKind.STRING:
            return "string"
        case LeafKind.BYTES:
            return "np.ndarray" if len(value) > INLINE_BYTES else "None"
        case LeafKind.BIG_INT | LeafKind.EMPTY_ARRAY:
            return "None"
        case LeafKind.EMPTY_NODE:
            return {dict: "Dict", list: "List", tuple: "Tuple"}.get(value.__class__, "None")
        case _:
            assert_never(kind)


def host_array(kind: LeafKind, value: Any) -> _Array:
    """The array that stands for a leaf of the host; arrays and bytes are not copied.

    Raises:
      InternalError: Leaves of this kind are not stored as host arrays.
    """
    match kind:
        case LeafKind.NUMPY_ARRAY | LeafKind.NUMPY_SCALAR:
            return np.asarray(value)
        case LeafKind.INT:
            return np.asarray(value, np.int64 if value < 1 << 63 else np.uint64)
        case LeafKind.FLOAT:
            return np.asarray(value, np.float64)
        case LeafKind.COMPLEX:
            return np.asarray(value, np.complex128)
        case LeafKind.BOOL:
            return np.asarray(value, np.bool_)
        case LeafKind.BYTES:
            return np.frombuffer(value, np.uint8)
        case (
            LeafKind.JAX_ARRAY
            | LeafKind.JAX_KEY
            | LeafKind.STRING
            | LeafKind.BIG_INT
            | LeafKind.EMPTY_ARRAY
            | LeafKind.EMPTY_NODE
        ):
            raise InternalError(f"A {kind.value} was taken for an array of the host")
        case _:
            assert_never(kind)


def from_host_array(kind: LeafKind, array: _Array) -> Any:
    """The leaf that ``host_array`` was given.

    Raises:
      InternalError: Leaves of this kind are not stored as host arrays.
    """
    match kind:
        case LeafKind.NUMPY_ARRAY:
            return array
        case LeafKind.NUMPY_SCALAR:
            return array[()]
        case LeafKind.INT:
            return int(array)
        case LeafKind.FLOAT:
            return float(array)
        case LeafKind.COMPLEX:
            return complex(array)
        case LeafKind.BOOL:
            return bool(array)
        case LeafKind.BYTES:
            return array.tobytes()
        case (
            LeafKind.JAX_ARRAY
            | LeafKind.JAX_KEY
            | LeafKind.STRING
            | LeafKind.BIG_INT
            | LeafKind.EMPTY_ARRAY
            | LeafKind.EMPTY_NODE
        ):
            raise InternalError(f"A {kind.value} was looked for in an array of the host")
        case _:
            assert_never(kind)


def inline_record(value: Any) -> dict[str, Any]:
    """What the manifest keeps of a leaf stored inline: plain data that JSON can hold.

    Args:
      value: A leaf whose placement is ``INLINE``.

    >>> inline_record(b"wax"), inline_record(1 << 64)
    ({'type': 'bytes', 'base64': 'd2F4'}, {'type': 'int', 'hex': '0x10000000000000000'})
    """
    if isinstance(value, bytes):
        return {"type": "bytes", "base64": base64.b64encode(value).decode()}
    if isinstance(value, int):
        # Python bounds the decimal digits that it converts, not the hexadecimal ones.
        return {"type": "int", "hex": hex(value)}
    shape = [int(extent) for extent in value.shape]
    storage = dtypes.find_storage(value.dtype)
    if storage is None:
        return {"type": "key", "shape": shape, "impl": key_impl(value)}
    library = "numpy" if isinstance(value, np.ndarray) else "jax"
    return {"type": library, "shape": shape, "dtype": storage.logical}


def from_inline_record(record: dict[str, Any]) -> bytes | int:
    """The bytes or the integer that ``inline_record`` was given.

    Raises:
      CorruptionError: Neither has this record.
    """
    try:
        match record["type"]:
            case "bytes":
                return base64.b64decode(record["base64"], validate=True)
            case "int":
                return int(record["hex"], 16)
            case _:
                pass
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise _damaged() from error
    raise _damaged()


class Empty(NamedTuple):
    """An array without elements: all there is to know of it.

    Attributes:
      kind: Whether it was an array of JAX, of NumPy, or of typed keys.
      shape: Its shape; for typed keys that of their data.
      dtype: Its dtype; for typed keys that of their data.
      key_impl: Implementation of the keys.
    """

    kind: LeafKind
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    key_impl: str | None


def empty_array(record: dict[str, Any]) -> Empty:
    """The array without elements that ``inline_record`` was given.

    Raises:
      CorruptionError: No such array has this record.

    >>> empty_array(inline_record(np.zeros((2, 0)))).shape
    (2, 0)
    """
    try:
        shape = tuple(map(int, record["shape"]))
        if 0 not in shape:
            raise ValueError(shape)
        match record["type"]:
            case "numpy":
                return Empty(LeafKind.NUMPY_ARRAY, shape, dtypes.from_name(record["dtype"]), None)
            case "jax":
                return Empty(LeafKind.JAX_ARRAY, shape, dtypes.from_name(record["dtype"]), None)
            case "key":
                return _empty_keys(shape, record["impl"])
            case _:
                pass
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged() from error
    raise _damaged()


def _empty_keys(shape: tuple[int, ...], impl: str) -> Empty:
    import jax

    words = jax.random.key_data(jax.random.key(0, impl=impl)).shape
    return Empty(LeafKind.JAX_KEY, (*shape, *words), np.dtype(np.uint32), impl)


def _damaged() -> CorruptionError:
    return CorruptionError(
        "The record of a small leaf cannot be read",
        expected="bytes, an integer, or an array without elements",
        found="something else",
        hint="The manifest is damaged, or was written by a newer version.",
    )
