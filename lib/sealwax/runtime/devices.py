"""Putting host buffers on devices."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import jax as _jax
import numpy as np

from sealwax.effects import Place, Placement
from sealwax.runtime import garbage

jax: Any = _jax  # Half of its own types are unknown to a strict checker.


def place(effect: Place) -> list[Any]:
    """Makes one JAX array of each placement, with one transfer for the whole batch.

    JAX's settings belong to threads: those of the caller's are put in force here first.
    """
    with contextlib.ExitStack() as settings:
        if effect.default_device is not None:
            settings.enter_context(jax.default_device(effect.default_device))
        if effect.x64 != jax.config.jax_enable_x64:
            settings.enter_context(jax.enable_x64(effect.x64))
        settings.enter_context(garbage.paused())
        return _place(effect)


def _place(effect: Place) -> list[Any]:
    buffers: Sequence[np.ndarray[Any, Any]] = effect.buffers  # pyright: ignore[reportAssignmentType]
    free = [buffers[a.parts[0][0]] for a in effect.arrays if a.sharding is None]
    fixed = [(buffers[part], d) for a in effect.arrays if a.sharding for part, d in _targets(a)]
    by_default = iter(jax.device_put(free))
    moved = iter(jax.device_put([b for b, _ in fixed], [d for _, d in fixed]))
    return [
        _assemble(
            array, [next(moved) for _ in array.parts] if array.sharding else [next(by_default)]
        )
        for array in effect.arrays
    ]


def _targets(array: Placement) -> Sequence[tuple[int, Any]]:
    """Which buffer goes to which device, and there to which memory."""
    kind = array.sharding.memory_kind
    if kind is None or not array.parts or kind == array.parts[0][1].default_memory().kind:
        return array.parts
    return [
        (part, jax.sharding.SingleDeviceSharding(device, memory_kind=kind))
        for part, device in array.parts
    ]


def _assemble(array: Placement, parts: list[Any]) -> Any:
    if array.sharding is None:
        made = parts[0]
    else:
        made = jax.make_array_from_single_device_arrays(
            array.shape, array.sharding, parts, dtype=array.dtype
        )
    if array.layout is not None:
        made = jax.device_put(made, array.layout)
    return made if array.key_impl is None else jax.random.wrap_key_data(made, impl=array.key_impl)
