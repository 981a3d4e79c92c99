"""``save_async``: what was passed is what is saved, and failures come to whom they concern."""

from __future__ import annotations

import gc
import logging
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import anyio
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import sealwax as ocp
from sealwax import effects as e
from sealwax import errors
from sealwax.effect_handlers import Handler, inject
from sealwax.runtime import exits
from tests.clocks import Late
from tests.gates import eventually, gate, names, our_threads

FULL = OSError(28, "No space left on device")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


def save(blocking: bool, path: Path, state: Any, ctx: ocp.Context) -> None:
    if blocking:
        ocp.save(path, state, context=ctx)
    else:
        ocp.save_async(path, state, context=ctx).result()


def unasked() -> int:
    """How many failures would be reported if the interpreter exited now."""
    return len(exits._failed)


class TestWhatWasPassed:
    """Whatever happens to the state after the call, the checkpoint holds what was passed."""

    @settings(max_examples=20)
    @given(
        arrays=st.lists(
            hnp.arrays(
                st.sampled_from([np.float32, np.int16, np.complex64, np.bool_]),
                hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
            ),
            min_size=1,
            max_size=4,
        ),
        turned=st.booleans(),
    )
    def test_numpy_arrays_may_be_changed_in_place(
        self, tmp_path_factory: Any, arrays: list[Any], turned: bool
    ) -> None:
        state = {str(i): array.T if turned else array for i, array in enumerate(arrays)}
        passed = {name: array.copy() for name, array in state.items()}
        path = tmp_path_factory.mktemp("law") / "ckpt"
        with gate(e.WriteBatch) as writing:
            response = ocp.save_async(path, state)
            for array in state.values():
                array[...] = array != array.dtype.type(1)
            writing.open()
        response.result()
        jax.tree.map(np.testing.assert_array_equal, ocp.load(path), passed)

    def test_containers_may_be_changed(self, path: Path) -> None:
        state: dict[str, Any] = {"a": [np.arange(3), {"b": 1, "c": "text"}], "d": 2.5}
        with gate(e.WriteBatch) as writing:
            response = ocp.save_async(path, state)
            state["a"][1].clear()
            state["a"].append(7)
            state.pop("d")
            state["e"] = 1
            writing.open()
        response.result()
        loaded = ocp.load(path)
        assert loaded["a"][1] == {"b": 1, "c": "text"}
        assert len(loaded["a"]) == 2
        assert loaded["d"] == 2.5
        assert "e" not in loaded

    @pytest.mark.parametrize("place", ["one device", "sharded", "replicated"])
    def test_jax_arrays_may_be_donated(self, path: Path, place: str) -> None:
        mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
        spec = {"sharded": "x", "replicated": None}.get(place)
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(spec))
        if place == "one device":
            sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        values = np.arange(1 << 16, dtype=np.float32)
        state = {"w": jax.device_put(values.copy(), sharding), "n": jnp.uint32(7)}

        @jax.jit
        def make(state: Any) -> Any:
            return jax.tree.map(lambda x: x * x.dtype.type(1), state)

        state = make(state)  # buffers of XLA's own, which a donation really takes
        step = jax.jit(lambda s: jax.tree.map(lambda x: -x - x, s), donate_argnums=0)
        with gate(e.WriteBatch) as writing:
            response = ocp.save_async(path, state)
            for _ in range(3):
                state = step(state)
            jax.block_until_ready(state)
            writing.open()
        response.result()
        np.testing.assert_array_equal(state["w"], -8 * values)
        loaded = ocp.load(path)
        np.testing.assert_array_equal(loaded["w"], values)
        assert loaded["n"] == 7

    def test_jax_arrays_may_be_deleted(self, path: Path) -> None:
        state = {"w": jnp.arange(1 << 16), "key": jax.random.key(3)}
        expected = np.array(state["w"]), jax.random.key_data(state["key"]).copy()
        with gate(e.WriteBatch) as writing:
            response = ocp.save_async(path, state)
            for array in jax.tree.leaves(state):
                array.delete()
            others = [jnp.full(1 << 16, i) for i in range(4)]
            jax.block_until_ready(others)
            writing.open()
        response.result()
        loaded = ocp.load(path)
        np.testing.assert_array_equal(loaded["w"], expected[0])
        np.testing.assert_array_equal(jax.random.key_data(loaded["key"]), expected[1])

    def test_everything_may_be_forgotten(self, path: Path) -> None:
        state = {"w": jnp.arange(1 << 16), "v": np.arange(1 << 16)}
        with gate(e.WriteBatch) as writing:
            response = ocp.save_async(path, state)
            del state
            gc.collect()
            writing.open()
        response.result()
        loaded = ocp.load(path)
        np.testing.assert_array_equal(loaded["w"], np.arange(1 << 16))
        np.testing.assert_array_equal(loaded["v"], np.arange(1 << 16))

    def test_it_returns_before_anything_is_written(self, path: Path) -> None:
        with gate(e.WriteBatch) as writing:
            response = ocp.save_async(path, {"w": np.arange(3)})
            assert not response.done()
            assert not path.exists()
            with pytest.raises(TimeoutError, match=r"not finished after 0\.01 s; it goes on"):
                response.result(timeout=0.01)
            writing.open()
            response.result(timeout=60)
        assert response.done()
        assert response.progress.fraction == 1.0
        assert ocp.is_orbax_checkpoint(path)

    def test_directories_are_made_before_it_returns_if_asked_for(
        self, tmp_path: Path, path: Path
    ) -> None:
        ctx = ocp.Context()
        ctx.asynchronous.create_directories_asynchronously = False
        with gate(e.WriteBatch):
            response = ocp.save_async(path, {"w": np.arange(3)}, context=ctx)
            (temporary,) = names(tmp_path)
            assert temporary.startswith("ckpt.orbax-checkpoint-tmp")
            assert (tmp_path / temporary / "state" / "d").is_dir()
        response.result()

    def test_directories_are_made_later_by_default(self, tmp_path: Path, path: Path) -> None:
        with gate(e.MakeDirectory):
            response = ocp.save_async(path, {"w": np.arange(3)})
            assert names(tmp_path) == []
        response.result()

    @pytest.mark.parametrize("copies", [True, False])
    def test_host_arrays_are_copied_unless_declined(self, path: Path, copies: bool) -> None:
        ctx = ocp.Context()
        ctx.memory.deepcopy_host_arrays = copies
        array = np.arange(1 << 16)
        with Written() as written:
            ocp.save_async(path, {"w": array}, context=ctx).result()
        (buffer,) = written.buffers
        assert np.shares_memory(array, buffer) is not copies

    def test_jax_arrays_on_the_host_are_not_copied(self, path: Path) -> None:
        array = jnp.arange(1 << 16)
        with Written() as written:
            ocp.save_async(path, {"w": array}).result()
        (buffer,) = written.buffers
        assert np.shares_memory(np.asarray(array), buffer)


