"""What the benchmark says of its measurements, and that it measures nothing else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.benchmarks.measure import Samples, check, in_turn, one_round, side_of
from tests.benchmarks.profile import Span, covered, repeated
from tests.benchmarks.sides import Side
from tests.benchmarks.table import MEASURES, Row, render, rows_of
from tests.benchmarks.workloads import WORKLOADS, Budget, Workload, fill, small_leaves

BOTH = Budget(faster_than_orbax=2, within_limit=4)


def rows(samples: Samples, **budgets: Budget) -> list[Row]:
    asked = Workload(name="w", title="w", abstract=small_leaves(1), budgets=budgets)
    return rows_of(asked, samples)


class TestARow:
    def test_is_of_medians_and_half_the_range(self) -> None:
        (row,) = rows({("save", "sealwax"): [1, 9, 2], ("save", "orbax"): [8, 5, 6]})
        assert row.medians == {"sealwax": 2, "orbax": 6}
        assert row.spreads == {"sealwax": 2, "orbax": 0.25}
        assert row.gain == 3

    def test_tells_the_limit_at_its_best_beside_its_median(self) -> None:
        (row,) = rows({("load", "sealwax"): [4, 4, 3], ("load", "limit"): [8, 2, 8]})
        assert (row.distance, row.at_best) == (0.5, 1.5)

    @pytest.mark.parametrize(
        ("orbax", "limit", "misses"),
        [(4, 0.5, ()), (3.9, 0.5, ("Orbax / 2",)), (4, 0.49, ("limit x 4",))],
    )
    def test_says_which_part_of_its_budget_was_missed(
        self, orbax: float, limit: float, misses: tuple[str, ...]
    ) -> None:
        samples = {
            ("save", "sealwax"): [2.0],
            ("save", "orbax"): [orbax],
            ("save", "limit"): [limit],
        }
        (row,) = rows(samples, save=BOTH)
        assert row.misses == misses
        assert len(row.passes) == 2 - len(misses)
        assert all(f"MISS: {text}" in render([row]) for text in misses)

    def test_that_was_not_measured_is_missed(self) -> None:
        (row,) = rows({}, save=BOTH)
        assert row.misses == ("Orbax / 2 unknown", "limit x 4 unknown")

    def test_that_no_table_has_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no row for"):
            rows({}, speed=Budget(at_most=1))

    @pytest.mark.parametrize(
        ("measure", "text"), [("load", "pass: 1.00 s"), ("peak load", "pass: 0.0 KiB")]
    )
    def test_has_an_amount_in_its_unit(self, measure: str, text: str) -> None:
        assert text in render(rows({(measure, "sealwax"): [0.01]}, **{measure: Budget(at_most=1)}))

    def test_that_was_measured_once_has_no_spread(self) -> None:
        assert "±" not in render(rows({("save", "sealwax"): [1]}))
        assert "±" in render(rows({("save", "sealwax"): [1, 1]}))

    def test_is_written_with_every_sample(self) -> None:
        (row,) = rows({("save", "sealwax"): [1, 2, 3]})
        assert json.loads(json.dumps(dataclasses.asdict(row)))["samples"] == {"sealwax": [1, 2, 3]}


class TestTurns:
    def test_begin_with_each_side_and_forget_the_first_round(self) -> None:
        order: list[str] = []

        def turn(name: str) -> dict[str, float]:
            order.append(name)
            return {"save": len(order)}

        samples = in_turn({name: lambda name=name: turn(name) for name in "ab"}, rounds=2)
        assert order == ["a", "b", "b", "a", "a", "b"]
        assert samples == {("save", "a"): [4, 5], ("save", "b"): [3, 6]}


class TestWorkloads:
    @pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
    def test_are_asked_for_all_that_the_table_can_tell(self, workload: Workload) -> None:
        assert workload.budgets.keys() <= MEASURES.keys()
        memory = {"peak save", "peak load"}
        timed = {"save", "load", "blocked"} if workload.timed else set[str]()
        assert workload.budgets.keys() >= memory | timed

    def test_of_the_transformer_are_380_leaves(self) -> None:
        import jax

        (found,) = [each for each in WORKLOADS if each.name == "transformer"]
        assert len(jax.tree.leaves(found.abstract(1))) == 380


class TestSides:
    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("name", ["sealwax", "limit"])
    def test_give_back_what_they_save(self, name: str, packed: bool, tmp_path: Path) -> None:
        workload = Workload(name="", title="", abstract=small_leaves(3), packed=packed)
        side, tree = side_of(name, workload), workload.build(1)
        side.save(tmp_path / "c", tree)
        check(side, tmp_path / "c", tree)

    def test_that_give_back_something_else_are_refused(self, tmp_path: Path) -> None:
        tree = fill(small_leaves(2)(1))
        other = Side(name="x", save=print, load=lambda path, wanted: dict.fromkeys(tree, 0.0))
        with pytest.raises(RuntimeError, match="x loaded something else"):
            check(other, tmp_path, tree)

    def test_are_measured_in_all_that_is_asked(self, tmp_path: Path) -> None:
        workload = Workload(name="", title="", abstract=small_leaves(3))
        found = one_round(
            side_of("sealwax", workload), workload.build(1), tmp_path / "c", ["blocked"]
        )
        assert found.keys() == {"save", "load", "size", "blocked"}
        assert not list(tmp_path.iterdir())


class TestAProfile:
    @pytest.mark.parametrize(
        ("spans", "seconds"),
        [([], 0), ([(1, 3), (2, 4)], 3), ([(5, 6), (1, 4), (2, 3)], 4)],
    )
    def test_counts_no_time_twice(self, spans: list[Span], seconds: float) -> None:
        assert covered(spans) == seconds

    @pytest.mark.parametrize("action", ["save", "load"])
    def test_divides_the_time_of_a_call(self, action: str, tmp_path: Path) -> None:
        (found,) = repeated(action, fill(small_leaves(2)(1)), tmp_path / "c", rounds=1)
        assert ("Rename" in found) == (action == "save")
        assert ("ReadBatch" in found) == (action == "load")
        assert 0 < found["no effect"][3] < found["all"][3]
