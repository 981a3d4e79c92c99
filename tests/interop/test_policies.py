"""Our policies and names of steps beside those of a real Orbax."""

from __future__ import annotations

import dataclasses
import datetime
import inspect
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from orbax.checkpoint import v1 as orbax

import sealwax as ocp
from sealwax.training import History, Step
from sealwax.training import preservation_policies as ours
from sealwax.training import save_decision_policies as saving
from tests.training.histories import histories

theirs = orbax.training.preservation_policies
their_saving = orbax.training.save_decision_policies
LOSSES = st.fixed_dictionaries({"loss": st.integers(-3, 3)})
COUNTS = st.none() | st.integers(1, 6)


def loss(metrics: Any) -> float:
    return metrics["loss"]


def keeping(history: History, policy: Any, context: Any) -> list[bool]:
    return list(policy.should_preserve(history, context=context))


def agree(history: History, name: str, *args: Any, **kwargs: Any) -> None:
    """Both libraries' policies keep the same, whichever library asks."""
    mine, other = getattr(ours, name)(*args, **kwargs), getattr(theirs, name)(*args, **kwargs)
    expected = keeping(history, other, theirs.PreservationContext())
    assert keeping(history, mine, ours.PreservationContext()) == expected
    assert keeping(history, mine, theirs.PreservationContext()) == expected
    assert keeping(history, other, ours.PreservationContext()) == expected


class TestWhatIsKept:
    @given(histories(), st.none() | st.integers(0, 6))
    def test_latest_n(self, history: History, n: int | None) -> None:
        agree(history, "LatestN", n)

    @given(histories(), st.integers(1, 20), st.booleans(), COUNTS)
    def test_every_n_steps(self, history: History, n: int, exact: bool, most: int | None) -> None:
        agree(history, "EveryNSteps", n, exact, most)

    @given(histories(), st.integers(1, 20), COUNTS)
    def test_every_n_steps_closest(self, history: History, n: int, most: int | None) -> None:
        agree(history, "EveryNStepsClosest", n, most)

    @given(histories(), st.integers(0, 40))
    def test_every_n_seconds(self, history: History, n: int) -> None:
        agree(history, "EveryNSeconds", n)

    @given(histories(), st.lists(st.integers(0, 60)))
    def test_custom_steps(self, history: History, steps: list[int]) -> None:
        agree(history, "CustomSteps", steps)

    @given(histories(), st.timedeltas(datetime.timedelta(0), datetime.timedelta(seconds=90)))
    def test_latest_duration(self, history: History, duration: datetime.timedelta) -> None:
        # Theirs asks the clock.
        now = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=45.5)
        clock = SimpleNamespace(now=lambda tz: now.astimezone(tz))
        module = SimpleNamespace(datetime=clock, timezone=datetime.timezone)
        policy = theirs.LatestDuration(duration)
        with mock.patch.dict(policy.should_preserve.__globals__, datetime=module):
            expected = keeping(history, policy, theirs.PreservationContext())
        context = ours.PreservationContext(now=now)
        assert keeping(history, ours.LatestDuration(duration), context) == expected

    @given(histories(LOSSES | st.none()), COUNTS, st.booleans(), st.booleans())
    def test_best_n(self, history: History, n: int | None, reverse: bool, others: bool) -> None:
        if not any(each.metrics for each in history):
            return  # With nothing to compare, ours delete nothing.
        agree(
            history,
            "BestN",
            get_metric_fn=loss,
            reverse=reverse,
            n=n,
            keep_checkpoints_without_metrics=others,
        )

    @given(histories(), st.integers(0, 3), st.lists(st.integers(0, 60)))
    def test_any(self, history: History, n: int, steps: list[int]) -> None:
        mixed = ours.AnyPreservationPolicy([theirs.LatestN(n), ours.CustomSteps(steps)])
        pure = theirs.AnyPreservationPolicy([theirs.LatestN(n), theirs.CustomSteps(steps)])
        expected = keeping(history, pure, theirs.PreservationContext())
        assert keeping(history, mixed, ours.PreservationContext()) == expected
        assert keeping(history, theirs.LatestN(n) | ours.CustomSteps(steps), None) == expected
        turned = theirs.AnyPreservationPolicy([ours.LatestN(n), theirs.CustomSteps(steps)])
        assert keeping(history, turned, theirs.PreservationContext()) == expected


