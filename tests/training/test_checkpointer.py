"""The checkpointer: what is saved, listed, kept, loaded, deleted and raised, and when."""

from __future__ import annotations

import datetime
import errno
import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sealwax as ocp
from sealwax.effects import Call, Effect, Exchange, Now, Rename, WriteBatch
from sealwax.runtime.handlers import Forward, Handler
from sealwax.training import Checkpointer, errors
from sealwax.training import preservation_policies as keep
from sealwax.training import save_decision_policies as when

EVERY = when.FixedIntervalPolicy(1)
FULL = OSError(errno.ENOSPC, "No space left on device")


CALLS = {
    "save": lambda c: c.save(1, state(1)),
    "should_save": lambda c: c.should_save(1),
    "load": lambda c: c.load(),
    "metadata": lambda c: c.metadata(),
    "delete": lambda c: c.delete(0, missing_ok=True),
    "reload": lambda c: c.reload(),
    "wait": lambda c: c.wait(),
    "close": lambda c: c.close(),
}


def state(step: int) -> dict[str, Any]:
    return {"w": np.full(3, step), "step": step}


def steps(checkpointer: Checkpointer) -> list[int]:
    return [each.step for each in checkpointer.checkpoints]


def on_disk(run: Path) -> list[int]:
    return sorted(int(path.name) for path in run.iterdir() if path.name.isdecimal())


class Held(Handler):
    """Lets saves come to their seal, or to another effect, and no further until it is told."""

    def __init__(self, at: tuple[type[Any], ...] = (Rename, Exchange)) -> None:
        self.at = at
        self.there = threading.Event()
        self.go = threading.Event()

    async def perform(self, effect: Effect, forward: Forward) -> Any:
        if isinstance(effect, self.at):
            self.there.set()
            call = Call(name="wait", function=self.go.wait, inputs=(60,))
            await forward(call)
        return await forward(effect)


@contextmanager
def held(
    checkpointer: Checkpointer, step: int, handler: Held | None = None
) -> Iterator[tuple[Any, Held]]:
    """A save in the background that has come to its seal, or to where ``handler`` holds it."""
    handler = Held() if handler is None else handler
    with handler:
        response = checkpointer.save_async(step, state(step))
    assert response is not None
    assert handler.there.wait(60)
    try:
        yield response, handler
    finally:
        handler.go.set()
        response.committed.over.wait(60)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def checkpointer(run: Path) -> Iterator[Checkpointer]:
    with Checkpointer(run, save_decision_policy=EVERY) as made:
        yield made


