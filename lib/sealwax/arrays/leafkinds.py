"""Which kind of leaf a value is, or why no checkpoint can hold it.

``classify`` looks at the type first and remembers what it found, so that a leaf of a known type
costs a fraction of a microsecond.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias, cast

import numpy as np
from returns.result import Failure, Result, Success

from sealwax.arrays import dtypes, unsupported
from sealwax.arrays.hostarrays import HostArray
from sealwax.errors import UnsupportedLeafError


class LeafKind(enum.Enum):
    """Every kind of leaf that sealwax stores; the values are what it records.

    ``BIG_INT`` is an integer beyond 64 bits. ``EMPTY_ARRAY`` is an array of no elements, be it
    of JAX, of NumPy or of typed keys. ``EMPTY_NODE`` is ``None`` or an empty dict, list or tuple,
    which Orbax counts among the leaves.
    """

    JAX_ARRAY = "jax array"
    JAX_KEY = "jax key"
    NUMPY_ARRAY = "numpy array"
    NUMPY_SCALAR = "numpy scalar"
    INT = "int"
    FLOAT = "float"
    COMPLEX = "complex"
    BOOL = "bool"
    STRING = "string"
    BYTES = "bytes"
    BIG_INT = "big int"
    EMPTY_ARRAY = "empty array"
    EMPTY_NODE = "empty node"


Verdict: TypeAlias = "Result[LeafKind, UnsupportedLeafError]"

_VERDICTS: dict[LeafKind, Verdict] = {kind: Success(kind) for kind in LeafKind}
_JAX_ARRAY = _VERDICTS[LeafKind.JAX_ARRAY]
_JAX_KEY = _VERDICTS[LeafKind.JAX_KEY]
_NUMPY_ARRAY = _VERDICTS[LeafKind.NUMPY_ARRAY]
_INT = _VERDICTS[LeafKind.INT]
_BIG_INT = _VERDICTS[LeafKind.BIG_INT]
_EMPTY_ARRAY = _VERDICTS[LeafKind.EMPTY_ARRAY]
_EMPTY_NODE = _VERDICTS[LeafKind.EMPTY_NODE]


def classify(value: object) -> Verdict:
    """The kind of a leaf, or the error that says why it cannot be stored and what to do.

    >>> classify(3).unwrap(), classify(np.zeros(3)).unwrap()
    (<LeafKind.INT: 'int'>, <LeafKind.NUMPY_ARRAY: 'numpy array'>)
    >>> print(classify({1, 2}).failure().hint)
    Save `sorted(value)` and make it a set again after loading.
    """
    return _classifier(type(value))(value)


def key_impl(keys: Any) -> str:
    """Full name of a typed key array's implementation, such as ``threefry2x32``."""
    if isinstance(keys, HostArray):
        return str(keys.key_impl)
    import jax

    return str(jax.random.key_impl(keys))


@lru_cache(maxsize=512)
def _classifier(kind: type) -> Callable[[Any], Verdict]:
    jax = sys.modules.get("jax")  # A value of JAX's cannot exist before JAX is imported.
    if jax is not None and issubclass(kind, jax.core.Tracer):
        return _refuse
    if jax is not None and issubclass(kind, jax.Array):
        return _classify_jax
    if issubclass(kind, HostArray):
        return _classify_host
    if issubclass(kind, (np.ndarray, np.generic)):
        return _numpy_classifier(cast(type, kind))
    if issubclass(kind, enum.Enum):
        return _refuse
    for base, classifier in _PLAIN.items():
        if issubclass(kind, base):
            return classifier
    return _refuse


def _numpy_classifier(kind: type) -> Callable[[Any], Verdict]:
    if issubclass(kind, np.ndarray):
        return _refuse if issubclass(kind, np.ma.MaskedArray) else _classify_numpy
    if issubclass(kind, np.str_):
        return _constant(LeafKind.STRING)
    if issubclass(kind, np.bytes_):
        return _constant(LeafKind.BYTES)
    known = dtypes.find_storage(np.dtype(cast("type[np.generic]", kind))) is not None
    return _constant(LeafKind.NUMPY_SCALAR) if known else _refuse


def _constant(kind: LeafKind) -> Callable[[object], Verdict]:
    verdict = _VERDICTS[kind]
    return lambda value: verdict


def _refuse(value: object) -> Verdict:
    return Failure(unsupported.explain(value))


def _classify_jax(value: Any) -> Verdict:
    if value.is_deleted():
        return _refuse(value)
    if 0 in value.shape:
        return _EMPTY_ARRAY
    if dtypes.find_storage(value.dtype) is not None:
        return _JAX_ARRAY
    return _JAX_KEY if _is_key(value) else _refuse(value)


def _classify_host(value: HostArray) -> Verdict:
    if value.key_impl is not None:
        return _JAX_KEY
    return _EMPTY_ARRAY if 0 in value.shape else _JAX_ARRAY


def _is_key(value: Any) -> bool:
    import jax

    kinds = cast(Any, jax.dtypes)
    return bool(kinds.issubdtype(value.dtype, kinds.prng_key))


def _classify_numpy(value: np.ndarray[Any, Any]) -> Verdict:
    if dtypes.find_storage(value.dtype) is None:
        return _refuse(value)
    return _EMPTY_ARRAY if 0 in value.shape else _NUMPY_ARRAY


def _classify_int(value: int) -> Verdict:
    return _INT if -(1 << 63) <= value < 1 << 64 else _BIG_INT


def _classify_container(value: object) -> Verdict:
    return _refuse(value) if value else _EMPTY_NODE


_PLAIN: dict[type, Callable[[Any], Verdict]] = {
    bool: _constant(LeafKind.BOOL),
    int: _classify_int,
    float: _constant(LeafKind.FLOAT),
    complex: _constant(LeafKind.COMPLEX),
    str: _constant(LeafKind.STRING),
    bytes: _constant(LeafKind.BYTES),
    type(None): _constant(LeafKind.EMPTY_NODE),
    dict: _classify_container,
    list: _classify_container,
    tuple: _classify_container,
}
