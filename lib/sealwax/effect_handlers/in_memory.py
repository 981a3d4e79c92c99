"""``memory``: a handler that keeps a whole file system in memory, and can lose its power."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from typing import Any, TypeAlias, assert_never

from sealwax import effects as e
from sealwax.effect_handlers import pagecache
from sealwax.effect_handlers.crashes import Crash, Disk, Tree
from sealwax.effect_handlers.memoryfiles import MemoryFiles
from sealwax.errors import HandlerError
from sealwax.layouts.manifest import Digest, digest
from sealwax.runtime import checking, datafiles, foreign, manyfiles, merging
from sealwax.runtime.handlers import Forward, Handler
from sealwax.runtime.threads import in_thread, waiting
from sealwax.runtime.values import Values

_FEW_BYTES = 1 << 20
_BLOCK = 512

_Moving: TypeAlias = (
    e.WriteBatch
    | e.WriteChunks
    | e.LinkFiles
    | e.MergeDatabases
    | e.ReadBatch
    | e.ReadRegions
    | e.ReadEntries
    | e.CheckExtents
    | e.CheckArrays
)


class Memory(Handler):
    """Answers every effect on files from memory; those on arrays and devices pass.

    What is kept outlives the block, and comes back when the same object is entered again. Files
    and directories behave as those of a kernel with a page cache: only what was synced is certain
    to be there after a loss of power, and ``crash_states`` tells all that may be left. Permissions
    and symbolic links are not modelled.

    Handlers of checkpointables that are not sealwax's own get real paths, and cannot work here.
    """

    def __init__(
        self, tree: Tree | None = None, *, watch: Callable[[], None] | None = None
    ) -> None:
        self._files = MemoryFiles(tree or {}, watch)

    @contextlib.contextmanager
    def operation(self) -> Generator[Handler]:
        """Answers for one operation, and gives up at its end what it had in use."""
        session = _Session(self._files)
        try:
            yield session
        finally:
            self._files.release(session)

    async def perform(self, effect: e.Effect, forward: Forward) -> Any:
        """Answers an effect on files, or passes it."""
        return await _Session(self._files).perform(effect, forward)

    def tree(self, path: str = "/") -> Tree:
        """What is in a directory: for each name the bytes of a file, or another such mapping."""
        return self._files.tree(path)

    def sync(self) -> None:
        """Brings everything to stable storage, as ``sync`` in a shell does."""
        self._files.sync()

    def disk(self) -> Disk:
        """What is on stable storage at this instant and what is on its way, as a value."""
        with self._files.still() as root:
            return pagecache.freeze(root)

    def crash_states(
        self, *, limit: int = 1000, seed: int = 0, block: int = _BLOCK
    ) -> Iterator[Crash]:
        """The ways in which a loss of power at this instant may turn out.

        Of changes to a directory that was not synced since, any may be lost, except that what
        happened to one name is kept in order; renaming and exchanging are kept or lost whole. Of
        a file that was not synced since it was written, any number of blocks may be there, or
        read as zeros, whether or not its name is there.

        Args:
          limit: How many at most. If there are more, those come first in which one thing is lost
            or one thing is kept, and then some drawn from ``seed``.
          seed: What they are drawn from.
          block: Size of the pieces in which a file's bytes reach the disk.

        Yields:
          Ways that differ; ``crash`` shows what each of them leaves.
        """
        return self.disk().crashes(limit=limit, seed=seed, block=block)

    def crash(self, how: Crash) -> Memory:
        """The file system as it is found after a loss of power at this instant.

        Args:
          how: One of ``crash_states()``, with nothing done since it was drawn.

        Returns:
          Another file system, in which everything is certain and nothing in use.
        """
        return Memory(self.disk().after(how))


def memory(tree: Tree | None = None, *, watch: Callable[[], None] | None = None) -> Memory:
    """A handler that keeps a whole file system in memory, and lets its power be cut.

    Args:
      tree: What is there from the start, and certain: for each name below ``/`` the bytes of a
        file, or another such mapping.
      watch: Called after every single change, such as one file made, written or synced.

    >>> import numpy as np, sealwax as ocp
    >>> with ocp.effect_handlers.memory() as fs:
    ...     ocp.save("/runs/1", {"w": np.arange(3.0)})
    ...     ocp.load("/runs/1")
    {'w': array([0., 1., 2.])}
    >>> for how in fs.crash_states():
    ...     with fs.crash(how):
    ...         assert ocp.load("/runs/1")["w"][2] == 2
    """
    return Memory(tree, watch=watch)


class _Session(Handler):
    """A file system as one operation uses it; directories that it leases are leased to this."""

    def __init__(self, files: MemoryFiles) -> None:
        self._files = files

    async def perform(self, effect: e.Effect, forward: Forward) -> Any:
        match effect:
            case e.Look() | e.ListDirectory() | e.ListTree() | e.ReadFile() | e.ReadMatching():
                return self._seen(effect)
            case e.Hold(path=path, keep=keep):
                return await waiting(self._holding(path, keep))
            case (
                e.WriteBatch()
                | e.WriteChunks()
                | e.LinkFiles()
                | e.MergeDatabases()
                | e.ReadBatch()
                | e.ReadRegions()
                | e.ReadEntries()
                | e.CheckExtents()
                | e.CheckArrays()
            ):
                if getattr(effect, "nbytes", 0) < _FEW_BYTES:
                    return self._moved(effect)
                return await in_thread(self._moved, effect)
            case e.BeginSave() | e.FinishSave() | e.RunLoad() | e.RunMetadata():
                raise HandlerError(
                    "A handler of checkpointables that is not sealwax's own works on real paths, "
                    "and this operation has its files in memory",
                    path=effect.path,
                    hint="Do it outside the block of effect_handlers.memory().",
                )
            case (
                e.Now()
                | e.Token()
                | e.Stage()
                | e.Probe()
                | e.Allocate()
                | e.Place()
                | e.Derive()
                | e.Call()
            ):
                return await forward(effect)
            case _:
                return self._done(effect)

    def _holding(self, path: str, keep: bool) -> Callable[[], Awaitable[bool | None]]:
        async def hold() -> bool | None:
            return self._files.hold(path, self, keep)

        return hold

    def _seen(
        self, effect: e.Look | e.ListDirectory | e.ListTree | e.ReadFile | e.ReadMatching
    ) -> object:
        match effect:
            case e.Look(path=path):
                return self._files.look(path)
            case e.ListDirectory(path=path):
                return self._files.list_directory(path)
            case e.ListTree(path=path):
                return dict(_present(self._files.tree(path)))
            case e.ReadFile(path=path):
                return self._files.read_file(path)
            case e.ReadMatching():
                files = self._files
                return merging.read_matching(effect, files.list_directory, files.read_file)
            case _:
                assert_never(effect)

    def _done(self, effect: e.FileEffect) -> object:
        files = self._files
        match effect:
            case e.MakeDirectory(path=path, mode=mode, parents=True, lease=False):
                return files.make_directories(path, mode, self)
            case e.MakeDirectory(path=path, mode=mode, lease=lease):
                return files.make_directory(path, mode, self if lease else None)
            case e.WriteFile():
                return manyfiles.write_file(effect, files)
            case e.WriteFiles():
                return manyfiles.write_files(effect, files)
            case e.SyncDirectory(path=path):
                return files.sync_directory(path)
            case e.SyncTree(path=path, directories=directories):
                return files.sync_tree(path, directories)
            case e.DigestTree(path=path, sync=sync):
                return self._digests(path, sync)
            case e.RemoveFile() | e.RemoveDirectory() | e.RemoveTree():
                return self._removed(effect)
            case e.Rename() | e.Exchange() | e.Replace() | e.Retract():
                return self._renamed(effect)
            case _:
                assert_never(effect)

    def _renamed(self, effect: e.Moving) -> None:
        files = self._files
        match effect:
            case e.Rename(source=source, target=target):
                return files.rename(source, target)
            case e.Exchange(first=first, second=second):
                return files.exchange(first, second, self)
            case e.Replace(source=source, target=target):
                return files.replace(source, target)
            case e.Retract(path=path, aside=aside, own=own):
                return files.retract(path, aside, self, own)
            case _:
                assert_never(effect)

    def _removed(self, effect: e.Removing) -> object:
        files = self._files
        match effect:
            case e.RemoveFile(path=path):
                return files.remove_file(path)
            case e.RemoveDirectory(path=path):
                return files.unmake(path, self)
            case e.RemoveTree(path=path, abandoned=True):
                return files.remove_abandoned(path)
            case e.RemoveTree(path=path, replaced=True):
                return files.remove_replaced(path)
            case e.RemoveTree(path=path):
                return files.remove_tree(path)
            case _:
                assert_never(effect)

    def _digests(self, path: str, sync: bool) -> dict[str, Digest]:
        if sync:
            self._files.sync_files(path)
        return {name: digest(data) for name, data in _files_in(self._files.tree(path))}

    def _moved(self, effect: _Moving) -> object:
        files = self._files
        match effect:
            case e.WriteBatch():
                return datafiles.write_batch(effect, files)
            case e.WriteChunks():
                return manyfiles.write_chunks(effect, files)
            case e.LinkFiles():
                return files.link_files(effect)
            case e.MergeDatabases(directory=directory):
                made = merging.merge_databases(effect, self._held(directory))
                return manyfiles.write_files(
                    e.WriteFiles(directory=directory, contents=made), files
                )
            case e.ReadBatch():
                return datafiles.read_batch(effect, files)
            case e.CheckExtents():
                return checking.check_extents(effect, files)
            case e.ReadEntries():
                return foreign.read_entries(effect, self._held(effect.directory))
            case e.ReadRegions():
                return foreign.read_regions(
                    effect, Values(files), lambda: self._held(effect.directory)
                )
            case e.CheckArrays():
                return foreign.check_arrays(effect, self._held(effect.directory))
            case _:
                assert_never(effect)

    def _held(self, directory: str) -> Mapping[str, bytes]:
        return dict(_files_in(self._files.tree(directory)))


def _files_in(tree: Tree, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for name, below in tree.items():
        if isinstance(below, bytes):
            yield prefix + name, below
        else:
            yield from _files_in(below, f"{prefix}{name}/")


def _present(tree: Tree, prefix: str = "") -> Iterator[tuple[str, e.Present]]:
    for name, below in tree.items():
        if isinstance(below, bytes):
            yield prefix + name, e.Present(e.Entry.FILE, len(below))
        else:
            yield prefix + name, e.Present(e.Entry.DIRECTORY)
            yield from _present(below, f"{prefix}{name}/")
