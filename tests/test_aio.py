"""The verbs in event loops: as coroutines in the caller's own, and the plain ones inside any."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest
import trio

import sealwax as ocp
from sealwax import effects as e
from sealwax import errors
from sealwax.effect_handlers import inject
from sealwax.runtime import exits
from tests.gates import eventually, gate, names, our_threads, settings

STATE = {"w": np.arange(1000), "step": 1}
FULL = OSError(28, "No space left on device")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


def check(path: Path, step: int = 1) -> None:
    loaded = ocp.load(path)
    np.testing.assert_array_equal(loaded["w"], STATE["w"])
    assert loaded["step"] == step


async def nobody_works() -> None:
    """Waits until no thread of ours is there, nor one of the loop's in use."""
    limiter = anyio.to_thread.current_default_thread_limiter()
    with anyio.fail_after(60):
        while limiter.borrowed_tokens or any(  # noqa: ASYNC110 they end without a word
            each.startswith("sealwax") for each in our_threads()
        ):
            await anyio.sleep(0.005)


@pytest.mark.usefixtures("anyio_backend")
class TestCoroutines:
    """``sealwax.aio`` under asyncio and trio."""

    async def test_they_do_what_the_plain_verbs_do(self, path: Path) -> None:
        assert not await ocp.aio.is_orbax_checkpoint(path)
        await ocp.aio.save(path, STATE, custom_metadata={"run": 7})
        assert await ocp.aio.is_orbax_checkpoint(path)
        found = await ocp.aio.metadata(path)
        assert found.custom_metadata == {"run": 7}
        assert found.metadata["w"].shape == (1000,)
        loaded = await ocp.aio.load(path)
        np.testing.assert_array_equal(loaded["w"], STATE["w"])
        response = await ocp.aio.save_async(path, STATE | {"step": 2}, overwrite=True)
        assert await response is None
        check(path, step=2)

    async def test_a_part_is_loaded_alone_or_into_a_state(self, path: Path) -> None:
        await ocp.aio.save(path, {"params": STATE, "old": 1})
        select = ocp.Selection(include="params", rename={"params": ""})
        assert (await ocp.aio.load(path, select=select)).keys() == STATE.keys()
        state = {"w": np.zeros(1000, np.int64), "step": 0, "new": 5}
        tree, report = await ocp.aio.load_into(path, state, select=select, missing="keep")
        np.testing.assert_array_equal(tree["w"], STATE["w"])
        assert tree["new"] == 5
        assert (report.left, report.missing) == (("old",), ("new",))
        with pytest.raises(errors.TreeMismatchError):
            await ocp.aio.load_into(path, {"w": 0}, select="params")
        with pytest.raises(errors.OptionValueError, match="'keep'"):
            await ocp.aio.load_into(path, state, missing="nothing")  # type: ignore[arg-type]

    async def test_errors_come_as_they_are(self, path: Path) -> None:
        with pytest.raises(errors.CheckpointNotFoundError):
            await ocp.aio.load(path)
        with inject(e.WriteBatch, error=FULL), pytest.raises(errors.StorageError, match="No space"):
            await ocp.aio.save(path, STATE)
        with inject(e.Stage, error=FULL), pytest.raises(errors.StorageError, match="No space"):
            await ocp.aio.save_async(path, STATE)
        await ocp.aio.save(path, STATE)
        with pytest.raises(errors.CheckpointExistsError):
            await ocp.aio.save_async(path, STATE)
        assert names(path.parent) == ["ckpt"]
        assert not exits._failed

    async def test_they_need_no_thread_that_waits(self, path: Path) -> None:
        await nobody_works()
        with gate(e.WriteBatch) as writing:
            async with anyio.create_task_group() as group:
                group.start_soon(ocp.aio.save, path, STATE)
                await writing.reached()
                await nobody_works()
                writing.open()
        check(path)

    async def test_staging_takes_no_thread_of_the_callers_loop(self, path: Path) -> None:
        limiter = anyio.to_thread.current_default_thread_limiter()
        with gate(e.Stage) as staging:
            async with anyio.create_task_group() as group:
                group.start_soon(ocp.aio.save_async, path, STATE)
                await staging.reached()
                assert limiter.borrowed_tokens == 0
                staging.open()
        eventually(lambda: not exits._running)
        assert ocp.is_orbax_checkpoint(path)

    @pytest.mark.parametrize(
        "kind", [e.Look, e.MakeDirectory, e.Stage, e.WriteBatch, e.WriteFiles, e.SyncTree]
    )
    @pytest.mark.parametrize("how", ["cancelled", "late"])
    async def test_cancelling_a_save_leaves_nothing(
        self, path: Path, kind: type[Any], how: str
    ) -> None:
        with gate(kind) as held, anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(ocp.aio.save, path, STATE)
                await held.reached()
                if how == "late":
                    scope.deadline = anyio.current_time() + 0.01
                else:
                    scope.cancel()
        assert scope.cancelled_caught
        assert names(path.parent) == []
        await ocp.aio.save(path, STATE)

    async def test_cancelling_the_staging_of_an_async_save_leaves_nothing(self, path: Path) -> None:
        with gate(e.Stage) as held, anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(ocp.aio.save_async, path, STATE)
                await held.reached()
                scope.cancel()
        assert names(path.parent) == []
        eventually(lambda: not exits._running)
        assert not exits._failed

    async def test_cancelling_while_it_is_sealed_is_too_late(self, path: Path) -> None:
        await ocp.aio.save(path, STATE)
        with gate(e.Exchange) as held, anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: ocp.aio.save(path, STATE | {"step": 2}, overwrite=True))
                await held.reached()
                scope.cancel()
                held.open()
        check(path, step=2)
        assert names(path.parent) == ["ckpt"]

    async def test_cancelling_a_load_does_no_harm(self, path: Path) -> None:
        await ocp.aio.save(path, STATE)
        with gate(e.ReadBatch) as held, anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(ocp.aio.load, path)
                await held.reached()
                scope.cancel()
        assert scope.cancelled_caught
        check(path)

    async def test_they_keep_the_settings_they_were_called_with(self, path: Path) -> None:
        async def save(number: int) -> None:
            with ocp.Context() as ctx:
                ctx.memory.write_concurrent_bytes = number
                await ocp.aio.save(path.parent / str(number), STATE)

        async def change() -> None:
            await writing.reached()
            ctx.memory.write_concurrent_bytes = 7
            ctx.file.durability = "durable"
            writing.open()

        with ocp.Context() as ctx, gate(e.WriteBatch, parties=11) as writing:
            ctx.file.durability = "atomic"
            async with anyio.create_task_group() as group:
                for number in range(100, 110):
                    group.start_soon(save, number)
                group.start_soon(ocp.aio.save, path, STATE)
                group.start_soon(change)
        for number in range(100, 110):
            found = await ocp.aio.metadata(path.parent / str(number))
            assert found.settings == settings({"memory.write_concurrent_bytes": number})
        found = await ocp.aio.metadata(path)
        assert found.settings == settings({"file.durability": "atomic"})

    async def test_the_plain_verbs_work_in_their_loops_too(self, path: Path) -> None:
        ocp.save(path, STATE)
        check(path)
        response = ocp.save_async(path, STATE | {"step": 2}, overwrite=True)
        assert await response is None
        assert (await ocp.load_async(path))["step"] == 2


