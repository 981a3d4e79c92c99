"""Many saves and loads at once: each is as if it were alone, or one of two clear outcomes."""

from __future__ import annotations

import contextvars
import functools
import gc
import itertools
import json
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

import sealwax as ocp
from sealwax import effects as e
from sealwax import errors
from sealwax.effect_handlers import Handler, record
from sealwax.settings.lens import to_dict
from tests.gates import eventually, gate, names, our_threads, settings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


def state(number: int) -> dict[str, Any]:
    """A state of several leaves and kinds, all of which tell which one it is."""
    return {
        "w": np.full((100, 10), number, np.float32),
        "b": [np.full(5, number, np.int64), str(number)],
        "step": number,
    }


def settings_of(context: ocp.Context) -> dict[str, Any]:
    """What a checkpoint records of a context."""
    return json.loads(json.dumps(to_dict(context.options)))


def number_of(loaded: Any) -> int:
    """Which state was loaded; it must be a whole one."""
    number = loaded["step"]
    np.testing.assert_array_equal(loaded["w"], state(number)["w"])
    np.testing.assert_array_equal(loaded["b"][0], state(number)["b"][0])
    assert loaded["b"][1] == str(number)
    return number


def together(*functions: Callable[[], Any]) -> list[Any]:
    """Calls functions in threads that start at the same time; their results or errors."""
    start = threading.Barrier(len(functions))

    def call(function: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return function()
        except errors.SealwaxError as error:
            return error

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(call, functions))


class TestDifferentPaths:
    """Any number of saves, from anywhere, each with its own settings."""

    def test_from_threads_and_tasks(self, tmp_path: Path) -> None:
        """Four threads, each with an event loop of four tasks, of which each saves twice."""

        async def task(number: int) -> None:
            with ocp.Context() as ctx:
                for save in range(2):
                    me = number * 2 + save
                    ctx.memory.write_concurrent_bytes = 1000 + me
                    # Settings differ, and change as soon as the call has returned.
                    response = ocp.save_async(tmp_path / str(me), state(me))
                    ctx.memory.write_concurrent_bytes = 1
                    await anyio.lowlevel.checkpoint()
                    responses.append(response)

        async def tasks(thread: int) -> None:
            async with anyio.create_task_group() as group:
                for number in range(4):
                    group.start_soon(task, thread * 4 + number)

        responses: list[Any] = []
        backends = itertools.cycle(["asyncio", "trio"])
        together(
            *(
                lambda thread=thread, backend=backend: anyio.run(tasks, thread, backend=backend)
                for thread, backend in zip(range(4), backends, strict=False)
            )
        )
        assert len(responses) == 32
        for response in responses:
            response.result()
        assert names(tmp_path) == sorted(str(number) for number in range(32))
        for number in range(32):
            assert number_of(ocp.load(tmp_path / str(number))) == number
            found = ocp.metadata(tmp_path / str(number)).settings
            assert found == settings({"memory.write_concurrent_bytes": 1000 + number})

    def test_sixty_four_in_flight_at_once_from_threads_and_tasks(self, tmp_path: Path) -> None:
        """Eight threads and eight tasks with four saves each, none of which ends before all began.

        Each has settings of its own, and what they did is in its files.
        """

        def context(number: int) -> ocp.Context:
            return ocp.Context().replace(
                {
                    "array.saving.use_ocdbt": number % 2 == 0,
                    "array.saving.use_zarr3": number % 4 < 2,
                    "array.saving.use_compression": number % 8 < 4,
                    "file.path_permission_mode": 0o700 + number % 8,
                }
            )

        def thread(number: int) -> None:
            for me in range(4 * number, 4 * number + 4):
                with context(me):
                    responses[me] = ocp.save_async(tmp_path / str(me), state(me))

        async def task(number: int) -> None:
            for me in range(32 + 4 * number, 36 + 4 * number):
                with context(me):
                    responses[me] = await ocp.aio.save_async(tmp_path / str(me), state(me))

        async def tasks() -> None:
            async with anyio.create_task_group() as group:
                for number in range(8):
                    group.start_soon(task, number)

        responses: dict[int, ocp.AsyncResponse[None]] = {}
        with gate(e.Rename, parties=64) as seal:
            calls = [functools.partial(contextvars.copy_context().run, thread, n) for n in range(8)]
            inside = contextvars.copy_context()
            together(*calls, lambda: inside.run(anyio.run, tasks))
            assert seal.arrived.wait(60)
            assert not any(response.done() for response in responses.values())
        for response in responses.values():
            response.result()
        assert names(tmp_path) == sorted(str(number) for number in range(64))
        for number in range(64):
            made = tmp_path / str(number)
            assert number_of(ocp.load(made)) == number
            assert ocp.metadata(made).settings == settings_of(context(number))
            assert (made / "state" / "manifest.ocdbt").exists() is (number % 2 == 0)
            described = json.loads((made / "state" / "_METADATA").read_text())
            assert described["use_zarr3"] is (number % 4 < 2)
            assert stat.S_IMODE(made.stat().st_mode) == 0o700 + number % 8

    def test_below_a_directory_that_none_has_made(self, tmp_path: Path) -> None:
        paths = [tmp_path / "deep" / "er" / str(number) for number in range(8)]
        outcomes = together(
            *(lambda number=n, path=p: ocp.save(path, state(number)) for n, p in enumerate(paths))
        )
        assert outcomes == [None] * 8
        assert [number_of(ocp.load(path)) for path in paths] == list(range(8))


