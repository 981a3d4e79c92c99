"""Typed PRNG keys: the dtype of an implementation's keys, and the data that they are."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


def _jax() -> Any:
    import jax as _jax

    return _jax


@lru_cache(maxsize=64)
def is_key_dtype(dtype: Any) -> bool:
    """Whether this is the dtype of typed PRNG keys."""
    kinds = _jax().dtypes
    return bool(kinds.issubdtype(dtype, kinds.prng_key))


@lru_cache(maxsize=64)
def key_dtype(impl: str) -> Any:
    """The dtype of typed keys of an implementation.

    >>> key_dtype("threefry2x32")
    key<fry>
    """
    jax = _jax()
    return jax.eval_shape(lambda: jax.random.key(0, impl=impl)).dtype


@lru_cache(maxsize=64)
def key_words(dtype: Any) -> tuple[int, ...]:
    """The shape of the ``uint32`` data of one key.

    >>> key_words(key_dtype("rbg"))
    (4,)
    """
    jax = _jax()
    return jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct((), dtype)).shape


@lru_cache(maxsize=64)
def impl_of(dtype: Any) -> str:
    """The name of the implementation of typed keys of this dtype.

    >>> impl_of(key_dtype("unsafe_rbg"))
    'unsafe_rbg'
    """
    jax = _jax()
    found: list[Any] = []

    def note(keys: Any) -> None:
        found.append(jax.random.key_impl(keys))

    # JAX tells it of keys, or of what stands for keys while a function is traced.
    jax.eval_shape(note, jax.ShapeDtypeStruct((), dtype))
    return str(found[0])
