"""What a policy would do to a run, told before it is done."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.training import History, Step, retain
from sealwax.training import preservation_policies as p
from tests.training.histories import POLICIES, SIMPLE, histories

ANY = st.lists(POLICIES, max_size=3).map(lambda policies: p.any_of(*policies)) | POLICIES


def numbers(steps: Any) -> list[int]:
    return [each.step for each in steps]


class TestLaws:
    @given(ANY, histories())
    def test_the_newest_is_always_kept_whole(self, policy: Any, history: History) -> None:
        found = retain(history, policy)
        assert not history or history.latest in found.kept

    @given(st.lists(SIMPLE, min_size=1, max_size=1).map(lambda one: one[0]) | POLICIES, histories())
    def test_retaining_again_deletes_nothing_more(self, policy: Any, history: History) -> None:
        now = history.latest.time if history.latest else None
        once = retain(history, policy, now=now).remaining
        again = retain(once, policy, now=now)
        assert (again.deleted, again.thinned) == ((), ())
        assert again.remaining == once

    @given(ANY, histories())
    def test_each_step_has_one_fate(self, policy: Any, history: History) -> None:
        found = retain(history, policy, keep_newest=False)
        thinned = [step for step, _ in found.thinned]
        assert sorted(numbers((*found.kept, *found.deleted, *thinned))) == list(history.numbers)
        assert found.remaining.numbers == tuple(sorted(numbers((*found.kept, *thinned))))
        assert all(verdict.why for verdict in found.verdicts)

    @given(ANY, ANY, histories())
    def test_more_policies_delete_no_more(self, a: Any, b: Any, history: History) -> None:
        alone, both = retain(history, a), retain(history, p.any_of(a, b))
        assert set(both.deleted) <= set(alone.deleted)
        assert set(alone.kept) <= set(both.kept)

    @given(ANY, histories())
    def test_of_a_step_that_stays_something_stays(self, policy: Any, history: History) -> None:
        for before in history:
            after = [each for each in retain(history, policy).remaining if each.step == before.step]
            assert not after or not before.items or after[0].items & before.items


class TestTheNewest:
    def test_a_worsening_metric_does_not_cost_it(self) -> None:
        # Of flowgym's run, Orbax kept 100, 200 and 300, and could not go on from 500.
        run = History(Step(step=n, metrics={"loss": n / 100}) for n in range(100, 600, 100))
        assert numbers(retain(run, p.best("loss", n=3, mode="min")).kept) == [100, 200, 300, 500]

    def test_unless_it_is_asked_for(self) -> None:
        run = History([Step(step=1), Step(step=2)])
        assert numbers(retain(run, p.LatestN(0)).kept) == [2]
        assert retain(run, p.LatestN(0), keep_newest=False).kept == ()
        assert retain(run, p.LatestN(0)).verdicts[1].why == "the newest step"


class TestThinning:
    POLICY = p.LatestN(1) | p.OnlyItems({"params"})

    def fate(self, *items: str) -> str:
        run = History([Step(step=1, items=frozenset(items)), Step(step=2)])
        return str(retain(run, self.POLICY).verdicts[0].decision)

    def test_what_is_not_to_stay_goes(self) -> None:
        assert self.fate("params", "opt_state") == "keep params"

    def test_only_what_is_there_stays(self) -> None:
        run = History([Step(step=1, items=frozenset({"params", "opt_state"})), Step(step=2)])
        policy = p.LatestN(1) | p.OnlyItems({"params", "ema"})
        assert retain(run, policy).thinned == ((run[0], frozenset({"params"})),)

    def test_a_step_with_nothing_else_stays_as_it_is(self) -> None:
        assert self.fate("params") == "keep"

    def test_a_step_without_any_of_them_stays_as_it_is(self) -> None:
        assert self.fate("state") == "keep"

    def test_where_items_are_not_known_the_decision_stands(self) -> None:
        assert self.fate() == "keep params"


class TestTheTable:
    def test_it_says_what_and_why(self) -> None:
        start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
        hour, zero = 3600 * 10**9, int(start.timestamp()) * 10**9
        run = History(
            Step(
                step=n,
                time_nsecs=zero + n * hour,
                metrics=None if n == 30 else {"loss": 1 / n},
                items=frozenset({"params", "opt"}),
                nbytes=3 << 20,
            )
            for n in (10, 20, 30, 90)
        )
        policy = p.best("loss", mode="max") | p.OnlyItems({"params"}, p.CustomSteps([20]))
        found = retain(run, policy, now=start + datetime.timedelta(hours=100))
        assert str(found).splitlines() == [
            "4 steps, of which 0 would be deleted",
            "step  age   metrics       decision     why",
            "10    4 d   loss=0.1      keep         BestN",
            "20    3 d   loss=0.05     keep params  OnlyItems",
            "30    3 d                 keep         BestN",
            "90    10 h  loss=0.01111  keep         the newest step",
        ]
        assert str(retain(run, p.LatestN(2))).splitlines()[:3] == [
            "4 steps, of which 2 would be deleted (6.0 MiB)",
            "step  age  metrics       decision  why",
            "10    3 d  loss=0.1      delete    LatestN(n=2) does not keep it",
        ]

    def test_of_an_empty_run(self) -> None:
        assert str(retain(History(), p.LatestN(1))).startswith("0 steps, of which 0")


class TestPoliciesOfUsers:
    def test_the_form_of_orbax_is_enough(self) -> None:
        class Even:
            def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
                return [each.step % 2 == 0 for each in checkpoints]

        run = History(Step(step=n) for n in range(5))
        assert numbers(retain(run, Even()).kept) == [0, 2, 4]
        assert numbers(retain(run, Even() | p.CustomSteps([3])).kept) == [0, 2, 3, 4]

    def test_one_that_forgets_a_step_is_named(self) -> None:
        class Forgetful:
            def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
                return [True]

        with pytest.raises(TypeError, match="Expected 2 decisions, found 1"):
            retain(History([Step(step=1), Step(step=2)]), Forgetful())
