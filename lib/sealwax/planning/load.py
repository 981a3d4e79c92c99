"""Planning a load: from what a checkpoint holds and what is wanted to a plan."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from returns.pipeline import flow
from returns.result import Failure, Result, Success

from sealwax.arrays.chunks import overlaps
from sealwax.arrays.leafforms import from_host_array
from sealwax.arrays.regions import Region
from sealwax.arrays.zarr import Codec
from sealwax.effects import (
    Allocate,
    Buffer,
    Fetch,
    Place,
    Placement,
    Plan,
    ReadBatch,
    ReadRegions,
)
from sealwax.errors import LeafError, SealwaxError
from sealwax.options import Options
from sealwax.planning import targets
from sealwax.planning.batches import BATCH_BYTES
from sealwax.planning.builder import Builder, result
from sealwax.planning.contents import Contents, Foreign, Native, StoredArray
from sealwax.planning.pipeline import bind, lift
from sealwax.planning.targets import Ready, Target, ToDevice, ToHost
from sealwax.trees.match import Matching, match
from sealwax.trees.structure import PyTree

TRAILER = 4
"""Bytes of the checksum that follows each chunk in a data file."""

_READ_BYTES = 16 << 20

_Found: TypeAlias = list[tuple[str, Target]]
_Assemble: TypeAlias = Callable[[Sequence[object]], Result[PyTree, SealwaxError]]


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
    """

    path: str
    options: Options
    template: PyTree = None
    devices: tuple[Any, ...] | None = None
    default_device: Any = None
    x64: bool = False


def plan_load(request: LoadRequest, contents: Contents) -> Result[Plan, SealwaxError]:
    """Plans a load.

    Args:
      request: What to load, and how.
      contents: What the checkpoint holds.

    Returns:
      The plan, whose result is the tree; an error when the template does not fit.
    """
    planned: Result[Plan, SealwaxError]
    if request.template is None:
        planned = flow(
            _targets(contents, request),
            lift(functools.partial(_plan, request, contents, assemble=contents.tree)),
        )
    else:
        planned = flow(
            match(
                request.template,
                contents.entries,
                partial=request.options.pytree.loading.partial_load,
            ),
            bind(functools.partial(_matched, request, contents)),
        )
    return planned


def _targets(contents: Contents, request: LoadRequest) -> Result[_Found, SealwaxError]:
    found: list[tuple[str, Target]] = []
    for leaf in contents.leaves:
        try:
            found.append(
                (leaf.entry.name, targets.as_saved(leaf, request.devices, x64=request.x64))
            )
        except SealwaxError as error:
            return Failure(error.located(leaf=leaf.entry.name, path=request.path))
    return Success(found)


def _matched(
    request: LoadRequest, contents: Contents, matching: Matching
) -> Result[Plan, SealwaxError]:
    by_entry = {id(leaf.entry): leaf for leaf in contents.leaves}
    found: list[tuple[str, Target]] = []
    failures: list[LeafError] = []
    for wanted in matching.wanted:
        name = wanted.entry.name
        try:
            leaf = by_entry[id(wanted.entry)]
            found.append((name, targets.target(leaf, wanted.template, x64=request.x64)))
        except LeafError as error:
            failures.append(error.located(leaf=name, path=contents.directory))
        except SealwaxError as error:
            return Failure(error.located(leaf=name, path=contents.directory))
    if not failures:
        fill = functools.partial(_fill, matching)
        return Success(_plan(request, contents, found, assemble=fill))
    for other in failures[1:10]:
        failures[0].add_note(f"Also: {other}")
    if len(failures) > 10:
        failures[0].add_note(f"... and {len(failures) - 10} more leaves that do not fit.")
    return Failure(failures[0])


def _fill(matching: Matching, values: Sequence[object]) -> Result[PyTree, SealwaxError]:
    return Success(matching.fill(values))


@dataclasses.dataclass(frozen=True, slots=True)
class _Read:
    """A region of an array that will be one buffer."""

    leaf: str
    array: StoredArray
    region: Region

    @property
    def buffer(self) -> Buffer:
        return Buffer(self.leaf, self.region.shape, self.array.dtype)


