"""From a running program to the host: the arrays of a state, each part of them once."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax as _jax
import numpy as np

from sealwax.arrays.hostarrays import HostArray, HostShard
from sealwax.hooks.calls import ask, call, manual_axes
from sealwax.hooks.inbox import Inbox, Letter, Parts
from sealwax.hooks.template import Axes, Slot, Template
from sealwax.planning.cutter import check_whole

jax: Any = _jax


class Coming(NamedTuple):
    """A JAX array that the program will deliver.

    Attributes:
      dtype: Its dtype.
      empty: Whether it has no elements, so that nothing comes.
    """

    dtype: Any
    empty: bool


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Delivery:
    """One call of a hook, as it stands in a program; it serves every step and path.

    Attributes:
      template: What the state is like.
      inbox: Takes what is delivered.
      leaves: The leaves of the state: ``Coming`` where there is a JAX array, and else a constant
        of the program.
      metrics: The names of the metrics, in the order in which their values come.
    """

    template: Template
    inbox: Inbox
    leaves: tuple[Any, ...]
    metrics: tuple[str, ...]

    @functools.cached_property
    def groups(self) -> dict[Axes, list[int]]:
        """The arrays that are brought, by the axes of the mesh along which they are cut."""
        found: dict[Axes, list[int]] = {}
        for number, (slot, leaf) in enumerate(zip(self.template.slots, self.leaves, strict=True)):
            if isinstance(leaf, Coming) and not leaf.empty:
                found.setdefault(slot.axes, []).append(number)
        return found

    @functools.cached_property
    def parts(self) -> int:
        """How many deliveries make up one state."""
        mesh = self.template.mesh
        if mesh is None:
            return len(self.groups)
        return sum(math.prod(mesh.shape[axis] for axis in axes) for axes in self.groups)

    @property
    def sent(self) -> list[int]:
        """The numbers of the leaves that are brought, in the order in which ``send`` takes them."""
        return [number for numbers in self.groups.values() for number in numbers]

    def send(self, step: Any, metrics: Sequence[Any], arrays: Sequence[Any]) -> None:
        """Puts into the program what brings these arrays to the host, shard by shard."""
        mesh, slots = self.template.mesh, self.template.slots
        if mesh is None:
            self._send(jax.numpy.int32(0), step, metrics, arrays)
            return
        if manual_axes():
            self._on_each(step, metrics, arrays)
            return
        nothing = jax.sharding.PartitionSpec()
        specs = tuple(slots[number].spec or nothing for number in self.sent)
        jax.shard_map(
            self._on_each,
            mesh=mesh,
            in_specs=(nothing, nothing, specs),
            out_specs=None,
            check_vma=False,
        )(step, tuple(metrics), tuple(arrays))

    def _on_each(self, step: Any, metrics: Sequence[Any], arrays: Sequence[Any]) -> None:
        device = jax.lax.axis_index(self.template.mesh.axis_names)
        self._send(device, step, metrics, arrays)

    def _send(self, device: Any, step: Any, metrics: Sequence[Any], arrays: Sequence[Any]) -> None:
        ticket = ask(self.begin, device, step, *metrics)
        rest = list(arrays)
        for axes, numbers in self.groups.items():
            own, rest = rest[: len(numbers)], rest[len(numbers) :]
            receive = functools.partial(self.receive, tuple(numbers))
            first = self._is_first_replica(axes)
            if first is None:
                call(receive, ticket, device, *own)
            else:
                jax.lax.cond(
                    first, functools.partial(call, receive), _nothing, ticket, device, *own
                )

    def _is_first_replica(self, axes: Axes) -> Any:
        """Whether this device is the first of those that hold the same; ``None``: it is alone."""
        mesh = self.template.mesh
        others = [] if mesh is None else [name for name in mesh.axis_names if name not in axes]
        return jax.lax.axis_index(tuple(others)) == 0 if others else None

    def begin(self, device: Any, step: Any, *metrics: Any) -> int:
        """Called by the program, on each of its devices: a state is about to come."""
        letter = Letter(
            step=int(step),
            metrics={k: v.tolist() for k, v in zip(self.metrics, metrics, strict=True)},
            assemble=self.assemble,
            missing=self.parts,
            devices=len(self.template.devices),
        )
        return self.inbox.begin(int(device), letter)

    def receive(
        self, numbers: tuple[int, ...], ticket: Any, device: Any, *arrays: np.ndarray[Any, Any]
    ) -> None:
        """Called by the program: views of a device's parts of some leaves, which are copied."""
        copies = {(n, int(device)): np.array(a) for n, a in zip(numbers, arrays, strict=True)}
        self.inbox.receive(int(ticket), copies)

    def assemble(self, parts: Parts) -> Any:
        """The state, from what the devices delivered."""
        leaves = list(self.leaves)
        for number, (slot, leaf) in enumerate(zip(self.template.slots, self.leaves, strict=True)):
            if isinstance(leaf, Coming):
                own = {device: data for (n, device), data in parts.items() if n == number}
                leaves[number] = _array(slot, leaf, own, self.template.devices)
        return jax.tree.unflatten(self.template.structure, leaves)


def _array(
    slot: Slot, leaf: Coming, parts: dict[int, np.ndarray[Any, Any]], devices: Sequence[Any]
) -> Any:
    shape = slot.shape or ()
    if leaf.empty:
        return slot.empty_keys or _host(slot.sharding, shape, leaf.dtype, ())
    data = next(iter(parts.values()))
    # Typed keys have a dimension that their data ends with.
    shape = (*shape, *data.shape[len(shape) :])
    places = slot.sharding.devices_indices_map(shape)
    whole = tuple([slice(None)] * len(shape))
    shards = [HostShard(places.get(devices[d], whole), part) for d, part in parts.items()]
    return _host(slot.sharding, shape, data.dtype, shards, slot.key_impl)


def _host(
    sharding: Any,
    shape: tuple[int, ...],
    dtype: Any,
    shards: Iterable[HostShard],
    key_impl: str | None = None,
) -> HostArray:
    return HostArray(
        shape=shape,
        dtype=np.dtype(dtype),
        sharding=sharding,
        addressable_shards=tuple(shards),
        key_impl=key_impl,
    )


def on_host(array: Any) -> Any:
    """A copy of a JAX array, outside of any program."""
    if not array.size:
        return array.copy()
    impl = None
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        impl = str(jax.random.key_impl(array))
        array = jax.random.key_data(array)
    check_whole(array)
    shards = [HostShard(s.index, np.array(s.data)) for s in array.addressable_shards]
    firsts = {str(shard.index): shard for shard in shards}
    return _host(array.sharding, array.shape, array.dtype, firsts.values(), impl)


def _nothing(*_: Any) -> None:
    return None