class TestSavingAndLoading:
    def test_the_directory_is_made_and_a_run_goes_on_where_it_was(self, run: Path) -> None:
        with Checkpointer(run / "deep") as first:
            assert (first.latest, first.checkpoints) == (None, [])
            assert first.save(0, state(0))
        with Checkpointer(run / "deep") as second:
            assert second.latest is not None
            assert second.latest.step == 0
            assert second.load()["w"].tolist() == [0, 0, 0]
            assert second.load(second.latest) == second.load(0) | {"w": pytest.approx([0] * 3)}

    def test_a_step_is_a_checkpoint_of_its_own(self, run: Path, checkpointer: Checkpointer) -> None:
        checkpointer.save(5, state(5), custom_metadata={"note": "x"})
        assert ocp.load(run / "5")["step"] == 5
        assert ocp.verify(run / "5").ok
        assert checkpointer.latest is not None
        assert checkpointer.latest.path == run / "5"
        assert checkpointer.latest.custom_metadata == {"note": "x"}

    def test_several_items(self, checkpointer: Checkpointer) -> None:
        items = {"params": {"w": np.arange(3)}, "loop": {"epoch": 1}}
        assert checkpointer.save_checkpointables(1, items, metrics={"loss": 1})
        assert checkpointer.load_checkpointables(1, {"loop": None}) == {"loop": {"epoch": 1}}
        assert checkpointer.load_checkpointables().keys() == {"params", "loop"}
        assert checkpointer.load_checkpointables_async(1).result().keys() == {"params", "loop"}
        found = checkpointer.checkpointables_metadata(1)
        assert found.metadata["params"]["w"].shape == (3,)
        assert found.metrics == {"loss": 1}
        response = checkpointer.save_checkpointables_async(2, items)
        assert response is not None
        assert response.result() is True

    def test_in_the_background(self, checkpointer: Checkpointer) -> None:
        w = np.zeros(3)
        response = checkpointer.save_async(0, {"w": w})
        assert response is not None
        w[:] = 1
        assert response.result() is True
        assert checkpointer.load_async(0).result()["w"].tolist() == [0, 0, 0]

    def test_metadata(self, checkpointer: Checkpointer) -> None:
        checkpointer.save(3, state(3), metrics={"loss": 0.5}, checkpointable_name="model")
        found = checkpointer.metadata()
        assert (found.step, found.metrics, found.metadata["w"].shape) == (3, {"loss": 0.5}, (3,))
        assert found.commit_timestamp_nsecs == checkpointer.checkpoints[0].commit_timestamp_nsecs
        loaded = checkpointer.load(3, found, checkpointable_name="model")
        assert loaded["w"].tolist() == [3, 3, 3]

    @pytest.mark.parametrize("number", [np.int64(7), jnp.int32(7), 7])
    def test_integers_of_any_library_are_steps(
        self, checkpointer: Checkpointer, number: Any
    ) -> None:
        assert checkpointer.should_save(number)
        assert checkpointer.save(number, state(7))
        assert checkpointer.load(number)["step"] == 7
        assert checkpointer.delete(number)

    def test_names_of_steps(self, run: Path) -> None:
        names = ocp.path.step.standard_name_format(step_prefix="ckpt", step_format_fixed_length=4)
        with Checkpointer(run, step_name_format=names) as made:
            made.save(5, state(5))
        assert (run / "ckpt_0005").is_dir()
        with Checkpointer(run, step_name_format=names) as made:
            assert steps(made) == [5]

    def test_a_relative_directory(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.chdir(tmp_path)
        with Checkpointer("run") as made:
            made.save(0, state(0))
            assert made.directory == tmp_path / "run"

    def test_without_a_file_system(self) -> None:
        with ocp.effect_handlers.memory():
            with Checkpointer("/a/run", preservation_policy=keep.LatestN(1)) as made:
                for step in range(3):
                    assert made.save(step, state(step), metrics={"loss": step})
                assert steps(made) == [2]
            assert steps(Checkpointer("/a/run")) == [2]
        assert not Path("/a").exists()


class TestMetrics:
    def test_they_survive_and_find_the_best(self, run: Path, checkpointer: Checkpointer) -> None:
        for step, loss in enumerate([3.0, 1.0, 2.0]):
            checkpointer.save(step, state(step), metrics={"loss": loss, "all": [loss, None]})
        checkpointer.save(3, state(3))
        checkpointer.save(4, state(4), metrics={})
        for made in (checkpointer, Checkpointer(run)):
            assert [each.metrics for each in made.checkpoints][2:] == [
                {"loss": 2.0, "all": [2.0, None]},
                None,
                {},
            ]
            best = made.best("loss", mode="min")
            assert best is not None
            assert best.step == 1

    @pytest.mark.parametrize(
        "value",
        [
            kind(0.5)
            for kind in (np.float32, np.longdouble, jnp.float32, jnp.bfloat16, np.array, float)
        ],
    )
    def test_scalars_of_a_training_loop_are_numbers(
        self, run: Path, checkpointer: Checkpointer, value: Any
    ) -> None:
        checkpointer.save(0, state(0), metrics={"loss": value})
        assert json.loads((run / "0" / "metrics" / "metrics").read_bytes()) == {"loss": 0.5}
        assert checkpointer.checkpoints[0].metrics == {"loss": 0.5}

    @pytest.mark.parametrize("value", [np.arange(3), object(), {1: 2}, 1j, jax.random.key(0)])
    def test_what_json_lacks_is_told_by_its_place(
        self, run: Path, checkpointer: Checkpointer, value: Any
    ) -> None:
        with pytest.raises(ocp.errors.InvalidMetadataError, match=r"metrics\['loss'\]"):
            checkpointer.save(0, state(0), metrics={"loss": value})
        assert list(run.iterdir()) == []
        assert checkpointer.save(0, state(0))

    def test_what_holds_itself_is_told(self, run: Path, checkpointer: Checkpointer) -> None:
        metrics: dict[str, Any] = {}
        metrics["again"] = metrics
        with pytest.raises(ocp.errors.InvalidMetadataError, match="or in itself"):
            checkpointer.save(0, state(0), metrics=metrics)
        assert list(run.iterdir()) == []


class TestWhenItSaves:
    def test_the_default_saves_whenever_no_save_is_under_way(self, run: Path) -> None:
        with Checkpointer(run) as made, held(made, 0) as (response, handler):
            assert made.is_saving_in_progress()
            assert not made.should_save(1)
            assert made.save_async(1, state(1)) is None
            handler.go.set()
            response.result()
            assert made.save(2, state(2))
        assert on_disk(run) == [0, 2]

    def test_one_that_is_decided_on_waits_for_the_one_before(
        self, run: Path, checkpointer: Checkpointer
    ) -> None:
        with held(checkpointer, 0) as (_, handler), ThreadPoolExecutor(1) as pool:
            second = pool.submit(checkpointer.save, 1, state(1))
            assert not second.done()
            handler.go.set()
            assert second.result(60)
        assert on_disk(run) == [0, 1]

    def test_overhead_is_measured_by_the_clock_that_handlers_give(self, run: Path) -> None:
        """Steps take 1 s, and the first save stands still for 5: for 10 % that is 50 steps."""

        class Slow(Handler):
            now = 10**18

            async def perform(self, effect: Effect, forward: Forward) -> Any:
                if isinstance(effect, WriteBatch):
                    self.now += 5 * 10**9
                return self.now if isinstance(effect, Now) else await forward(effect)

        with Slow() as clock, Checkpointer(run, save_decision_policy=when.OverheadPolicy(0.1)) as c:
            saved: list[int] = []
            for step in range(120):
                if c.should_save(step):
                    saved.append(step)
                    c.save(step, state(step))
                clock.now += 10**9
            assert saved == [0, 50, 100]
            assert c.costs.save_secs == (5.0,) * 3
            assert set(c.costs.step_secs) == {1.0}

    def test_time_and_steps(self, run: Path) -> None:
        class Clock(Handler):
            now = 10**18

            async def perform(self, effect: Effect, forward: Forward) -> Any:
                return self.now if isinstance(effect, Now) else await forward(effect)

        policy = when.every(steps=10, seconds=60)
        with Clock() as clock, Checkpointer(run, save_decision_policy=policy) as made:
            for step in range(21):
                made.save(step, state(step))
                clock.now += 25 * 10**9
            assert steps(made) == [0, 3, 6, 9, 10, 13, 16, 19, 20]


class TestWhatItKeeps:
    def test_old_steps_go_when_the_new_one_is_sealed(self, run: Path) -> None:
        policy = keep.LatestN(1) | keep.EveryNSteps(3)
        with Checkpointer(run, save_decision_policy=EVERY, preservation_policy=policy) as made:
            for step in range(5):
                made.save(step, state(step))
            assert steps(made) == on_disk(run) == [0, 3, 4]
            with held(made, 5):
                assert on_disk(run) == steps(made) == [0, 3, 4]
            made.wait()
            assert on_disk(run) == steps(made) == [0, 3, 5]

    def test_the_best_and_the_newest(self, run: Path) -> None:
        policy = keep.best("loss", mode="min")
        with Checkpointer(run, save_decision_policy=EVERY, preservation_policy=policy) as made:
            for step, loss in enumerate([2.0, 1.0, 3.0, 4.0]):
                made.save(step, state(step), metrics={"loss": loss})
            assert on_disk(run) == [1, 3]
            assert [each.step for each in made.retention().kept] == [1, 3]

    def test_old_steps_lose_items(self, run: Path) -> None:
        policy = keep.LatestN(1) | keep.OnlyItems({"params"}, keep.LatestN(3))
        items = {"params": {"w": np.arange(3)}, "optimizer": {"m": np.zeros(3)}}
        with Checkpointer(run, save_decision_policy=EVERY, preservation_policy=policy) as made:
            for step in range(5):
                made.save_checkpointables(step, items, metrics={"loss": step})
            assert on_disk(run) == [2, 3, 4]
            for old in (2, 3):
                assert made.load_checkpointables(old).keys() == {"params"}
                assert made.metadata(old).metrics == {"loss": old}
                assert not (run / str(old) / "optimizer").exists()
                assert ocp.verify(run / str(old)).ok
            assert made.load_checkpointables(4).keys() == {"params", "optimizer"}

    def test_deleted_steps_are_moved_where_the_settings_say(self, run: Path) -> None:
        context = ocp.Context().at.deletion.todelete_subdir.set("trash")
        with Checkpointer(run, context=context, preservation_policy=keep.LatestN(1)) as made:
            made.save(0, state(0))
            made.save(1, state(1))
        assert on_disk(run) == [1]
        assert len(list((run / "trash").iterdir())) == 1

    def test_what_a_user_put_there_stays_with_a_warning(self, run: Path, caplog: Any) -> None:
        with Checkpointer(run, preservation_policy=keep.LatestN(1)) as made:
            made.save(0, state(0))
            (run / "0" / "notes.txt").write_text("mine")
            with caplog.at_level(logging.WARNING, "sealwax"):
                made.save(1, state(1))
            assert "notes.txt" in caplog.text
            assert made.save(2, state(2))
        assert on_disk(run) == [0, 2]

    def test_a_step_whose_records_cannot_be_read_stays(self, run: Path, caplog: Any) -> None:
        with Checkpointer(run) as made:
            for step in range(3):
                made.save(step, state(step), metrics={"loss": step})
        (run / "1" / "metrics" / "metrics").write_bytes(b"{")
        with Checkpointer(run, preservation_policy=keep.LatestN(1)) as made:
            made.save(3, state(3))
        assert "could not be read" in caplog.text
        assert on_disk(run) == [1, 3]

    def test_a_step_with_a_time_that_cannot_be_stays(self, run: Path) -> None:
        with Checkpointer(run) as made:
            made.save(0, state(0))
        record = run / "0" / "_CHECKPOINT_METADATA"
        facts = json.loads(record.read_bytes()) | {"commit_timestamp_nsecs": 10**40}
        record.write_text(json.dumps(facts))
        with Checkpointer(run, preservation_policy=keep.LatestN(1)) as made:
            assert [each.time.year for each in made.checkpoints] == [1970]
            made.save(1, state(1))
        assert on_disk(run) == [0, 1]

    def test_a_checkpoint_without_a_time_is_not_taken_for_old(self, run: Path) -> None:
        policy = keep.LatestDuration(datetime.timedelta(hours=1))
        with Checkpointer(run) as made:
            made.save(0, state(0))
            made.save(1, state(1))
        (run / "0" / "_CHECKPOINT_METADATA").unlink()
        with Checkpointer(run, preservation_policy=policy) as made:
            made.save(2, state(2))
        assert on_disk(run) == [0, 1, 2]

    def test_what_killed_operations_left_is_cleaned_by_the_next_save(self, run: Path) -> None:
        with Checkpointer(run) as made:
            made.save(0, state(0))
            (run / f"7.orbax-checkpoint-tmp-sealwax-{'0' * 32}").mkdir()
            (run / "8.orbax-checkpoint-tmp").mkdir()
            made.save(1, state(1))
        assert sorted(path.name for path in run.iterdir()) == ["0", "1", "8.orbax-checkpoint-tmp"]

    def test_cleanup_tmp_directories_cleans_at_once_after_orbax_too(self, run: Path) -> None:
        run.mkdir()
        (run / f"7.orbax-checkpoint-tmp-sealwax-{'0' * 32}").mkdir()
        (run / "8.orbax-checkpoint-tmp").mkdir()
        (run / "mine.orbax-checkpoint-tmp").mkdir()
        Checkpointer(run, cleanup_tmp_directories=True)
        assert [path.name for path in run.iterdir()] == ["mine.orbax-checkpoint-tmp"]


class TestFailures:
    def test_a_failed_save_is_not_listed_and_does_not_block_its_step(
        self, run: Path, checkpointer: Checkpointer
    ) -> None:
        with (
            ocp.effect_handlers.inject(WriteBatch, error=FULL),
            pytest.raises(ocp.errors.StorageError),
        ):
            checkpointer.save(0, state(0))
        assert steps(checkpointer) == [] == list(run.iterdir())
        assert checkpointer.save(0, state(0))
        assert checkpointer.load()["step"] == 0

    @pytest.mark.parametrize("call", CALLS)
    def test_one_in_the_background_is_raised_at_the_next_call_and_once(
        self, run: Path, call: str
    ) -> None:
        made = Checkpointer(run, save_decision_policy=EVERY)
        made.save(0, state(0))
        with ocp.effect_handlers.inject(Rename, error=FULL):
            response = made.save_async(1, state(1))
        assert response is not None
        response.committed.over.wait(60)
        with pytest.raises(ocp.errors.StorageError) as caught:
            CALLS[call](made)
        assert any("save_async to" in note for note in caught.value.__notes__)
        assert steps(made) == [0]
        made.wait()
        made.close()

    def test_whoever_asked_the_response_was_told(
        self, run: Path, checkpointer: Checkpointer
    ) -> None:
        with ocp.effect_handlers.inject(Rename, error=FULL):
            response = checkpointer.save_async(0, state(0))
        assert response is not None
        with pytest.raises(ocp.errors.StorageError):
            response.result()
        checkpointer.wait()
        assert checkpointer.save(0, state(0))

    def test_an_error_of_the_loop_is_not_hidden_by_that_of_a_save(self, run: Path) -> None:
        def loop() -> None:
            with Checkpointer(run) as made:
                with ocp.effect_handlers.inject(Rename, error=FULL):
                    made.save_async(0, state(0))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as caught:
            loop()
        assert "failed too" in caught.value.__notes__[0]

    def test_a_failure_to_delete_is_told_and_the_new_step_is_there(self, run: Path) -> None:
        with Checkpointer(run, preservation_policy=keep.LatestN(1)) as made:
            made.save(0, state(0))
            with (
                ocp.effect_handlers.inject(
                    lambda e: isinstance(e, Rename) and e.source.endswith("/0"), error=FULL
                ),
                pytest.raises(ocp.errors.StorageError) as caught,
            ):
                made.save(1, state(1))
            assert any("Step 1 is saved" in note for note in caught.value.__notes__)
            assert steps(made) == [0, 1]
            made.save(2, state(2))
            assert steps(made) == on_disk(run) == [2]

    def test_a_policy_that_fails_is_told_and_nothing_is_deleted(self, run: Path) -> None:
        policy = keep.BestN(get_metric_fn=lambda metrics: metrics["a"] / 0, n=1)
        with Checkpointer(run, preservation_policy=policy) as made:
            with pytest.raises(ZeroDivisionError):
                made.save(0, state(0), metrics={"a": 1})
            assert steps(made) == on_disk(run) == [0]

    def test_what_fails_after_the_seal_leaves_the_step_listed(self, run: Path) -> None:
        context = ocp.Context()
        context.asynchronous.post_finalization_callback = lambda: 1 / 0
        with Checkpointer(run, context=context) as made:
            with pytest.raises(ZeroDivisionError):
                made.save(0, state(0))
            assert steps(made) == [0]

    def test_after_it_was_closed(self, run: Path, checkpointer: Checkpointer) -> None:
        checkpointer.save(0, state(0))
        checkpointer.close()
        checkpointer.close()
        for call in ("save", "should_save", "load", "metadata", "delete", "reload"):
            with pytest.raises(ocp.errors.ClosedError, match="Make another one"):
                CALLS[call](checkpointer)
        assert steps(checkpointer) == [0]


class TestDeleting:
    def test_a_step(self, run: Path, checkpointer: Checkpointer) -> None:
        checkpointer.save(0, state(0), metrics={"loss": 1})
        checkpointer.save(1, state(1))
        assert checkpointer.delete(0)
        response = checkpointer.delete_async(1)
        assert steps(checkpointer) == []
        assert response.result()
        assert on_disk(run) == []
        assert not checkpointer.delete(0, missing_ok=True)

    def test_an_item(self, checkpointer: Checkpointer) -> None:
        items = {"params": {"w": np.arange(3)}, "optimizer": {"m": np.zeros(3)}}
        checkpointer.save_checkpointables(0, items)
        assert checkpointer.delete(0, checkpointable_name="optimizer")
        assert checkpointer.load_checkpointables(0).keys() == {"params"}
        with pytest.raises(FileNotFoundError, match="optimizer"):
            checkpointer.delete(0, checkpointable_name="optimizer")
        assert steps(checkpointer) == [0]

    def test_one_that_is_being_saved_is_waited_for(
        self, run: Path, checkpointer: Checkpointer
    ) -> None:
        with held(checkpointer, 0) as (_, handler), ThreadPoolExecutor(1) as pool:
            deleted = pool.submit(checkpointer.delete, 0)
            handler.go.set()
            assert deleted.result(60)
        assert on_disk(run) == []

    def test_what_is_not_there(self, checkpointer: Checkpointer) -> None:
        with pytest.raises(errors.StepNotFoundError, match="no step 3") as caught:
            checkpointer.delete(3)
        assert caught.value.step == 3


class TestManyAtOnce:
    def test_threads(self, run: Path, checkpointer: Checkpointer) -> None:
        def save(step: int) -> bool:
            response = checkpointer.save_async(step, state(step), force=True)
            return response is not None and response.result()

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(save, range(12)))
        assert steps(checkpointer) == on_disk(run) == list(range(12))
        assert all(checkpointer.load(step)["step"] == step for step in range(12))

    def test_two_on_one_directory(self, run: Path) -> None:
        policy = keep.LatestN(3)
        first, second = (
            Checkpointer(run, save_decision_policy=EVERY, preservation_policy=policy)
            for _ in range(2)
        )
        for step in range(6):
            assert (first, second)[step % 2].save(step, state(step))
        assert on_disk(run) == steps(second) == [3, 4, 5]
        assert first.load()["step"] == 5  # It looks again.
        first.reload()
        assert steps(first) == [3, 4, 5]

    def test_two_that_save_at_once_lose_nothing(self, run: Path) -> None:
        policy = keep.LatestN(2)
        made = [
            Checkpointer(run, save_decision_policy=EVERY, preservation_policy=policy)
            for _ in range(2)
        ]

        def save(number: int) -> None:
            for step in range(number, 20, 2):
                made[number].save(step, state(step), force=True)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(save, range(2)))
        last = Checkpointer(run)
        assert {18, 19} <= set(steps(last))
        assert all(last.load(step)["step"] == step for step in steps(last))