def _plan(
    request: LoadRequest,
    contents: Contents,
    found: _Found,
    *,
    assemble: _Assemble,
) -> Plan:
    build = Builder()
    values: list[object] = [
        target.value if isinstance(target, Ready) else None for _, target in found
    ]
    places: list[tuple[int, int]] = []
    numbers: list[int] = []
    for group in _groups(found):
        step = _add_group(build, request, contents, [found[number] for number in group])
        places.append((step, len(group)))
        numbers += group
    gather = functools.partial(_gather, values=values, numbers=numbers, assemble=assemble)
    final = build.derive("the tree", gather, *(result(step) for step, _ in places))
    return Plan(
        title="load",
        path=request.path,
        steps=tuple(build.steps),
        result=final,
        names=tuple(name for name, target in found if not isinstance(target, Ready)),
        host_budget=request.options.memory.read_concurrent_bytes or 8 * BATCH_BYTES,
    )


def _gather(
    *parts: Sequence[object],
    values: list[object],
    numbers: list[int],
    assemble: _Assemble,
) -> PyTree:
    filled = list(values)
    for number, value in zip(numbers, (value for part in parts for value in part), strict=True):
        filled[number] = value
    return assemble(filled).unwrap()


def _groups(found: Sequence[tuple[str, Target]]) -> Iterator[list[int]]:
    """Numbers of targets that are read together: of one kind, and of about one batch."""
    for kind in (ToDevice, ToHost):
        group: list[int] = []
        total = 0
        for number, (_, target) in enumerate(found):
            if not isinstance(target, kind):
                continue
            if group and total + target.array.nbytes > BATCH_BYTES:
                yield group
                group, total = [], 0
            group.append(number)
            total += target.array.nbytes
        if group:
            yield group


def _add_group(
    build: Builder, request: LoadRequest, contents: Contents, group: list[tuple[str, Target]]
) -> int:
    reads: list[_Read] = []
    placements: list[Placement] = []
    hosts: list[ToHost] = []
    for leaf, target in group:
        match target:
            case ToDevice():
                placements.append(_placement(leaf, target, reads))
            case ToHost():
                hosts.append(target)
                reads.append(_Read(leaf, target.array, Region.whole(target.array.shape)))
            case Ready():
                pass
    filled, buffers = _add_reads(build, request, contents, reads)
    casts = [None if p.dtype == r.array.dtype else p.dtype for p, r in _pairs(placements, reads)]
    source = result(buffers)
    if hosts:
        finish = functools.partial(_finish, targets=hosts)
        return build.derive("host leaves", finish, source, after=filled)
    if any(cast is not None for cast in casts):
        convert = functools.partial(_convert, casts=casts)
        source = result(build.derive("the dtypes", convert, source, after=filled))
    place = Place(
        arrays=tuple(placements),
        buffers=source,
        default_device=request.default_device,
        x64=request.x64,
    )
    return build.add(place, after=filled)


def _pairs(
    placements: Sequence[Placement], reads: Sequence[_Read]
) -> Iterator[tuple[Placement, _Read]]:
    """For every buffer, the array that it will be part of."""
    owner = {part: array for array in placements for part, _ in array.parts}
    return ((owner[number], read) for number, read in enumerate(reads) if number in owner)


def _placement(leaf: str, target: ToDevice, reads: list[_Read]) -> Placement:
    """Adds one read for each distinct shard, and says which device takes which."""
    array = target.array
    if target.sharding is None:
        reads.append(_Read(leaf, array, Region.whole(array.shape)))
        parts: tuple[tuple[int, Any], ...] = ((len(reads) - 1, None),)
        return Placement(leaf, array.shape, target.dtype, None, parts, array.key_impl)
    sharding = target.sharding
    if array.key_impl is not None:
        sharding = physical_sharding(sharding, len(array.shape))
    seen: dict[Region, int] = {}
    placed: list[tuple[int, Any]] = []
    for device, index in sharding.addressable_devices_indices_map(array.shape).items():
        region = Region.of(index, array.shape) if index is not None else Region.whole(array.shape)
        if region not in seen:
            seen[region] = len(reads)
            reads.append(_Read(leaf, array, region))
        placed.append((seen[region], device))
    return Placement(leaf, array.shape, target.dtype, sharding, tuple(placed), array.key_impl)


def physical_sharding(sharding: Any, rank: int) -> Any:
    """The sharding of typed keys' data, which has one axis more, never split."""
    import jax

    if isinstance(sharding, jax.sharding.NamedSharding):
        spec = tuple(sharding.spec)
        padding = (None,) * (rank - len(spec))
        return jax.sharding.NamedSharding(
            sharding.mesh, jax.sharding.PartitionSpec(*spec, *padding)
        )
    return sharding


