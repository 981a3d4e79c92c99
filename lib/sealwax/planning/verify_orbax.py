"""Planning the verification of what sealwax did not write, as far as its files allow.

Orbax records no checksum of its JSON files, and Zarr's codecs, as it sets them, none of chunks;
the nodes and the manifest of an OCDBT database have theirs. So everything is read and decoded,
and the report names what a checksum does not cover.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from sealwax.checkpointables import typestrings
from sealwax.effects import CheckArrays, Entry, Fault, Mismatch, Plan, StoredBoxes
from sealwax.errors import CorruptionError, SealwaxError
from sealwax.layouts import orbax
from sealwax.options import Options
from sealwax.planning import names
from sealwax.planning.builder import Builder, result
from sealwax.planning.census import Census
from sealwax.planning.contents import Contents, Foreign, StoredArray
from sealwax.planning.verification import Problem, Verification, from_error
from sealwax.planning.verify import BATCH_BYTES

_PIECE_BYTES = 64 << 20
_ARRAY_METADATA = frozenset({"zarr.json", ".zarray"})


class _Array(NamedTuple):
    """An array that TensorStore reads: the leaf that it is, and where it lies."""

    leaf: str
    stored: StoredArray
    place: Foreign

    @property
    def boxes(self) -> StoredBoxes:
        array = self.stored
        return StoredBoxes(self.place.key, array.shape, array.chunk_shape, array.dtype.itemsize)


class _Reading(NamedTuple):
    """Arrays of one item that are read together."""

    item: str
    contents: Contents
    driver: str
    arrays: tuple[_Array, ...]


def plan_verify_orbax(census: Census, options: Options) -> Plan:
    """Plans the verification of a checkpoint that sealwax did not write.

    Args:
      census: What is at the path.
      options: The settings; ``memory.read_concurrent_bytes`` bounds what is read at a time.
    """
    build = Builder()
    budget = options.memory.read_concurrent_bytes
    problems = [*census.broken_deletion(), *_wrong_documents(census), *_missing(census)]
    covered, bare = 0, 0
    unprotected: list[str] = []
    readings: list[_Reading] = []
    steps: list[int] = []
    leaves: list[str] = []
    for item, contents in census.trees.items():
        if isinstance(contents, SealwaxError):
            problems.append(from_error(contents, census.path, item))
            continue
        leaves += [leaf.entry.name for leaf in contents.leaves if leaf.entry.empty is None]
        damages = [leaf.damage for leaf in contents.leaves if leaf.damage is not None]
        problems += [from_error(damage, census.path, item) for damage in damages]
        for array in _arrays(contents):
            if array.place.checksummed:
                covered += array.stored.nbytes
            else:
                bare += array.stored.nbytes
                unprotected.append(f"{item}: {array.leaf}" if item else array.leaf)
        readings += _readings(item, contents, min(BATCH_BYTES, budget or BATCH_BYTES))
    for reading in readings:
        arrays = tuple([array.boxes for array in reading.arrays])
        nbytes = sum([array.stored.nbytes for array in reading.arrays])
        effect = CheckArrays(
            directory=reading.contents.directory,
            database=reading.contents.database,
            driver=reading.driver,
            arrays=arrays,
            fill_missing=not options.array.loading.raise_array_data_missing_error,
            piece=min(_PIECE_BYTES, budget or _PIECE_BYTES),
            nbytes=nbytes,
        )
        steps.append(build.add(effect, reads=nbytes))
    report = Verification(
        path=options.file.path_class(census.path),
        writer="Orbax",
        leaves=len(leaves),
        files=sum(there.entry is Entry.FILE for there in census.present.values()),
        nbytes=covered,
        problems=tuple(problems),
        unprotected=(*_unprotected_files(census), *unprotected),
        unprotected_nbytes=bare,
    )
    gather = functools.partial(_gather, readings, report)
    final = build.derive("the report", gather, *map(result, steps))
    return Plan(
        title="verify",
        path=census.path,
        steps=tuple(build.steps),
        result=final,
        names=tuple(leaves),
    )


def _arrays(contents: Contents) -> Iterator[_Array]:
    for leaf in contents.leaves:
        array = leaf.array
        if array is not None and isinstance(array.place, Foreign):
            yield _Array(leaf.entry.name, array, array.place)


def _readings(item: str, contents: Contents, most: int) -> Iterator[_Reading]:
    """Groups the arrays of an item by driver and, unless one is larger, by so many bytes."""
    groups: dict[str, list[_Array]] = {}
    sizes: dict[str, int] = {}
    for array in _arrays(contents):
        driver, nbytes = array.place.driver, array.stored.nbytes
        if driver in groups and sizes[driver] + nbytes > most:
            yield _Reading(item, contents, driver, tuple(groups.pop(driver)))
            sizes[driver] = 0
        groups.setdefault(driver, []).append(array)
        sizes[driver] = sizes.get(driver, 0) + nbytes
    for driver, arrays in groups.items():
        yield _Reading(item, contents, driver, tuple(arrays))


def _wrong_documents(census: Census) -> Iterator[Problem]:
    for file, data in census.documents.items():
        where = names.join(census.path, file)
        try:
            if file == orbax.CHECKPOINT_METADATA:
                orbax.read_checkpoint_metadata(data, where)
            else:
                orbax.parse(data, where)
        except CorruptionError as error:
            yield from_error(error, census.path, file.rpartition("/")[0])


def _missing(census: Census) -> Iterator[Problem]:
    """Items that the checkpoint's metadata names and that are not there."""
    try:
        handlers = orbax.parse(census.documents[orbax.CHECKPOINT_METADATA], "").get("item_handlers")
    except (KeyError, CorruptionError):
        return
    if not isinstance(handlers, Mapping):
        return
    for item, handler in cast("Mapping[str, object]", handlers).items():
        tree = handler in typestrings.PYTREE
        file = names.join(item, orbax.TREE_METADATA) if tree else item
        if file not in census.present and census.counts(item):
            yield Problem(fault=Fault.MISSING, file=file, item=item)


