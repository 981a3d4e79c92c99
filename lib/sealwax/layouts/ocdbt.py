"""Encodes a whole OCDBT database at once, so that its bytes can be written with plain files.

The tree is built bottom up from sorted columns: keys are cut into leaves by size, the leaves'
first keys into interior nodes, and so on up to one root. A node leaves out the prefix that all
its keys share; its parent keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from sealwax.errors import NameCollisionError, OptionValueError, UnsupportedLeafError
from sealwax.layouts import varint
from sealwax.layouts.ocdbt_format import (
    MANIFEST_MAGIC,
    MAX_GENERATION,
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

_Column = npt.NDArray[np.int64]

# What TensorStore counts for an entry beside its key and value when it splits nodes.
_LEAF_ENTRY_BYTES = 16
_REFERENCE_BYTES = 16
_INTERIOR_ENTRY_BYTES = 56


def encode(
    entries: Sequence[tuple[bytes, Value]],
    *,
    nodes_file: str,
    uuid: bytes,
    commit_time_ns: int,
    generation: int = 1,
    nodes_offset: int = 0,
    max_inline_value_bytes: int = 1024,
    max_node_bytes: int = 8 << 20,
) -> Database:
    """Encodes a database that holds ``entries``, uncompressed and with a single manifest.

    Args:
      entries: Keys in any order, each with its value or with where the value lies.
      nodes_file: Data file that the nodes will be in, relative to the database's root.
      uuid: Identifier of the database, 16 bytes.
      commit_time_ns: Time to record, in nanoseconds since the Unix epoch.
      generation: Number of the version, from 1.
      nodes_offset: Where in ``nodes_file`` the nodes will start, in bytes.
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
    _check(0 < generation <= MAX_GENERATION, "generation", "1 to 2**60", f"{generation}")
    _check(0 <= commit_time_ns < 1 << 63, "commit_time_ns", "0 or later", f"{commit_time_ns}")
    _check(0 < max_node_bytes < 1 << 32, "max_node_bytes", "1 to 2**32 - 1", f"{max_node_bytes}")
    inline = max_inline_value_bytes
    _check(0 <= inline <= MAX_INLINE_BYTES, "max_inline_value_bytes", "0 to 2**20", f"{inline}")
    _check(nodes_offset >= 0, "nodes_offset", "0 or more", f"{nodes_offset}")
    _check_path(nodes_file)
    config = Config(uuid=uuid, max_inline_value_bytes=inline, max_node_bytes=max_node_bytes)
    writer = _Writer(file=nodes_file, offset=nodes_offset, parts=[])
    level: list[_Child] = _leaves(_table(entries, config), config, writer) if entries else []
    height = 0
    while len(level) > 1:
        height += 1
        level = _interior(level, height, config, writer)
    version = Version(
        generation=generation,
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
    """The entries as columns; `refs_before[i]` of the first i entries are references."""

    keys: SortedKeys
    inline: list[bytes]
    refs: list[DataRef]
    refs_before: _Column
    offsets: _Column
    sizes: _Column
    weights: _Column


def _table(entries: Sequence[tuple[bytes, Value]], config: Config) -> _Table:
    ordered = sorted(entries, key=itemgetter(0))
    keys = SortedKeys.of([key for key, _ in ordered])
    values = [value for _, value in ordered]
    indirect = np.array([isinstance(value, DataRef) for value in values], dtype=np.bool_)
    refs = [value for value in values if isinstance(value, DataRef)]
    inline = [value for value in values if not isinstance(value, DataRef)]
    offsets = np.array([ref.offset for ref in refs], dtype=np.int64)
    sizes = np.empty(len(values), dtype=np.int64)
    sizes[~indirect] = [len(value) for value in inline]
    sizes[indirect] = [ref.length for ref in refs]
    ends = offsets + sizes[indirect]  # negative where they overflow, which the format forbids
    possible = min(int(offsets.min(initial=0)), int(sizes.min()), int(ends.min(initial=0))) >= 0
    _check(possible, "DataRef", "an offset, length and end from 0 to 2**63 - 1", "another")
    weights = _LEAF_ENTRY_BYTES + keys.lengths + np.where(indirect, _REFERENCE_BYTES, sizes)
    weights[indirect] += np.array([len(ref.base) + len(ref.file) for ref in refs], dtype=np.int64)
    _check_entries(keys, np.where(indirect, 0, sizes), config.max_inline_value_bytes)
    return _Table(
        keys=keys,
        inline=inline,
        refs=refs,
        refs_before=np.cumsum(np.insert(indirect, 0, False), dtype=np.int64),
        offsets=offsets,
        sizes=sizes,
        weights=weights,
    )


def _check_entries(keys: SortedKeys, inline: _Column, max_inline: int) -> None:
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
    offset: int
    parts: list[bytes]

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
    before = table.refs_before[start : end + 1]
    first, last = int(before[0]), int(before[-1])
    refs = table.refs[first:last]
    files, file_ids = _files(refs)
    columns = (
        bytes([0]) + files + varint.encode([end - start]),
        *table.keys.columns(start, end, excluded),
        varint.encode(table.sizes[start:end]),
        np.diff(before).astype(np.uint8).tobytes(),
        varint.encode(file_ids),
        varint.encode(table.offsets[first:last]),
        b"".join(table.inline[start - first : end - last]),
    )
    ref = writer.node(columns)
    indirect = min(sum(ref.length for ref in refs), UINT64_MAX)
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
    files, file_ids = _files(refs)
    numbers = (
        file_ids,
        [ref.offset for ref in refs],
        [ref.length for ref in refs],
        [each.keys for each in stats],
        [each.tree_bytes for each in stats],
        [each.indirect_bytes for each in stats],
    )
    ref = writer.node(
        (
            bytes([height]) + files + varint.encode([len(children)]),
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


def _split(weights: _Column, limit: int, fewest: int) -> list[tuple[int, int]]:
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


def _files(refs: Sequence[DataRef]) -> tuple[bytes, list[int]]:
    """Encodes the table of the files that ``refs`` are in, and looks each of them up."""
    pairs = [(ref.base, ref.file) for ref in refs]
    known = {pair: (pair[0].encode(), pair[1].encode()) for pair in set(pairs)}
    table = sorted(known.values())
    for base, file in known:
        _check_path(base + file)
    index = {pair: at for at, pair in enumerate(table)}
    ids = {pair: index[encoded] for pair, encoded in known.items()}
    return encode_files(table), [ids[pair] for pair in pairs]


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
