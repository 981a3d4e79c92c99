"""Effects in words, for tables, traces and error messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from sealwax.effects import handling as h
from sealwax.effects import parts as p
from sealwax.effects import vocabulary as v


def size(nbytes: int) -> str:
    """A number of bytes as people write it: ``1.5 MiB``."""
    amount = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{nbytes} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError(nbytes)


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 leaf``, ``2 leaves``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1] + 'ves' if noun.endswith('f') else noun + 's'}"


def sentence(effect: v.Effect, names: Sequence[str] = ()) -> str:
    """What an effect does, in a few words that name the path."""
    match effect:
        case v.Call(name=name):
            return f"call {name}"
        case v.Derive(name=name):
            return f"derive {name}"
        case p.Hold() | p.LinkFiles() | p.MergeDatabases():
            return _part_sentence(effect)
        case h.BeginSave() | h.FinishSave() | h.RunLoad() | h.RunMetadata():
            return _handler_sentence(effect)
        case (
            v.Look()
            | v.ListDirectory()
            | v.ListTree()
            | v.ReadFile()
            | v.ReadMatching()
            | v.Now()
            | v.Token()
            | v.ReadEntries()
        ):
            return _looking_sentence(effect)
        case (
            v.Stage()
            | v.Probe()
            | v.WriteBatch()
            | v.WriteChunks()
            | v.Allocate()
            | v.ReadBatch()
            | v.ReadRegions()
            | v.CheckExtents()
            | v.CheckArrays()
            | v.Place()
        ):
            return _data_sentence(effect, names)
        case _:
            return _file_sentence(effect)


def _file_sentence(effect: v.FileEffect) -> str:
    match effect:
        case v.MakeDirectory(path=path):
            return f"make directory {path}"
        case v.WriteFile(path=path, sync=sync):
            return f"write {path}" + (" and sync" if sync else "")
        case v.WriteFiles(directory=path, sync=sync):
            return f"write files below {path}" + (" and sync" if sync else "")
        case v.SyncDirectory(path=path):
            return f"sync directory {path}"
        case v.SyncTree(path=path):
            return f"sync directory {path} and all below it"
        case v.Rename() | v.Exchange() | v.Replace() | v.Retract():
            return _moving_sentence(effect)
        case v.RemoveFile(path=path) | v.RemoveTree(path=path):
            return f"remove {path}"
        case v.RemoveDirectory(path=path):
            return f"remove {path} if it is empty"
        case h.DigestTree(path=path, sync=sync):
            return f"take the checksums of the files in {path}" + (" and sync them" if sync else "")
        case _:
            assert_never(effect)


def _moving_sentence(effect: v.Moving) -> str:
    match effect:
        case v.Rename(source=source, target=target):
            return f"rename {source} to {target}"
        case v.Exchange(first=first, second=second):
            return f"exchange {first} and {second}"
        case v.Replace(source=source, target=target):
            return f"replace {target} by {source}"
        case v.Retract(path=path, aside=aside):
            return f"take unfinished {path} away to {aside}"
        case _:
            assert_never(effect)


def _part_sentence(effect: p.Hold | p.Joining) -> str:
    match effect:
        case p.Hold(path=path):
            return f"wait until nobody else uses {path}"
        case p.LinkFiles(source=source, target=target, links=links):
            return f"link {count(len(links), 'file')} below {source} to {target}"
        case p.MergeDatabases(directory=path, parts=parts):
            return f"merge {count(len(parts), 'database')} in {path}"
        case _:
            assert_never(effect)


def _handler_sentence(effect: h.HandlerEffect) -> str:
    match effect:
        case h.BeginSave(path=path, handler=handler):
            return f"let {type(handler).__name__} begin to save into {path}"
        case h.FinishSave(path=path):
            return f"let the handler finish its save into {path}"
        case h.RunLoad(path=path, handler=handler):
            return f"let {type(handler).__name__} load from {path}"
        case h.RunMetadata(path=path, handler=handler):
            return f"let {type(handler).__name__} look at {path}"
        case _:
            assert_never(effect)


def _looking_sentence(effect: v.Observation) -> str:
    match effect:
        case v.Look(path=path):
            return f"look at {path}"
        case v.ListDirectory(path=path):
            return f"list {path}"
        case v.ListTree(path=path):
            return f"list all below {path}"
        case v.ReadFile(path=path):
            return f"read {path}"
        case v.ReadMatching(path=path):
            return f"read what describes the parts in {path}"
        case v.Now():
            return "tell the time"
        case v.Token():
            return "draw a random name"
        case v.ReadEntries(directory=path, keys=keys):
            return f"read the metadata of {count(len(keys), 'array')} in {path}"
        case _:
            assert_never(effect)


def _data_sentence(effect: v.DataEffect, names: Sequence[str]) -> str:
    match effect:
        case v.Stage(slabs=slabs, copy=copy):
            return f"{'copy' if copy else 'bring'} {_leaves(slabs, names)} to the host"
        case v.Probe(slabs=slabs):
            return f"look whether {_leaves(slabs, names)} can be compressed"
        case v.WriteBatch(path=path, slabs=slabs, sync=sync):
            return f"write {_leaves(slabs, names)} to {path}" + (" and sync" if sync else "")
        case v.WriteChunks(directory=path, slabs=slabs, sync=sync):
            return f"write {_leaves(slabs, names)} below {path}" + (" and sync" if sync else "")
        case v.Allocate(buffers=buffers):
            return f"allocate {count(len(buffers), 'buffer')}"
        case v.ReadBatch(directory=path, fetches=fetches):
            return f"read {count(len(fetches), 'chunk')} from {path}"
        case v.ReadRegions(directory=path, leaves=leaves):
            return f"read {count(len(leaves), 'array')} from {path}"
        case v.CheckExtents(directory=path, extents=extents):
            return f"check {count(len(extents), 'range')} of files in {path}"
        case v.CheckArrays(directory=path, arrays=arrays):
            return f"read through {count(len(arrays), 'array')} in {path}"
        case v.Place(arrays=arrays):
            return f"put {count(len(arrays), 'array')} on devices"
        case _:
            assert_never(effect)


def _leaves(slabs: tuple[v.Slab, ...], names: Sequence[str]) -> str:
    leaves = {slab.leaf for slab in slabs}
    if len(leaves) > 1:
        return count(len(leaves), "leaf")
    leaf = leaves.pop()
    named = f"leaf {names[leaf]!r}" if leaf < len(names) else f"leaf #{leaf}"
    chunks = sum(slab.last - slab.first for slab in slabs)
    return named if chunks == 1 else f"{named} ({count(chunks, 'chunk')})"
