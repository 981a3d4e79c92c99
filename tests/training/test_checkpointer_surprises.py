"""What surprised users of Orbax's checkpointer, and what happens here instead."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sealwax as ocp
from sealwax.effects import Rename, WriteBatch
from sealwax.training import Checkpointer, errors
from sealwax.training import preservation_policies as keep
from sealwax.training import save_decision_policies as when
from tests.training.test_checkpointer import EVERY, FULL, Held, held, on_disk, state, steps

NEVER = when.SpecificStepsPolicy(())
OLD = ocp.path.step.standard_name_format()
NEW = ocp.path.step.standard_name_format(step_prefix="ckpt")
BOTH = ocp.path.step.composite_name_format(NEW, [NEW, OLD])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


class TestOverwriting:
    def test_when_the_policy_declines_the_old_step_stays(self, run: Path) -> None:
        Checkpointer(run).save(0, state(0))
        with Checkpointer(run, save_decision_policy=NEVER) as made:
            assert made.save(0, state(9), overwrite=True) is False
            assert made.load(0)["step"] == 0

    def test_an_earlier_step_stays_when_there_is_a_later_one(self, run: Path) -> None:
        with Checkpointer(run, save_decision_policy=EVERY) as made:
            made.save(0, state(0))
            made.save(1, state(1))
            assert made.save(0, state(9), overwrite=True) is False
            assert made.load(0)["step"] == 0
            assert made.save(1, state(9), overwrite=True)
            assert made.save(0, state(8), overwrite=True, force=True)
            assert [made.load(step)["step"] for step in (0, 1)] == [8, 9]

    def test_when_it_fails_the_old_step_stays(self, run: Path) -> None:
        with Checkpointer(run) as made:
            made.save(0, state(0))
            fault = ocp.effect_handlers.inject(ocp.effects.Exchange, error=FULL)
            with fault, pytest.raises(ocp.errors.StorageError):
                made.save(0, state(9), overwrite=True)
            assert steps(made) == [0]
            assert made.load(0)["step"] == 0

    def test_its_metrics_are_those_of_the_new_one(self, run: Path) -> None:
        with Checkpointer(run) as made:
            made.save(0, state(0), metrics={"loss": 1})
            made.save(0, state(9), metrics={"loss": 2}, overwrite=True)
            assert [each.metrics for each in made.checkpoints] == [{"loss": 2}]

    def test_without_it_a_step_is_refused_whoever_wrote_it(self, run: Path) -> None:
        first, second = Checkpointer(run), Checkpointer(run)
        first.save(0, state(0))
        for made in (first, second):
            for force in (False, True):
                with pytest.raises(errors.StepAlreadyExistsError, match="overwrite=True") as caught:
                    made.save(0, state(9), force=force)
                assert caught.value.step == 0
        assert first.load(0)["step"] == 0


class TestSettings:
    def test_those_of_the_checkpointer_win_over_a_block(self, run: Path) -> None:
        mine = ocp.Context().at.deletion.todelete_subdir.set("mine")
        other = ocp.Context().at.deletion.todelete_subdir.set("other")
        with Checkpointer(run, context=mine, save_decision_policy=EVERY) as made:
            for step in range(3):
                made.save(step, state(step))
            with other:
                made.delete(0)
                made.delete(1, context=ocp.Context())
        assert (run / "mine").is_dir()
        assert not (run / "other").exists()
        assert on_disk(run) == [2]

    def test_without_its_own_those_of_a_block_count_or_those_it_was_made_with(
        self, run: Path
    ) -> None:
        around = ocp.Context().at.deletion.todelete_subdir.set("around")
        with around:
            made = Checkpointer(run, save_decision_policy=EVERY)
        for step in range(2):
            made.save(step, state(step))
        with ocp.Context().at.deletion.todelete_subdir.set("block"):
            made.delete(0)
        made.delete(1)
        assert sorted(path.name for path in run.iterdir()) == ["around", "block"]

    def test_what_is_assigned_later_changes_nothing(self, run: Path) -> None:
        context = ocp.Context()
        with Checkpointer(run, context=context) as made:
            context.deletion.todelete_subdir = "trash"
            made.save(0, state(0))
            made.delete(0)
        assert list(run.iterdir()) == []


class TestWhatIsListed:
    def test_a_step_is_not_listed_before_it_is_sealed(self, run: Path) -> None:
        with Checkpointer(run, save_decision_policy=EVERY) as made:
            made.save(0, state(0))
            with held(made, 1) as (response, handler):
                assert made.latest is not None
                assert made.latest.step == 0
                assert made.load()["step"] == 0
                loading = made.load_async(1)
                with pytest.raises(errors.StepAlreadyExistsError):
                    made.save(1, state(1))
                handler.go.set()
                assert response.result()
                assert loading.result()["step"] == 1
            assert steps(made) == [0, 1]

    def test_steps_whose_place_a_failed_save_was_to_take_stay_listed(self, run: Path) -> None:
        with Checkpointer(run, preservation_policy=keep.LatestN(1)) as made:
            made.save(0, state(0))
            with ocp.effect_handlers.inject(Rename, error=FULL):
                response = made.save_async(1, state(1))
            assert response is not None
            with pytest.raises(ocp.errors.StorageError):
                response.result()
            assert steps(made) == on_disk(run) == [0]

    def test_a_step_that_another_program_removed(self, run: Path) -> None:
        with Checkpointer(run, save_decision_policy=EVERY) as made:
            made.save(0, state(0))
            made.save(1, state(1))
            ocp.delete(run / "1")
            assert made.load()["step"] == 0
            made.save(1, state(1))
            ocp.delete(run / "1")
            with pytest.raises(errors.StepNotFoundError, match="step 1"):
                made.load(1)
            assert steps(made) == [0]

    def test_lightweight_initialization_can_be_used(self, run: Path) -> None:
        with Checkpointer(run, save_decision_policy=EVERY) as made:
            for step in range(3):
                made.save(step, state(step), metrics={"loss": step})
        with Checkpointer(
            run,
            lightweight_initialize=True,
            preservation_policy=keep.best("loss", mode="min"),
        ) as made:
            assert steps(made) == [0, 1, 2]
            assert made.checkpoints[0].metrics is None
            assert made.latest is not None
            assert made.load(made.latest)["step"] == 2
            made.save(3, state(3), metrics={"loss": 3})
            assert [each.metrics for each in made.checkpoints] == [{"loss": 0}, {"loss": 3}]


class TestSteps:
    @pytest.mark.parametrize("number", [1.5, "5", True, None, np.float32(1)])
    @pytest.mark.parametrize("verb", ["save", "should_save", "delete"])
    def test_only_integers_are_steps(self, run: Path, verb: str, number: Any) -> None:
        with Checkpointer(run) as made:
            with pytest.raises(ocp.errors.ArgumentTypeError, match="A step is an integer"):
                getattr(made, verb)(*((number, state(0)) if verb == "save" else (number,)))
            assert list(run.iterdir()) == []

    @pytest.mark.parametrize("verb", ["save", "load", "delete"])
    def test_no_step_is_negative(self, run: Path, verb: str) -> None:
        with (
            Checkpointer(run) as made,
            pytest.raises(ocp.errors.ArgumentValueError, match="not negative"),
        ):
            getattr(made, verb)(*((-1, state(0)) if verb == "save" else (-1,)))

    def test_an_earlier_step_is_declined_with_a_word(self, run: Path, caplog: Any) -> None:
        with Checkpointer(run, save_decision_policy=EVERY) as made:
            made.save(5, state(5))
            with caplog.at_level(logging.WARNING, "sealwax"):
                assert made.save(3, state(3)) is False
                assert made.save(4, state(4)) is False
            assert caplog.text.count("later one already, 5") == 1
            assert not made.should_save(4)
            assert made.save(3, state(3), force=True)

    def test_one_that_was_forced_is_not_deleted_at_once(self, run: Path) -> None:
        with Checkpointer(run, preservation_policy=keep.LatestN(1)) as made:
            made.save(5, state(5))
            made.save(3, state(3), force=True)
            assert on_disk(run) == [3, 5]

    def test_keeping_none_keeps_the_newest_unless_asked(self, run: Path) -> None:
        policy = keep.LatestN(0)
        with Checkpointer(run, preservation_policy=policy) as made:
            made.save(0, state(0))
            made.save(1, state(1))
            assert on_disk(run) == [1]
        with Checkpointer(run, preservation_policy=policy, keep_newest=False) as made:
            made.save(2, state(2))
            assert on_disk(run) == steps(made) == []


class TestCancelling:
    @pytest.mark.parametrize("number", [None, 1])
    def test_a_save_that_is_cancelled_leaves_nothing(self, run: Path, number: Any) -> None:
        with Checkpointer(run, save_decision_policy=EVERY) as made:
            made.save(0, state(0))
            with held(made, 1, Held((WriteBatch,))) as (response, handler):
                assert not made.cancel(7)
                assert made.cancel(number)
                handler.go.set()
                with pytest.raises(ocp.errors.OperationCancelledError):
                    response.result()
            assert steps(made) == on_disk(run) == [0]
            made.wait()
            assert made.save(1, state(1))
        assert [path.name for path in sorted(run.iterdir())] == ["0", "1"]

    def test_a_sealed_step_stays(self, run: Path) -> None:
        with Checkpointer(run) as made:
            made.save(3, state(3))
            assert made.cancel(3) is False
            assert made.cancel() is False
            assert steps(made) == on_disk(run) == [3]


class TestNames:
    def test_steps_under_an_older_name_can_be_used(self, run: Path) -> None:
        with Checkpointer(run, save_decision_policy=EVERY) as made:
            made.save(0, state(0))
            made.save(1, state(1), metrics={"loss": 1})
        with Checkpointer(run, step_name_format=BOTH, save_decision_policy=EVERY) as made:
            made.save(2, state(2))
            assert steps(made) == [0, 1, 2]
            assert made.load(1)["step"] == 1
            assert made.metadata(1).metrics == {"loss": 1}
            assert made.delete(1)
            with pytest.raises(errors.StepAlreadyExistsError):
                made.save(0, state(9))
            assert made.save(0, state(9), overwrite=True, force=True)
            assert made.load(0)["step"] == 9
        assert sorted(path.name for path in run.iterdir()) == ["ckpt_0", "ckpt_2"]

    def test_a_format_of_somebody_else(self, run: Path) -> None:
        class Halves:
            def build_name(self, step: int) -> str:
                return f"half_{step // 2}_{step % 2}"

            def find_all(self, base_path: Any) -> Any:
                for path in Path(base_path).glob("half_*_?"):
                    yield self.find_step(base_path, 2 * int(path.name[5:-2]) + int(path.name[-1]))

            def find_step(self, base_path: Any, step: int) -> Any:
                path = Path(base_path) / self.build_name(step)
                return ocp.path.step.FoundStep(step=step, path=path)

        with Checkpointer(
            run, step_name_format=Halves(), preservation_policy=keep.LatestN(2)
        ) as made:
            for step in range(4):
                made.save(step, state(step))
            assert steps(made) == [2, 3]
            assert made.load(3)["step"] == 3


class TestTheRun:
    def test_its_metadata_stays_that_of_the_first_with_a_word(self, run: Path, caplog: Any) -> None:
        assert Checkpointer(run).root_metadata().custom_metadata == {}
        first = Checkpointer(run, custom_metadata={"lang": "en"})
        Checkpointer(run, custom_metadata={"lang": "en"})
        assert caplog.text == ""
        Checkpointer(run, custom_metadata={"lang": "fr"})
        assert "'fr'" in caplog.text
        assert first.root_metadata().custom_metadata == {"lang": "en"}
        assert first.root_metadata().directory == run

    def test_a_file_is_no_directory_of_a_run(self, run: Path) -> None:
        run.write_text("")
        with pytest.raises(NotADirectoryError, match="A file is where"):
            Checkpointer(run)

    def test_neither_is_none(self) -> None:
        with pytest.raises(ocp.errors.InvalidPathError, match="not a path"):
            Checkpointer(None)

    def test_an_empty_run_has_no_latest_to_load(self, run: Path) -> None:
        with pytest.raises(errors.StepNotFoundError, match="no finished checkpoint"):
            Checkpointer(run).load()

    def test_an_item_of_another_name(self, run: Path) -> None:
        with Checkpointer(run) as made:
            made.save(0, state(0), checkpointable_name="model")
            with pytest.raises(KeyError, match="model"):
                made.load(0)
