"""Planning a verification: what can be told from names and sizes, and what must be read.

What is wrong never stops the rest: a problem known here goes into the report, and the effects
answer with what they find.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sealwax.effects import CheckExtents, Entry, Extent, Fault, Mismatch, Plan
from sealwax.errors import CorruptionError
from sealwax.layouts import manifest
from sealwax.options import Options
from sealwax.planning import names
from sealwax.planning.builder import Builder, result
from sealwax.planning.census import Census, Sealed
from sealwax.planning.contents import Contents, Native, StoredLeaf
from sealwax.planning.verification import Problem, Verification

BATCH_BYTES = 16 << 20


class Check(NamedTuple):
    """A range to be read; of array data, the leaf and which of its chunks, in C order."""

    extent: Extent
    leaf: StoredLeaf | None = None
    chunk: int = 0


class Findings:
    """What planning has found out so far."""

    def __init__(self, census: Census) -> None:
        self.census = census
        self.problems = census.broken_deletion()
        self.checks: list[Check] = []
        self.recorded: set[str] = set()
        self.leaves: list[str] = []
        self.chunks = 0
        self.nbytes = 0

    def whole_file(self, file: str, digest: manifest.Digest, item: str | None) -> None:
        """A file that a manifest has the size and checksum of."""
        self.recorded.add(file)
        nbytes = digest[0]
        if self.has_file(file, item) and self.has_size(file, nbytes, item):
            self.checks.append(Check(Extent.whole(file, digest)))

    def has_file(self, file: str, item: str | None, leaf: str | None = None) -> bool:
        """Whether there is a file of this name; if there is none, that is a problem."""
        there = self.census.present.get(file)
        if there is not None and there.entry is Entry.FILE:
            return True
        fault = Fault.MISSING if there is None else Fault.NOT_A_FILE
        found = None if there is None else f"a {there.entry.value}"
        self.problems.append(Problem(fault=fault, file=file, item=item, leaf=leaf, found=found))
        return False

    def has_size(self, file: str, nbytes: int, item: str | None) -> bool:
        """Whether a file has the size that it must have; if not, that is a problem."""
        there = self.census.present[file].nbytes
        if there == nbytes:
            return True
        self.problems.append(
            Problem(
                fault=Fault.SIZE,
                file=file,
                item=item,
                expected=f"{nbytes} bytes",
                found=f"{there} bytes",
            )
        )
        return False


def plan_verify(census: Census, options: Options) -> Plan:
    """Plans the verification of a checkpoint that sealwax wrote.

    Args:
      census: What is at the path.
      options: The settings; ``memory.read_concurrent_bytes`` bounds what is read at a time.
    """
    findings = Findings(census)
    _add_root(findings)
    for where in census.manifests:
        if where != manifest.NAME and census.counts(where):
            _add_item(findings, where)
    build = Builder()
    most = min(BATCH_BYTES, options.memory.read_concurrent_bytes or BATCH_BYTES)
    batches = list(_cut(findings.checks, most))
    steps: list[int] = []
    for batch in batches:
        nbytes = sum([check.extent.length for check in batch])
        extents = tuple([check.extent for check in batch])
        effect = CheckExtents(directory=census.path, extents=extents, nbytes=nbytes)
        steps.append(build.add(effect, reads=nbytes))
        findings.nbytes += nbytes
    root = census.root
    report = Verification(
        path=options.file.path_class(census.path),
        writer="sealwax" if root is None else root.writer,
        leaves=len(findings.leaves),
        chunks=findings.chunks,
        files=len(findings.recorded),
        nbytes=findings.nbytes,
        problems=tuple(findings.problems),
        unknown=() if root is None else tuple(_unknown(findings)),
    )
    gather = functools.partial(_gather, batches, report)
    final = build.derive("the report", gather, *map(result, steps))
    return Plan(
        title="verify",
        path=census.path,
        steps=tuple(build.steps),
        result=final,
        names=tuple(findings.leaves),
    )


def _add_root(findings: Findings) -> None:
    sealed = findings.census.manifests.get(manifest.NAME)
    findings.recorded.add(manifest.NAME)
    if sealed is None:
        findings.has_file(manifest.NAME, None)
        return
    if isinstance(sealed.said, CorruptionError):
        findings.problems.append(_changed(manifest.NAME, None, sealed))
        return
    findings.nbytes += sealed.digest[0]
    if isinstance(sealed.said, manifest.Checkpoint):
        for file, digest in sealed.said.digests.items():
            if file not in findings.census.manifests and findings.census.counts(file):
                item, inside, _ = file.rpartition("/")
                findings.whole_file(file, digest, item if inside else None)


def _add_item(findings: Findings, where: str) -> None:
    census, item = findings.census, names.parent(f"/{where}")[1:]
    findings.recorded.add(where)
    sealed, root = census.manifests[where], census.root
    wanted = None if root is None else root.digests.get(where)
    contents = census.contents.get(where)
    if isinstance(sealed.said, CorruptionError):
        findings.problems.append(_changed(where, item, sealed))
    elif wanted is not None and wanted != sealed.digest[: len(wanted)]:
        findings.problems.append(_mixed(where, item, sealed, wanted))
    elif isinstance(sealed.said, manifest.Item) and contents is not None:
        findings.nbytes += sealed.digest[0]
        for name, digest in sealed.said.digests.items():
            findings.whole_file(names.join(item, name), digest, item)
        _add_chunks(findings, item, contents)


def _changed(file: str, item: str | None, sealed: Sealed) -> Problem:
    error = sealed.said if isinstance(sealed.said, CorruptionError) else None
    return Problem(
        fault=Fault.CHANGED,
        file=file,
        item=item,
        expected=None if error is None else error.expected,
        found=None if error is None else error.found,
    )


def _mixed(file: str, item: str, sealed: Sealed, wanted: manifest.Digest) -> Problem:
    expected = f"CRC-32C {wanted[1]:08x}"
    found = f"CRC-32C {sealed.digest[1]:08x}"
    return Problem(fault=Fault.MIXED, file=file, item=item, expected=expected, found=found)


def _add_chunks(findings: Findings, item: str, contents: Contents) -> None:
    """Every chunk of an item, file by file; what its files lack is known without reading."""
    places: list[list[Check]] = [[] for _ in contents.files]
    files = [names.join(item, file) for file in contents.files]
    findings.leaves += [leaf.entry.name for leaf in contents.leaves if leaf.entry.empty is None]
    for leaf in contents.leaves:
        place = None if leaf.array is None else leaf.array.place
        chunks: Sequence[int] = place.chunks if isinstance(place, Native) else ()
        findings.chunks += len(chunks) // 4
        rows = zip(chunks[::4], chunks[1::4], chunks[2::4], chunks[3::4], strict=True)
        for number, (file, offset, length, crc) in enumerate(rows):
            extent = Extent(files[file], offset, length, crc, contents.trailer)
            places[file].append(Check(extent, leaf, number))
    for file, checks in zip(files, places, strict=True):
        findings.recorded.add(file)
        checks.sort(key=_by_offset)
        _add_data_file(findings, item, file, checks)


def _by_offset(check: Check) -> int:
    return check.extent.offset


def _add_data_file(findings: Findings, item: str, file: str, checks: list[Check]) -> None:
    there = findings.census.present.get(file)
    if there is None or there.entry is not Entry.FILE:
        for leaf in dict.fromkeys(c.leaf.entry.name for c in checks if c.leaf is not None):
            findings.has_file(file, item, leaf)
        return
    ends = [check.extent.offset + check.extent.length for check in checks]
    if findings.has_size(file, max(ends, default=0), item):
        findings.checks += checks
        return
    for check, end in zip(checks, ends, strict=True):
        if end <= there.nbytes:
            findings.checks.append(check)
        else:
            left = max(0, there.nbytes - check.extent.offset)
            problem = _problem(check, Mismatch(0, Fault.SIZE, f"{left} bytes"))
            findings.problems.append(problem)


def _problem(check: Check, mismatch: Mismatch) -> Problem:
    extent, leaf = check.extent, check.leaf
    item = extent.file.partition("/")[0] if "/" in extent.file else None
    match mismatch.fault:
        case Fault.SIZE:
            expected = f"{extent.length} bytes"
        case Fault.MIXED if extent.crc32 is not None:
            expected = f"CRC-32 {extent.crc32:08x}"
        case _:
            expected = f"CRC-32C {extent.crc32c:08x}"
    return Problem(
        fault=mismatch.fault,
        file=extent.file,
        item=item,
        leaf=None if leaf is None else leaf.entry.name,
        chunk=None if leaf is None else _place(leaf, check.chunk),
        offset=extent.offset,
        length=extent.length,
        expected=expected,
        found=mismatch.found or None,
    )


def _place(leaf: StoredLeaf, number: int) -> tuple[int, ...] | None:
    array = leaf.array
    if array is None:
        return None
    grid = tuple(n // c for n, c in zip(array.shape, array.chunk_shape, strict=True))
    return tuple(map(int, np.unravel_index(number, grid))) if grid else ()


def _cut(checks: Sequence[Check], most: int) -> Iterator[list[Check]]:
    """Cuts what is to be read into batches, so that several threads share the work."""
    batch: list[Check] = []
    total = 0
    for check in checks:
        if batch and total + check.extent.length > most:
            yield batch
            batch, total = [], 0
        batch.append(check)
        total += check.extent.length
    if batch:
        yield batch


def _unknown(findings: Findings) -> Iterator[str]:
    """Files that nobody recorded; what belongs to an unreadable manifest cannot be told."""
    census = findings.census
    known = {f"{names.parent(f'/{where}')[1:]}/" for where in census.contents}
    for file, there in sorted(census.present.items()):
        if there.entry is Entry.DIRECTORY or file in findings.recorded:
            continue
        inside = f"{file.partition('/')[0]}/"
        if "/" not in file or inside in known or f"{inside}{manifest.NAME}" not in _named(census):
            yield file


def _named(census: Census) -> frozenset[str]:
    root = census.root
    return frozenset() if root is None else frozenset(root.digests) | frozenset(census.manifests)


def _gather(
    batches: list[list[Check]], report: Verification, *parts: Sequence[Mismatch]
) -> Verification:
    found = [
        _problem(batch[mismatch.number], mismatch)
        for batch, part in zip(batches, parts, strict=True)
        for mismatch in part
    ]
    return dataclasses.replace(report, problems=(*report.problems, *found))