def _unprotected_files(census: Census) -> Iterator[str]:
    stores = {
        item: frozenset(array.place.key for array in _arrays(contents))
        for item, contents in census.trees.items()
        if isinstance(contents, Contents)
    }
    for file, there in sorted(census.present.items()):
        if there.entry is Entry.FILE and there.nbytes and not _holds_arrays(file, stores):
            yield file


def _holds_arrays(file: str, stores: Mapping[str, frozenset[str]]) -> bool:
    """Whether a file belongs to a store of arrays, which is accounted for leaf by leaf."""
    for item, keys in stores.items():
        if item and not file.startswith(f"{item}/"):
            continue
        name = file.removeprefix(f"{item}/") if item else file
        top = name.partition("/")[0]
        if name == orbax.DATABASE or top == orbax.DATA or top.startswith("ocdbt.process_"):
            return True
        above = name
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in keys:
                return name.rpartition("/")[2] not in _ARRAY_METADATA
    return False


def _gather(
    readings: Sequence[_Reading], report: Verification, *parts: Sequence[Mismatch]
) -> Verification:
    found = [
        _problem(reading, mismatch)
        for reading, part in zip(readings, parts, strict=True)
        for mismatch in part
    ]
    return dataclasses.replace(report, problems=(*report.problems, *found))


def _problem(reading: _Reading, mismatch: Mismatch) -> Problem:
    array = reading.arrays[mismatch.number]
    sizes = array.stored.chunk_shape[: len(mismatch.start)]
    place = tuple(at // max(1, size) for at, size in zip(mismatch.start, sizes, strict=True))
    key = "" if reading.contents.database else array.place.key
    return Problem(
        fault=mismatch.fault,
        file="/".join(part for part in (reading.item, key) if part),
        item=reading.item or None,
        leaf=array.leaf,
        chunk=place or None,
    )
