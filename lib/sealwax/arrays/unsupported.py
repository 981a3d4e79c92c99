"""Saying why a value cannot be stored, and what can be done about it."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from sealwax.errors import UnsupportedLeafError

STORABLE = "an array, a number, a string or bytes"

_BY_TYPE: tuple[tuple[tuple[type, ...], str, str], ...] = (
    (
        (types.EllipsisType,),
        "`...` marks a leaf to skip when loading and has no value to save",
        "Put the value there, or leave the leaf out.",
    ),
    (
        (set, frozenset),
        "A set has no order to store its members in",
        "Save `sorted(value)` and make it a set again after loading.",
    ),
    (
        (enum.Enum,),
        "A member of an enumeration cannot be stored as one",
        (
            "Save `value.name` or `value.value`, or register "
            "`sealwax.handlers.enum_handler(type(value))` in ctx.pytree.leaf_handlers."
        ),
    ),
    (
        (type,),
        "A type describes leaves of a template and has no value to save",
        "Put a value of that type there.",
    ),
    ((pathlib.PurePath,), "A path cannot be stored as one", "Save `str(value)`."),
    (
        (datetime.date, datetime.time),
        "A date or time cannot be stored as one",
        "Save `value.isoformat()`.",
    ),
    (
        (datetime.timedelta,),
        "A time difference cannot be stored as one",
        "Save `value.total_seconds()`.",
    ),
    (
        (decimal.Decimal, fractions.Fraction),
        "A decimal or fraction cannot be stored exactly",
        "Save `str(value)` or `float(value)`.",
    ),
    (
        (bytearray, memoryview),
        "A buffer that can change cannot be stored",
        "Save `bytes(value)`.",
    ),
    (
        (dict, list, tuple),
        "A container was taken for a leaf",
        (
            "JAX takes a class derived from a container for a leaf: convert it to the plain one, "
            "or register it with `jax.tree_util`."
        ),
    ),
    (
        (range, types.GeneratorType),
        "Something to iterate over cannot be stored",
        "Save `list(value)` or `np.asarray(list(value))`.",
    ),
)

_BY_DTYPE_KIND: dict[str, tuple[str, str]] = {
    "O": (
        "an array of Python objects cannot be stored",
        "Convert it with `.astype(...)` to a numeric dtype, or save `.tolist()`.",
    ),
    "U": ("an array of strings cannot be stored", "Save `.tolist()`, a list of strings."),
    "T": ("an array of strings cannot be stored", "Save `.tolist()`, a list of strings."),
    "S": ("an array of bytes cannot be stored", "Save `.tolist()`, a list of bytes."),
    "M": ("an array of dates cannot be stored", "Save `.view('int64')` and the unit."),
    "m": ("an array of time differences cannot be stored", "Save `.view('int64')` and the unit."),
    "V": (
        "a structured array cannot be stored",
        "Save its fields as a dict: `{name: value[name] for name in value.dtype.names}`.",
    ),
    "f": ("this precision cannot be stored portably", "Convert it with `.astype('float64')`."),
    "c": ("this precision cannot be stored portably", "Convert it with `.astype('complex128')`."),
}


def explain(value: object) -> UnsupportedLeafError:
    """The error for a leaf that cannot be stored; the caller adds the leaf's name."""
    explained = _explain_jax(value) or _explain_numpy(value)
    if explained is not None:
        return explained
    found = _type_name(value)
    for kinds, what, hint in _BY_TYPE:
        if isinstance(value, kinds):
            return _error(what, found, hint)
    if callable(value):
        return _error(
            "A function cannot be stored",
            found,
            "Keep it out of the tree, as a static field or with `jax.tree.map` over the arrays.",
        )
    return _error("No checkpoint can hold a leaf of this type", found, _advice(value))


def _advice(value: object) -> str:
    if dataclasses.is_dataclass(value):
        return (
            "Register its class with `jax.tree_util.register_dataclass`, or register a "
            "`sealwax.handlers.LeafHandler` for it in ctx.pytree.leaf_handlers."
        )
    if hasattr(value, "__array__"):
        return "Convert it with `np.asarray(value)`."
    return (
        "Convert it, register its class as a pytree with `jax.tree_util`, or register a "
        "`sealwax.handlers.LeafHandler` for it in ctx.pytree.leaf_handlers."
    )


def _explain_jax(value: Any) -> UnsupportedLeafError | None:
    jax = sys.modules.get("jax")
    if jax is None:
        return None
    if isinstance(value, jax.core.Tracer):
        return _error(
            "The leaf is a tracer, which has no value yet: save was called inside `jit`, `grad`, "
            "`vmap`, `scan` or another transformation",
            f"{_type_name(value)} for {value.aval.str_short()}",
            "Return the value and save it outside, or call save through `jax.debug.callback`.",
        )
    if isinstance(value, jax.ShapeDtypeStruct):
        return _error(
            "A ShapeDtypeStruct describes an array and has no data to save",
            _type_name(value),
            "Pass it to `load` as a template, or save the array itself.",
        )
    if not isinstance(value, jax.Array):
        return None
    if cast(Callable[[], bool], value.is_deleted)():
        return _error(
            "The array was deleted or donated to a jitted function",
            f"{value.dtype}{list(value.shape)} without data",
            "Save before the call that donates it, or save that call's result.",
        )
    return _error("No checkpoint can hold this dtype", str(value.dtype), "Cast it with `.astype`.")


def _explain_numpy(value: object) -> UnsupportedLeafError | None:
    if isinstance(value, np.ma.MaskedArray):
        return _error(
            "A masked array would lose its mask",
            "a masked array",
            "Save `{'data': value.data, 'mask': np.ma.getmaskarray(value)}`.",
        )
    if not isinstance(value, (np.ndarray, np.generic)):
        return None
    dtype: np.dtype[Any] = cast("np.ndarray[Any, np.dtype[Any]]", value).dtype
    if dtype.names == ("float0",):
        return _error(
            "An array of float0 has no data: it is the gradient of an integer",
            "float0",
            "Leave it out, or save `np.zeros(value.shape, bool)`.",
        )
    what, hint = _BY_DTYPE_KIND.get(
        dtype.kind, ("this dtype cannot be stored", "Cast it with `.astype`.")
    )
    return _error(f"The dtype is not one that checkpoints hold: {what}", f"dtype {dtype}", hint)


def _error(what: str, found: str, hint: str) -> UnsupportedLeafError:
    return UnsupportedLeafError(what, expected=STORABLE, found=found, hint=hint)


def _type_name(value: object) -> str:
    kind = type(value)
    name = kind.__qualname__
    return name if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{name}"
