"""What each leaf becomes when it is loaded: decided from what is stored and what is wanted."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from sealwax.arrays.casts import Cast, classify_cast, narrows
from sealwax.arrays.leafforms import from_inline_record
from sealwax.arrays.leafkinds import LeafKind
from sealwax.arrays.prng import impl_of, is_key_dtype, key_dtype, key_words
from sealwax.errors import CorruptionError, LeafError, LeafMismatchError, UnsupportedLeafError
from sealwax.planning.contents import StoredArray, StoredLeaf, empty_value
from sealwax.planning.placements import (
    check_width,
    layout_of,
    of_key_data,
    saved_sharding,
    sharding_of,
)


class Ready(Struct, frozen=True):
    """A leaf that needs no reading."""

    value: object


class ToHost(Struct, frozen=True, gc=False):
    """An array that becomes a NumPy array, or a Python or NumPy scalar of ``kind``."""

    array: StoredArray
    dtype: np.dtype[Any]
    kind: LeafKind
    shape: tuple[int, ...]


class ToDevice(Struct, frozen=True, gc=False):
    """An array that becomes a JAX array.

    Attributes:
      array: What is stored; of typed keys, their data.
      dtype: What its elements become.
      shape: What its shape becomes.
      sharding: Where it goes; ``None`` is JAX's default placement.
      layout: How it lies on its devices, as a ``Format`` of JAX; ``None`` is the default.
    """

    array: StoredArray
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    sharding: Any = None
    layout: Any = None


Target: TypeAlias = Ready | ToHost | ToDevice


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a template may ask for.

    Attributes:
      x64: Whether JAX has 64-bit types.
      mesh: The devices for shardings on an abstract mesh, if there are any.
      lossy: Whether a cast may lose information.
      resize: Whether a template's array may be shorter or longer than what is stored.
    """

    x64: bool = False
    mesh: Any = None
    lossy: bool = False
    resize: bool = False


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
_HINT_CAST = (
    "Load it with the stored dtype and cast it afterwards with astype, or set "
    'ctx.array.loading.casting = "unsafe".'
)


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
      CorruptionError: What is stored cannot be loaded.
    """
    if leaf.damage is not None:
        raise leaf.damage
    if leaf.kind is LeafKind.EMPTY_NODE:
        return Ready(empty_value(leaf))
    if leaf.array is None:
        return Ready(_inline(leaf))
    array = leaf.array
    if leaf.kind in (LeafKind.JAX_ARRAY, LeafKind.JAX_KEY):
        sharding = None if devices is None else saved_sharding(array, devices)
        check_width(array.dtype, x64)
        return ToDevice(array, array.dtype, array.shape, sharding)
    return ToHost(array, array.dtype, leaf.kind, array.shape)


def target(leaf: StoredLeaf, wanted: Any, rules: Rules) -> Target:
    """The target of a leaf that a template's leaf ``wanted`` asks for.

    Raises:
      LeafError: What is stored does not fit, or no leaf can be restored like ``wanted``.
      CorruptionError: What is stored cannot be loaded.
    """
    if leaf.damage is not None:
        raise leaf.damage
    kind = _stands_for(cast("type[object]", type(wanted)))
    if kind is not None:
        return _for_type(leaf, wanted if kind is type else kind, rules)
    if not hasattr(wanted, "shape") or not hasattr(wanted, "dtype"):
        raise UnsupportedLeafError(
            "A template cannot have a leaf of this type",
            expected="an array, a jax.ShapeDtypeStruct, a scalar, a string, or a type of these",
            found=type(wanted).__name__,
        )
    return _for_array(leaf, wanted, rules)


def aiming(rules: Rules) -> Callable[[StoredLeaf, Any], Target]:
    """``target`` for many leaves: what was decided for one serves those that are like it.

    Shardings and dtypes are told apart by identity: what is alike and another is decided again.
    Some leaves make theirs anew whenever they are asked, so what was remembered is kept. Template
    and leaves have to outlive the function.
    """
    known: dict[tuple[object, ...], ToDevice] = {}
    kept: list[object] = []

    def aim(leaf: StoredLeaf, wanted: Any) -> Target:
        array = leaf.array
        if (
            array is None
            or leaf.damage is not None
            or not _has_form(cast("type[object]", type(wanted)))
        ):
            return target(leaf, wanted, rules)
        try:
            sharding = wanted.sharding
        except TypeError:  # It has none without the current mesh.
            return target(leaf, wanted, rules)
        dtype, layout = wanted.dtype, getattr(wanted, "_dll", None)
        committed = getattr(wanted, "committed", True)
        asked = (wanted.shape, id(dtype), id(sharding), committed, id(layout))
        form = (asked, array.shape, id(array.dtype), array.key_impl)
        found = known.get(form)
        if found is not None:
            return replace(found, array=array)
        made = target(leaf, wanted, rules)
        if isinstance(made, ToDevice) and made.array is array:
            known[form] = made
            kept.extend((sharding, dtype))
        return made

    return aim


@functools.lru_cache(maxsize=256)
def _has_form(kind: type) -> bool:
    """Whether a template's leaf of this type is an array of JAX, or stands for one."""
    import jax as _jax

    jax: Any = _jax
    concrete = issubclass(kind, jax.Array) and not issubclass(kind, jax.core.Tracer)
    return concrete or kind is jax.ShapeDtypeStruct


