"""Many arrays of one form: what JAX works out for the first serves the others.

``jax.device_put`` takes 20 to 40 us for an array of any size, most of which goes into finding its
abstract value, default device and sharding. For arrays of one shape, dtype and sharding these are
the same, so the first is made by JAX's public functions, and the others get what it has. The
function that takes them directly is not public; where it is missing, or not what it was, every
array is made like the first.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import jax as _jax
import numpy as np

jax: Any = _jax


def like(
    first: Any, devices: Sequence[Any] | None = None
) -> Callable[[list[np.ndarray[Any, Any]]], Any]:
    """A function that makes arrays of the form of ``first``, which JAX made.

    Args:
      first: An array of the same shape, dtype and sharding.
      devices: The devices, or ``None`` for the one that ``first`` is on.

    Returns:
      A function of the data, one buffer for each device.
    """
    put: Any = _batched_put()
    where = list(first.devices()) if devices is None else list(devices)
    aval, sharding, committed = first.aval, first.sharding, first.committed
    return lambda buffers: put(aval, sharding, buffers, where, committed)


def available() -> bool:
    """Whether arrays can be made like another."""
    return _batched_put() is not None


@functools.cache
def _batched_put() -> Callable[..., Any] | None:
    """JAX's own function, if it does here what it is used for."""
    try:
        put: Any = importlib.import_module("jax._src.lib").xla_client.batched_device_put
        first = jax.device_put(np.zeros(3, np.float32))
        other = np.arange(3, dtype=np.float32)
        made = put(first.aval, first.sharding, [other], list(first.devices()), False)
        same = (made.aval, made.sharding, made.committed) == (first.aval, first.sharding, False)
        return put if same and np.array_equal(made, other) else None
    except Exception:  # Whatever a later JAX makes of it: the public functions remain.
        return None