class Written(Handler):
    """Keeps the buffers that are written."""

    def __init__(self) -> None:
        self.buffers: list[Any] = []

    async def perform(self, effect: Any, forward: Any) -> Any:
        if isinstance(effect, e.WriteBatch):
            self.buffers += effect.buffers
        return await forward(effect)


class TestFailures:
    """Each failure is raised where it belongs, as often as it is asked for."""

    def test_what_can_be_told_at_once_is_raised_at_once(self, tmp_path: Path, path: Path) -> None:
        ocp.save(path, {"step": 1})
        with pytest.raises(errors.CheckpointExistsError, match="overwrite=True"):
            ocp.save_async(path, {"step": 2})
        (tmp_path / "file").write_text("")
        with pytest.raises(errors.InvalidPathError, match="is not a directory"):
            ocp.save_async(tmp_path / "file" / "ckpt", {"step": 2})
        with pytest.raises(errors.UnsupportedLeafError):
            ocp.save_async(tmp_path / "other", {"step": object()})
        assert names(tmp_path) == ["ckpt", "file"]
        assert unasked() == 0

    @pytest.mark.parametrize("copies", ["staging", "making directories"])
    def test_a_failure_before_staging_is_raised_at_once(
        self, tmp_path: Path, path: Path, copies: str
    ) -> None:
        ctx = ocp.Context()
        ctx.asynchronous.create_directories_asynchronously = copies == "staging"
        kind = e.Stage if copies == "staging" else e.MakeDirectory
        with inject(kind, error=FULL), pytest.raises(errors.StorageError, match="No space"):
            ocp.save_async(path, {"w": np.arange(3)}, context=ctx)
        assert names(tmp_path) == []
        assert unasked() == 0

    def test_a_later_failure_is_raised_by_result_every_time(
        self, tmp_path: Path, path: Path
    ) -> None:
        with inject(e.WriteBatch, error=FULL):
            response = ocp.save_async(path, {"w": np.arange(3)})
        eventually(response.done)
        assert unasked() == 1
        raised = []
        for _ in range(3):
            with pytest.raises(errors.StorageError, match="No space left") as caught:
                response.result()
            raised.append((caught.value, len(caught.traceback)))
        assert unasked() == 0
        assert len({id(error) for error, _ in raised}) == 1
        assert len({depth for _, depth in raised}) == 1
        assert raised[0][0].leaf == "w"
        assert names(tmp_path) == []
        ocp.save(path, {"w": np.arange(3)})

    async def test_a_later_failure_is_raised_by_await_every_time(
        self, path: Path, anyio_backend: str
    ) -> None:
        with inject(e.WriteBatch, error=FULL):
            response = ocp.save_async(path, {"w": np.arange(3)})
        for _ in range(2):
            with pytest.raises(errors.StorageError, match="No space left"):
                await response
        assert unasked() == 0

    @pytest.mark.parametrize("blocking", [True, False])
    def test_the_deadline_names_what_it_waited_for(
        self, tmp_path: Path, path: Path, blocking: bool
    ) -> None:
        ctx = ocp.Context()
        ctx.asynchronous.timeout_secs = 100
        state = {"weights": np.arange(3)}
        with Late(e.WriteBatch, seconds=100), pytest.raises(TimeoutError) as caught:
            save(blocking, path, state, ctx)
        assert isinstance(caught.value, errors.OperationTimeoutError)
        assert "longer than 100 s" in str(caught.value)
        assert "write leaf 'weights'" in str(caught.value)
        assert str(path) in str(caught.value)
        assert names(tmp_path) == []

    def test_an_error_lets_go_of_the_state(self, path: Path) -> None:
        array = np.arange(1 << 10)
        watch = weakref.ref(array)
        with inject(e.WriteBatch, error=FULL):
            response = ocp.save_async(path, {"w": array})
        del array
        eventually(response.done)
        eventually(lambda: not our_threads())
        gc.collect()
        assert watch() is None
        with pytest.raises(errors.StorageError):
            response.result()

    def test_a_finished_save_lets_go_of_the_state(self, path: Path) -> None:
        array = np.arange(1 << 10)
        watch = weakref.ref(array)
        response = ocp.save_async(path, {"w": array})
        del array
        response.result()
        eventually(lambda: not our_threads())
        gc.collect()
        assert watch() is None


