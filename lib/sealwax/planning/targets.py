"""What each leaf becomes when it is loaded: decided from what is stored and what is wanted."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias, cast

import numpy as np

from sealwax.arrays import dtypes, sharding_record
from sealwax.arrays.casts import Cast, classify_cast
from sealwax.arrays.leafforms import from_inline_record
from sealwax.arrays.leafkinds import LeafKind
from sealwax.errors import LeafError, LeafMismatchError, UnsupportedLeafError
from sealwax.planning.contents import StoredArray, StoredLeaf, empty_value


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """A leaf that needs no reading."""

    value: object


@dataclasses.dataclass(frozen=True, slots=True)
class ToHost:
    """An array that becomes a NumPy array, or a Python or NumPy scalar of ``kind``."""

    array: StoredArray
    dtype: np.dtype[Any]
    kind: LeafKind


@dataclasses.dataclass(frozen=True, slots=True)
class ToDevice:
    """An array that becomes a JAX array; ``sharding=None`` is JAX's default placement."""

    array: StoredArray
    dtype: np.dtype[Any]
    sharding: Any


Target: TypeAlias = Ready | ToHost | ToDevice

_SCALARS: dict[type, LeafKind] = {
    bool: LeafKind.BOOL,
    int: LeafKind.INT,
    float: LeafKind.FLOAT,
    complex: LeafKind.COMPLEX,
}
_SCALAR_DTYPES = {
    LeafKind.BOOL: np.dtype(np.bool_),
    LeafKind.INT: np.dtype(np.int64),
    LeafKind.FLOAT: np.dtype(np.float64),
    LeafKind.COMPLEX: np.dtype(np.complex128),
}
_HINT_CAST = "Load it with the stored dtype, and cast it afterwards with astype."


def as_saved(
    leaf: StoredLeaf, devices: tuple[Any, ...] | None = None, *, x64: bool = False
) -> Target:
    """The target of a leaf for which there is no template: what it was when it was saved.

    Args:
      leaf: What is stored.
      devices: Devices on which to restore the recorded sharding; ``None`` leaves it alone and
        places JAX arrays by default, whatever the topology.
      x64: Whether JAX has 64-bit types.

    Raises:
      LeafError: The leaf cannot become what it was.
    """
    if leaf.kind is LeafKind.EMPTY_NODE:
        return Ready(empty_value(leaf))
    if leaf.array is None:
        return Ready(_inline(leaf))
    if leaf.kind in (LeafKind.JAX_ARRAY, LeafKind.JAX_KEY):
        sharding = None if devices is None else saved_sharding(leaf.array, devices)
        return _to_device(leaf.array, leaf.array.dtype, sharding, x64)
    return ToHost(leaf.array, leaf.array.dtype, leaf.kind)


def saved_sharding(array: StoredArray, devices: tuple[Any, ...]) -> Any:
    """The recorded sharding on these devices, or ``None`` where they cannot form it."""
    record = None if array.sharding is None else sharding_record.from_json(array.sharding)
    return None if record is None else sharding_record.rebuild(record, devices)


def target(leaf: StoredLeaf, wanted: Any, *, x64: bool = False) -> Target:
    """The target of a leaf that a template's leaf ``wanted`` asks for.

    Raises:
      LeafError: What is stored does not fit, or no leaf can be restored like ``wanted``.
    """
    if isinstance(wanted, type):
        return _for_type(leaf, wanted, x64)
    if isinstance(wanted, (str, bytes)):
        return _for_type(leaf, str if isinstance(wanted, str) else bytes, x64)
    if isinstance(wanted, (bool, int, float, complex)) and not isinstance(wanted, np.generic):
        return _for_type(leaf, next(k for k in _SCALARS if isinstance(wanted, k)), x64)
    if not (hasattr(wanted, "shape") and hasattr(wanted, "dtype")):
        raise UnsupportedLeafError(
            "A template cannot have a leaf of this type",
            expected="an array, a jax.ShapeDtypeStruct, a scalar, a string, or a type of these",
            found=type(wanted).__name__,
        )
    return _for_array(leaf, wanted, x64)


def _for_type(leaf: StoredLeaf, wanted: type, x64: bool) -> Target:
    if leaf.array is None or leaf.kind is LeafKind.BYTES:
        return _value(leaf, wanted)
    if wanted in (str, bytes):
        raise _mismatch(leaf, f"a {wanted.__name__}")
    array = leaf.array
    kind = next((_SCALARS[t] for t in _SCALARS if issubclass(wanted, t)), None)
    if issubclass(wanted, np.generic):
        dtype: np.dtype[Any] = np.dtype(cast(Any, wanted))
        return ToHost(_scalar(leaf), _cast(array, dtype), LeafKind.NUMPY_SCALAR)
    if kind is not None:
        _cast(array, _SCALAR_DTYPES[kind], unsigned=kind is LeafKind.INT)
        return ToHost(_scalar(leaf), array.dtype, kind)
    if issubclass(wanted, np.ndarray):
        return ToHost(array, array.dtype, LeafKind.NUMPY_ARRAY)
    import jax

    if issubclass(wanted, (jax.Array, jax.ShapeDtypeStruct)):
        return _to_device(array, array.dtype, None, x64)
    raise UnsupportedLeafError(
        "A template cannot have a leaf of this type",
        expected="jax.Array, jax.ShapeDtypeStruct, np.ndarray, a scalar type, str or bytes",
        found=wanted.__name__,
    )


