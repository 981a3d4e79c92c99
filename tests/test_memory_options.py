"""What the settings of ``memory`` do: the order of transfers, callbacks, the regulator, peaks."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import anyio
import jax.numpy as jnp
import numpy as np
import pytest

import sealwax as ocp
from sealwax import effects as e
from sealwax.effect_handlers import Handler, inject, record
from sealwax.errors import LeafError, OptionValueError, SealwaxError
from sealwax.memory import TransferPriority
from sealwax.options import MemoryOptions
from tests.gates import gate
from tests.strategies import assert_same

GIB = 1 << 30
NOISE = np.random.default_rng(0).normal(size=1 << 14).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


def memory(**changes: Any) -> ocp.Context:
    return ocp.Context().replace({f"memory.{key}": value for key, value in changes.items()})


def key(keypath: Any) -> str:
    return keypath[0].key


class Callback:
    """Keeps what it is told, in order, and raises what it was made to raise."""

    def __init__(self, raises: str = "", **priorities: TransferPriority) -> None:
        self.told: list[tuple[str, str]] = []
        self.raises = raises
        self._priorities = priorities
        self._lock = threading.Lock()

    def key_priority(self, keypath: Any) -> TransferPriority:
        return self._priorities.get(key(keypath), TransferPriority.SYNCHRONOUS)

    def on_transfer_start(self, keypath: Any) -> None:
        self._tell("transfer start", keypath)

    def on_transfer_end(self, keypath: Any) -> None:
        self._tell("transfer end", keypath)

    def on_write_start(self, keypath: Any) -> None:
        self._tell("write start", keypath)

    def on_write_end(self, keypath: Any) -> None:
        self._tell("write end", keypath)

    def _tell(self, event: str, keypath: Any) -> None:
        with self._lock:
            self.told.append((event, key(keypath)))
        if event == self.raises:
            raise ZeroDivisionError(f"no {key(keypath)}")


EVENTS = ["transfer start", "transfer end", "write start", "write end"]
BACKGROUND = TransferPriority.ASYNCHRONOUS_PRIORITIZED
LAST = TransferPriority.ASYNCHRONOUS_DEPRIORITIZED


class TestOrder:
    def test_prioritized_keys_are_brought_to_the_host_first(self, path):
        tree = dict.fromkeys("abcd", NOISE)
        chosen = memory(is_prioritized_key_fn=lambda keypath: key(keypath) in "bd")
        with record() as trace:
            ocp.save(path, tree, context=chosen)
        stages = [effect for effect in trace.effects if isinstance(effect, e.Stage)]
        assert [[slab.leaf for slab in stage.slabs] for stage in stages] == [[1, 3], [0, 2]]
        assert_same(ocp.load(path), tree)

    def test_the_others_of_save_async_are_on_the_host_when_it_returns(self, path):
        array = NOISE.copy()
        chosen = memory(is_prioritized_key_fn=lambda keypath: key(keypath) == "first")
        response = ocp.save_async(path, {"first": 1.5, "w": array}, context=chosen)
        array[:] = 0
        response.result()
        assert np.array_equal(ocp.load(path)["w"], NOISE)

    def test_key_priority_leaves_arrays_for_the_background(self, path):
        tree = {name: jnp.asarray(NOISE) for name in ("last", "now", "soon")}
        callback = Callback(soon=BACKGROUND, last=LAST)
        with Hold(1) as held:
            chosen = memory(serialization_status_callback=callback)
            response = ocp.save_async(path, tree, context=chosen)
            assert held.staged == [1]
            held.opened.set()
            response.result()
        assert held.staged == [1, 2, 0]
        assert_same(ocp.load(path), tree)

    def test_an_array_that_is_gone_by_then_is_an_error_and_no_checkpoint(self, path):
        tree = {"soon": jnp.asarray(NOISE)}
        with Hold() as held:
            chosen = memory(serialization_status_callback=Callback(soon=BACKGROUND))
            response = ocp.save_async(path, tree, context=chosen)
            tree["soon"].delete()
            held.opened.set()
            with pytest.raises(LeafError, match="donated or deleted") as caught:
                response.result()
        assert caught.value.leaf == "soon"
        assert "key_priority" in str(caught.value)
        assert list(path.parent.iterdir()) == []

    def test_what_is_synchronous_may_be_deleted_at_once(self, path):
        tree = {"now": jnp.asarray(NOISE) + 0, "soon": jnp.asarray(NOISE)}
        chosen = memory(serialization_status_callback=Callback(soon=BACKGROUND))
        response = ocp.save_async(path, tree, context=chosen)
        tree["now"].delete()
        response.result()
        assert np.array_equal(ocp.load(path)["now"], NOISE)


class Hold(Handler):
    """Lets some leaves be staged and has the others wait; keeps the order in which it was done."""

    def __init__(self, *free: int) -> None:
        self._free = free
        self.staged: list[int] = []
        self.opened = threading.Event()

    async def perform(self, effect: Any, forward: Any) -> Any:
        if isinstance(effect, e.Stage):
            leaf = effect.slabs[0].leaf
            if leaf not in self._free:
                await anyio.to_thread.run_sync(self.opened.wait, 30)
            self.staged.append(leaf)
        return await forward(effect)


class TestStatusCallback:
    @pytest.mark.parametrize("ocdbt", [True, False])
    @pytest.mark.parametrize("limit", [None, 1 << 14])
    def test_each_array_is_told_of_once_and_in_order(self, path, ocdbt, limit):
        tree = {"a": NOISE, "b": jnp.asarray(NOISE), "c": 1, "d": "text"}
        callback = Callback()
        chosen = memory(
            serialization_status_callback=callback, transfer_concurrent_bytes=limit
        ).replace(
            {
                "array.saving.use_ocdbt": ocdbt,
                "array.saving.storage_options.chunk_byte_size": 1 << 12,
            }
        )
        ocp.save(path, tree, context=chosen)
        for name in "abc":
            events = [event for event, leaf in callback.told if leaf == name]
            assert sorted(events) == sorted(EVENTS)
            assert (events[0], events[-1]) == ("transfer start", "write end")
            # What is moved in several pieces is written while the rest is brought to the host.
            assert limit is not None or events == EVENTS
        assert {leaf for _, leaf in callback.told} == {"a", "b", "c"}
        assert_same(ocp.load(path), tree)

    def test_one_without_the_two_starts_will_do(self, path):
        class Few:
            def __init__(self) -> None:
                self.told: list[str] = []

            def key_priority(self, keypath: Any) -> TransferPriority:
                return TransferPriority.SYNCHRONOUS

            def on_transfer_end(self, keypath: Any) -> None:
                self.told.append("transfer end")

            def on_write_end(self, keypath: Any) -> None:
                self.told.append("write end")

        few = Few()
        ocp.save(path, {"w": NOISE}, context=memory(serialization_status_callback=few))
        assert few.told == ["transfer end", "write end"]

    @pytest.mark.parametrize("event", EVENTS)
    def test_what_it_raises_is_raised_when_the_checkpoint_is_complete(self, path, event):
        tree = {"a": NOISE, "b": NOISE}
        callback = Callback(raises=event)
        with pytest.raises(ZeroDivisionError, match="no a") as caught:
            ocp.save(path, tree, context=memory(serialization_status_callback=callback))
        notes = "\n".join(caught.value.__notes__)
        assert "memory.serialization_status_callback raised this" in notes
        assert "1 more times" in notes
        assert_same(ocp.load(path), tree)
        assert len(callback.told) == 8

    def test_save_async_raises_it_from_result(self, path):
        callback = Callback(raises="transfer end")
        chosen = memory(serialization_status_callback=callback)
        response = ocp.save_async(path, {"a": NOISE}, context=chosen)
        with pytest.raises(ZeroDivisionError):
            response.result()
        assert_same(ocp.load(path), {"a": NOISE})

    def test_what_key_priority_raises_comes_before_anything_is_written(self, path):
        class Wrong(Callback):
            def key_priority(self, keypath: Any) -> TransferPriority:
                raise ZeroDivisionError

        chosen = memory(serialization_status_callback=Wrong())
        with pytest.raises(ZeroDivisionError):
            ocp.save(path, {"a": jnp.zeros(3)}, context=chosen)
        assert list(path.parent.iterdir()) == []


class Profiler:
    """Says what it is told to, and keeps what is asked of it."""

    def __init__(self, peak: float = 0, total: float = 100 * GIB, surge: float = 0) -> None:
        self.peak_usage_bytes = peak
        self.total_memory_bytes = total
        self.surge = surge
        self.events: list[str] = []

    def get_expected_surge_gib(self) -> float:
        return self.surge

    def profiler_start(self) -> None:
        self.events.append("start")

    def profiler_end(self) -> None:
        self.events.append("end")


def regulated(profiler: Any, **changes: Any) -> MemoryOptions.RegulatorOptions:
    given: dict[str, Any] = {"max_memory_limit_gib": 50, "ki": 0, "kd": 0}
    return MemoryOptions.RegulatorOptions(profiler=profiler, **(given | changes))


def limit_of(options: MemoryOptions.RegulatorOptions) -> float:
    return options.regulator.current_limit_bytes / GIB


class TestRegulator:
    def test_the_limit_follows_what_the_profiler_measures(self, path):
        profiler = Profiler()
        options = regulated(profiler)
        found = [limit_of(options)]
        for number, peak in enumerate([0, 40, 70, 90, 105]):
            profiler.peak_usage_bytes = peak * GIB
            ocp.save(path / str(number), {"w": NOISE}, context=memory(regulator_options=options))
            found.append(limit_of(options))
        assert found == pytest.approx([10, 10, 26, 30, 26, 16])

    def test_the_limit_is_the_transfer_budget_of_the_save(self, path):
        profiler = Profiler(peak=GIB // 2, total=GIB)
        options = regulated(
            profiler, max_memory_limit_gib=1, min_memory_limit_gib=1 / 1024, target_ratio=0.5
        )
        large = np.zeros((1024, 1024), np.float32).T
        chosen = memory(regulator_options=options, transfer_concurrent_bytes=1)
        chosen.array.saving.storage_options.chunk_byte_size = 1 << 18
        with record() as trace:
            plan = ocp.plan_save(path, {"w": large}, context=chosen)
            ocp.save(path, {"w": large}, context=chosen)
        assert options.regulator.current_limit_bytes == 1 << 20
        assert plan.peak_host_bytes == trace.peak_host_bytes == 1 << 20
        assert max(s.nbytes for s in trace.effects if isinstance(s, e.Stage)) == 1 << 20
        # The settings that are recorded are those that were given.
        recorded = json.loads((path / "_SEALWAX").read_text().splitlines()[0])
        assert recorded["settings"]["memory"]["transfer_concurrent_bytes"] == 1

    def test_a_surge_lowers_the_limit_of_one_save(self, path):
        profiler = Profiler(peak=80 * GIB)
        options = regulated(profiler)
        profiler.peak_usage_bytes = 0.1 * GIB
        limits = []
        for number, surge in enumerate([None, None, 30 * GIB, None]):
            if number:
                profiler.peak_usage_bytes = 80 * GIB
            chosen = memory(regulator_options=options, expected_surge_bytes=surge)
            ocp.save(path / str(number), {"w": NOISE}, context=chosen)
            limits.append(limit_of(options))
        assert limits == pytest.approx([41.96, 41.96, 11.96, 41.96])

    def test_a_surge_that_the_profiler_expects_counts_where_none_is_given(self, path):
        profiler = Profiler(peak=80 * GIB, surge=30)
        options = regulated(profiler, min_memory_limit_gib=1)
        options.regulator.state = type(options.regulator.state)(course=40 * GIB)
        ocp.save(path / "a", {"w": NOISE}, context=memory(regulator_options=options))
        assert limit_of(options) == 10
        chosen = memory(regulator_options=options, expected_surge_bytes=0)
        ocp.save(path / "b", {"w": NOISE}, context=chosen)
        assert limit_of(options) == 40

    @pytest.mark.parametrize(
        ("name", "value"), [("kp", 0.2), ("ki", 0.05), ("kd", 0.1), ("target_ratio", 0.7)]
    )
    def test_each_coefficient_changes_the_course(self, path, name, value):
        limits = []
        for changes in ({}, {name: value}):
            profiler = Profiler(peak=40 * GIB)
            options = regulated(profiler, **changes)
            for number in range(2):
                where = path / f"{len(changes)}{number}"
                ocp.save(where, {"w": NOISE}, context=memory(regulator_options=options))
            limits.append(limit_of(options))
        assert limits[0] != limits[1]

    def test_total_memory_may_be_told_in_gib(self, path):
        class Orbax:
            peak_usage_bytes = 60 * GIB
            total_memory_gib = 100.0

            def profiler_start(self) -> None: ...

            def profiler_end(self) -> None: ...

        options = regulated(Orbax())
        ocp.save(path, {"w": NOISE}, context=memory(regulator_options=options))
        assert limit_of(options) == pytest.approx(18)

    def test_the_profiler_measures_what_the_caller_waits_for(self, path):
        profiler = Profiler()
        chosen = memory(regulator_options=regulated(profiler))
        with gate(e.WriteBatch) as held:
            response = ocp.save_async(path, {"w": NOISE}, context=chosen)
            assert profiler.events == ["start", "end"]
            held.open()
            response.result()
        assert profiler.events == ["start", "end"]

    def test_its_measurement_of_a_save_ends_with_the_save_also_when_that_fails(self, path):
        profiler = Profiler()
        chosen = memory(regulator_options=regulated(profiler))
        with inject(e.WriteBatch, error=OSError(5, "no")), pytest.raises(SealwaxError):
            ocp.save(path, {"w": NOISE}, context=chosen)
        ocp.save(path, {"w": NOISE}, context=chosen)
        assert profiler.events == ["start", "end"] * 2

    def test_saves_that_overlap_are_one_measurement(self, path):
        profiler = Profiler()
        chosen = memory(regulator_options=regulated(profiler))
        with gate(e.Stage, parties=2) as held:
            names = ["a", "b"]
            saves = [
                threading.Thread(target=chosen.bind(ocp.save), args=(path / name, {"w": NOISE}))
                for name in names
            ]
            for save in saves:
                save.start()
            held.open()
            for save in saves:
                save.join()
        assert profiler.events.count("start") == profiler.events.count("end") <= 2
        assert profiler.events[0::2] == ["start"] * (len(profiler.events) // 2)

    def test_a_profiler_that_fails_at_its_end_is_reported_and_harms_nothing(self, path, caplog):
        class Failing(Profiler):
            def profiler_end(self) -> None:
                raise ZeroDivisionError("no end")

        chosen = memory(regulator_options=regulated(Failing()))
        ocp.save(path, {"w": NOISE}, context=chosen)
        assert "no end" in caplog.text
        assert_same(ocp.load(path), {"w": NOISE})

    def test_a_profiler_without_numbers_is_an_error(self, path):
        chosen = memory(regulator_options=regulated(Profiler(peak="much")))  # type: ignore[arg-type]
        with pytest.raises(OptionValueError, match="no number of bytes"):
            ocp.save(path, {"w": NOISE}, context=chosen)
        assert list(path.parent.iterdir()) == []


class TestReport:
    @pytest.mark.parametrize("limit", [None, 1 << 16])
    def test_the_report_after_a_save_agrees_with_the_plan_before(self, path, limit):
        tree = {"strided": np.zeros((512, 512), np.float32).T, "w": NOISE, "j": jnp.asarray(NOISE)}
        chosen = memory(transfer_concurrent_bytes=limit)
        chosen.array.saving.storage_options.chunk_byte_size = 1 << 16
        plan = ocp.plan_save(path, tree, context=chosen)
        with record() as trace:
            ocp.save(path, tree, context=chosen)
        assert trace.peak_host_bytes == pytest.approx(plan.peak_host_bytes, rel=0.1)
        assert trace.peak_host_bytes == (1 << 20 if limit is None else 1 << 16)

    def test_the_response_of_save_async_tells_it(self, path):
        tree = {"w": NOISE, "j": jnp.asarray(NOISE)}
        plan = ocp.plan_save(path, tree, background=True)
        response = ocp.save_async(path, tree)
        response.result()
        assert response.progress.peak_host_bytes == plan.peak_host_bytes == NOISE.nbytes
        assert response.progress.host_bytes == 0

    def test_of_a_load_what_it_gives_is_part_of_it(self, path):
        ocp.save(path, {"w": NOISE, "j": jnp.asarray(NOISE)})
        plan = ocp.plan_load(path)
        response = ocp.load_async(path)
        response.result()
        assert response.progress.peak_host_bytes == plan.peak_host_bytes == 2 * NOISE.nbytes

    def test_a_trace_keeps_no_data(self, path):
        with record() as trace:
            ocp.save(path, {"w": jnp.asarray(NOISE)})
            ocp.load(path)
        moved = [each for each in trace.effects if hasattr(each, "buffers")]
        assert {type(each) for each in moved} >= {e.WriteBatch, e.ReadBatch, e.Place}
        held = [each for each in moved if not isinstance(each, e.Allocate)]
        assert all(len(each.buffers) == 0 for each in held)
