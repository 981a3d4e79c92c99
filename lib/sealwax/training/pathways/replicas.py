"""Which devices hold a whole copy of the training state, and which of them still answer."""

from __future__ import annotations

import collections
import logging
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax as _jax
import numpy as np

from sealwax.errors import ArgumentValueError, ReplicaError

jax: Any = _jax
_log = logging.getLogger("sealwax")

Replicas: TypeAlias = tuple[tuple[Any, ...], ...]
"""The devices of each replica."""

_HINT = (
    "Put it on the mesh of the others, with a jax.sharding.NamedSharding; one with an empty "
    "PartitionSpec() has a copy on every device."
)


def answers(devices: Sequence[Any]) -> bool:
    """Whether every one of these devices takes a number and gives it back."""
    numbers = range(len(devices))
    try:
        sent = jax.device_put([np.int32(n) for n in numbers], list(devices))
        return [int(number) for number in sent] == list(numbers)
    except Exception as error:  # However a backend says that hardware is gone.
        _log.warning("Devices do not answer: %s", str(error).partition("\n")[0])
        return False


def replicas_of(shardings: Sequence[tuple[str, Any]], axis: int) -> list[Replicas]:
    """The replicas that each of a state's arrays has, and all have as many.

    Args:
      shardings: The name of each leaf, and its sharding.
      axis: Which axis of their meshes counts the replicas.

    Raises:
      ReplicaError: An array has no replicas, or not as many as most of them.
      ArgumentValueError: A mesh has no such axis.
    """
    found = [_replicas(name, sharding, axis) for name, sharding in shardings]
    counts = collections.Counter(map(len, found))
    for (name, _), replicas in zip(shardings, found, strict=True):
        [(usual, _)] = counts.most_common(1)
        if len(replicas) != usual:
            raise ReplicaError(
                "The arrays of the state do not have the same number of replicas",
                leaf=name,
                expected=f"{usual}, as most of them have",
                found=str(len(replicas)),
                hint=_HINT,
            )
    return found


def together(found: Sequence[Replicas]) -> Replicas:
    """The devices of each replica of a whole state."""
    return tuple(
        tuple({device: None for devices in each for device in devices})
        for each in zip(*found, strict=True)
    )


def _replicas(name: str, sharding: Any, axis: int) -> Replicas:
    if len(sharding.device_set) == 1:
        return (tuple(sharding.device_set),)
    if not isinstance(sharding, jax.sharding.NamedSharding):
        raise ReplicaError(
            "Which devices hold a replica of the array cannot be told from its sharding",
            leaf=name,
            expected="a jax.sharding.NamedSharding",
            found=f"a {type(sharding).__name__}",
            hint=_HINT,
        )
    if not sharding.is_fully_addressable:
        raise ReplicaError(
            "The array has shards in other processes",
            leaf=name,
            expected="an array whose devices are all of this process",
            found=f"{len(sharding.device_set)} devices of several processes",
            hint="Snapshots are for one process with all devices, as on Pathways; save a "
            "checkpoint where there are several.",
        )
    return _on_mesh(name, sharding, axis)


def _on_mesh(name: str, sharding: Any, axis: int) -> Replicas:
    names, devices = sharding.mesh.axis_names, sharding.mesh.devices
    if not -len(names) <= axis < len(names):
        raise ArgumentValueError(
            "The mesh has no axis of the index that is to count replicas",
            leaf=name,
            expected=f"a replica_axis_index below {len(names)}",
            found=str(axis),
        )
    split = any(
        names[axis] in each if isinstance(each, tuple) else names[axis] == each
        for each in sharding.spec
    )
    if split and devices.shape[axis] > 1:
        raise ReplicaError(
            "The array is split along the axis that counts replicas, so that none has all of it",
            leaf=name,
            expected=f"copies along {names[axis]!r}",
            found=str(sharding.spec),
            hint="Split it along another axis of the mesh, or name another one by "
            "replica_axis_index.",
        )
    return tuple(tuple(each.flat) for each in np.moveaxis(devices, axis, 0))