def _add_reads(
    build: Builder, request: LoadRequest, contents: Contents, reads: Sequence[_Read]
) -> tuple[tuple[int, ...], int]:
    """Adds the allocation of buffers and what fills them; returns the filling steps and it."""
    buffers = tuple(read.buffer for read in reads)
    allocated = build.add(Allocate(buffers=buffers))
    steps: list[int] = []
    fetches = _native(contents, reads)
    for batch in _cut(fetches):
        nbytes = sum(fetch.length for fetch in batch)
        effect = ReadBatch(
            directory=contents.directory,
            fetches=tuple(batch),
            leaves=tuple(read.leaf for read in reads),
            buffers=result(allocated),
            nbytes=nbytes,
            verify=request.options.array.loading.verify == "always",
        )
        steps.append(build.add(effect, reads=nbytes))
    steps += _add_foreign(build, request, contents, reads, allocated)
    return tuple(steps), allocated


def _native(contents: Contents, reads: Sequence[_Read]) -> Iterator[Fetch]:
    for target, read in enumerate(reads):
        place = read.array.place
        if isinstance(place, Native):
            yield from _fetches(contents, target, read, place)


def _fetches(contents: Contents, target: int, read: _Read, place: Native) -> Iterator[Fetch]:
    array = read.array
    size = array.dtype.itemsize
    payload = int(np.prod(array.chunk_shape, dtype=np.int64)) * size
    raw = payload if place.codec is Codec.RAW else 0
    chunks = place.chunks
    if len(chunks) == 4 and read.region.shape == array.shape == array.chunk_shape:
        file, offset, length, crc = chunks
        yield Fetch(
            target, contents.files[file], offset, length, crc, TRAILER, raw, 0, array.chunk_shape
        )
        return
    grid = tuple(n // c for n, c in zip(array.shape, array.chunk_shape, strict=True))
    for part in overlaps(read.region, array.chunk_shape):
        number = 0
        for extent, index in zip(grid, part.index, strict=True):
            number = number * extent + index
        file, offset, length, crc = chunks[4 * number : 4 * number + 4]
        run = part.target.run_in(read.region.shape) if part.whole else None
        yield Fetch(
            target,
            contents.files[file],
            offset,
            length,
            crc,
            TRAILER,
            raw,
            0 if run is None else run[0] * size,
            array.chunk_shape,
            None if run is not None else part.source.slices,
            None if run is not None else part.target.slices,
        )


def _cut(fetches: Iterator[Fetch]) -> Iterator[list[Fetch]]:
    """Cuts reads into batches, so that several threads share the work."""
    batch: list[Fetch] = []
    total = 0
    for fetch in fetches:
        if batch and total + fetch.length > _READ_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(fetch)
        total += fetch.length
    if batch:
        yield batch


def _add_foreign(
    build: Builder,
    request: LoadRequest,
    contents: Contents,
    reads: Sequence[_Read],
    allocated: int,
) -> Iterator[int]:
    by_driver: dict[str, list[int]] = {}
    for number, read in enumerate(reads):
        if isinstance(read.array.place, Foreign):
            by_driver.setdefault(read.array.place.driver, []).append(number)
    for driver, chosen in by_driver.items():
        nbytes = sum(reads[number].buffer.nbytes for number in chosen)
        effect = ReadRegions(
            directory=contents.directory,
            database=contents.database,
            driver=driver,
            leaves=tuple(reads[number].leaf for number in chosen),
            regions=tuple(reads[number].region.slices for number in chosen),
            targets=tuple(chosen),
            buffers=result(allocated),
            fill_missing=not request.options.array.loading.raise_array_data_missing_error,
            nbytes=nbytes,
        )
        yield build.add(effect, reads=nbytes)


def _finish(buffers: Sequence[np.ndarray[Any, Any]], targets: Sequence[ToHost]) -> list[object]:
    return [
        from_host_array(target.kind, buffer.astype(target.dtype, copy=False))
        for target, buffer in zip(targets, buffers, strict=True)
    ]


def _convert(
    buffers: Sequence[np.ndarray[Any, Any]], casts: Sequence[np.dtype[Any] | None]
) -> list[np.ndarray[Any, Any]]:
    return [
        buffer if dtype is None else buffer.astype(dtype)
        for buffer, dtype in zip(buffers, casts, strict=True)
    ]
