"""What a loss of power may leave on a disk: the page cache as values.

What was synced is certain. Of the rest the disk may hold any part: of each change to directories
all or nothing, and of a file the certain bytes followed by some blocks of the others, cut short
or with zeros where a block never arrived. Nothing of it depends on the rest: a name may be there
before the bytes it names.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

Tree: TypeAlias = "Mapping[str, bytes | Tree]"
"""A directory: for each name the bytes of a file, or another directory."""

_MOST_BLOCKS = 8
_MOST_REPEATS = 100


class Contents(NamedTuple):
    """The bytes of a file, and how many of them are certain."""

    data: bytes
    certain: int


class Pending(NamedTuple):
    """Entries ``(directory, name, node)`` that change together, and which changes go first."""

    slots: tuple[tuple[int, str, int | None], ...]
    after: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """One way in which a loss of power may turn out.

    Attributes:
      kept: Which of the changes to directories reached the disk, by their place.
      contents: What is found in each file that was not synced.
    """

    kept: frozenset[int]
    contents: tuple[bytes, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What is on stable storage, and what is on its way there.

    Attributes:
      root: The number of the uppermost directory.
      files: The files, by number.
      directories: The certain entries of each directory, by number.
      changes: The changes to directories that are not certain, in order.
    """

    root: int
    files: Mapping[int, Contents]
    directories: Mapping[int, Mapping[str, int]]
    changes: tuple[Pending, ...] = ()

    @property
    def unsynced(self) -> tuple[int, ...]:
        """The files of which something is not certain."""
        return tuple(n for n, file in self.files.items() if file.certain < len(file.data))

    def after(self, crash: Crash) -> Tree:
        """What is found when the power is back."""
        entries = {number: dict(named) for number, named in self.directories.items()}
        for place in sorted(crash.kept):
            for directory, name, node in self.changes[place].slots:
                if node is None:
                    entries[directory].pop(name, None)
                else:
                    entries[directory][name] = node
        contents = dict(zip(self.unsynced, crash.contents, strict=True))

        def grown(number: int) -> bytes | Tree:
            if number in entries:
                return {name: grown(node) for name, node in entries[number].items()}
            return contents.get(number, self.files[number].data)

        root = grown(self.root)
        assert not isinstance(root, bytes)
        return root

    def crashes(self, *, limit: int, seed: int, block: int) -> Iterator[Crash]:
        """Every way in which a loss of power may turn out, or ``limit`` different ones of them.

        First come those in which one thing is as it should not be and all else as it should, or
        the other way round: most mistakes show in one of them.
        """
        found = [torn(self.files[number], block) for number in self.unsynced]
        sizes = [len(versions) for versions in found]
        seen: set[tuple[frozenset[int], tuple[int, ...]]] = set()
        repeats = 0
        for kept, chosen in self._ways(sizes, limit, random.Random(seed)):
            if len(seen) == limit or repeats == _MOST_REPEATS:
                return
            way = self._closed(kept), chosen
            if way in seen:
                repeats += 1
                continue
            repeats = 0
            seen.add(way)
            contents = tuple(versions[n] for versions, n in zip(found, chosen, strict=True))
            yield Crash(kept=way[0], contents=contents)

    def _ways(
        self, sizes: list[int], limit: int, rng: random.Random
    ) -> Iterator[tuple[frozenset[int], tuple[int, ...]]]:
        places = range(len(self.changes))
        if 2 ** len(places) * math.prod(sizes) <= limit:
            for mask in itertools.product((True, False), repeat=len(places)):
                for chosen in itertools.product(*map(range, sizes)):
                    yield frozenset(itertools.compress(places, mask)), chosen
            return
        every = frozenset(places)
        whole, lost = (0,) * len(sizes), (1,) * len(sizes)
        yield every, whole
        yield every, lost
        yield frozenset(), whole
        for file, size in enumerate(sizes):
            for version in range(1, size):
                yield every, (*whole[:file], version, *whole[file + 1 :])
        for place in places:
            yield every - {place}, whole
            yield self._with(place), whole
            yield self._with(place), lost
        while True:
            likely, well = rng.random() ** 0.3, rng.random()
            kept = frozenset(place for place in places if rng.random() < likely)
            yield kept, tuple(0 if rng.random() < well else rng.randrange(n) for n in sizes)

    def _closed(self, kept: frozenset[int]) -> frozenset[int]:
        """Those of some changes whose earlier ones are among them too."""
        closed: set[int] = set()
        for place in sorted(kept):
            if closed.issuperset(self.changes[place].after):
                closed.add(place)
        return frozenset(closed)

    def _with(self, place: int) -> frozenset[int]:
        """A change and all that it builds on."""
        found, waiting = {place}, [place]
        while waiting:
            earlier = self.changes[waiting.pop()].after
            waiting += [one for one in earlier if one not in found]
            found.update(earlier)
        return frozenset(found)


def torn(file: Contents, block: int) -> tuple[bytes, ...]:
    """What may be found in a file: first all of it, second only what is certain.

    Then, cut after any block, and of full length with zeros in place of one block or of all. Of a
    file of many blocks some are taken.
    """
    data, certain = file
    starts = [certain, *range(certain - certain % block + block, len(data), block)]
    starts = starts[:: -(-len(starts) // _MOST_BLOCKS)]
    found = [data, *(data[:start] for start in starts)]
    found.append(data[:certain] + bytes(len(data) - certain))
    for start in starts:
        stop = min(start - start % block + block, len(data))
        found.append(data[:start] + bytes(stop - start) + data[stop:])
    return tuple(dict.fromkeys(found))