class TestCancelling:
    """Cancelling leaves nothing behind, or a sealed checkpoint."""

    @pytest.mark.parametrize("kind", [e.MakeDirectory, e.WriteBatch, e.WriteFiles, e.SyncTree])
    def test_before_the_seal_nothing_is_left(
        self, tmp_path: Path, path: Path, kind: type[Any]
    ) -> None:
        with gate(kind) as held:
            response = ocp.save_async(path, {"w": np.arange(3)})
            assert held.arrived.wait(60)
            response.cancel()
            with pytest.raises(errors.OperationCancelledError, match="cancelled before it was"):
                response.result(timeout=60)
        assert response.done()
        assert names(tmp_path) == []
        assert unasked() == 0

    @pytest.mark.parametrize("kind", [e.Exchange, e.RemoveTree, e.Call])
    def test_from_the_seal_on_it_is_too_late(
        self, tmp_path: Path, path: Path, kind: type[Any]
    ) -> None:
        calls: list[int] = []
        ctx = ocp.Context()
        ctx.asynchronous.post_finalization_callback = lambda: calls.append(1)
        ocp.save(path, {"step": 1})
        with gate(kind) as held:
            response = ocp.save_async(path, {"step": 2}, overwrite=True, context=ctx)
            assert held.arrived.wait(60)
            response.cancel()
            held.open()
        response.result()
        assert ocp.load(path) == {"step": 2}
        assert calls == [1]
        assert names(tmp_path) == ["ckpt"]

    def test_the_deadline_too_comes_too_late_after_the_seal(
        self, tmp_path: Path, path: Path
    ) -> None:
        ctx = ocp.Context()
        ctx.asynchronous.timeout_secs = 100
        ocp.save(path, {"step": 1})
        with Late(e.RemoveTree, seconds=100) as removal:
            removal.open()
            ocp.save(path, {"step": 2}, overwrite=True, context=ctx)
        assert removal.hits == 1
        assert names(tmp_path) == ["ckpt"]

    def test_when_it_is_done_nothing_happens(self, path: Path) -> None:
        response = ocp.save_async(path, {"step": 1})
        response.result()
        response.cancel()
        response.cancel()
        assert response.result() is None
        assert ocp.load(path) == {"step": 1}


