"""``dry_run``: a handler that only looks, and tells what would have been done."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, assert_never

from sealwax import effects as e
from sealwax.arrays.forms import Form
from sealwax.arrays.zarr import ZarrFormat, chunk_key
from sealwax.effects.nature import traffic
from sealwax.effects.wording import count, sentence, size
from sealwax.runtime.handlers import Forward, Handler

_MOST_ROWS = 40


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What would have been done. Printing it shows a table.

    Attributes:
      effects: The effects that were not performed, in order.
      files: Bytes of every file that would be there now, before compression, by its path.
      removed: What was there, and would be no more or replaced.
    """

    effects: tuple[e.Effect, ...] = ()
    files: Mapping[str, int] = dataclasses.field(default_factory=dict[str, int])
    removed: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes that would have been written, before compression."""
        return sum(traffic(effect).written for effect in self.effects)

    def __str__(self) -> str:
        amounts = (
            f"dry run, nothing was done: {count(len(self.effects), 'effect')}, "
            f"{count(len(self.files), 'file')}, {size(self.bytes)}"
        )
        rows = [(path, size(nbytes)) for path, nbytes in sorted(self.files.items())]
        if len(rows) > _MOST_ROWS:
            half = _MOST_ROWS // 2
            gap = (f"... {len(rows) - 2 * half} more files ...", "")
            rows = [*rows[:half], gap, *rows[-half:]]
        for path in self.removed:
            replaced = any(_below(file, path) for file in self.files)
            rows.append((path, "replaced" if replaced else "removed"))
        rows += [(sentence(x), "") for x in self.effects if isinstance(x, e.Call)]
        width = max((len(path) for path, _ in rows), default=0)
        lines = [f"{path:<{width}}  {what:>10}".rstrip() for path, what in rows]
        return "\n".join([amounts, *([""] if lines else []), *lines])


_Moving: TypeAlias = (
    e.Stage | e.Probe | e.WriteBatch | e.WriteChunks | e.LinkFiles | e.MergeDatabases
)


class DryRun(Handler):
    """Performs what only looks, and answers the rest itself; see ``dry_run``."""

    def __init__(self) -> None:
        self._effects: list[e.Effect] = []
        self._files: dict[str, int] = {}
        self._directories: list[str] = []
        self._removed: list[str] = []
        # The true names of what is there and would have been moved.
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()
        self._lock = threading.Lock()

    @property
    def report(self) -> Report:
        """What would have been done so far."""
        with self._lock:
            return Report(
                effects=tuple(self._effects),
                files=dict(self._files),
                removed=tuple(self._removed),
            )

    async def perform(self, effect: e.Effect, forward: Forward) -> Any:
        """Answers an effect as if it had been performed, or performs it if it only looks."""
        match effect:
            case e.ListDirectory(path=path) if path in self._directories:
                return self._inside(path)
            case e.Look() | e.ListDirectory() | e.ListTree() | e.ReadFile() | e.ReadEntries():
                return await forward(effect)
            case e.ReadMatching():
                return await forward(effect)
            case e.Hold():
                return True
            case e.Now() | e.Token() | e.Derive() | e.RunLoad() | e.RunMetadata():
                return await forward(effect)
            case e.Allocate() | e.ReadBatch() | e.ReadRegions() | e.Place():
                return await forward(effect)
            case e.CheckExtents() | e.CheckArrays():
                return await forward(effect)
            case (
                e.Stage()
                | e.Probe()
                | e.WriteBatch()
                | e.WriteChunks()
                | e.LinkFiles()
                | e.MergeDatabases()
            ):
                with self._lock:
                    self._effects.append(effect)
                    return self._move_data(effect)
            case _:
                replaces = isinstance(effect, e.Exchange) and await self._is_there(effect, forward)
                with self._lock:
                    self._effects.append(effect)
                    return self._act(effect, replaces)

    def _inside(self, path: str) -> tuple[str, ...]:
        """The names in a directory that would have been made."""
        with self._lock:
            made = [*self._files, *self._directories]
        below = [each.removeprefix(f"{path}/") for each in made if each.startswith(f"{path}/")]
        return tuple(sorted({name.partition("/")[0] for name in below}))

    async def _is_there(self, effect: e.Exchange, forward: Forward) -> bool:
        return await forward(e.Look(path=effect.second)) is not None

    def _move_data(self, effect: _Moving) -> object:
        # Data is brought to the host only to be written, and looked at only to be compressed.
        match effect:
            case e.Stage():
                return ()
            case e.Probe():
                return frozenset[int]()
            case e.LinkFiles(target=target, links=links):
                # A second name takes no room.
                self._files |= {f"{target}/{name}": 0 for _, name in links}
                return None
            case e.MergeDatabases():
                return None
            case e.WriteBatch(path=path):
                stored = _stored(effect)
                self._files[path] = sum(chunk.length for chunk in stored)
                return stored
            case e.WriteChunks(directory=directory):
                stored = _stored(effect)
                self._files |= {f"{directory}/{chunk.file}": chunk.length for chunk in stored}
                return stored
            case _:
                assert_never(effect)

    def _act(
        self, effect: e.FileEffect | e.BeginSave | e.FinishSave | e.Call, replaces: bool
    ) -> object:
        match effect:
            case e.WriteFile(path=path):
                self._files[path] = traffic(effect).written
            case e.WriteFiles(directory=directory, contents=contents):
                if isinstance(contents, Mapping):
                    self._files |= {f"{directory}/{k}": len(v) for k, v in contents.items()}
            case e.MakeDirectory(path=path):
                self._directories.append(path)
            case e.Rename(source=source, target=target) | e.Replace(source=source, target=target):
                self._forget(target)
                self._move(source, target)
            case e.Exchange(first=first, second=second):
                if not self._forget(second) and replaces:
                    self._names[first] = self._names.pop(second, second)
                self._move(first, second)
            case e.Retract(path=path, aside=aside, own=own):
                self._names |= {} if own else {aside: path}
            case e.RemoveFile() | e.RemoveDirectory() | e.RemoveTree():
                self._remove(effect)
            case e.DigestTree():
                return {}
            case e.SyncDirectory() | e.SyncTree() | e.BeginSave() | e.FinishSave() | e.Call():
                pass
            case _:
                assert_never(effect)
        return None

    def _remove(self, effect: e.Removing) -> None:
        path = effect.path
        kept = isinstance(effect, e.RemoveTree) and effect.replaced
        if path in self._names or not (self._forget(path) or kept):
            # What an operation would have made above its path was never there.
            gone = [] if isinstance(effect, e.RemoveDirectory) else [self._names.pop(path, path)]
            self._removed += gone

    def _move(self, source: str, target: str) -> None:
        def moved(path: str) -> str:
            return target + path.removeprefix(source) if _below(path, source) else path

        if not any(_below(path, source) for path in (*self._files, *self._directories)):
            self._names[target] = self._names.pop(source, source)
        self._files = {moved(path): nbytes for path, nbytes in self._files.items()}
        self._directories = [moved(path) for path in self._directories]

    def _forget(self, root: str) -> bool:
        """Takes back what would have been made there; tells whether there was anything."""
        before = len(self._files) + len(self._directories)
        self._files = {k: v for k, v in self._files.items() if not _below(k, root)}
        self._directories = [path for path in self._directories if not _below(path, root)]
        return len(self._files) + len(self._directories) < before


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")


def _stored(effect: e.WriteBatch | e.WriteChunks) -> list[e.Stored]:
    """Where the chunks would go if none of them were compressed."""
    forms: Sequence[Form] = effect.forms
    format = ZarrFormat(effect.zarr)
    stored: list[e.Stored] = []
    offset = 0
    for slab in effect.slabs:
        form = forms[slab.leaf]
        length = form.chunk_bytes + format.trailer
        for chunk in form.chunks[slab.shard][slab.first : slab.last]:
            if isinstance(effect, e.WriteBatch):
                stored.append(e.Stored(slab.leaf, chunk.index, effect.name, offset, length, 0))
                offset += length
            else:
                name = chunk_key(effect.names[slab.leaf], chunk.index, format)
                stored.append(e.Stored(slab.leaf, chunk.index, name, 0, length, 0))
    return stored


def dry_run() -> DryRun:
    """A handler under which saving and deleting change nothing, and run to their end nevertheless.

    It performs what only looks: a save is refused for what is at its path, a load loads. What
    would have been written, removed or called is not; no array is brought to the host, nor looked
    at for whether it can be compressed. ``report`` tells of it afterwards.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> with ocp.effect_handlers.dry_run() as dry:
    ...     ocp.save(path, {"w": np.zeros(1000)})
    >>> path.exists(), dry.report.files[f"{path}/state/d/00000000"]
    (False, 8004)
    >>> print(str(dry.report).partition(":")[0])
    dry run, nothing was done
    """
    return DryRun()
