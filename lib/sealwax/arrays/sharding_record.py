"""Shardings as values, and as the JSON that Orbax keeps in ``_sharding``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, assert_never, cast

import numpy as np

if TYPE_CHECKING:
    import jax

SpecPart: TypeAlias = "str | tuple[str, ...] | None"


class Device(Protocol):
    """What is needed of a ``jax.Device``."""

    @property
    def id(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleDevice:
    """All of an array on one device, named as JAX prints it, such as ``cpu:0``."""

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An array spread over a mesh by the names of the mesh's axes.

    Attributes:
      mesh_shape: Extent of each mesh axis.
      axis_names: Name of each mesh axis.
      spec: For each array axis the mesh axes that split it; trailing axes may be left out.
      axis_types: Name of each mesh axis's type, such as ``Auto``, or ``None`` if not recorded.
      device_ids: Ids of the devices in the mesh's C order, or ``None`` if not recorded.
    """

    mesh_shape: tuple[int, ...]
    axis_names: tuple[str, ...]
    spec: tuple[SpecPart, ...]
    axis_types: tuple[str, ...] | None = None
    device_ids: tuple[int, ...] | None = None


ShardingRecord: TypeAlias = SingleDevice | Named


@lru_cache(maxsize=256)
def describe(sharding: jax.sharding.Sharding) -> ShardingRecord | None:
    """The record of a JAX sharding; ``None`` for the kinds that Orbax does not record."""
    import jax

    match sharding:
        case jax.sharding.SingleDeviceSharding():
            (device,) = cast(Any, sharding).device_set
            return SingleDevice(device=str(device))
        case jax.sharding.NamedSharding(mesh=jax.sharding.Mesh() as mesh):
            parts: tuple[Any, ...] = tuple(sharding.spec)
            if not all(part is None or isinstance(part, (str, tuple)) for part in parts):
                return None
            return Named(
                mesh_shape=tuple(map(int, mesh.devices.shape)),
                axis_names=tuple(map(str, mesh.axis_names)),
                spec=parts,
                axis_types=tuple(kind.name for kind in mesh.axis_types),
                device_ids=tuple(int(device.id) for device in mesh.devices.flat),
            )
        case _:
            return None


@lru_cache(maxsize=256)
def to_json(record: ShardingRecord) -> str:
    """The record as Orbax writes it: the value of one entry of ``_sharding``.

    >>> to_json(SingleDevice(device="cpu:0"))
    '{"sharding_type": "SingleDeviceSharding", "device_str": "cpu:0"}'
    """
    match record:
        case SingleDevice():
            fields: dict[str, Any] = {
                "sharding_type": "SingleDeviceSharding",
                "device_str": record.device,
            }
        case Named():
            fields = {
                "sharding_type": "NamedSharding",
                "shape": record.mesh_shape,
                "axis_names": record.axis_names,
            }
            if record.axis_types is not None:
                fields["axis_types"] = [f"AxisType.{name}" for name in record.axis_types]
            fields["partition_spec"] = record.spec
            if record.device_ids is not None:
                ids = iter(record.device_ids)
                fields["device_mesh"] = {"mesh": _nest(ids, record.mesh_shape)}
        case _:
            assert_never(record)
    return json.dumps(fields)


@lru_cache(maxsize=256)
def from_json(text: str) -> ShardingRecord | None:
    """Reads what ``to_json`` or Orbax wrote; ``None`` if it is not the record of a sharding."""
    try:
        data = json.loads(text)
        match data["sharding_type"]:
            case "SingleDeviceSharding":
                return SingleDevice(device=_modern_name(str(data["device_str"])))
            case "NamedSharding":
                return _consistent(_named(data))
            case _:
                return None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def rebuild(record: ShardingRecord, devices: Sequence[Device]) -> jax.sharding.Sharding | None:
    """The JAX sharding of a record, or ``None`` where ``devices`` cannot form it.

    Args:
      record: What was recorded.
      devices: The devices of this job, as ``jax.devices()``. A mesh whose device ids were not
        recorded takes all of them.
    """
    import jax

    match record:
        case SingleDevice():
            found = (d for d in devices if _modern_name(str(d)) == record.device)
            device = next(found, None)
            return None if device is None else jax.sharding.SingleDeviceSharding(cast(Any, device))
        case Named():
            chosen = _choose(record.device_ids, devices)
            if chosen is None or len(chosen) != math.prod(record.mesh_shape):
                return None
            return _named_sharding(record, chosen)
        case _:
            assert_never(record)


def _named_sharding(record: Named, chosen: Sequence[Device]) -> jax.sharding.NamedSharding | None:
    import jax

    grid = np.empty(record.mesh_shape, dtype=object)
    grid.reshape(-1)[:] = chosen
    types = tuple(
        getattr(jax.sharding.AxisType, name, jax.sharding.AxisType.Auto)
        for name in record.axis_types or ("Auto",) * len(record.axis_names)
    )
    try:
        mesh = jax.sharding.Mesh(grid, record.axis_names, axis_types=types)
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*record.spec))
    except ValueError:
        return None


def _choose(ids: tuple[int, ...] | None, devices: Sequence[Device]) -> Sequence[Device] | None:
    if ids is None:
        return devices
    by_id = {device.id: device for device in devices}
    return [by_id[i] for i in ids] if by_id.keys() >= set(ids) else None


def _named(data: dict[str, Any]) -> Named:
    types, mesh = data.get("axis_types"), data.get("device_mesh")
    return Named(
        mesh_shape=tuple(map(int, data["shape"])),
        axis_names=tuple(map(str, data["axis_names"])),
        spec=tuple(map(_spec_part, data["partition_spec"])),
        axis_types=None if types is None else tuple(t.removeprefix("AxisType.") for t in types),
        device_ids=None if mesh is None else tuple(_flatten(mesh["mesh"])),
    )


def _consistent(record: Named) -> Named | None:
    rank = len(record.mesh_shape)
    ids, types = record.device_ids, record.axis_types
    fits = (
        len(record.axis_names) == rank
        and (types is None or len(types) == rank)
        and (ids is None or len(ids) == math.prod(record.mesh_shape))
    )
    return record if fits else None


def _spec_part(part: Any) -> SpecPart:
    match part:
        case None | str():
            return part
        case [*names]:
            return tuple(map(str, names))
        case _:
            raise TypeError("not a part of a partition spec")


def _nest(ids: Iterator[int], shape: tuple[int, ...]) -> Any:
    if not shape:
        return {"id": next(ids)}
    return [_nest(ids, shape[1:]) for _ in range(shape[0])]


def _flatten(mesh: Any) -> Iterator[int]:
    match mesh:
        case [*parts]:
            for part in parts:
                yield from _flatten(part)
        case _:
            yield int(mesh["id"])


def _modern_name(device: str) -> str:
    # JAX once called cpu:0 TFRT_CPU_0, and checkpoints of that time still do.
    return f"cpu:{device[9:]}" if device.startswith("TFRT_CPU_") else device