class TestCallbacks:
    """Callbacks run once, and cannot harm the checkpoint."""

    def test_the_finalization_callback_sees_the_checkpoint(self, path: Path) -> None:
        seen: list[Any] = []
        ctx = ocp.Context()
        ctx.asynchronous.post_finalization_callback = lambda: seen.append(ocp.load(path))
        ocp.save_async(path, {"step": 1}, context=ctx).result()
        assert seen == [{"step": 1}]

    @pytest.mark.parametrize("error", [KeyError("mine"), FileNotFoundError(2, "mine")])
    @pytest.mark.parametrize("blocking", [True, False])
    def test_its_failure_is_raised_and_the_checkpoint_is_there(
        self, tmp_path: Path, path: Path, error: Exception, blocking: bool
    ) -> None:
        def fail() -> None:
            raise error

        ctx = ocp.Context()
        ctx.asynchronous.post_finalization_callback = fail
        with pytest.raises(type(error), match="mine") as caught:
            save(blocking, path, {"step": 1}, ctx)
        assert caught.value is error
        (note,) = error.__notes__
        del error.__notes__
        assert "post_finalization_callback" in note
        assert "is complete" in note
        assert ocp.load(path) == {"step": 1}
        assert names(tmp_path) == ["ckpt"]

    def test_on_complete_is_called_once(self, path: Path) -> None:
        seen: list[Any] = []
        with gate(e.WriteBatch):
            response = ocp.save_async(path, {"w": np.arange(3)})
            response.on_complete(
                lambda value: seen.append((value, threading.current_thread().name))
            )
        response.result()
        eventually(lambda: seen)
        response.on_complete(seen.append)
        assert seen == [(None, f"sealwax save_async to {os.fspath(path)!r}"), None]
        assert response.done()

    def test_whoever_is_told_of_an_error_has_asked(self, path: Path) -> None:
        told: list[BaseException] = []
        with inject(e.WriteBatch, error=FULL), gate(e.WriteBatch):
            response = ocp.save_async(path, {"w": np.arange(3)})
            response.on_complete(lambda _: told.append(AssertionError()), on_error=told.append)
        eventually(lambda: told and not unasked())
        assert [type(error) for error in told] == [errors.StorageError]

    def test_a_callback_that_fails_is_logged(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.ERROR, "sealwax"), gate(e.WriteBatch):
            response = ocp.save_async(path, {"w": np.arange(3)})
            response.on_complete(lambda _: 1 // 0)
        response.result()
        eventually(lambda: caplog.records)
        assert "A callback of the save_async" in caplog.text
        assert "ZeroDivisionError" in caplog.text


async def test_waiting_takes_no_thread(path: Path, anyio_backend: str) -> None:
    limiter = anyio.to_thread.current_default_thread_limiter()

    async def wait(response: Any) -> None:
        await response

    with gate(e.WriteBatch) as writing:
        response = ocp.save_async(path, {"w": np.arange(3)})
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(wait, response)
            await anyio.wait_all_tasks_blocked()
            assert limiter.borrowed_tokens == 0
            writing.open()
    assert ocp.is_orbax_checkpoint(path)


async def test_giving_up_waiting_does_not_give_up_the_save(path: Path, anyio_backend: str) -> None:
    with gate(e.WriteBatch) as writing:
        response = ocp.save_async(path, {"w": np.arange(3)})
        with anyio.move_on_after(0.01) as scope:
            await response
        assert scope.cancelled_caught
        assert not response.done()
        writing.open()
        assert await response is None
    assert ocp.is_orbax_checkpoint(path)


class TestPoints:
    """There are two points to wait for: staged, and committed."""

    def test_it_is_staged_when_the_call_returns_and_committed_later(self, path: Path) -> None:
        with gate(e.WriteBatch) as writing:
            response = ocp.save_async(path, {"w": np.arange(3)})
            assert response.staged.is_reached()
            assert response.staged.wait() is None
            assert not response.committed.is_reached()
            with pytest.raises(errors.OperationTimeoutError, match="is not finished after 0.01 s"):
                response.committed.wait(0.01)
            writing.open()
            assert response.committed.wait(60) is None
        assert response.committed.is_reached()
        assert response.done()

    def test_until_captured_returns_before_it_is_staged(self, path: Path) -> None:
        array = np.arange(1000)
        with gate(e.Stage) as staging:
            response = ocp.save_async(path, {"w": array}, until="captured")
            assert staging.arrived.wait(60)
            assert not response.staged.is_reached()
            with pytest.raises(errors.OperationTimeoutError) as caught:
                response.staged.wait(0.01)
            assert "is not staged after 0.01 s; it goes on (" in str(caught.value)
            assert "under way: copy leaf 'w' to the host" in str(caught.value)
            staging.open()
            with gate(e.WriteBatch):
                response.staged.wait(60)
                assert not response.done()
                array[:] = 0
        response.result()
        np.testing.assert_array_equal(ocp.load(path)["w"], np.arange(1000))

    def test_the_tree_itself_may_change_once_it_is_captured(self, path: Path) -> None:
        tree: dict[str, Any] = {"a": [np.arange(3)], "b": 1}
        with gate(e.Stage):
            response = ocp.save_async(path, tree, until="captured")
            tree["a"].clear()
            tree.clear()
        response.result()
        assert ocp.load(path)["a"][0].tolist() == [0, 1, 2]

    def test_jax_arrays_may_be_donated_from_staged_on(self, path: Path) -> None:
        make = jax.jit(lambda x: x * x.dtype.type(1))
        w = make(jnp.arange(1 << 16))  # a buffer of XLA's own, which a donation really takes
        response = ocp.save_async(path, {"w": w}, until="captured")
        response.staged.wait()
        w = jax.block_until_ready(jax.jit(lambda x: -x, donate_argnums=0)(w))
        response.result()
        np.testing.assert_array_equal(ocp.load(path)["w"], np.arange(1 << 16))

    def test_donating_before_that_is_an_error_that_says_so(self, path: Path) -> None:
        w = jax.jit(lambda x: x * x.dtype.type(1))(jnp.arange(1 << 16))
        with gate(e.Stage):
            response = ocp.save_async(path, {"w": w}, until="captured")
            w.delete()
        with pytest.raises(errors.SealwaxError, match="deleted") as caught:
            response.staged.wait()
        assert caught.value.leaf == "w"
        assert names(path.parent) == []
        assert unasked() == 0

    def test_a_failure_on_the_way_is_raised_at_each_point(self, path: Path) -> None:
        with inject(e.Stage, error=FULL):
            response = ocp.save_async(path, {"w": np.arange(3)}, until="captured")
        eventually(response.done)
        assert unasked() == 1
        for wait in (response.staged.wait, response.committed.wait, response.result):
            with pytest.raises(errors.StorageError, match="No space left"):
                wait()
        assert unasked() == 0
        assert not response.staged.is_reached()
        assert not response.committed.is_reached()

    def test_a_failure_after_staging_does_not_concern_it(self, path: Path) -> None:
        with inject(e.WriteBatch, error=FULL):
            response = ocp.save_async(path, {"w": np.arange(3)})
        eventually(response.done)
        response.staged.wait()
        assert unasked() == 1
        with pytest.raises(errors.StorageError, match="No space left"):
            response.committed.wait()

    async def test_both_can_be_awaited(self, path: Path, anyio_backend: str) -> None:
        with gate(e.Stage) as staging, gate(e.WriteBatch) as writing:
            response = await ocp.aio.save_async(path, {"w": np.arange(3)}, until="captured")
            with anyio.move_on_after(0.01) as scope:
                await response.staged
            assert scope.cancelled_caught
            staging.open()
            await response.staged
            assert not response.done()
            writing.open()
            assert await response.committed is None
        assert ocp.load(path)["w"].tolist() == [0, 1, 2]

    def test_a_load_has_only_the_last(self, path: Path) -> None:
        ocp.save(path, {"step": 1})
        with gate(e.ReadFile):
            response = ocp.load_async(path)
            assert not response.staged.is_reached()
        response.staged.wait()
        assert response.done()
        assert response.result() == {"step": 1}

    @pytest.mark.parametrize("verb", ["plain", "aio"])
    def test_there_is_no_other(self, path: Path, verb: str) -> None:
        def call() -> Any:
            if verb == "plain":
                return ocp.save_async(path, {"step": 1}, until="commited")  # type: ignore[arg-type]
            return anyio.run(lambda: ocp.aio.save_async(path, {"step": 1}, until="x"))  # type: ignore[arg-type]

        with pytest.raises(errors.OptionValueError, match="'staged' or 'captured'"):
            call()
        assert names(path.parent) == []
