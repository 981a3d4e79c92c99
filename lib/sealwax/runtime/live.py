"""The live handler: the outermost one, which touches the world."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, assert_never

import anyio

from sealwax import effects as e
from sealwax.options import DEFAULTS, Options
from sealwax.runtime import (
    checking,
    datafiles,
    devices,
    digesting,
    early,
    files,
    foreign,
    leases,
    manyfiles,
    merging,
    staging,
)
from sealwax.runtime.handling import Handling
from sealwax.runtime.threads import in_thread, waiting
from sealwax.runtime.values import Values

_T = TypeVar("_T")
_Looking: TypeAlias = (
    e.Look | e.ListDirectory | e.ListTree | e.ReadFile | e.ReadMatching | e.ReadEntries
)
_THREADS = 4
_FEW_BYTES = 4 << 20
_TOKEN_BYTES = 16


class Live:
    """Performs effects for one operation, and holds its leases until ``close``."""

    def __init__(self, options: Options = DEFAULTS) -> None:
        self._leases = leases.Leases()
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._handling = Handling(options)
        self._values = Values()

    def close(self) -> None:
        """Gives up what the operation had in use."""
        self._handling.close()
        self._leases.close()

    async def __call__(self, effect: e.Effect) -> Any:
        """Performs one effect and returns its answer."""
        match effect:
            case e.Now():
                return time.time_ns()
            case e.Token():
                return secrets.token_hex(_TOKEN_BYTES)
            case e.Look() | e.ListDirectory() | e.ReadFile():
                return await self._brief(self._look, effect)
            case e.ListTree() | e.ReadMatching() | e.ReadEntries():
                return await self._blocking(self._look, effect)
            case e.Hold(path=path, keep=keep):
                return await waiting(lambda: self._blocking(self._leases.hold, path, keep))
            case e.BeginSave() | e.FinishSave() | e.RunLoad() | e.RunMetadata():
                return await self._handling(effect)
            case e.LinkFiles():
                return await self._blocking(merging.link_files, effect)
            case e.MergeDatabases():
                return await self._blocking(merging.merge_databases, effect)
            case (
                e.Call(function=function, inputs=inputs)
                | e.Derive(function=function, inputs=inputs)
            ):
                return await self._blocking(function, *inputs)
            case e.MakeDirectory():
                return await self._brief(self._file, effect)
            case (
                e.WriteFile()
                | e.WriteFiles()
                | e.SyncDirectory()
                | e.SyncTree()
                | e.Rename()
                | e.Exchange()
                | e.Replace()
                | e.Retract()
                | e.RemoveFile()
                | e.RemoveDirectory()
                | e.RemoveTree()
                | e.DigestTree()
            ):
                return await self._blocking(self._file, effect)
            case _:
                return await self._data(effect)

    def _look(self, effect: _Looking) -> object:
        match effect:
            case e.Look(path=path):
                return files.look(path)
            case e.ListDirectory(path=path):
                return files.list_directory(path)
            case e.ListTree(path=path):
                return checking.list_tree(path)
            case e.ReadFile(path=path):
                return files.read_file(path)
            case e.ReadMatching():
                return merging.read_matching(effect)
            case e.ReadEntries():
                return foreign.read_entries(effect)
            case _:
                assert_never(effect)

    def _file(self, effect: e.FileEffect) -> object:
        match effect:
            case e.MakeDirectory(path=path, mode=mode, lease=True):
                return self._leases.make(path, mode)
            case e.MakeDirectory(path=path, mode=mode, parents=True):
                return self._leases.make_above(path, mode)
            case e.MakeDirectory(path=path, mode=mode):
                return files.make_directory(path, mode, parents=False)
            case e.WriteFile():
                return manyfiles.write_file(effect)
            case e.WriteFiles():
                return manyfiles.write_files(effect)
            case e.SyncDirectory(path=path):
                return files.sync_directory(path)
            case e.SyncTree(path=path, directories=directories):
                return files.sync_tree(path, directories)
            case e.DigestTree():
                return digesting.digest_tree(effect)
            case e.RemoveFile() | e.RemoveDirectory() | e.RemoveTree():
                return self._remove(effect)
            case _:
                return self._move(effect)

    def _move(self, effect: e.Moving) -> object:
        match effect:
            case e.Rename(source=source, target=target):
                return files.rename(source, target)
            case e.Exchange(first=first, second=second):
                return self._leases.exchange(first, second)
            case e.Replace(source=source, target=target):
                return files.replace(source, target)
            case e.Retract(path=path, aside=aside, own=own):
                return self._leases.retract(path, aside, own)
            case _:
                assert_never(effect)

    def _remove(self, effect: e.Removing) -> object:
        match effect:
            case e.RemoveFile(path=path):
                return files.remove_file(path)
            case e.RemoveDirectory(path=path):
                return self._leases.unmake(path)
            case e.RemoveTree(path=path, abandoned=True):
                return leases.remove_abandoned(path)
            case e.RemoveTree(path=path, replaced=True):
                return self._leases.remove_replaced(path)
            case e.RemoveTree(path=path):
                return files.remove_tree(path)
            case _:
                assert_never(effect)

    async def _data(self, effect: e.DataEffect) -> Any:
        match effect:
            case e.Stage():
                return await self._sized(staging.stage, effect)
            case e.Probe():
                return await self._blocking(staging.probe, effect)
            case e.WriteBatch():
                return await self._write_batch(effect)
            case e.WriteChunks():
                return await self._blocking(manyfiles.write_chunks, effect)
            case e.Allocate():
                return datafiles.allocate(effect)
            case e.ReadBatch():
                return await self._sized(datafiles.read_batch, effect)
            case e.ReadRegions():
                return await self._blocking(foreign.read_regions, effect, self._values)
            case e.CheckExtents():
                return await self._blocking(checking.check_extents, effect)
            case e.CheckArrays():
                return await self._blocking(foreign.check_arrays, effect)
            case e.Place():
                few = devices.nbytes(effect) <= _FEW_BYTES
                return await in_thread(devices.place, effect, limiter=self._threads, brief=few)
            case _:
                assert_never(effect)

    async def _write_batch(self, effect: e.WriteBatch) -> Any:
        stored, file = await self._blocking(datafiles.begin_batch, effect)
        early.answer(stored)
        # A file that is open has to be closed, whatever happens meanwhile.
        with anyio.CancelScope(shield=True):
            end = self._blocking if effect.sync else self._brief
            await end(datafiles.end_batch, effect, file)
        return stored

    async def _sized(self, function: Callable[..., _T], effect: e.Stage | e.ReadBatch) -> _T:
        few = effect.nbytes <= _FEW_BYTES
        brief = few or (isinstance(effect, e.Stage) and staging.only_views(effect))
        return await in_thread(function, effect, limiter=self._threads, brief=brief)

    async def _brief(self, function: Callable[..., _T], *args: Any) -> _T:
        return await in_thread(function, *args, limiter=self._threads, brief=True)

    async def _blocking(self, function: Callable[..., _T], *args: Any) -> _T:
        return await in_thread(function, *args, limiter=self._threads)
