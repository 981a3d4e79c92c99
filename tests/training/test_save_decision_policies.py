"""When to save."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.training import History, Step
from sealwax.training import save_decision_policies as s
from tests.training.histories import histories

SECOND = 10**9
SIMPLE = (
    st.builds(s.FixedIntervalPolicy, st.integers(1, 9))
    | st.builds(s.SpecificStepsPolicy, st.frozensets(st.integers(0, 70)))
    | st.just(s.InitialSavePolicy())
    | st.builds(
        s.ContinuousCheckpointingPolicy, minimum_interval_secs=st.none() | st.integers(0, 50)
    )
    | st.just(s.PreemptionCheckpointingPolicy())
    | st.builds(s.EverySecondsPolicy, st.floats(0.1, 50))
    | st.builds(s.OverheadPolicy, st.floats(0.01, 0.5))
)
POLICIES = st.recursive(
    SIMPLE,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda x: s.any_of(*x))
        | st.lists(inner, max_size=3).map(lambda x: s.all_of(*x))
        | inner.map(s.not_)
    ),
    max_leaves=5,
)
DURATIONS = st.lists(st.floats(0.01, 9), max_size=3).map(tuple)
CONTEXTS = st.builds(
    s.DecisionContext,
    is_saving_in_progress=st.booleans(),
    reached_preemption=st.booleans(),
    costs=st.builds(s.Costs, save_secs=DURATIONS, step_secs=DURATIONS),
)
STEPS = st.builds(Step, step=st.integers(61, 80), time_nsecs=st.integers(0, 2 * 10**18))


def at(number: int, second: float = 0) -> Step:
    return Step(step=number, time_nsecs=int(second * SECOND))


class TestLaws:
    @given(POLICIES, POLICIES, STEPS, histories(), CONTEXTS)
    def test_combinations_are_those_of_truth(
        self, a: Any, b: Any, step: Step, history: History, context: Any
    ) -> None:
        def says(policy: Any) -> bool:
            return policy.should_save(step, history, context=context)

        assert says(a | b) == (says(a) or says(b))
        assert says(a & b) == (says(a) and says(b))
        assert says(~a) == (not says(a))
        assert says(~(a | b)) == says(~a & ~b)
        assert not says(s.any_of())
        assert says(s.all_of())

    @given(POLICIES, STEPS, histories(), CONTEXTS)
    def test_policies_are_values(
        self, policy: Any, step: Step, history: History, context: Any
    ) -> None:
        copy = pickle.loads(pickle.dumps(policy))
        assert copy == policy
        assert hash(copy) == hash(policy)
        answers = [each.should_save(step, history, context=context) for each in (policy, copy)]
        assert answers[0] == answers[1]
        assert type(answers[0]) is bool

    @given(st.floats(0.005, 0.5), st.floats(0, 20), st.floats(0.01, 5))
    def test_the_overhead_stays_within_its_share_and_no_interval_is_longer_than_it_must(
        self, share: float, save_secs: float, step_secs: float
    ) -> None:
        policy = s.OverheadPolicy(share)
        costs = s.Costs(save_secs=(save_secs,), step_secs=(step_secs,))
        interval = policy.interval(costs)
        assert save_secs <= interval * step_secs * share * (1 + 1e-6)
        assert interval == 1 or save_secs > (interval - 1) * step_secs * share * (1 - 1e-6)


class TestOverhead:
    def simulate(self, share: float, save_secs: float, steps: int) -> tuple[int, float]:
        """How many saves a loop makes, and their part of the time of its steps."""
        policy, history, costs = s.OverheadPolicy(share), History(), s.Costs()
        for number in range(steps):
            step = at(number)
            if policy.should_save(step, history, context=s.DecisionContext(costs=costs)):
                history = history.including(step)
                costs = s.Costs(save_secs=(*costs.save_secs[-4:], save_secs), step_secs=(0.1,))
        return len(history), len(history) * save_secs / (steps * 0.1)

    def test_a_loop_pays_what_was_said(self) -> None:
        saves, overhead = self.simulate(0.03, 0.6, 2000)
        assert saves == 10  # One each 200 steps: 0.6 s of 20 s.
        assert overhead == pytest.approx(0.03)

    def test_cheaper_saves_come_more_often(self) -> None:
        assert self.simulate(0.03, 0.3, 2000)[0] == 20
        assert self.simulate(0.03, 0.0, 200)[0] == 200

    def test_not_while_a_save_is_under_way(self) -> None:
        policy = s.OverheadPolicy(0.5)
        assert policy.should_save(at(5), History())
        assert not policy.should_save(
            at(5), History(), context=s.DecisionContext(is_saving_in_progress=True)
        )

    def test_steps_without_duration_pay_for_nothing(self) -> None:
        context = s.DecisionContext(costs=s.Costs(save_secs=(1.0,), step_secs=(0.0,)))
        assert not s.OverheadPolicy(0.1).should_save(at(10**9), [at(0)], context=context)


class TestTime:
    def test_every_so_many_seconds_by_the_time_that_is_passed(self) -> None:
        policy = s.every(seconds=10)
        assert policy.should_save(at(0), [])
        assert not policy.should_save(at(9, 109.9), [at(1, 100)])
        assert policy.should_save(at(9, 110), [at(1, 100)])
        busy = s.DecisionContext(is_saving_in_progress=True)
        assert policy.should_save(at(9, 110), [at(1, 100)], context=busy)
        assert not s.ContinuousCheckpointingPolicy(minimum_interval_secs=10).should_save(
            at(9, 110), [at(1, 100)], context=busy
        )

    def test_equal_times(self) -> None:
        assert s.ContinuousCheckpointingPolicy(minimum_interval_secs=0).should_save(
            at(2, 5), [at(1, 5)]
        )
        assert not s.every(seconds=0.1).should_save(at(2, 5), [at(1, 5)])

    def test_steps_or_seconds_whichever_comes(self) -> None:
        policy = s.every(steps=10, seconds=60)
        moments = (at(20, 101), at(11, 160), at(11, 101))
        answers = [policy.should_save(moment, [at(10, 100)]) for moment in moments]
        assert answers == [True, True, False]


@pytest.mark.parametrize(
    "make",
    [
        lambda: s.FixedIntervalPolicy(0),
        lambda: s.FixedIntervalPolicy(-5),
        lambda: s.FixedIntervalPolicy(1.5),  # type: ignore[arg-type]
        lambda: s.SpecificStepsPolicy(5),  # type: ignore[arg-type]
        lambda: s.ContinuousCheckpointingPolicy(minimum_interval_secs=-1),
        lambda: s.EverySecondsPolicy(0),
        lambda: s.EverySecondsPolicy(float("nan")),
        lambda: s.EverySecondsPolicy("10"),  # type: ignore[arg-type]
        lambda: s.OverheadPolicy(3),
        lambda: s.OverheadPolicy(0),
        lambda: s.every(),
        lambda: s.any_of(s.InitialSavePolicy),  # type: ignore[arg-type]
        lambda: s.not_(5),  # type: ignore[arg-type]
        lambda: s.AnySavePolicy(s.InitialSavePolicy()),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_refused_at_once(make: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        make()
    assert type(caught.value).__module__ == "sealwax.errors"


def test_the_same_list_that_changes_later_changes_no_policy() -> None:
    steps = [1, 2]
    policy = s.SpecificStepsPolicy(steps)
    steps.append(3)
    assert not policy.should_save(at(3), [])
    assert s.SpecificStepsPolicy(range(0, 10**12, 7)).should_save(at(7 * 10**9), [])