Work = Callable[[], None]


def in_asyncio(work: Work) -> None:
    async def main() -> None:
        work()

    asyncio.run(main())


def in_a_callback(work: Work) -> None:
    loop = asyncio.new_event_loop()
    seen: list[BaseException | None] = []

    def call() -> None:
        try:
            work()
            seen.append(None)
        except BaseException as error:
            seen.append(error)
        loop.stop()

    loop.call_soon(call)
    loop.run_forever()
    loop.close()
    assert seen == [None]


def in_a_notebook(work: Work) -> None:
    async def cell() -> None:
        work()
        await asyncio.sleep(0)
        work()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(cell())
    loop.run_until_complete(cell())
    loop.close()


def in_trio(work: Work) -> None:
    async def main() -> None:
        await trio.lowlevel.checkpoint()
        work()

    trio.run(main)


def in_uvloop(work: Work) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        work()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def in_a_loop_in_a_thread_of_a_loop(work: Work) -> None:
    async def main() -> None:
        await anyio.to_thread.run_sync(in_asyncio, work)

    anyio.run(main, backend="trio")


INSIDE = [
    in_asyncio,
    in_a_callback,
    in_a_notebook,
    in_trio,
    in_uvloop,
    in_a_loop_in_a_thread_of_a_loop,
]


@pytest.mark.parametrize("inside", INSIDE, ids=lambda f: f.__name__)
def test_plain_verbs_work_inside(inside: Callable[[Work], None], path: Path) -> None:
    def work() -> None:
        ocp.save(path, STATE, overwrite=True)
        check(path)
        ocp.save_async(path, STATE | {"step": 2}, overwrite=True).result()
        check(path, step=2)

    inside(work)
    assert names(path.parent) == ["ckpt"]


def test_the_programs_policy_for_event_loops_is_its_own(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here() -> Any:
        raise AssertionError("only the main thread may have a loop")

    monkeypatch.setattr(asyncio.get_event_loop_policy(), "new_event_loop", none_here, raising=False)
    ocp.save(path, STATE)
    check(path)


def test_a_response_outlives_the_loop_that_waited_for_it(path: Path) -> None:
    async def give_up() -> None:
        with anyio.move_on_after(0.01):
            await response

    with gate(e.WriteBatch) as writing:
        response = ocp.save_async(path, STATE)
        anyio.run(give_up)
        waiting = threading.Thread(target=anyio.run, args=(response._wait,))
        waiting.start()
        writing.open()
        waiting.join()
    assert response.result() is None
    check(path)
