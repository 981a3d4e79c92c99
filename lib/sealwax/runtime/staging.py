"""Bringing slabs to the host.

A staged slab is one flat buffer of bytes: its chunks, one after another, as they will be stored.
Where they already lie so in host memory it is a view, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sealwax.arrays.casts import convert, overflow
from sealwax.arrays.compressibility import shrinks
from sealwax.arrays.forms import PINNED, WHOLE, Form, Source, as_bytes
from sealwax.effects import Probe, Slab, Stage
from sealwax.errors import LeafError, LeafRangeError
from sealwax.runtime import garbage

Buffer = np.ndarray[Any, np.dtype[np.uint8]]
_FEW_SLABS = 64


def stage(effect: Stage) -> list[Buffer]:
    """Brings slabs to the host, in order.

    Raises:
      LeafError: An array is no longer there, or has values that its stored dtype does not.
    """
    sources: Sequence[Source] = effect.leaves  # pyright: ignore[reportAssignmentType]
    with garbage.paused(len(effect.slabs)):
        found: list[Buffer] = []
        for slab in effect.slabs:
            source = sources[slab.leaf]
            try:
                view = _view(source, slab)
                found.append(_bring_named(sources, slab, effect) if view is None else view)
            except RuntimeError:
                _check_there(source.value, effect, slab.leaf)
                raise
        return found


def _view(source: Source, slab: Slab) -> Buffer | None:
    """The bytes of a whole JAX array, where they lie in host memory as they will be stored."""
    value, form = source.value, source.form
    if isinstance(value, np.ndarray) or not form.plain:
        return None
    if slab.last - slab.first != form.chunk_count:
        return None
    array = np.asarray(value)
    there = array.dtype == form.storage.dtype and array.flags.c_contiguous
    return as_bytes(array) if there else None


def _bring_named(sources: Sequence[Source], slab: Slab, effect: Stage) -> Buffer:
    try:
        return bring(sources[slab.leaf], slab, effect.copy)
    except LeafError as error:
        raise error.located(leaf=effect.names[slab.leaf] if effect.names else None) from None


def only_views(effect: Stage) -> bool:
    """Whether a few large arrays are brought to the host where they are there already."""
    sources: Sequence[Source] = effect.leaves  # pyright: ignore[reportAssignmentType]
    return len(effect.slabs) <= _FEW_SLABS and all(
        each.form.on_host
        and each.form.rows
        and not (effect.copy and isinstance(each.value, np.ndarray))
        for each in (sources[slab.leaf] for slab in effect.slabs)
    )


def _check_there(value: Any, effect: Stage, leaf: int) -> None:
    if not isinstance(value, np.ndarray) and value.is_deleted():
        raise LeafError(
            "The array was donated or deleted before it was brought to the host",
            leaf=effect.names[leaf] if effect.names else None,
            hint="Let staged.wait() or result() return first, where key_priority or until say that "
            "an array is brought to the host later.",
        )


def bring(source: Source, slab: Slab, copy: bool) -> Buffer:
    """The bytes of one slab, as a read-only buffer that the caller cannot change if ``copy``."""
    value, form = source.value, source.form
    owned = isinstance(value, np.ndarray)
    data = _shard(value, form, slab.shard)
    if form.on_host and form.rows:
        array = np.asarray(data)
        if array.flags.c_contiguous and array.dtype == form.storage.dtype:
            size = form.chunk_bytes
            view = as_bytes(array.view(form.storage.carrier))[slab.first * size : slab.last * size]
            # A JAX array's own buffer outlives its donation and deletion while a view of it
            # exists; a NumPy array's contents are the caller's to change.
            buffer = view.copy() if owned and copy else view
            buffer.flags.writeable = False
            return buffer
    return _gather(data, form, slab)


def probe(effect: Probe) -> frozenset[int]:
    """The leaves whose data shrinks when compressed, judged by a sample of each."""
    buffers: Sequence[Buffer] = effect.buffers  # pyright: ignore[reportAssignmentType]
    return frozenset(
        slab.leaf
        for slab, buffer in zip(effect.slabs, buffers, strict=True)
        if slab.leaf in effect.candidates and slab.shard == 0 and slab.first == 0
        if shrinks(buffer)
    )


def _shard(value: Any, form: Form, number: int) -> Any:
    position = form.shards[number].position
    return value if position == WHOLE else value.addressable_shards[position].data


def _gather(value: Any, form: Form, slab: Slab) -> Buffer:
    """Copies the chunks of a slab one by one: the way for strided, foreign or remote data."""
    data: Any = np.asarray(value) if not form.pinned and _is_in_reach(value) else value
    chunks = form.chunks[slab.shard][slab.first : slab.last]
    pieces: Iterator[Any] = (data[chunk.within.slices] for chunk in chunks)
    if form.pinned:
        # All are under way before the first is waited for.
        pieces = iter([_to_pinned_memory(piece) for piece in pieces])
    size = form.chunk_bytes
    buffer = np.empty(len(chunks) * size, np.uint8)
    for place, piece in enumerate(pieces):
        target = buffer[place * size : (place + 1) * size]
        found = np.asarray(piece)
        if found.dtype == form.storage.dtype == form.storage.carrier:
            target.view(found.dtype).reshape(found.shape)[...] = found
        else:
            converted = np.ascontiguousarray(convert(found, form.storage.dtype, lossy=True))
            _check_range(found, converted)
            target[:] = as_bytes(form.storage.encode(converted))
    buffer.flags.writeable = False
    return buffer


def _check_range(array: np.ndarray[Any, Any], stored: np.ndarray[Any, Any]) -> None:
    beyond = overflow(array, stored)
    if beyond is not None:
        raise LeafRangeError(
            f"A value is beyond the range of {stored.dtype}, in which the leaf is to be stored",
            found=f"{beyond!s} in {array.dtype}",
            hint="Clip it, or let this leaf keep its dtype: array.saving.storage_options.dtype is "
            "for all leaves, array.saving.scoped_storage_options_creator chooses for each.",
        )


def _is_in_reach(data: Any) -> bool:
    """Whether NumPy can look at an array where it is."""
    if isinstance(data, np.ndarray):
        return True
    device, *others = data.devices()
    return not others and device.platform == "cpu"


def _to_pinned_memory(data: Any) -> Any:
    import jax as _jax

    jax: Any = _jax
    return jax.device_put(data, data.sharding.with_memory_kind(PINNED))