class TestWhatIsSaved:
    @given(
        histories(),
        st.integers(61, 80),
        st.integers(0, 200),
        st.booleans(),
        st.booleans(),
        st.sampled_from(
            [
                ("FixedIntervalPolicy", (7,), {}),
                ("FixedIntervalPolicy", (1,), {}),
                ("SpecificStepsPolicy", ({62, 70},), {}),
                ("InitialSavePolicy", (), {}),
                ("ContinuousCheckpointingPolicy", (), {}),
                ("ContinuousCheckpointingPolicy", (), {"minimum_interval_secs": 0}),
                ("ContinuousCheckpointingPolicy", (), {"minimum_interval_secs": 30}),
                ("PreemptionCheckpointingPolicy", (), {}),
            ]
        ),
    )
    def test_policies_agree(
        self, history: History, number: int, later: int, busy: bool, stopped: bool, made: Any
    ) -> None:
        name, args, kwargs = made
        zero = int(datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC).timestamp())
        step = Step(step=number, time_nsecs=(zero + later) * 10**9)
        mine = getattr(saving, name)(*args, **kwargs)
        other = getattr(their_saving, name)(*args, **kwargs)
        context = their_saving.DecisionContext(
            is_saving_in_progress=busy,
            reached_preemption=stopped,
            multiprocessing_options=orbax.options.MultiprocessingOptions(),
        )
        own = saving.DecisionContext(is_saving_in_progress=busy, reached_preemption=stopped)
        expected = other.should_save(step, history, context=context)
        assert mine.should_save(step, history, context=context) == expected
        assert mine.should_save(step, history, context=own) == expected
        both = saving.AnySavePolicy([other, mine])
        assert both.should_save(step, history, context=context) == expected
        turned = their_saving.AnySavePolicy([mine])
        assert turned.should_save(step, history, context=context) == expected
        assert (other | saving.any_of()).should_save(step, history, context=context) == expected

    def test_our_own_policies_work_there(self) -> None:
        context = their_saving.DecisionContext(
            is_saving_in_progress=False,
            reached_preemption=False,
            multiprocessing_options=orbax.options.MultiprocessingOptions(),
        )
        policy = their_saving.AnySavePolicy([saving.OverheadPolicy(0.1) & saving.every(seconds=1)])
        assert policy.should_save(Step(step=1), [], context=context)


@pytest.mark.parametrize("namespace", ["save_decision_policies", "preservation_policies"])
def test_their_names_fields_and_defaults_are_here(namespace: str) -> None:
    there, here = getattr(orbax.training, namespace), getattr(ocp.training, namespace)
    names = [
        name
        for name, value in vars(there).items()
        if inspect.isclass(value) and name.endswith(("Policy", "Context", "N", "Steps", "All"))
    ]
    assert len(names) >= 8
    for name in names:
        theirs_of = inspect.signature(getattr(there, name)).parameters
        ours_of = inspect.signature(getattr(here, name)).parameters
        for field, parameter in theirs_of.items():
            if dataclasses.is_dataclass(getattr(there, name)):
                assert ours_of[field].kind == parameter.kind, (name, field)
                if parameter.default is not parameter.empty:
                    assert ours_of[field].default == parameter.default, (name, field)


@pytest.mark.parametrize("name", ["StepAlreadyExistsError", "StepNotFoundError"])
def test_their_errors_are_here_and_of_the_same_builtin(name: str) -> None:
    there, here = getattr(orbax.training.errors, name), getattr(ocp.training.errors, name)
    assert issubclass(here, there.__mro__[1])
    assert here("Something happened").step is None


