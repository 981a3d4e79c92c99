"""``training.run`` and the checkpointer say what is wrong with their arguments, at the call."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sealwax as ocp
from sealwax import errors
from sealwax.training import Checkpointer
from sealwax.training import run as run_loop
from tests.gates import names
from tests.training.loops import Positioned, Stateful, every, initial, squares, step_fn


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "run"


NONSENSE: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "negative steps": ({"steps": -1}, errors.ArgumentValueError, "'steps'.*found -1"),
    "steps of text": ({"steps": "5"}, errors.ArgumentTypeError, "'steps'.*'5'"),
    "half a step": ({"steps": 2.5}, errors.ArgumentTypeError, "'steps'.*2.5"),
    "steps of bool": ({"steps": True}, errors.ArgumentTypeError, "'steps'.*True"),
    "no function": ({"step_fn": 5}, errors.ArgumentTypeError, "'step_fn' cannot be called"),
    "no callback": ({"on_step": 5}, errors.ArgumentTypeError, "'on_step' cannot be called"),
    "no batches": ({"batches": 5}, errors.ArgumentTypeError, "'batches' cannot be iterated"),
    "none": ({"batches": None}, errors.ArgumentTypeError, "'batches' cannot be iterated"),
    "no batches from a function": (
        {"batches": lambda step: step},
        errors.ArgumentTypeError,
        "'batches' gave cannot be iterated",
    ),
    "no checkpointer": ({"checkpointer": "/run"}, errors.ArgumentTypeError, "no Checkpointer"),
    "no signals": ({"signals": 15}, errors.ArgumentTypeError, "does not list signals"),
    "unknown signals": ({"signals": ["TERM"]}, errors.ArgumentTypeError, "does not list"),
    "a signal nobody gets": (
        {"signals": [signal.SIGKILL]},
        errors.ArgumentValueError,
        "no program can handle.*SIGKILL",
    ),
}


class TestNonsense:
    @pytest.mark.parametrize("case", NONSENSE)
    def test_is_refused_before_a_step_is_taken(self, directory: Path, case: str) -> None:
        changes, kind, message = NONSENSE[case]

        def never(state: Any, batch: Any) -> Any:
            raise AssertionError("a step was taken")

        before = signal.getsignal(signal.SIGTERM)
        with every(directory) as checkpointer:
            given = {"step_fn": never, "batches": [1, 2], "checkpointer": checkpointer} | changes
            with pytest.raises(kind, match=f"(?s){message}"):
                run_loop(
                    given.pop("step_fn"),
                    initial(),
                    given.pop("batches"),
                    given.pop("checkpointer"),
                    **given,
                )
        assert names(directory) == []
        assert signal.getsignal(signal.SIGTERM) is before

    def test_an_iterable_that_fails_itself_is_not_blamed_for_being_none(
        self, directory: Path
    ) -> None:
        class Broken:
            def __iter__(self) -> Any:
                raise TypeError("mine")

        with every(directory) as checkpointer, pytest.raises(TypeError, match="^mine$"):
            run_loop(step_fn, initial(), Broken(), checkpointer)

    @pytest.mark.parametrize("steps", [np.int64(2), 2])
    def test_integers_of_numpy_are_integers(self, directory: Path, steps: Any) -> None:
        with every(directory) as checkpointer:
            run_loop(step_fn, initial(), squares, checkpointer, steps=steps)
            assert checkpointer.latest is not None
            assert checkpointer.latest.step == 2

    @pytest.mark.parametrize("result", [5, (1, 2, 3), {"state": 1}, None])
    def test_a_step_that_gives_no_pair(self, directory: Path, result: Any) -> None:
        with (
            every(directory) as checkpointer,
            pytest.raises(errors.ArgumentTypeError, match="did not return a state and metrics"),
        ):
            run_loop(lambda state, batch: result, initial(), [1], checkpointer)


class TestBatchesOfAnotherKind:
    def test_that_end_before_the_run_would_go_on(self, directory: Path) -> None:
        with every(directory) as checkpointer:
            run_loop(step_fn, initial(), itertools.islice(squares(0), 5), checkpointer)
            with pytest.raises(errors.ArgumentValueError, match="end before.*5 batches.*found 3"):
                run_loop(step_fn, initial(), itertools.islice(squares(0), 3), checkpointer)

    def test_that_end_with_it_leave_nothing_to_do(self, directory: Path) -> None:
        with every(directory) as checkpointer:
            for _ in range(2):
                _, metrics = run_loop(
                    step_fn, initial(), itertools.islice(squares(0), 5), checkpointer
                )
        assert metrics is None

    def test_where_no_step_is_left_none_are_needed(self, directory: Path) -> None:
        with every(directory) as checkpointer:
            run_loop(step_fn, initial(), itertools.islice(squares(0), 5), checkpointer)
            assert run_loop(step_fn, initial(), [], checkpointer, steps=5)[1] is None

    @pytest.mark.parametrize("later", [Positioned, Stateful])
    def test_that_say_where_they_are_when_nobody_noted_it(
        self, directory: Path, later: Any
    ) -> None:
        with every(directory) as checkpointer:
            run_loop(step_fn, initial(), squares, checkpointer, steps=3)
            with pytest.raises(errors.CheckpointableNotFoundError) as caught:
                run_loop(step_fn, initial(), later(), checkpointer)
        text = str(caught.value)
        assert "the run was saved with others" in text, text
        assert "Go on with batches as they were then" in text, text

    def test_what_else_is_missing_is_told_as_it_is(self, directory: Path) -> None:
        with every(directory) as checkpointer:
            checkpointer.save(3, initial(), checkpointable_name="model", force=True)
            with pytest.raises(errors.CheckpointableNotFoundError, match="'state'"):
                run_loop(step_fn, initial(), squares, checkpointer, steps=5)


class TestRoots:
    def test_a_checkpoint_is_none(self, directory: Path) -> None:
        ocp.save(directory / "5", {"w": np.zeros(3)})
        for inside in (directory / "5", directory / "5" / "state"):
            with pytest.raises(errors.InvalidLayoutError) as caught:
                Checkpointer(inside)
            text = str(caught.value)
            assert "A checkpoint is where the steps of a run should go" in text
            assert f"sealwax.load({str(inside)!r})" in text
            assert repr(str(inside.parent)) in text
        with Checkpointer(directory) as checkpointer:
            assert [each.step for each in checkpointer.checkpoints] == [5]

    def test_whatever_else_is_in_it_a_directory_may_be_one(self, directory: Path) -> None:
        directory.mkdir()
        (directory / "config.yaml").write_text("lr: 1")
        with Checkpointer(directory, custom_metadata={"a": 1}) as checkpointer:
            checkpointer.save(1, initial())
        with Checkpointer(directory) as checkpointer:
            assert len(checkpointer.checkpoints) == 1
