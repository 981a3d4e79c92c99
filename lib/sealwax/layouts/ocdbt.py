"""Encodes a whole OCDBT database at once, so that its bytes can be written with plain files.

The tree is built bottom up from sorted columns: keys are cut into leaves by size, the leaves'
first keys into interior nodes, and so on up to one root. A node leaves out the prefix that all
its keys share; its parent keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sealwax.errors import NameCollisionError, OptionValueError, UnsupportedLeafError
from sealwax.layouts import varint
from sealwax.layouts.ocdbt_columns import Column, Columns, Home
from sealwax.layouts.ocdbt_format import (
    MANIFEST_MAGIC,
    MAX_INLINE_BYTES,
    MAX_KEY_BYTES,
    MAX_NODE_ENTRIES,
    MAX_PATH_BYTES,
    NODE_MAGIC,
    UINT64_MAX,
    Config,
    Database,
    DataRef,
    Statistics,
    Value,
    Version,
    encode_files,
    seal,
)
from sealwax.layouts.ocdbt_keys import SortedKeys

__all__ = ["encode"]

# What TensorStore counts for an entry beside its key and value when it splits nodes.
_LEAF_ENTRY_BYTES = 16
_REFERENCE_BYTES = 16
_INTERIOR_ENTRY_BYTES = 56


def encode(
    entries: Columns | Iterable[tuple[bytes, Value]],
    *,
    nodes_file: str,
    uuid: bytes,
    commit_time_ns: int,
    max_inline_value_bytes: int = 1024,
    max_node_bytes: int = 8 << 20,
) -> Database:
    """Encodes a database that holds ``entries``, uncompressed and with a single manifest.

    Args:
      entries: Keys, each with its value or with where the value lies; in any order, or as columns.
      nodes_file: Data file that will be the nodes, relative to the database's root.
      uuid: Identifier of the database, 16 bytes.
      commit_time_ns: Time to record, in nanoseconds since the Unix epoch.
      max_inline_value_bytes: Largest value that may be passed as bytes.
      max_node_bytes: Size, before prefixes are left out, at which nodes are split.

    Returns:
      The bytes of the nodes and of the manifest.

    Raises:
      NameCollisionError: Two entries have one key.
      UnsupportedLeafError: A key is too long.
      OptionValueError: Another argument is outside its range.

    >>> made = encode([(b"a", b"1")], nodes_file="d/0", uuid=bytes(16), commit_time_ns=0)
    >>> len(made.nodes), len(made.manifest)
    (26, 67)
    """
    _check(len(uuid) == 16, "uuid", "16 bytes", f"{len(uuid)} bytes")
    _check(0 <= commit_time_ns < 1 << 63, "commit_time_ns", "0 or later", f"{commit_time_ns}")
    _check(0 < max_node_bytes < 1 << 32, "max_node_bytes", "1 to 2**32 - 1", f"{max_node_bytes}")
    inline = max_inline_value_bytes
    _check(0 <= inline <= MAX_INLINE_BYTES, "max_inline_value_bytes", "0 to 2**20", f"{inline}")
    _check_path(nodes_file)
    config = Config(uuid=uuid, max_inline_value_bytes=inline, max_node_bytes=max_node_bytes)
    writer = _Writer(file=nodes_file)
    columns = entries if isinstance(entries, Columns) else Columns.of(entries)
    level: list[_Child] = _leaves(_table(columns, config), config, writer) if columns.keys else []
    height = 0
    while len(level) > 1:
        height += 1
        level = _interior(level, height, config, writer)
    version = Version(
        generation=1,
        commit_time_ns=commit_time_ns,
        root=level[0].ref if level else None,
        height=height,
        statistics=level[0].statistics if level else Statistics(),
    )
    return Database(nodes=b"".join(writer.parts), manifest=_manifest(config, version))


def _check(fine: bool, name: str, expected: str, found: str) -> None:
    if not fine:
        raise OptionValueError(
            f"the database cannot be encoded with this {name}", expected=expected, found=found
        )


def _check_path(path: str) -> None:
    fine = len(path.encode()) <= MAX_PATH_BYTES and not {"", ".", ".."} & set(path.split("/"))
    _check(fine, "file", "a relative path of at most 65535 bytes", repr(path[:200]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """The entries, and what is counted of them.

    Of the first i, `before[i]` lie outside, and the values of the others have `starts[i]` bytes.
    """

    entries: Columns
    keys: SortedKeys
    before: Column
    starts: Column
    weights: Column


def _table(entries: Columns, config: Config) -> _Table:
    keys, outside, sizes = SortedKeys.of(entries.keys), entries.outside, entries.sizes
    ends = entries.offset + entries.length  # negative where they overflow, which the format forbids
    lowest = min(int(part.min(initial=0)) for part in (entries.offset, sizes, ends))
    _check(lowest >= 0, "DataRef", "an offset, length and end from 0 to 2**63 - 1", "another")
    weights = _LEAF_ENTRY_BYTES + keys.lengths + np.where(outside, _REFERENCE_BYTES, sizes)
    paths = np.array([len(base) + len(file) for base, file in entries.homes], dtype=np.int64)
    weights[outside] += paths[entries.home]
    _check_entries(keys, np.where(outside, 0, sizes), config.max_inline_value_bytes)
    for base, file in entries.homes:
        _check_path(base + file)
    return _Table(
        entries=entries,
        keys=keys,
        before=_sums(outside),
        starts=_sums(np.where(outside, 0, sizes)),
        weights=weights,
    )


def _sums(column: npt.NDArray[Any]) -> Column:
    """The sum of what is before each place, from 0 to that of all."""
    return np.cumsum(np.insert(column, 0, 0), dtype=np.int64)


def _check_entries(keys: SortedKeys, inline: Column, max_inline: int) -> None:
    if (repeated := keys.repeated()) is not None:
        name = repeated.decode(errors="backslashreplace")
        raise NameCollisionError("two entries of the database have the same key", leaf=name)
    longest = int(keys.lengths.argmax())
    if keys.lengths[longest] > MAX_KEY_BYTES:
        raise UnsupportedLeafError(
            "the name is longer than the key-value database allows",
            leaf=keys.keys[longest][:60].decode(errors="ignore") + "...",
            expected=f"at most {MAX_KEY_BYTES} bytes",
            found=f"{keys.lengths[longest]} bytes",
        )
    largest = int(inline.argmax())
    if inline[largest] > max_inline:
        raise OptionValueError(
            "the value is too large to lie in a node of the database",
            leaf=keys.keys[largest].decode(errors="backslashreplace"),
            expected=f"at most {max_inline} bytes",
            found=f"{inline[largest]} bytes",
            hint="Put it into a data file and pass a DataRef.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    """A node that was written, as its parent lists it: `prefix` bytes of `key` are left out."""

    key: bytes
    prefix: int
    ref: DataRef
    statistics: Statistics


@dataclass(slots=True, kw_only=True)
class _Writer:
    """The nodes so far, and where the next one goes."""

    file: str
    offset: int = 0
    parts: list[bytes] = field(default_factory=list[bytes])

    def node(self, columns: Sequence[bytes]) -> DataRef:
        part = seal(NODE_MAGIC, columns)
        ref = DataRef(file=self.file, offset=self.offset, length=len(part))
        self.parts.append(part)
        self.offset += len(part)
        return ref


def _leaves(table: _Table, config: Config, writer: _Writer) -> list[_Child]:
    spans = _split(table.weights, config.max_node_bytes, 1)
    return [_leaf(table, start, end, len(spans) == 1, writer) for start, end in spans]


def _leaf(table: _Table, start: int, end: int, root: bool, writer: _Writer) -> _Child:
    excluded = 0 if root else table.keys.prefix(start, end)
    entries, before = table.entries, table.before[start : end + 1]
    first, last = int(before[0]), int(before[-1])
    used: list[int] = np.unique(entries.home[first:last]).tolist()
    homes = [entries.homes[number] for number in used]
    columns = (
        bytes([0]) + _files(homes) + varint.encode([end - start]),
        *table.keys.columns(start, end, excluded),
        varint.encode(entries.sizes[start:end]),
        entries.outside[start:end].tobytes(),
        varint.encode(np.searchsorted(used, entries.home[first:last])),
        varint.encode(entries.offset[first:last]),
        entries.data[int(table.starts[start]) : int(table.starts[end])],
    )
    ref = writer.node(columns)
    indirect = min(sum(entries.length[first:last].tolist()), UINT64_MAX)
    statistics = Statistics(keys=end - start, tree_bytes=ref.length, indirect_bytes=indirect)
    return _Child(key=table.keys.keys[start], prefix=excluded, ref=ref, statistics=statistics)


def _interior(children: list[_Child], height: int, config: Config, writer: _Writer) -> list[_Child]:
    keys = SortedKeys.of([child.key for child in children])
    weights = _INTERIOR_ENTRY_BYTES + len(writer.file) + keys.lengths
    spans = _split(weights, config.max_node_bytes, 2)
    return [
        _interior_node(children[start:end], keys, start, height, len(spans) == 1, writer)
        for start, end in spans
    ]


def _interior_node(
    children: list[_Child], keys: SortedKeys, start: int, height: int, root: bool, writer: _Writer
) -> _Child:
    end = start + len(children)
    prefixes = np.array([child.prefix for child in children], dtype=np.int64)
    excluded = 0 if root else min(keys.prefix(start, end), int(prefixes.min()))
    shared, lengths, suffixes = keys.columns(start, end, excluded)
    stats = [child.statistics for child in children]
    refs = [child.ref for child in children]
    numbers = (
        [0] * len(refs),
        [ref.offset for ref in refs],
        [ref.length for ref in refs],
        [each.keys for each in stats],
        [each.tree_bytes for each in stats],
        [each.indirect_bytes for each in stats],
    )
    ref = writer.node(
        (
            bytes([height]) + _files([("", writer.file)]) + varint.encode([len(children)]),
            shared,
            lengths,
            varint.encode(prefixes - excluded),
            suffixes,
            *map(varint.encode, numbers),
        )
    )
    statistics = Statistics(
        keys=sum(each.keys for each in stats),
        tree_bytes=ref.length + sum(each.tree_bytes for each in stats),
        indirect_bytes=min(sum(each.indirect_bytes for each in stats), UINT64_MAX),
    )
    return _Child(key=children[0].key, prefix=excluded, ref=ref, statistics=statistics)


def _split(weights: Column, limit: int, fewest: int) -> list[tuple[int, int]]:
    """Cuts entries into nodes of at most ``limit``, if that leaves ``fewest`` in each."""
    total = np.cumsum(weights)
    spans: list[tuple[int, int]] = []
    start, before = 0, 0
    while start < len(weights):
        fits = int(np.searchsorted(total, before + limit, side="right"))
        end = min(max(fits, start + fewest), start + MAX_NODE_ENTRIES, len(weights))
        spans.append((start, end))
        start, before = end, int(total[end - 1])
    return spans


def _files(homes: Sequence[Home]) -> bytes:
    return encode_files([(base.encode(), file.encode()) for base, file in homes])


def _manifest(config: Config, version: Version) -> bytes:
    root = version.root or DataRef(file="", offset=UINT64_MAX, length=UINT64_MAX)
    stats = version.statistics
    numbers = (root.offset, root.length, stats.keys, stats.tree_bytes, stats.indirect_bytes)
    columns = (
        config.uuid + bytes([config.numbered]),
        varint.encode([config.max_inline_value_bytes, config.max_node_bytes]),
        bytes([config.arity_log2, 0]),
        encode_files([(b"", root.file.encode())]),
        varint.encode([1, version.generation]) + bytes([version.height]),
        varint.encode([0, *numbers]),
        version.commit_time_ns.to_bytes(8, "little"),
        bytes([0]),
    )
    return seal(MANIFEST_MAGIC, columns)
