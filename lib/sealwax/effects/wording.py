"""Effects in words, for tables, traces and error messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

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
        case v.Rename(source=source, target=target):
            return f"seal: rename {source} to {target}"
        case v.Exchange(first=first, second=second):
            return f"seal: exchange {first} and {second}"
        case v.RemoveTree(path=path):
            return f"remove {path}"
        case v.Look() | v.ListDirectory() | v.ReadFile() | v.Now() | v.Token() | v.ReadEntries():
            return _looking_sentence(effect)
        case _:
            return _data_sentence(effect, names)


def _looking_sentence(effect: v.Observation) -> str:
    match effect:
        case v.Look(path=path):
            return f"look at {path}"
        case v.ListDirectory(path=path):
            return f"list {path}"
        case v.ReadFile(path=path):
            return f"read {path}"
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
