"""The steps of a load: what is read together, how it becomes leaves, and the tree of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from returns.result import Result

from sealwax.arrays.casts import convert
from sealwax.arrays.leafforms import from_host_array
from sealwax.effects import Place, Placement
from sealwax.errors import LeafError, SealwaxError
from sealwax.options import Options
from sealwax.planning.batches import BATCH_BYTES
from sealwax.planning.builder import Builder, result
from sealwax.planning.contents import Contents
from sealwax.planning.pipeline import raised
from sealwax.planning.placements import Spread, spread
from sealwax.planning.reads import Read, add_reads, read_of
from sealwax.planning.targets import Ready, Rules, Target, ToDevice, ToHost
from sealwax.trees.structure import PyTree

Found: TypeAlias = Sequence[tuple[str, Target]]
Assemble: TypeAlias = Callable[[Sequence[object]], Result[PyTree, SealwaxError]]


class Chosen(NamedTuple):
    """What of an item is read, and how the values become the result.

    Attributes:
      found: Name and target of each leaf.
      assemble: Makes the result of the leaves' values.
    """

    found: Found
    assemble: Assemble

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the leaves whose data is read."""
        return tuple([name for name, target in self.found if not isinstance(target, Ready)])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """What is to be loaded.

    Attributes:
      path: Absolute path of the checkpoint.
      options: The settings, as they were when the load was called.
      template: A tree whose leaves say what to restore, or ``None`` for everything as it was.
      devices: Devices on which to restore recorded shardings, or ``None`` not to.
      default_device: Where JAX put arrays by default in the thread of the call.
      x64: Whether JAX had 64-bit types there.
      mesh: The mesh that was current there, for shardings on an abstract one.
    """

    path: str
    options: Options
    template: PyTree = None
    devices: tuple[Any, ...] | None = None
    default_device: Any = None
    x64: bool = False
    mesh: Any = None

    @property
    def rules(self) -> Rules:
        """What a template may ask for."""
        loading = self.options.array.loading
        return Rules(
            x64=self.x64,
            mesh=self.mesh,
            lossy=loading.casting == "unsafe",
            resize=loading.enable_padding_and_truncation,
        )


def load_budget(options: Options) -> int:
    """Bytes of host memory that a load may hold at once, beside what it gives."""
    return options.memory.read_concurrent_bytes or 8 * BATCH_BYTES


def add_load(build: Builder, request: LoadRequest, contents: Contents, chosen: Chosen) -> int:
    """Adds the steps that read what was chosen; returns the one whose result is the tree."""
    found = chosen.found
    values: list[object] = [
        target.value if isinstance(target, Ready) else None for _, target in found
    ]
    places: list[int] = []
    numbers: list[int] = []
    for group in _groups(found):
        part = [found[number] for number in group]
        places.append(_add_group(build, request, contents, part))
        numbers += group
    gather = functools.partial(_gather, values=values, numbers=numbers, assemble=chosen.assemble)
    return build.derive("the tree", gather, *map(result, places))


def _gather(
    *parts: Sequence[object],
    values: list[object],
    numbers: list[int],
    assemble: Assemble,
) -> PyTree:
    filled = list(values)
    for number, value in zip(numbers, (value for part in parts for value in part), strict=True):
        filled[number] = value
    return raised(assemble(filled))


def _groups(found: Sequence[tuple[str, Target]]) -> Iterator[list[int]]:
    """Numbers of targets that are read together: of one kind, and of about one batch."""
    groups: dict[type[Target], list[int]] = {ToDevice: [], ToHost: []}
    totals: dict[type[Target], int] = {ToDevice: 0, ToHost: 0}
    for number, (_, target) in enumerate(found):
        if isinstance(target, Ready):
            continue
        kind, nbytes = type(target), target.array.nbytes
        if groups[kind] and totals[kind] + nbytes > BATCH_BYTES:
            yield groups[kind]
            groups[kind], totals[kind] = [], 0
        groups[kind].append(number)
        totals[kind] += nbytes
    yield from filter(None, groups.values())