def _for_array(leaf: StoredLeaf, wanted: Any, x64: bool) -> Target:
    if leaf.array is None:
        raise _mismatch(leaf, _describe(wanted.shape, wanted.dtype))
    array = leaf.array
    keys = not isinstance(wanted.dtype, np.dtype)
    impl = _impl(wanted) if keys else None
    shape = array.shape[: len(array.shape) - 1] if array.key_impl is not None else array.shape
    if keys and array.key_impl != impl:
        raise _mismatch(leaf, f"PRNG keys of {impl}")
    if not keys and array.key_impl is not None:
        raise _mismatch(leaf, _describe(wanted.shape, wanted.dtype))
    if tuple(wanted.shape) != shape:
        raise _mismatch(leaf, f"shape {_shape(wanted.shape)}", f"shape {_shape(shape)}")
    dtype = array.dtype if keys else _cast(array, np.dtype(wanted.dtype))
    if isinstance(wanted, np.generic):
        return ToHost(_scalar(leaf), dtype, LeafKind.NUMPY_SCALAR)
    if not hasattr(wanted, "sharding"):
        return ToHost(array, dtype, LeafKind.NUMPY_ARRAY)
    sharding = wanted.sharding
    if sharding is not None and not getattr(wanted, "committed", True):
        # An uncommitted array follows what it is combined with; a committed one would not.
        sharding = None
    return _to_device(array, dtype, sharding, x64)


_NARROW = {"int64": "int32", "uint64": "uint32", "float64": "float32", "complex128": "complex64"}


def _to_device(array: StoredArray, dtype: np.dtype[Any], sharding: Any, x64: bool) -> ToDevice:
    if not x64 and dtype.name in _NARROW:
        raise LeafMismatchError(
            f"JAX would truncate {dtype} to {_NARROW[dtype.name]}",
            hint='Call jax.config.update("jax_enable_x64", True), or put an np.ndarray in the '
            "template to load it as it is.",
        )
    return ToDevice(array, dtype, sharding)


def _value(leaf: StoredLeaf, wanted: type) -> Target:
    target = as_saved(leaf)
    if isinstance(target, ToHost):
        if wanted is bytes:
            return target
    elif isinstance(target, Ready) and isinstance(target.value, wanted):
        return target
    raise _mismatch(leaf, f"a {wanted.__name__}")


def _inline(leaf: StoredLeaf) -> object:
    if leaf.kind is LeafKind.STRING:
        data = leaf.data
        return cast("dict[str, str]", data)["hidden"] if isinstance(data, dict) else data
    return from_inline_record(leaf.data)


def _scalar(leaf: StoredLeaf) -> StoredArray:
    array = leaf.array
    if array is None or array.shape or array.key_impl is not None:
        raise _mismatch(leaf, "a scalar")
    return array


def _cast(array: StoredArray, dtype: np.dtype[Any], *, unsigned: bool = False) -> np.dtype[Any]:
    """``dtype``, if the stored elements can become it without loss."""
    if unsigned and array.dtype.kind in "iu":
        return dtype
    if classify_cast(array.dtype, dtype) is Cast.LOSSY:
        raise LeafMismatchError(
            f"Converting {array.dtype} to {dtype} would lose information",
            expected=str(dtype),
            found=str(array.dtype),
            hint=_HINT_CAST,
        )
    return dtype


def _impl(keys: Any) -> str:
    return str(keys.dtype).removeprefix("key<").removesuffix(">").replace("fry", "threefry2x32")


def _mismatch(leaf: StoredLeaf, expected: str, found: str | None = None) -> LeafError:
    return LeafMismatchError(
        "What is stored does not fit the template",
        expected=expected,
        found=found or describe(leaf),
        hint="Change the template's leaf, or put ... in its place to skip it.",
    )


def describe(leaf: StoredLeaf) -> str:
    """A stored leaf in a few words."""
    if leaf.array is None:
        return f"a {leaf.kind.value}"
    if leaf.array.key_impl is not None:
        return f"PRNG keys of {leaf.array.key_impl}"
    return f"a {leaf.kind.value} of {_describe(leaf.array.shape, leaf.array.dtype)}"


def _describe(shape: Any, dtype: Any) -> str:
    return f"{dtype}{_shape(shape)}"


def _shape(shape: Any) -> str:
    return f"[{', '.join(map(str, shape))}]"


def storage_of(array: StoredArray) -> dtypes.Storage:
    """How the elements of a stored array lie in the store."""
    return dtypes.storage_dtype(array.dtype)
