"""Copies in the hosts' memory on Pathways, where a program has arrays but not their shards.

``pathwaysutils`` splits an array into one for each replica without moving it, and joins such arrays
again. It is imported here only, where it is used.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

import jax as _jax

from sealwax.errors import MissingPackageError
from sealwax.training.pathways.forms import Form
from sealwax.training.pathways.replicas import Replicas

jax: Any = _jax
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SplitCopies:
    """The copies of some arrays.

    Attributes:
      forms: What the arrays are.
      parts: Of each array, for each replica: an array on the replica's devices.
      axis: Which axis of their meshes counts the replicas.
    """

    forms: tuple[Form, ...]
    parts: tuple[tuple[Any, ...], ...]
    axis: int

    @classmethod
    def take(cls, arrays: Sequence[Any], replicas: Sequence[Replicas], axis: int) -> SplitCopies:
        """Has copies made, and does not wait for them."""
        forms = tuple(map(Form.of, arrays))
        bare = [form.bare(array) for form, array in zip(forms, arrays, strict=True)]
        parts: dict[int, Sequence[Any]] = {}
        for mesh, numbers in _grouped(map(_mesh_of, bare)).items():
            group = [bare[number] for number in numbers]
            split = [group] if len(replicas[numbers[0]]) == 1 else _split(group, mesh, axis)
            parts.update(zip(numbers, zip(*split, strict=True), strict=True))
        flat = [part for number in range(len(bare)) for part in parts[number]]
        where = [part.sharding.with_memory_kind("pinned_host") for part in flat]
        moved = iter(jax.device_put(flat, where, may_alias=False))
        made = [tuple(next(moved) for _ in each) for each in replicas]
        return cls(forms=forms, parts=tuple(made), axis=axis)

    def of_replica(self, number: int) -> list[Any]:
        """All that lies in the memory of one replica."""
        return [each[number] for each in self.parts]

    def only(self, numbers: Sequence[int]) -> SplitCopies:
        """The copies of some of the arrays."""
        return SplitCopies(
            forms=tuple(self.forms[number] for number in numbers),
            parts=tuple(self.parts[number] for number in numbers),
            axis=self.axis,
        )

    def restore(self, shardings: Sequence[Any], living: Sequence[int]) -> list[Any]:
        """Makes the arrays on the devices that ``shardings`` name, from replicas that live."""
        wanted = [form.spread(each) for form, each in zip(self.forms, shardings, strict=True)]
        chosen = [_within(*pair, living) for pair in zip(self.parts, wanted, strict=True)]
        flat = [part for each in chosen for part in each]
        kinds = [
            s.memory_kind or "device"
            for s, parts in zip(wanted, chosen, strict=True)
            for _ in parts
        ]
        where = [p.sharding.with_memory_kind(kind) for p, kind in zip(flat, kinds, strict=True)]
        moved = iter(jax.device_put(flat, where, may_alias=False))
        joined = _join([[next(moved) for _ in each] for each in chosen], self.axis)
        placed = jax.device_put(joined, wanted)
        return [form.whole(data) for form, data in zip(self.forms, placed, strict=True)]


def _within(parts: Sequence[Any], sharding: Any, living: Sequence[int]) -> list[Any]:
    """The replicas that lie where an array is wanted; any one of them where none does."""
    there = sharding.device_set
    found = [parts[number] for number in living if parts[number].sharding.device_set <= there]
    return found or [parts[living[0]]]


def _split(arrays: list[Any], mesh: Any, axis: int) -> Sequence[Sequence[Any]]:
    return _tool("split_by_mesh_axis")(arrays, mesh.axis_names[axis])


def _join(copies: list[list[Any]], axis: int) -> list[Any]:
    """Makes one array of the copies of each, which are given up."""
    joined: dict[int, Any] = {}
    meshes = [tuple(map(_mesh_of, each)) for each in copies]
    for group, numbers in _grouped(meshes).items():
        rows = [copies[number] for number in numbers]
        if len(group) == 1:
            made: Sequence[Any] = [row[0] for row in rows]
        else:
            trees = [list(tree) for tree in zip(*rows, strict=True)]
            made = _tool("concatenate_by_mesh_axis")(trees, group[0].axis_names[axis])
        joined.update(zip(numbers, made, strict=True))
    return [joined[number] for number in range(len(copies))]


def _mesh_of(array: Any) -> Any:
    """What arrays have in common that are split, or joined, in one go."""
    return getattr(array.sharding, "mesh", array.sharding)


_H = TypeVar("_H", bound=Hashable)


def _grouped(keys: Iterable[_H]) -> dict[_H, list[int]]:
    """Positions by what is there."""
    found: dict[_H, list[int]] = collections.defaultdict(list)
    for number, key in enumerate(keys):
        found[key].append(number)
    return found


def _tool(name: str) -> Callable[..., Any]:
    """A function of ``pathwaysutils``, in the module of its own name.

    Raises:
      MissingPackageError: The package is not there, or too old.
    """
    try:
        return getattr(importlib.import_module(f"pathwaysutils.experimental.{name}"), name)
    except (ImportError, AttributeError) as error:
        raise MissingPackageError(
            "Snapshots on a Pathways backend need the package pathwaysutils, with "
            f"pathwaysutils.experimental.{name}",
            found=str(error),
            hint="Install it in this environment: pip install 'pathwaysutils>=0.1.13'.",
        ) from error
