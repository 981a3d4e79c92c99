"""Putting host buffers on devices."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax as _jax
import numpy as np

from sealwax.effects import Place, Placement
from sealwax.runtime import garbage
from sealwax.runtime.transfer import available, like

jax: Any = _jax  # Half of its own types are unknown to a strict checker.
Buffers: TypeAlias = "Sequence[np.ndarray[Any, Any]]"


def place(effect: Place) -> list[Any]:
    """Makes one JAX array of each placement, with one transfer for the whole batch.

    JAX's settings belong to threads: those of the caller's are put in force here first.
    """
    with contextlib.ExitStack() as settings:
        if effect.default_device is not None:
            settings.enter_context(jax.default_device(effect.default_device))
        if effect.x64 != jax.config.jax_enable_x64:
            settings.enter_context(jax.enable_x64(effect.x64))
        settings.enter_context(garbage.paused(len(effect.arrays)))
        return _place(effect)


def nbytes(effect: Place) -> int:
    """How many bytes there are to put on devices."""
    buffers: Buffers = effect.buffers  # pyright: ignore[reportAssignmentType]
    return sum([buffer.nbytes for buffer in buffers])


def _place(effect: Place) -> list[Any]:
    buffers: Buffers = effect.buffers  # pyright: ignore[reportAssignmentType]
    arrays = effect.arrays
    alike = _alike(arrays, buffers)
    firsts = [numbers[0] for numbers in alike]
    made: list[Any] = [None] * len(arrays)
    for (first, *others), value in zip(
        alike, _put([arrays[first] for first in firsts], buffers), strict=True
    ):
        made[first] = value
        if others:
            sharded = arrays[first].sharding is not None
            make = like(value, [d for _, d in arrays[first].parts] if sharded else None)
            for number in others:
                shards: list[np.ndarray[Any, Any]] = []
                for part, _ in arrays[number].parts:
                    shards.append(buffers[part])
                made[number] = make(shards)
    return [
        value if array.key_impl is None and array.layout is None else _finish(array, value)
        for array, value in zip(arrays, made, strict=True)
    ]


def _alike(arrays: Sequence[Placement], buffers: Buffers) -> list[list[int]]:
    """The numbers of the arrays, those together that can be made like the first of them."""
    if not available():
        return [[number] for number in range(len(arrays))]
    groups: dict[object, list[int]] = {}
    for number, array in enumerate(arrays):
        form: object = number
        if array.parts and array.layout is None:
            held = buffers[array.parts[0][0]].dtype
            form = (array.shape, id(array.dtype), id(array.sharding), id(held))
        groups.setdefault(form, []).append(number)
    found: list[list[int]] = []
    for numbers in groups.values():
        same = len(numbers) > 1 and _can_be_alike(arrays[numbers[0]], buffers)
        found += [numbers] if same else [[number] for number in numbers]
    return found


def _can_be_alike(array: Placement, buffers: Buffers) -> bool:
    # JAX may narrow what it is given, and only it knows when.
    narrowed = jax.dtypes.canonicalize_dtype(array.dtype) != buffers[array.parts[0][0]].dtype
    return not narrowed and (array.sharding is None or _in_default_memory(array))


def _put(arrays: Sequence[Placement], buffers: Buffers) -> list[Any]:
    """Makes arrays by JAX's public functions, with one transfer for all."""
    free = [buffers[a.parts[0][0]] for a in arrays if a.sharding is None]
    fixed = [(buffers[part], d) for a in arrays if a.sharding for part, d in _targets(a)]
    by_default = iter(jax.device_put(free))
    moved = iter(jax.device_put([b for b, _ in fixed], [d for _, d in fixed]))
    return [
        next(by_default)
        if array.sharding is None
        else jax.make_array_from_single_device_arrays(
            array.shape, array.sharding, [next(moved) for _ in array.parts], dtype=array.dtype
        )
        for array in arrays
    ]


def _targets(array: Placement) -> Sequence[tuple[int, Any]]:
    """Which buffer goes to which device, and there to which memory."""
    if _in_default_memory(array):
        return array.parts
    kind = array.sharding.memory_kind
    return [
        (part, jax.sharding.SingleDeviceSharding(device, memory_kind=kind))
        for part, device in array.parts
    ]


def _in_default_memory(array: Placement) -> bool:
    kind = array.sharding.memory_kind
    return kind is None or not array.parts or kind == array.parts[0][1].default_memory().kind


def _finish(array: Placement, made: Any) -> Any:
    if array.layout is not None:
        made = jax.device_put(made, array.layout)
    return made if array.key_impl is None else jax.random.wrap_key_data(made, impl=array.key_impl)
