"""Copies in host memory, made by JAX alone: each replica's shards, beside the device they are of.

A copy is under way before ``take`` returns, and the runtime keeps the buffer that it reads from
until it is done: a program that donates the array afterwards waits for that on the device. What
comes back is a copy too, so that a step may donate what was restored and the snapshot stays whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax as _jax
import numpy as np

from sealwax.arrays.regions import Region
from sealwax.planning.placements import spread
from sealwax.training.pathways.forms import Form
from sealwax.training.pathways.replicas import Replicas

jax: Any = _jax
_HOST = ("pinned_host", "unpinned_host")


class Piece(NamedTuple):
    """A box of an array.

    Attributes:
      device: The device beside which it lies.
      region: Where it lies in the array.
      data: Its elements, in host memory.
    """

    device: Any
    region: Region
    data: Any


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostCopies:
    """The copies of some arrays.

    Attributes:
      forms: What the arrays are.
      pieces: Of each array, for each replica: its distinct boxes.
    """

    forms: tuple[Form, ...]
    pieces: tuple[tuple[tuple[Piece, ...], ...], ...]

    @classmethod
    def take(cls, arrays: Sequence[Any], replicas: Sequence[Replicas], axis: int) -> HostCopies:
        """Has copies made, and does not wait for them."""
        del axis  # The replicas say all.
        forms = tuple(map(Form.of, arrays))
        chosen = [
            [_distinct(shards, devices) for devices in each]
            for each, shards in zip(replicas, map(_shards, forms, arrays), strict=True)
        ]
        flat = [shard for each in chosen for shards in each for shard in shards]
        moved = iter(_to_host([shard.data for shard in flat], [shard.device for shard in flat]))
        pieces = [
            tuple(
                tuple(Piece(s.device, Region.of(s.index, form.data_shape), next(moved)) for s in ss)
                for ss in each
            )
            for form, each in zip(forms, chosen, strict=True)
        ]
        return cls(forms=forms, pieces=tuple(pieces))

    def of_replica(self, number: int) -> list[Any]:
        """All that lies in the memory of one replica."""
        return [piece.data for each in self.pieces for piece in each[number]]

    def only(self, numbers: Sequence[int]) -> HostCopies:
        """The copies of some of the arrays."""
        forms = tuple(self.forms[number] for number in numbers)
        return HostCopies(forms=forms, pieces=tuple(self.pieces[number] for number in numbers))

    def restore(self, shardings: Sequence[Any], living: Sequence[int]) -> list[Any]:
        """Makes the arrays on the devices that ``shardings`` name, from replicas that live."""
        wanted = [form.spread(each) for form, each in zip(self.forms, shardings, strict=True)]
        sources: list[Any] = []
        targets: list[Any] = []
        for form, pieces, data in zip(self.forms, self.pieces, wanted, strict=True):
            regions, parts = spread(data, form.data_shape)
            held = [piece for number in living for piece in pieces[number]]
            own = {(piece.device, piece.region): piece.data for piece in held}
            anywhere = {region: found for (_, region), found in reversed(own.items())}
            rest = {
                region: _assemble(region, pieces[living[0]])
                for region in regions
                if region not in anywhere
            }
            for number, device in parts:
                region = regions[number]
                # From beside the device itself, where that is possible.
                near = own.get((device, region), anywhere.get(region))
                sources.append(rest[region] if near is None else near)
                targets.append(_on(device, data.memory_kind))
        moved = iter(jax.device_put(sources, targets, may_alias=False))
        return [_joined(form, data, moved) for form, data in zip(self.forms, wanted, strict=True)]


def _shards(form: Form, array: Any) -> Sequence[Any]:
    return form.bare(array).addressable_shards


def _distinct(shards: Sequence[Any], devices: Sequence[Any]) -> list[Any]:
    """Of the shards on a replica's devices, one of each box."""
    here, seen = set(devices), dict[str, Any]()
    for shard in shards:
        if shard.device in here:
            seen.setdefault(str(shard.index), shard)
    return list(seen.values())


def _to_host(arrays: list[Any], devices: list[Any]) -> list[Any]:
    kinds = {device: _host_kind(device) for device in devices}
    if None not in kinds.values():
        where = [_on(device, kinds[device]) for device in devices]
        return jax.device_put(arrays, where, may_alias=False)
    for array in arrays:
        array.copy_to_host_async()
    return [np.array(array) for array in arrays]


def _host_kind(device: Any) -> str | None:
    """The best memory of the host that the device knows of; ``None`` for NumPy's."""
    known = {memory.kind for memory in device.addressable_memories()}
    return next((kind for kind in _HOST if kind in known), None)


def _on(device: Any, kind: str | None) -> Any:
    return jax.sharding.SingleDeviceSharding(device, memory_kind=kind)


def _assemble(region: Region, pieces: Sequence[Piece]) -> np.ndarray[Any, Any]:
    """A box that no device had, from the boxes of one replica."""
    made: np.ndarray[Any, Any] = np.empty(region.shape, pieces[0].data.dtype)
    for piece in pieces:
        common = region.intersect(piece.region)
        if common is not None:
            data = np.asarray(piece.data)
            made[common.relative_to(region).slices] = data[common.relative_to(piece.region).slices]
    return made


def _joined(form: Form, sharding: Any, parts: Iterator[Any]) -> Any:
    shape = form.data_shape
    count = len(spread(sharding, shape).parts)
    pieces = [next(parts) for _ in range(count)]
    return form.whole(jax.make_array_from_single_device_arrays(shape, sharding, pieces))