def _add_group(
    build: Builder, request: LoadRequest, contents: Contents, group: list[tuple[str, Target]]
) -> int:
    reads: list[Read] = []
    arrays = [(leaf, target) for leaf, target in group if isinstance(target, ToDevice)]
    placements, devices = _placements(arrays, reads)
    hosts = [target for _, target in group if isinstance(target, ToHost)]
    for leaf, target in group:
        if isinstance(target, ToHost):
            reads.append(read_of(leaf, target.array, target.dtype, target.shape))
    loading = request.options.array.loading
    # In host memory an array is the very buffer that was read.
    stays = bool(hosts) or any(_platform(d or request.default_device) == "cpu" for d in devices)
    filled, buffers = add_reads(build, request.options, contents, reads, stays=stays)
    unlike = [read for read in reads if not read.as_stored]
    made = sum([read.made_bytes for read in unlike]) if stays else 0
    finish = functools.partial(_finish, reads=reads, lossy=loading.casting == "unsafe")
    if hosts:
        as_leaves = functools.partial(_host_leaves, finish, kinds=[host.kind for host in hosts])
        return build.derive("host leaves", as_leaves, result(buffers), after=filled, keeps=made)
    source = result(buffers)
    if unlike:
        step = build.derive("dtypes and shapes", finish, source, after=filled, keeps=made)
        source = result(step)
    place = Place(
        arrays=placements,
        buffers=source,
        default_device=request.default_device,
        x64=request.x64,
    )
    return build.add(place, after=filled)


def _platform(device: Any) -> str:
    if device is None:
        import jax as _jax

        jax: Any = _jax
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


def _placements(
    group: Sequence[tuple[str, ToDevice]], reads: list[Read]
) -> tuple[tuple[Placement, ...], set[Any]]:
    """Adds one read for each distinct shard, and says which device takes which, and all devices."""
    placements: list[Placement] = []
    known: dict[tuple[int, tuple[int, ...]], Spread] = {}
    for leaf, target in group:
        array, dtype, shape, sharding = target.array, target.dtype, target.shape, target.sharding
        form = (id(sharding), shape)
        boxes = known.get(form) or known.setdefault(form, spread(sharding, shape))
        first = len(reads)
        # Loops, for most have one shard: a comprehension costs as much as the record of a leaf.
        for region in boxes.regions:
            reads.append(read_of(leaf, array, dtype, shape, region))  # noqa: PERF401
        parts: list[tuple[int, Any]] = []
        for number, device in boxes.parts:
            parts.append((first + number, device))
        placements.append(
            Placement(leaf, shape, dtype, sharding, tuple(parts), array.key_impl, target.layout)
        )
    return tuple(placements), {d for boxes in known.values() for _, d in boxes.parts}


def _finish(
    buffers: Sequence[np.ndarray[Any, Any]], *, reads: Sequence[Read], lossy: bool
) -> list[np.ndarray[Any, Any]]:
    """Gives each buffer the dtype and the shape that it is to have."""
    made: list[np.ndarray[Any, Any]] = []
    for buffer, read in zip(buffers, reads, strict=True):
        if read.as_stored:
            made.append(buffer)
            continue
        try:
            cast = convert(buffer, read.dtype, lossy=lossy)
        except LeafError as error:
            raise error.located(leaf=read.leaf) from error.__cause__
        made.append(cast if read.padded is None else _pad(cast, read.padded))
    return made


def _pad(array: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """``array`` with zeros behind it along each axis."""
    made = np.zeros(shape, array.dtype)
    made[tuple([slice(extent) for extent in array.shape])] = array
    return made


def _host_leaves(
    finish: Callable[..., list[np.ndarray[Any, Any]]],
    buffers: Sequence[np.ndarray[Any, Any]],
    *,
    kinds: Sequence[Any],
) -> list[object]:
    return [from_host_array(*pair) for pair in zip(kinds, finish(buffers), strict=True)]
