"""Decodes OCDBT databases without touching a file.

Whoever calls says how bytes are read; everything that is read is checked against its checksum
and against what its parent said of it before it is believed.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sealwax.errors import InvalidLayoutError
from sealwax.layouts.ocdbt_columns import Columns, Home
from sealwax.layouts.ocdbt_format import (
    MANIFEST_MAGIC,
    MANIFEST_NAME,
    MAX_NODE_ENTRIES,
    NODE_MAGIC,
    UINT64_MAX,
    Config,
    DataRef,
    Manifest,
    Read,
    Reader,
    Statistics,
    Value,
    Version,
    decode_files,
    open_frame,
)

_INT64_MAX = (1 << 63) - 1
_OTHER = bytes.maketrans(b"\0\1", b"\1\0")

__all__ = ["columns", "decode_manifest", "entries"]


def decode_manifest(data: bytes, *, path: str = MANIFEST_NAME) -> Manifest:
    """Decodes the contents of ``manifest.ocdbt``.

    Args:
      data: The whole file.
      path: Name of the file, for errors.

    Returns:
      The manifest, without versions if its settings say that those are in numbered files.

    Raises:
      CorruptionError: The bytes are not those that were written.
      InvalidLayoutError: They are in a version of the format that came later.
    """
    reader = open_frame(data, MANIFEST_MAGIC, path)
    config = _config(reader)
    versions = () if config.numbered else _versions(reader)
    reader.finish()
    return Manifest(config=config, versions=versions)


def entries(version: Version, read: Read) -> Iterator[tuple[bytes, Value]]:
    """Walks the tree of a version, and yields its entries in the order of their keys.

    Args:
      version: Usually the last of a manifest.
      read: Returns the bytes of a range of a file; ``ref.path`` is relative to the root.

    Yields:
      Each key with its value, or with where the value lies.

    Raises:
      CorruptionError: A node is not what was written; its ``path`` is that of the file.
    """
    for leaf in _leaves(version, read):
        yield from leaf.entries()


def columns(version: Version, read: Read) -> Columns:
    """Walks the tree of a version as `entries` does, and gives all of its entries at once."""
    return Columns.joined(list(_leaves(version, read)))


def _leaves(version: Version, read: Read) -> Iterator[Columns]:
    if version.root is None:
        return
    pending = [_Child(ref=version.root, height=version.height)]
    while pending:
        child = pending.pop()
        reader, keys = _open_node(child, read(child.ref))
        if child.height:
            pending.extend(reversed(_children(child, reader, keys)))
        else:
            yield _leaf(reader, keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    """A node as its parent describes it: keys have `prefix`, and are from `first` to `end`."""

    ref: DataRef
    height: int
    prefix: bytes = b""
    first: bytes = b""
    end: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    """The keys of a node, the table of its files, and how much of each key a child leaves out."""

    full: list[bytes]
    files: list[Home]
    excluded: list[int]


def _config(reader: Reader) -> Config:
    uuid, kind = reader.take(16), reader.take(1)[0]
    inline, node = reader.column(2)
    arity, zstd = reader.take(1)[0], reader.integer()
    if kind > 1 or zstd > 1:
        raise InvalidLayoutError(
            "the key-value database has settings that this version does not know",
            path=reader.path,
            expected="manifest kind and compression 0 or 1",
            found=f"{kind} and {zstd}",
        )
    return Config(
        uuid=uuid,
        max_inline_value_bytes=inline,
        max_node_bytes=node,
        arity_log2=arity,
        numbered=kind == 1,
        zstd_level=int.from_bytes(reader.take(4), "little", signed=True) if zstd else None,
    )


def _versions(reader: Reader) -> tuple[Version, ...]:
    files = decode_files(reader, "")
    count = reader.integer()
    generations = reader.column(count)
    heights = reader.take(count)
    refs = _refs(reader, files, count)
    statistics = _statistics(reader, count)
    times = [int.from_bytes(reader.take(8), "little") for _ in range(count)]
    _skip_older_versions(reader)
    return tuple(
        Version(
            generation=generation,
            commit_time_ns=time,
            root=None if ref.offset == ref.length == UINT64_MAX else ref,
            height=height,
            statistics=each,
        )
        for generation, height, ref, each, time in zip(
            generations, heights, refs, statistics, times, strict=True
        )
    )


def _skip_older_versions(reader: Reader) -> None:
    """Passes over the references to versions that the manifest itself does not list."""
    count = reader.integer()
    reader.column(5 * count)  # generation, file, offset, length, number of generations
    reader.take(9 * count)  # commit time and height


def _refs(reader: Reader, files: list[Home], count: int) -> list[DataRef]:
    ids, offsets, lengths = reader.column(count), reader.column(count), reader.column(count)
    _check_ids(reader, files, ids)
    return [
        DataRef(files[at][1], offset, length, files[at][0])
        for at, offset, length in zip(ids, offsets, lengths, strict=True)
    ]


def _check_ids(reader: Reader, files: list[Home], ids: list[int]) -> None:
    if max(ids, default=-1) >= len(files):
        raise reader.broken(f"file {max(ids)} of a table of {len(files)}")


def _statistics(reader: Reader, count: int) -> list[Statistics]:
    keys, tree, indirect = reader.column(count), reader.column(count), reader.column(count)
    return [
        Statistics(keys=key, tree_bytes=size, indirect_bytes=outside)
        for key, size, outside in zip(keys, tree, indirect, strict=True)
    ]


def _open_node(child: _Child, data: bytes) -> tuple[Reader, _Keys]:
    path = child.ref.path
    reader = open_frame(data, NODE_MAGIC, path)
    height = reader.take(1)[0]
    if height != child.height:
        raise reader.broken(f"a node of height {height} where one of {child.height} belongs")
    files = decode_files(reader, child.ref.base)
    count = reader.integer()
    if not 0 < count <= MAX_NODE_ENTRIES:
        raise reader.broken(f"a node of {count} entries")
    shared, lengths = [0, *reader.column(count - 1)], reader.column(count)
    excluded = reader.column(count) if height else []
    full = _full_keys(child, reader, shared, lengths)
    return reader, _Keys(full=full, files=files, excluded=excluded)


def _full_keys(child: _Child, reader: Reader, shared: list[int], lengths: list[int]) -> list[bytes]:
    suffixes = reader.take(sum(lengths))
    key, at = child.prefix, 0
    kept = [len(key) + skip for skip in shared]
    if any(map(operator.gt, kept[1:], map(operator.add, kept, lengths))):
        raise reader.broken("a key that shares more than there is")
    keys: list[bytes] = []
    for keep, length in zip(kept, lengths, strict=True):
        end = at + length
        key = key[:keep] + suffixes[at:end]
        at = end
        keys.append(key)
    if any(map(operator.ge, keys, keys[1:])):
        raise reader.broken("keys that are out of order")
    if keys[0] < child.first:
        raise reader.broken("keys that belong into an earlier node")
    if child.end is not None and keys[-1] >= child.end:
        raise reader.broken("keys that belong into a later node")
    return keys


def _children(child: _Child, reader: Reader, keys: _Keys) -> list[_Child]:
    count = len(keys.full)
    refs = _refs(reader, keys.files, count)
    _statistics(reader, count)
    reader.finish()
    start = len(child.prefix)
    ends = [*keys.full[1:], child.end]
    return [
        _Child(ref=ref, height=child.height - 1, prefix=key[: start + size], first=key, end=end)
        for key, end, size, ref in zip(keys.full, ends, keys.excluded, refs, strict=True)
    ]


def _leaf(reader: Reader, keys: _Keys) -> Columns:
    count = len(keys.full)
    sizes, kinds = reader.column(count), reader.take(count)
    if kinds.strip(b"\0\1"):
        raise reader.broken("a value that is neither inline nor a reference")
    outside = kinds.count(1)
    ids, offsets = reader.column(outside), reader.column(outside)
    _check_ids(reader, keys.files, ids)
    if max((*sizes, *offsets)) > _INT64_MAX:
        raise reader.broken("a value that lies beyond the end of any file")
    inline = itertools.compress(sizes, kinds.translate(_OTHER))
    data = reader.take(sum(inline))
    reader.finish()
    return Columns(
        keys=keys.full,
        sizes=np.array(sizes, dtype=np.int64),
        outside=np.frombuffer(kinds, np.bool_),
        data=data,
        homes=tuple(keys.files),
        home=np.array(ids, dtype=np.int64),
        offset=np.array(offsets, dtype=np.int64),
    )
