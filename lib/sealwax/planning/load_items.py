"""Planning a load of several items: what each adds to the plan, and how they come together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from returns.result import Failure, Result, Success

from sealwax.checkpointables import json_codec, proto_codec
from sealwax.checkpointables.kinds import Handler, JsonKind, ProtoKind
from sealwax.effects import (
    CheckExtents,
    Entry,
    Extent,
    ListTree,
    Mismatch,
    Plan,
    Present,
    ReadFile,
    RunLoad,
)
from sealwax.errors import CheckpointNotFoundError, CorruptionError, SealwaxError
from sealwax.layouts import manifest
from sealwax.layouts.manifest import Digest
from sealwax.layouts.orbax import DAMAGED
from sealwax.options import Options
from sealwax.planning import names
from sealwax.planning.builder import Builder, result
from sealwax.planning.contents import Contents
from sealwax.planning.load import choose
from sealwax.planning.load_steps import LoadRequest, add_load, load_budget
from sealwax.planning.pipeline import raised
from sealwax.planning.stock import StoredItem


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How an item is loaded.

    Attributes:
      name: Its name.
      leaves: The names of the leaves that are read.
      add: Adds the steps, and returns the one whose result is the item.
    """

    name: str
    leaves: tuple[str, ...] = ()
    add: Callable[[Builder], int]


def load_tree(name: str, request: LoadRequest, contents: Contents) -> Result[Loading, SealwaxError]:
    """Loads a tree."""

    def planned(chosen: Any) -> Loading:
        add = functools.partial(add_load, request=request, contents=contents, chosen=chosen)
        return Loading(name=name, leaves=chosen.names, add=add)

    return choose(request, contents).map(planned)


def load_json(item: StoredItem, kind: JsonKind, options: Options) -> Result[Loading, SealwaxError]:
    """Loads JSON from the first of the files that may hold it."""
    searched = json_codec.searched(kind.filename)
    there = {*item.listed, *item.digests}
    file = next((name for name in searched if name in there), None)
    if file is None:
        return Failure(
            CheckpointNotFoundError(
                f"The checkpointable {item.name!r} has no JSON to load",
                path=item.directory,
                expected=" or ".join(map(repr, searched)),
                found=", ".join(map(repr, item.listed[:5])) or "an empty directory",
            )
        )
    wanted = [file, *([json_codec.NOTES] if json_codec.NOTES in there else [])]

    def decode(data: bytes, notes: bytes | None = None) -> object:
        return raised(json_codec.decode(data, notes, path=names.join(item.directory, file)))

    return Success(_load_files(item, wanted, options, "the JSON", decode))


def load_proto(
    item: StoredItem, kind: ProtoKind, abstract: object, options: Options
) -> Result[Loading, SealwaxError]:
    """Loads a protocol buffer."""
    path = names.join(item.directory, kind.filename)

    def decode(data: bytes) -> object:
        return raised(proto_codec.decode(data, abstract, item.name, path=path))

    problem = proto_codec.abstract_problem(abstract, item.name, path)
    if problem is not None:
        return Failure(problem)
    return Success(_load_files(item, [kind.filename], options, "the message", decode))


def load_handled(item: StoredItem, handler: Handler, abstract: object, options: Options) -> Loading:
    """Loads what a handler of a user's wrote, which it sees only when it is as it was."""

    def add(build: Builder) -> int:
        effect = RunLoad(
            path=item.directory,
            handler=handler,
            abstract=abstract,
            path_class=options.file.path_class,
        )
        checked = _add_check(build, item) if item.digests and _verifies(options) else ()
        return build.add(effect, after=checked)

    return Loading(name=item.name, add=add)


def keep(name: str) -> Loading:
    """Stands for an item that is not loaded: nothing is read, and ``...`` is its value."""
    return Loading(name=name, add=lambda build: build.derive("nothing", _placeholder))


def plan_items(path: str, options: Options, items: Sequence[Loading]) -> Plan:
    """Plans a load of several items side by side, whose result is a dict of them."""
    build = Builder()
    steps = [item.add(build.within(item.name)) for item in items]
    together = functools.partial(_together, [item.name for item in items])
    final = build.derive("the checkpointables", together, *map(result, steps))
    return Plan(
        title="load_checkpointables",
        path=path,
        steps=tuple(build.steps),
        result=final,
        names=tuple([f"{item.name}/{leaf}" for item in items for leaf in item.leaves]),
        host_budget=load_budget(options),
    )


def _together(known: Sequence[str], *values: object) -> dict[str, object]:
    return dict(zip(known, values, strict=True))


def _placeholder() -> object:
    return ...


def _verifies(options: Options) -> bool:
    return options.array.loading.verify == "always"


def _load_files(
    item: StoredItem,
    wanted: Sequence[str],
    options: Options,
    what: str,
    decode: Callable[..., object],
) -> Loading:
    digests: Mapping[str, Digest] = item.digests if _verifies(options) else {}

    def checked(*contents: bytes | None) -> object:
        for name, data in zip(wanted, contents, strict=True):
            _check_file(data, digests.get(name), names.join(item.directory, name))
        return decode(*contents)

    def add(build: Builder) -> int:
        reads = [build.add(ReadFile(path=names.join(item.directory, name))) for name in wanted]
        return build.derive(what, checked, *map(result, reads))

    return Loading(name=item.name, add=add)


def _check_file(data: bytes | None, digest: Digest | None, path: str) -> None:
    if data is None:
        raise CorruptionError("A file of the checkpoint is missing", path=path, hint=DAMAGED)
    if digest is not None and not manifest.agrees(digest, data):
        raise _changed(path, digest, f"{len(data)} bytes")


def _add_check(build: Builder, item: StoredItem) -> tuple[int, ...]:
    """Adds the steps that hold every file of an item against its digest."""
    extents = tuple([Extent.whole(file, digest) for file, digest in item.digests.items()])
    nbytes = sum(extent.length for extent in extents)
    listed = build.add(ListTree(path=item.directory))
    effect = CheckExtents(directory=item.directory, extents=extents, nbytes=nbytes)
    read = build.add(effect, reads=nbytes)
    check = functools.partial(_check_files, item)
    return (build.derive("that its files are as they were", check, result(listed), result(read)),)


def _check_files(
    item: StoredItem, listed: Mapping[str, Present], mismatches: Sequence[Mismatch]
) -> None:
    files = list(item.digests)
    wrong = {files[mismatch.number]: mismatch.found for mismatch in mismatches}
    for file, digest in item.digests.items():
        path = names.join(item.directory, file)
        present = listed.get(file)
        if present is None or present.entry is not Entry.FILE:
            raise CorruptionError("A file of the checkpoint is missing", path=path, hint=DAMAGED)
        if present.nbytes != digest[0] or file in wrong:
            raise _changed(path, digest, wrong.get(file) or f"{present.nbytes} bytes")


def _changed(path: str, digest: Digest, found: str) -> CorruptionError:
    return CorruptionError(
        "A file is not the one that the checkpoint was sealed with",
        path=path,
        expected=f"{digest[0]} bytes with CRC-32C {digest[1]:08x}",
        found=found,
        hint=DAMAGED,
    )
