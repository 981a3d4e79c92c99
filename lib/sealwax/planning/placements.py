"""Where arrays go when they are loaded: shardings, layouts and widths that devices can hold."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, cast

import numpy as np

from sealwax.arrays import sharding_record
from sealwax.arrays.regions import Region
from sealwax.errors import LeafMismatchError
from sealwax.planning.contents import StoredArray


def saved_sharding(array: StoredArray, devices: tuple[Any, ...]) -> Any:
    """The recorded sharding on these devices, or ``None`` where they cannot form it."""
    record = None if array.sharding is None else sharding_record.from_json(array.sharding)
    return None if record is None else sharding_record.rebuild(record, devices)


def sharding_of(wanted: Any, mesh: Any) -> Any:
    """Where a template's leaf wants an array; ``None`` for JAX's default placement.

    Args:
      wanted: A leaf with a shape and a sharding.
      mesh: The devices for shardings on an abstract mesh or on none, if there are any.

    Raises:
      LeafMismatchError: The sharding cannot be had here, or does not fit the shape.
    """
    try:
        sharding = wanted.sharding
    except LeafMismatchError:  # It is a record, of devices that are not here.
        return None
    except AttributeError:  # It is a tracer, which is nowhere yet.
        return None
    except TypeError:  # It says only how to split the array, for a mesh that is current elsewhere.
        sharding = _split_over(mesh, wanted._sharding)
    if sharding is None or not getattr(wanted, "committed", True):
        # An uncommitted array follows what it is combined with; a committed one would not.
        return None
    return _usable(sharding, tuple(wanted.shape), mesh)


def _split_over(mesh: Any, spec: Any) -> Any:
    """The sharding by a ``PartitionSpec`` that a template has without a mesh."""
    import jax

    try:
        if mesh is not None:
            return jax.sharding.NamedSharding(mesh, spec)
        cause = None
    except ValueError as error:
        cause = error
    raise LeafMismatchError(
        "The template has a PartitionSpec for the current mesh",
        expected="a current mesh with the axes that it names",
        found="none" if mesh is None else f"one with the axes {dict(mesh.shape)}",
        hint="Load under jax.set_mesh(mesh), or build a NamedSharding on a jax.sharding.Mesh.",
    ) from cause


@functools.lru_cache(maxsize=1024)
def _usable(sharding: Any, shape: tuple[int, ...], mesh: Any) -> Any:
    concrete = _concrete(sharding, mesh)
    if concrete is not None:
        _check_sharding(concrete, shape)
    return concrete


def layout_of(wanted: Any) -> Any:
    """The ``Format`` that a template asks for; ``None`` where it leaves the layout to JAX."""
    if not _may_have_layout(cast("type[object]", type(wanted))):
        return None
    # Making a Format takes longer than all else here, and most templates ask for none.
    if getattr(wanted, "_dll", wanted) is None:
        return None
    format = getattr(wanted, "format", None)
    return format if getattr(format, "layout", None) is not None else None


@functools.lru_cache(maxsize=256)
def _may_have_layout(kind: type) -> bool:
    import jax

    return issubclass(kind, jax.ShapeDtypeStruct)


def of_key_data(sharding: Any, rank: int) -> Any:
    """The sharding of typed keys' data, which has one axis more, never split."""
    import jax

    if isinstance(sharding, jax.sharding.NamedSharding):
        spec = tuple(sharding.spec)
        padding = (None,) * (rank - len(spec))
        return jax.sharding.NamedSharding(
            sharding.mesh, jax.sharding.PartitionSpec(*spec, *padding)
        )
    return sharding


class Spread(NamedTuple):
    """How an array is spread: its distinct boxes, and each device with the number of its box."""

    regions: tuple[Region, ...]
    parts: tuple[tuple[int, Any], ...]


@functools.lru_cache(maxsize=1024)
def spread(sharding: Any, shape: tuple[int, ...]) -> Spread:
    """The boxes of an array of this shape that each device of this process holds.

    Where there is no sharding, that is all of it, and JAX chooses the device.
    """
    if sharding is None:
        return Spread((Region.whole(shape),), ((0, None),))
    seen: dict[Region, int] = {}
    parts: list[tuple[int, Any]] = []
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        region = Region.of(index, shape) if index is not None else Region.whole(shape)
        parts.append((seen.setdefault(region, len(seen)), device))
    return Spread(tuple(seen), tuple(parts))


def _concrete(sharding: Any, mesh: Any) -> Any:
    """The sharding on devices: one on an abstract mesh takes those of the current mesh."""
    import jax

    on_mesh = isinstance(sharding, jax.sharding.NamedSharding)
    if not on_mesh or not isinstance(sharding.mesh, jax.sharding.AbstractMesh):
        return sharding
    if sharding.mesh.empty:
        return None
    if mesh is None or dict(mesh.shape) != dict(sharding.mesh.shape):
        raise LeafMismatchError(
            "The template has a sharding on an abstract mesh, which has no devices",
            expected=f"a current mesh with the axes {dict(sharding.mesh.shape)}",
            found="none" if mesh is None else f"one with the axes {dict(mesh.shape)}",
            hint="Load under jax.set_mesh(mesh), or build the sharding on a jax.sharding.Mesh.",
        )
    return jax.sharding.NamedSharding(mesh, sharding.spec)


def _check_sharding(sharding: Any, shape: tuple[int, ...]) -> None:
    if not sharding.is_fully_addressable:
        raise LeafMismatchError(
            "The template has a sharding over devices of other processes",
            expected="devices of this process alone",
            found=f"{len(sharding.device_set)} devices of several processes",
            hint="Load with a sharding over jax.local_devices(), or in one job with the others.",
        )
    try:
        sharding.shard_shape(shape)
    except (ValueError, IndexError) as error:
        raise LeafMismatchError(
            "The template has a sharding that does not fit the array",
            expected="one that divides every axis evenly, of no more axes than the array",
            found=f"{getattr(sharding, 'spec', sharding)} for shape {list(shape)}",
            hint="Change the sharding, or leave it out for JAX's default placement.",
        ) from error


_NARROW = {
    np.dtype(wide): narrow
    for wide, narrow in (
        *(("int64", "int32"), ("uint64", "uint32")),
        *(("float64", "float32"), ("complex128", "complex64")),
    )
}


def check_width(dtype: np.dtype[Any], x64: bool) -> None:
    """Refuses what JAX would make narrower.

    Raises:
      LeafMismatchError: JAX has no 64-bit types, and this is one.
    """
    if not x64 and dtype in _NARROW:
        raise LeafMismatchError(
            f"JAX would truncate {dtype} to {_NARROW[dtype]}",
            expected="64-bit types enabled in JAX",
            found=f"a template of {dtype}",
            hint='Call jax.config.update("jax_enable_x64", True), or put an np.ndarray in the '
            "template to load it as it is.",
        )