@functools.lru_cache(maxsize=256)
def _stands_for(kind: type) -> type | None:
    """What a template's leaf of this type asks for by its type alone; ``type`` for a type."""
    if issubclass(kind, type):
        return type
    if issubclass(kind, (str, bytes)):
        return str if issubclass(kind, str) else bytes
    if issubclass(kind, np.generic):
        return None
    return next((scalar for scalar in _SCALARS if issubclass(kind, scalar)), None)


def _for_type(leaf: StoredLeaf, wanted: type, rules: Rules) -> Target:
    if leaf.array is None or leaf.kind is LeafKind.BYTES:
        return _value(leaf, wanted)
    if wanted in (str, bytes):
        raise _mismatch(leaf, _a(wanted.__name__))
    array = leaf.array
    kind = next((_SCALARS[t] for t in _SCALARS if issubclass(wanted, t)), None)
    if issubclass(wanted, np.generic):
        dtype: np.dtype[Any] = np.dtype(cast(Any, wanted))
        return ToHost(_scalar(leaf), _cast(array, dtype, rules), LeafKind.NUMPY_SCALAR, ())
    if kind is not None:
        scalar = _scalar(leaf)
        dtype = _cast(scalar, _SCALAR_DTYPES[kind], rules)
        return ToHost(scalar, dtype if rules.lossy else scalar.dtype, kind, ())
    if issubclass(wanted, np.ndarray):
        return ToHost(array, array.dtype, LeafKind.NUMPY_ARRAY, array.shape)
    import jax

    if issubclass(wanted, (jax.Array, jax.ShapeDtypeStruct)):
        check_width(array.dtype, rules.x64)
        return ToDevice(array, array.dtype, array.shape)
    raise UnsupportedLeafError(
        "A template cannot have a leaf of this type",
        expected="jax.Array, jax.ShapeDtypeStruct, np.ndarray, a scalar type, str or bytes",
        found=wanted.__name__,
    )


def _for_array(leaf: StoredLeaf, wanted: Any, rules: Rules) -> Target:
    if leaf.array is None:
        raise _mismatch(leaf, _describe(wanted.shape, wanted.dtype))
    given: object = wanted.dtype
    if not isinstance(given, np.dtype) and is_key_dtype(given):
        return _for_keys(leaf, leaf.array, wanted, rules)
    dtype: np.dtype[Any] = np.dtype(cast("Any", given))
    array: StoredArray = leaf.array
    shape: tuple[int, ...] = tuple(wanted.shape)
    # The shape and dtype of typed keys' data stand for the keys, as to_shape_dtype_struct has it.
    if array.key_impl is not None and (dtype != array.dtype or shape != array.shape):
        raise _mismatch(leaf, _describe(shape, dtype))
    _check_shape(shape, array.shape, rules)
    dtype = _cast(array, dtype, rules)
    if isinstance(wanted, np.generic):
        return ToHost(_scalar(leaf), dtype, LeafKind.NUMPY_SCALAR, ())
    kind = cast("type[object]", type(wanted))
    # The class is asked first: a tracer's own sharding cannot be had.
    if not hasattr(kind, "sharding") and not hasattr(wanted, "sharding"):
        return ToHost(array, dtype, LeafKind.NUMPY_ARRAY, shape)
    check_width(dtype, rules.x64)
    return ToDevice(array, dtype, shape, sharding_of(wanted, rules.mesh), layout_of(wanted))