class TestOneSnapshot:
    """Rule C7: a save in the background keeps the settings it was started with."""

    def test_what_is_assigned_later_changes_nothing(self, path: Path) -> None:
        with ocp.Context() as ctx, record() as trace, gate(e.WriteBatch) as writing:
            ctx.array.saving.compression = "always"
            ctx.file.durability = "atomic"
            response = ocp.save_async(path, state(1))
            ctx.array.saving.compression = "auto"
            ctx.array.saving.use_compression = False
            ctx.file.durability = "durable"
            ctx.asynchronous.timeout_secs = 1e-9
            writing.open()
            response.result()
        assert ocp.metadata(path).settings == settings(
            {"array.saving.compression": "always", "file.durability": "atomic"}
        )
        (write,) = [effect for effect in trace.effects if isinstance(effect, e.WriteBatch)]
        assert write.compressed[0] == {slab.leaf for slab in write.slabs}
        assert not write.sync
        assert not [effect for effect in trace.effects if isinstance(effect, e.SyncDirectory)]


class TestOnePath:
    """Two saves to one path: one wins, nothing mixes, nothing is left over."""

    def test_without_overwrite_the_second_is_told_so(self, path: Path) -> None:
        with gate(e.Rename, parties=2) as seal:
            saves = [ocp.save_async(path, state(number)) for number in range(2)]
            assert seal.arrived.wait(60)
        outcomes = together(*(save.result for save in saves))
        (loser,) = [outcome for outcome in outcomes if outcome is not None]
        assert isinstance(loser, errors.CheckpointExistsError)
        assert "Another save put something at the path" in str(loser)
        assert loser.path == str(path)
        assert number_of(ocp.load(path)) == outcomes.index(None)
        assert names(path.parent) == ["ckpt"]

    @pytest.mark.parametrize("before", ["nothing", "a checkpoint"])
    def test_with_overwrite_both_succeed(self, path: Path, before: str) -> None:
        if before == "a checkpoint":
            ocp.save(path, state(7))
        with gate(e.Exchange, parties=2) as seal:
            saves = [ocp.save_async(path, state(n), overwrite=True) for n in range(2)]
            assert seal.arrived.wait(60)
        assert together(*(save.result for save in saves)) == [None, None]
        assert number_of(ocp.load(path)) in (0, 1)
        assert names(path.parent) == ["ckpt"]

    def test_with_overwrite_it_may_come_where_nothing_was(self, path: Path) -> None:
        with gate(e.Exchange) as seal:
            overwriting = ocp.save_async(path, state(1), overwrite=True)
            assert seal.arrived.wait(60)
            assert together(lambda: ocp.save(path, state(2))) == [None]  # without the gate
        overwriting.result()
        assert number_of(ocp.load(path)) == 1
        assert names(path.parent) == ["ckpt"]

    def test_any_number_with_overwrite(self, path: Path) -> None:
        def overwrite(number: int) -> None:
            for _ in range(4):
                ocp.save(path, state(number), overwrite=True)

        outcomes = together(*(lambda number=number: overwrite(number) for number in range(4)))
        assert outcomes == [None] * 4
        assert number_of(ocp.load(path)) in range(4)
        assert names(path.parent) == ["ckpt"]

    def test_any_number_without_overwrite(self, path: Path) -> None:
        outcomes = together(
            *(lambda number=number: ocp.save(path, state(number)) for number in range(8))
        )
        assert outcomes.count(None) == 1
        losers = [outcome for outcome in outcomes if outcome is not None]
        assert {type(loser) for loser in losers} == {errors.CheckpointExistsError}
        assert number_of(ocp.load(path)) == outcomes.index(None)
        assert names(path.parent) == ["ckpt"]


