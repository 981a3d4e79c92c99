"""Histories are values: sorted, and each step once."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax as ocp
from sealwax.training import History, Step
from tests.training.histories import histories


def run(**metrics: Any) -> History:
    return History(
        Step(step=number, metrics=None if value is None else {"loss": value})
        for number, value in enumerate(metrics["loss"])
    )


class TestLaws:
    @given(st.lists(st.builds(Step, step=st.integers(0, 9), time_nsecs=st.integers(0, 99))))
    def test_ascending_and_each_number_once_the_last_one(self, steps: list[Step]) -> None:
        history = History(steps)
        assert history.numbers == tuple(sorted({each.step for each in steps}))
        assert {each.step: each for each in steps} == {each.step: each for each in history}

    @given(histories(st.none() | st.fixed_dictionaries({"loss": st.integers()})))
    def test_it_is_made_again_from_its_steps(self, history: History) -> None:
        assert History(reversed(history)) == history == pickle.loads(pickle.dumps(history))
        assert hash(History(history.steps)) == hash(history)

    @given(histories(), st.integers(0, 60))
    def test_including_and_without(self, history: History, number: int) -> None:
        more = history.including(Step(step=number))
        assert more.at(number) == Step(step=number)
        assert more.without(number) == history.without(number)
        assert more.before(number) == history.before(number)

    @given(histories())
    def test_no_other_step_is_better_than_the_best(self, history: History) -> None:
        best = history.best("loss", mode="min")
        values = [(each.metrics or {}).get("loss", np.nan) for each in history]
        if best is None:
            assert np.isnan(values).all()
        else:
            assert best.metrics["loss"] == np.nanmin(values)


class TestQueries:
    def test_none_where_there_is_nothing(self) -> None:
        assert (History().latest, History().best("loss"), len(History())) == (None, None, 0)

    def test_of_equal_ones_the_latest_is_the_best(self) -> None:
        history = run(loss=[0.5, 0.1, 0.1, float("nan"), None])
        assert history.best("loss", mode="min").step == 2
        assert history.best("loss").step == 0
        assert history.best(lambda metrics: -metrics["loss"]).step == 2
        assert history.best("acc") is None

    def test_minus_infinity_is_a_value(self) -> None:
        assert run(loss=[float("-inf")]).best("loss").step == 0

    def test_a_step_that_is_not_there(self) -> None:
        with pytest.raises(
            ocp.training.errors.StepNotFoundError, match="Found steps 0, 1"
        ) as caught:
            run(loss=[1, 2]).at(5)
        assert caught.value.step == 5

    def test_an_integer_beyond_all_floats(self) -> None:
        history = run(loss=[1, 10**400, -(10**400)])
        assert history.best("loss").step == 1
        assert history.best("loss", mode="min").step == 2

    def test_a_metric_that_is_no_number(self) -> None:
        with pytest.raises(TypeError, match="The metric of step 0 is not a number. Found 'low'"):
            run(loss=["low"]).best("loss")

    def test_a_mode_that_is_none(self) -> None:
        with pytest.raises(ValueError, match="Expected 'max' or 'min', found 'lowest'"):
            run(loss=[1]).best("loss", mode="lowest")


class TestSteps:
    def test_what_the_loop_does_with_its_dict_changes_no_step(self) -> None:
        metrics = {"loss": [1.0]}
        step = Step(step=np.int32(1), metrics=metrics)  # type: ignore[arg-type]
        metrics["loss"].append(2.0)
        assert step.metrics == {"loss": [1.0]}
        assert type(step.step) is int

    @pytest.mark.parametrize("number", [-1, 1.5, "1", True])
    def test_a_step_is_a_natural_number(self, number: Any) -> None:
        with pytest.raises((TypeError, ValueError)):
            Step(step=number)

    def test_its_time_is_a_utc_date(self) -> None:
        step = Step(step=0, time_nsecs=1_700_000_000_123_456_789)
        assert step.time.isoformat() == "2023-11-14T22:13:20.123456+00:00"
        assert step.commit_timestamp == step.time