def _for_keys(leaf: StoredLeaf, array: StoredArray, wanted: Any, rules: Rules) -> Target:
    """Typed keys, from typed keys or from the bare data of keys."""
    found, words = array.key_impl, key_words(wanted.dtype)
    bare = found is None and array.dtype == np.uint32 and array.shape[-len(words) :] == words
    if not bare and (found is None or key_dtype(found) != wanted.dtype):
        raise _mismatch(leaf, f"PRNG keys of dtype {wanted.dtype}")
    shape = (*tuple(wanted.shape), *words)
    if shape != array.shape:
        rank = len(array.shape) - len(words)
        raise _other_shape(tuple(wanted.shape), array.shape[:rank])
    if bare:
        array = replace(array, key_impl=impl_of(wanted.dtype))
    placed = sharding_of(wanted, rules.mesh)
    if placed is not None:
        placed = of_key_data(placed, len(shape))
    return ToDevice(array, array.dtype, shape, placed)


def _check_shape(wanted: tuple[int, ...], stored: tuple[int, ...], rules: Rules) -> None:
    if wanted != stored and not (rules.resize and len(wanted) == len(stored)):
        raise _other_shape(wanted, stored)


def _other_shape(wanted: tuple[int, ...], stored: tuple[int, ...]) -> LeafMismatchError:
    hint = "Change the template's leaf, or put ... in its place to skip it."
    if len(wanted) == len(stored):
        hint += " To cut or to fill with zeros: ctx.array.loading.enable_padding_and_truncation."
    return LeafMismatchError(
        "What is stored does not fit the template",
        expected=f"shape {_shape(wanted)}",
        found=f"shape {_shape(stored)}",
        hint=hint,
    )


def _value(leaf: StoredLeaf, wanted: type) -> Target:
    target = as_saved(leaf)
    if isinstance(target, ToHost):
        if wanted is bytes:
            return target
    elif isinstance(target, Ready) and isinstance(target.value, wanted):
        return target
    raise _mismatch(leaf, _a(wanted.__name__))


def _inline(leaf: StoredLeaf) -> object:
    if leaf.kind is not LeafKind.STRING:
        return from_inline_record(leaf.data)
    data: Any = leaf.data
    text: object = cast("dict[str, Any]", data).get("hidden") if isinstance(data, dict) else data
    if not isinstance(text, str):
        raise CorruptionError(
            "The record of a string is damaged",
            found=repr(text),
            hint="Load an earlier checkpoint, or skip the leaf with ... in a template.",
        )
    return text


def _scalar(leaf: StoredLeaf) -> StoredArray:
    array = leaf.array
    if array is None or array.shape or array.key_impl is not None:
        raise _mismatch(leaf, "a scalar")
    return array


def _cast(array: StoredArray, dtype: np.dtype[Any], rules: Rules) -> np.dtype[Any]:
    """``dtype``, if the stored elements can become it without loss; of integers, if they fit."""
    if dtype == array.dtype or rules.lossy:
        return dtype
    lossy = classify_cast(array.dtype, dtype) is Cast.LOSSY
    if lossy and not narrows(array.dtype, dtype):
        raise LeafMismatchError(
            f"Converting {array.dtype} to {dtype} would lose information",
            expected=str(dtype),
            found=str(array.dtype),
            hint=_HINT_CAST,
        )
    return dtype


def _mismatch(leaf: StoredLeaf, expected: str, found: str | None = None) -> LeafError:
    return LeafMismatchError(
        "What is stored does not fit the template",
        expected=expected,
        found=found or describe(leaf),
        hint="Change the template's leaf, or put ... in its place to skip it.",
    )


def describe(leaf: StoredLeaf) -> str:
    """A stored leaf in a few words."""
    if leaf.parts is not None:
        return f"a leaf of type {leaf.parts.type_name}"
    if leaf.array is None:
        return _a(leaf.kind.value)
    if leaf.array.key_impl is not None:
        return f"PRNG keys of {leaf.array.key_impl}"
    return f"{_a(leaf.kind.value)} of {_describe(leaf.array.shape, leaf.array.dtype)}"


def _a(noun: str) -> str:
    if noun in ("bytes", "str"):
        return {"bytes": "bytes", "str": "a string"}[noun]
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _describe(shape: Any, dtype: Any) -> str:
    return f"{dtype}{_shape(shape)}"


def _shape(shape: Any) -> str:
    return f"[{', '.join(map(str, shape))}]"
