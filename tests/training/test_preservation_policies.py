"""Which steps to keep."""

from __future__ import annotations

import datetime
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.training import History, Step
from sealwax.training import preservation_policies as p
from sealwax.training.keeping import decide, less, more
from tests.training.histories import ITEMS, POLICIES, SIMPLE, THINNING, histories

NAN = float("nan")
DECISIONS = st.sampled_from([p.Keep(), p.Delete()]) | st.builds(p.KeepItems, ITEMS)


def run(*numbers: int, loss: tuple[Any, ...] = ()) -> History:
    """Steps of which each took a second."""
    losses = loss or (None,) * len(numbers)
    return History(
        Step(step=n, time_nsecs=n * 10**9, metrics=None if value is None else {"loss": value})
        for n, value in zip(numbers, losses, strict=True)
    )


def kept(policy: Any, history: History, **context: Any) -> list[int]:
    stays = policy.should_preserve(history, context=p.PreservationContext(**context))
    return [each.step for each, stay in zip(history, stays, strict=True) if stay]


class TestLaws:
    @given(DECISIONS, DECISIONS, DECISIONS)
    def test_decisions_form_a_lattice(self, a: Any, b: Any, c: Any) -> None:
        for join in (more, less):
            assert join(a, b) == join(b, a)
            assert join(a, join(b, c)) == join(join(a, b), c)
            assert join(a, a) == a
        assert more(a, less(a, b)) == a == less(a, more(a, b))

    @given(POLICIES, POLICIES, histories())
    def test_any_of_keeps_the_union_and_all_of_the_intersection(
        self, a: Any, b: Any, history: History
    ) -> None:
        of_a, of_b = decide(a, history), decide(b, history)
        assert decide(a | b, history) == tuple(map(more, of_a, of_b))
        assert decide(a & b, history) == tuple(map(less, of_a, of_b))

    @given(SIMPLE, SIMPLE, histories())
    def test_not_keeps_the_others(self, a: Any, b: Any, history: History) -> None:
        assert set(kept(~a, history)).isdisjoint(kept(a, history))
        assert set(kept(~a, history)) | set(kept(a, history)) == set(history.numbers)
        assert kept(~(a | b), history) == kept(~a & ~b, history)

    @given(SIMPLE, histories())
    def test_what_was_kept_is_kept_again(self, policy: Any, history: History) -> None:
        once = History(history.at(number) for number in kept(policy, history))
        now = history.latest.time if history.latest else None
        twice = kept(policy, once, now=now)
        assert twice == list(once.numbers)

    @given(THINNING, histories())
    def test_thinning_keeps_the_same_steps(self, policy: Any, history: History) -> None:
        assert kept(policy, history) == kept(policy.policy, history)

    @given(POLICIES)
    def test_policies_are_values(self, policy: Any) -> None:
        copy = pickle.loads(pickle.dumps(policy))
        assert copy == policy
        assert hash(copy) == hash(policy)

    @given(st.integers(1, 20), histories())
    def test_around_each_multiple_the_closest_step_stays(
        self, interval: int, history: History
    ) -> None:
        around: dict[int, list[int]] = {}
        for step in history.numbers:
            around.setdefault(round(step / interval) * interval, []).append(step)
        wanted = {
            min(steps, key=lambda step: (abs(step - multiple), -step))
            for multiple, steps in around.items()
        }
        found = kept(p.EveryNStepsClosest(interval), history)
        assert found == sorted(wanted | set(history.numbers[-1:]))