NAMES = st.text("0123456789", max_size=6) | st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "_", "ckpt_", "ckpt", "step_", "-"]),
    st.text("0123456789", max_size=5),
    st.sampled_from(["", ".orbax-checkpoint-tmp", ".orbax-checkpoint-tmp-7", "_", ".5"]),
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "step_prefix": st.sampled_from([None, "ckpt", "step", "", "ckp."]),
        "step_format_fixed_length": st.sampled_from([None, 0, 1, 3, 5]),
    },
)


@dataclasses.dataclass(frozen=True)
class Directories:
    """Directories by name, and which of them hold a checkpoint."""

    filled: frozenset[str]
    empty: frozenset[str]

    def make(self, base: Path) -> None:
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir()
        for name in self.filled | self.empty:
            (base / name).mkdir()
        for name in self.filled:
            (base / name / "_CHECKPOINT_METADATA").write_text("{}")


DIRECTORIES = st.builds(
    lambda names, empty: Directories(frozenset(names - empty), frozenset(empty)),
    st.sets(NAMES.filter(bool), max_size=12),
    st.sets(NAMES.filter(bool), max_size=3),
)


def found(name_format: Any, base: Path) -> set[tuple[int, str]]:
    return {(each.step, each.path.name) for each in name_format.find_all(base)}


class TestNamesOfSteps:
    @given(OPTIONS, st.integers(0, 10**8))
    def test_names_are_the_same(self, options: dict[str, Any], step: int) -> None:
        mine = ocp.path.step.standard_name_format(**options)
        other = orbax.path.step.standard_name_format(**options)
        assert mine.build_name(step) == other.build_name(step)

    @given(OPTIONS, DIRECTORIES)
    def test_what_is_found_is_the_same_but_for_what_is_empty(
        self, tmp_path_factory: Any, options: dict[str, Any], directories: Directories
    ) -> None:
        base = tmp_path_factory.getbasetemp() / "names"
        directories.make(base)
        mine = ocp.path.step.standard_name_format(**options)
        other = orbax.path.step.standard_name_format(**options)
        expected = {row for row in found(other, base) if row[1] not in directories.empty}
        assert found(mine, base) == expected
        for step, name in expected:
            assert mine.find_step(base, step).path.name == name

    @given(
        st.permutations([{}, {"step_format_fixed_length": 3}, {"step_prefix": "ckpt"}]), DIRECTORIES
    )
    def test_composites_find_the_same_steps(
        self, tmp_path_factory: Any, options: list[Any], directories: Directories
    ) -> None:
        base = tmp_path_factory.getbasetemp() / "composites"
        directories.make(base)
        pairs = [
            (
                ocp.path.step.standard_name_format(**each),
                orbax.path.step.standard_name_format(**each),
            )
            for each in options
        ]
        mine, other = zip(*pairs, strict=True)
        reads = ocp.path.step.composite_name_format(mine[0], mine)
        their_reads = orbax.path.step.composite_name_format(other[0], other)
        rows = [row for row in found(their_reads, base) if row[1] not in directories.empty]
        assert {step for step, _ in found(reads, base)} == {step for step, _ in rows}
        assert found(reads, base) <= set(rows)

    def test_their_formats_take_part_in_ours(self, tmp_path: Path) -> None:
        ocp.save(tmp_path / "007", {"a": 1})
        other = orbax.path.step.standard_name_format(step_format_fixed_length=3)
        mine = ocp.path.step.standard_name_format()
        names = ocp.path.step.composite_name_format(mine, [mine, other])
        assert names.find_step(tmp_path, 7).path == tmp_path / "007"

    def test_their_checkpointer_and_our_names(self, tmp_path: Path) -> None:
        options = {"step_prefix": "step", "step_format_fixed_length": 4}
        mine = ocp.path.step.standard_name_format(**options)
        other = orbax.path.step.standard_name_format(**options)
        ocp.save(tmp_path / mine.build_name(5), {"a": 1})
        with orbax.training.Checkpointer(tmp_path, step_name_format=other) as checkpointer:
            assert checkpointer.load(5) == {"a": 1}
            checkpointer.save(6, {"a": 2})
        assert found(mine, tmp_path) == {(5, "step_0005"), (6, "step_0006")}
        assert ocp.load(mine.find_step(tmp_path, 6).path) == {"a": 2}