def test_a_logger_is_told_and_its_failure_is_no_other(run: Path, caplog: Any) -> None:
    class Logger:
        def __init__(self) -> None:
            self.entries: list[dict[str, Any]] = []

        def log_entry(self, entry: dict[str, Any]) -> None:
            self.entries.append(entry)
            if entry["event_type"] == "restore":
                raise RuntimeError("the logger is broken")

    logger = Logger()
    with Checkpointer(run, logger=logger) as made:
        made.save(0, state(0))
        assert made.load()["step"] == 0
    assert [(e["event_type"], e["step"], e["directory"]) for e in logger.entries] == [
        ("save", 0, str(run)),
        ("restore", 0, str(run)),
    ]
    assert "The logger failed" in caplog.text


def test_preemption_is_asked_for_through_an_effect(run: Path, monkeypatch: Any) -> None:
    import jax

    class Told(Handler):
        async def perform(self, effect: Effect, forward: Forward) -> Any:
            if isinstance(effect, Call) and effect.name == "preemption":
                return effect.inputs == (7,)
            return await forward(effect)

    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    policy = when.PreemptionCheckpointingPolicy()
    with Told(), Checkpointer(run, save_decision_policy=policy) as made:
        assert [step for step in range(10) if made.save(step, state(step))] == [7]


def test_its_effects_can_be_recorded(run: Path) -> None:
    with Checkpointer(run, preservation_policy=keep.LatestN(1)) as made:
        made.save(0, state(0))
        with ocp.effect_handlers.record() as record:
            made.save(1, state(1))
    # What is deleted is deleted when the new step is sealed.
    assert record.kinds().index("Rename") < record.kinds().index("RemoveTree")