class TestBest:
    def test_the_highest_values_or_with_reverse_the_lowest(self) -> None:
        history = run(1, 2, 3, 4, loss=(0.5, 0.1, 0.9, 0.3))
        assert kept(p.BestN(get_metric_fn=lambda m: m["loss"], n=2), history) == [1, 3]
        assert kept(p.BestN(get_metric_fn="loss", reverse=True, n=2), history) == [2, 4]
        assert p.best("loss", n=2, mode="min") == p.BestN(get_metric_fn="loss", reverse=True, n=2)

    def test_of_equal_values_the_later_steps_stay(self) -> None:
        history = run(1, 2, 3, 4, loss=(0.5, 0.5, 0.5, 0.1))
        for mode in ("max", "min"):
            assert 3 in kept(p.best("loss", n=2, mode=mode), history)
        assert kept(p.best("loss", n=2), history) == [2, 3]

    @pytest.mark.parametrize("mode", ["max", "min"])
    def test_nan_is_worse_than_any_number(self, mode: str) -> None:
        history = run(1, 2, 3, 4, loss=(NAN, 0.1, 0.2, NAN))
        assert kept(p.best("loss", n=2, mode=mode), history) == [2, 3]
        assert kept(p.best("loss", n=3, mode=mode), history) == [2, 3, 4]

    @pytest.mark.parametrize("mode", ["max", "min"])
    def test_infinity_is_a_number(self, mode: str) -> None:
        history = run(1, 2, 3, loss=(float("inf"), NAN, float("-inf")))
        assert kept(p.best("loss", n=1, mode=mode), history) == [1 if mode == "max" else 3]

    def test_steps_without_the_metric(self) -> None:
        history = History((*run(1, 2, 3, loss=(None, 0.1, 0.2)), Step(step=4, metrics={"acc": 1})))
        assert kept(p.best("loss"), history) == [1, 3, 4]
        strict = p.BestN(get_metric_fn="loss", n=1, keep_checkpoints_without_metrics=False)
        assert kept(strict, history) == [3]

    def test_a_metric_that_no_step_has_costs_no_step(self) -> None:
        wrong = p.BestN(get_metric_fn="los", n=1, keep_checkpoints_without_metrics=False)
        assert kept(wrong, run(1, 2, loss=(0.1, 0.2))) == [1, 2]

    def test_a_metric_that_is_no_number(self) -> None:
        with pytest.raises(TypeError, match="The metric of step 1 is not a number"):
            kept(p.best("loss"), run(1, loss=("low",)))


class TestSteps:
    def test_halfway_is_with_the_even_multiple_and_large_steps_are_exact(self) -> None:
        far = 10**18
        history = History(Step(step=n) for n in (15, 25, far + 3, far + 7))
        assert kept(p.EveryNStepsClosest(10), history) == [25, far + 3, far + 7]


class TestTimes:
    def test_steps_of_one_time(self) -> None:
        history = History(Step(step=n, time_nsecs=10**9) for n in range(4))
        assert kept(p.EveryNSeconds(1), history) == [0]
        assert kept(p.EveryNSeconds(0), history) == [0, 1, 2, 3]
        assert kept(p.LatestDuration(datetime.timedelta(0)), history) == [0, 1, 2, 3]

    def test_a_clock_that_went_back(self) -> None:
        times = (100, 200, 50, 210)
        history = History(Step(step=n, time_nsecs=t * 10**9) for n, t in enumerate(times))
        assert kept(p.EveryNSeconds(60), history) == [0, 1]
        assert kept(p.LatestDuration(datetime.timedelta(seconds=30)), history) == [1, 2, 3]

    def test_age_is_told_from_now(self) -> None:
        history = run(10, 20, 30)
        policy = p.LatestDuration(datetime.timedelta(seconds=10))
        assert kept(policy, history) == [20, 30]
        later = history.latest.time + datetime.timedelta(seconds=5)
        assert kept(policy, history, now=later) == [30]
        assert kept(policy, history, now=later + datetime.timedelta(days=1)) == []


class TestThinning:
    def test_old_steps_lose_the_optimizer(self) -> None:
        policy = p.LatestN(1) | p.OnlyItems({"params"}, p.EveryNSteps(20)) | p.CustomSteps([10])
        assert decide(policy, run(10, 20, 30, 40, 50)) == (
            *(p.Keep(), p.KeepItems(frozenset({"params"})), p.Delete()),
            *(p.KeepItems(frozenset({"params"})), p.Keep()),
        )

    def test_what_several_policies_leave_of_a_step_adds_up(self) -> None:
        policy = p.OnlyItems({"params"}) | p.OnlyItems(["data"], p.LatestN(1))
        assert [str(each) for each in decide(policy, run(1, 2))] == [
            "keep params",
            "keep data, params",
        ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: p.LatestN(-1),
        lambda: p.LatestN(1.5),  # type: ignore[arg-type]
        lambda: p.EveryNSteps(0),
        lambda: p.EveryNSteps(5, True, 0),
        lambda: p.EveryNStepsClosest(-1),
        lambda: p.EveryNSeconds(-1),
        lambda: p.EveryNSeconds(float("inf")),  # type: ignore[arg-type]
        lambda: p.CustomSteps(5),  # type: ignore[arg-type]
        lambda: p.LatestDuration(5),  # type: ignore[arg-type]
        lambda: p.BestN(get_metric_fn=5),  # type: ignore[arg-type]
        lambda: p.BestN(get_metric_fn="a", n=-1),
        lambda: p.best("loss", mode="lowest"),
        lambda: p.OnlyItems("params"),
        lambda: p.OnlyItems([]),
        lambda: p.any_of(p.PreserveAll),  # type: ignore[arg-type]
        lambda: p.AnyPreservationPolicy(5),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_refused_at_once(make: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        make()
    assert type(caught.value).__module__ == "sealwax.errors"
