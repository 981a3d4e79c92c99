"""Planning a load: from what a checkpoint holds and what is wanted to a plan."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from returns.pipeline import flow
from returns.result import Failure, Result, Success

from sealwax.arrays.casts import convert
from sealwax.arrays.leafforms import from_host_array
from sealwax.arrays.regions import Region
from sealwax.effects import Place, Placement, Plan
from sealwax.errors import Difference, LeafError, SealwaxError
from sealwax.options import Options
from sealwax.planning import targets
from sealwax.planning.batches import BATCH_BYTES
from sealwax.planning.builder import Builder, result
from sealwax.planning.contents import Contents, StoredLeaf
from sealwax.planning.pipeline import bind, lift, raised
from sealwax.planning.reads import Read, add_reads, read_of
from sealwax.planning.targets import Ready, Rules, Target, ToDevice, ToHost
from sealwax.trees.build import grow
from sealwax.trees.match import Matching, Wanted, match
from sealwax.trees.report import unfit
from sealwax.trees.structure import PyTree

_Found: TypeAlias = Sequence[tuple[str, Target]]
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
                check=functools.partial(misfits, request, contents),
            ).alt(lambda error: error.located(path=request.path)),
            bind(functools.partial(plan_matched, request, contents)),
        )
    return planned


def by_entry(contents: Contents) -> dict[int, StoredLeaf]:
    """The leaves by the identity of their entries."""
    return {id(leaf.entry): leaf for leaf in contents.leaves}


def _targets(contents: Contents, request: LoadRequest) -> Result[_Found, SealwaxError]:
    found: list[tuple[str, Target]] = []
    grown = grow(contents.entries) if contents.structure is None else None
    if isinstance(grown, Failure):
        # Before anything is read.
        return grown.alt(lambda error: error.located(path=request.path))
    for leaf in contents.leaves:
        try:
            target = targets.as_saved(leaf, request.devices, x64=request.x64)
        except SealwaxError as error:
            return Failure(error.located(leaf=leaf.entry.name, path=request.path))
        found.append((leaf.entry.name, target))
    return Success(found)


def misfits(request: LoadRequest, contents: Contents, wanted: Sequence[Wanted]) -> list[Difference]:
    """How stored leaves do not fit a template's."""
    leaves, rules = by_entry(contents), request.rules
    found = [_misfit(rules, leaves, each) for each in wanted]
    return [each for each in found if each is not None]


def _misfit(rules: Rules, leaves: dict[int, StoredLeaf], wanted: Wanted) -> Difference | None:
    """How one stored leaf does not fit the template's, if it does not."""
    leaf = leaves[id(wanted.entry)]
    try:
        targets.target(leaf, wanted.template, rules)
    except LeafError as error:
        return Difference(
            name=wanted.name,
            expected=error.expected or error.what,
            found=error.found or targets.describe(leaf),
        )
    except SealwaxError:
        return None  # It cannot be loaded at all, and no template can change that.
    return None


def plan_matched(
    request: LoadRequest, contents: Contents, matching: Matching
) -> Result[Plan, SealwaxError]:
    """Plans a load of what was matched; every leaf that does not fit is in the one error."""
    leaves, rules = by_entry(contents), request.rules
    found: list[tuple[str, Target]] = []
    failures: list[LeafError] = []
    for wanted in matching.wanted:
        leaf = leaves[id(wanted.entry)]
        try:
            found.append((leaf.entry.name, targets.target(leaf, wanted.template, rules)))
        except LeafError as error:
            failures.append(error.located(leaf=leaf.entry.name))
        except SealwaxError as error:
            return Failure(error.located(leaf=leaf.entry.name, path=request.path))
    if failures:
        return Failure(unfit(failures).located(path=request.path))
    fill = functools.partial(_fill, matching)
    return Success(_plan(request, contents, found, assemble=fill))


def plan_leaves(request: LoadRequest, contents: Contents, found: _Found) -> Plan:
    """Plans a load of some leaves, with their names and targets; the result is their list."""
    return _plan(request, contents, found, assemble=Success)


def _fill(matching: Matching, values: Sequence[object]) -> Result[PyTree, SealwaxError]:
    return Success(matching.fill(values))


def _plan(request: LoadRequest, contents: Contents, found: _Found, *, assemble: _Assemble) -> Plan:
    build = Builder()
    values: list[object] = [
        target.value if isinstance(target, Ready) else None for _, target in found
    ]
    places: list[int] = []
    numbers: list[int] = []
    for group in _groups(found):
        chosen = [found[number] for number in group]
        places.append(_add_group(build, request, contents, chosen))
        numbers += group
    gather = functools.partial(_gather, values=values, numbers=numbers, assemble=assemble)
    final = build.derive("the tree", gather, *map(result, places))
    return Plan(
        title="load",
        path=request.path,
        steps=tuple(build.steps),
        result=final,
        names=tuple([name for name, target in found if not isinstance(target, Ready)]),
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
    return raised(assemble(filled))


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
    reads: list[Read] = []
    placements: list[Placement] = []
    hosts: list[ToHost] = []
    for leaf, target in group:
        match target:
            case ToDevice():
                placements.append(_placement(leaf, target, reads))
            case ToHost():
                hosts.append(target)
                reads.append(read_of(leaf, target.array, target.dtype, target.shape))
            case Ready():
                pass
    loading = request.options.array.loading
    filled, buffers = add_reads(build, request.options, contents, reads)
    finish = functools.partial(_finish, reads=reads, lossy=loading.casting == "unsafe")
    if hosts:
        as_leaves = functools.partial(_host_leaves, finish, kinds=[host.kind for host in hosts])
        return build.derive("host leaves", as_leaves, result(buffers), after=filled)
    source = result(buffers)
    if not all(read.as_stored for read in reads):
        source = result(build.derive("dtypes and shapes", finish, source, after=filled))
    place = Place(
        arrays=tuple(placements),
        buffers=source,
        default_device=request.default_device,
        x64=request.x64,
    )
    return build.add(place, after=filled)


def _placement(leaf: str, target: ToDevice, reads: list[Read]) -> Placement:
    """Adds one read for each distinct shard, and says which device takes which."""
    array, dtype, shape, sharding = target.array, target.dtype, target.shape, target.sharding
    if sharding is None:
        reads.append(read_of(leaf, array, dtype, shape))
        parts: tuple[tuple[int, Any], ...] = ((len(reads) - 1, None),)
        return Placement(leaf, shape, dtype, None, parts, array.key_impl)
    seen: dict[Region, int] = {}
    placed: list[tuple[int, Any]] = []
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        region = Region.of(index, shape) if index is not None else Region.whole(shape)
        if region not in seen:
            seen[region] = len(reads)
            reads.append(read_of(leaf, array, dtype, shape, region))
        placed.append((seen[region], device))
    return Placement(leaf, shape, dtype, sharding, tuple(placed), array.key_impl, target.layout)


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