class Once(Handler):
    """Does something once, before or after the first effect of a type."""

    def __init__(self, kind: type[Any], act: Callable[[], None]) -> None:
        self.kind = kind
        self.act = act
        self.done = False

    async def perform(self, effect: Any, forward: Any) -> Any:
        if isinstance(effect, self.kind) and not self.done:
            self.done = True
            await anyio.to_thread.run_sync(self.act)
        return await forward(effect)


class TestLoadWhileSaving:
    """A load sees the old checkpoint or the new one, never both."""

    @pytest.mark.parametrize("kind", [e.Look, e.ListDirectory, e.ReadFile, e.ReadBatch])
    @pytest.mark.parametrize("to", [2, {"other": np.arange(3)}], ids=["alike", "unlike"])
    def test_what_is_replaced_under_a_load(self, path: Path, kind: type[Any], to: Any) -> None:
        new = state(to) if isinstance(to, int) else to
        ocp.save(path, state(1))
        replace = Once(kind, lambda: ocp.save(path, new, overwrite=True))
        with replace:
            loaded = ocp.load(path)
        assert replace.done
        if isinstance(to, int):
            assert number_of(loaded) in (1, 2)
        elif "step" in loaded:
            assert number_of(loaded) == 1
        else:
            np.testing.assert_array_equal(loaded["other"], to["other"])

    def test_metadata_is_of_one_checkpoint(self, path: Path) -> None:
        def save(number: int) -> None:
            ocp.save(path, {str(number): number}, overwrite=True, custom_metadata={"n": number})

        for after in range(12):
            save(1)
            seen = itertools.count()

            class Nth(Handler):
                async def perform(self, effect: Any, forward: Any, n: int = after, s: Any = seen):
                    answer = await forward(effect)
                    if next(s) == n:
                        await anyio.to_thread.run_sync(save, 2)
                    return answer

            with Nth():
                found = ocp.metadata(path)
            assert list(found.metadata) == [str(found.custom_metadata["n"])]

    def test_a_checkpoint_that_is_always_replaced(self, path: Path) -> None:
        class Always(Handler):
            async def perform(self, effect: Any, forward: Any) -> Any:
                if isinstance(effect, e.ReadBatch):
                    await anyio.to_thread.run_sync(
                        lambda: ocp.save(path, state(next(numbers)), overwrite=True, context=fast)
                    )
                return await forward(effect)

        numbers = itertools.count()
        fast = ocp.Context()
        fast.file.durability = "atomic"
        ocp.save(path, state(1))
        with Always(), pytest.raises(errors.InvalidLayoutError, match="replaced each time"):
            ocp.load(path)

    def test_loads_in_other_threads(self, path: Path) -> None:
        last = 15
        ocp.save(path, state(0))
        done = threading.Event()

        def overwrite() -> None:
            try:
                for number in range(1, last + 1):
                    ocp.save(path, state(number), overwrite=True)
            finally:
                done.set()

        def load() -> list[int]:
            seen = [number_of(ocp.load(path))]
            while not done.is_set():
                seen.append(number_of(ocp.load(path)))
            return seen

        _, *seen = together(overwrite, load, load)
        for numbers in seen:
            assert numbers == sorted(numbers)
        assert number_of(ocp.load(path)) == last
        assert names(path.parent) == ["ckpt"]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    """Bytes of memory in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_two_hundred_saves_leave_nothing_running_open_or_in_memory(tmp_path: Path) -> None:
    def save(count: int) -> None:
        for number in range(count):
            big = {"big": np.full(1 << 18, number)}  # 2 MiB
            response = ocp.save_async(
                tmp_path / "ckpt", state(number) | big, overwrite=True, context=quick
            )
            response.result()
        eventually(lambda: not our_threads())
        gc.collect()

    quick = ocp.Context().at.file.durability.set("atomic")
    save(20)
    files, threads, before = open_files(), threading.active_count(), resident()
    save(200)
    assert open_files() <= files
    assert threading.active_count() <= threads
    assert resident() - before < 100 << 20  # fifty states; two hundred were saved
    assert number_of(ocp.load(tmp_path / "ckpt")) == 199
    assert names(tmp_path) == ["ckpt"]
