"""The regulator: laws of the controller, and what becomes of its state."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import sealwax as ocp
from sealwax.options import MemoryOptions
from sealwax.settings.regulator import GIB, Reading, Regulator, State, Tuning, step

GAINS = st.floats(0, 2)
BYTES = st.floats(0, 2000 * GIB)
TUNINGS = st.builds(
    lambda least, more, **gains: Tuning(least=least, most=least + more, **gains),
    st.floats(1, 100 * GIB),
    st.floats(1, 900 * GIB),
    target_ratio=st.floats(0.05, 1),
    kp=GAINS,
    ki=GAINS,
    kd=GAINS,
)
READINGS = st.builds(
    Reading, peak=BYTES, total=st.floats(1, 2000 * GIB), surge=st.just(0.0) | BYTES
)
BROKEN = st.sampled_from([math.nan, math.inf, -math.inf, -1.0])


@st.composite
def states(draw: st.DrawFn, tuning: Tuning) -> State:
    return State(
        course=draw(st.floats(tuning.least, tuning.most)),
        integral=draw(st.floats(-50 * GIB, 50 * GIB)),
        error=draw(st.floats(-1000 * GIB, 1000 * GIB)),
        surge=draw(st.just(0.0) | BYTES),
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[Tuning, State, Reading]:
    tuning = draw(TUNINGS)
    return tuning, draw(states(tuning)), draw(READINGS)


def without_surge(reading: Reading) -> Reading:
    return dataclasses.replace(reading, surge=0.0)


class TestLaws:
    @given(situations(), st.lists(READINGS, max_size=8))
    def test_the_limit_stays_between_the_least_and_the_most(self, situation, readings):
        tuning, state, first = situation
        for reading in (first, *readings):
            state = step(tuning, state, reading)
            assert int(tuning.least) <= state.limit(tuning) <= tuning.most
            assert abs(state.integral) <= 50 * GIB

    @given(situations(), BYTES)
    def test_more_memory_in_use_never_gives_a_larger_limit(self, situation, more):
        tuning, state, reading = situation
        worse = dataclasses.replace(reading, peak=reading.peak + more)
        if reading.sound:
            found = step(tuning, state, worse).limit(tuning)
            assert found <= step(tuning, state, reading).limit(tuning)

    @given(situations())
    def test_at_its_target_with_nothing_behind_it_the_limit_stays(self, situation):
        tuning, state, reading = situation
        calm = dataclasses.replace(state, integral=0.0, error=0.0)
        there = Reading(peak=reading.total * tuning.target_ratio, total=reading.total)
        assert step(tuning, calm, there).course == calm.course

    @given(situations())
    def test_beyond_all_memory_the_limit_falls_by_what_is_too_much(self, situation):
        tuning, state, reading = situation
        over = dataclasses.replace(reading, peak=reading.total + 3 * GIB, surge=0.0)
        wanted = max(tuning.least, state.course - 2.99 * GIB)
        assert step(tuning, state, over).course <= wanted

    @given(situations())
    def test_a_surge_lowers_the_limit_of_its_own_save_and_raises_none(self, situation):
        tuning, state, reading = situation
        found = step(tuning, state, reading)
        if reading.surge:
            assert found.course <= state.course
            assert found.limit(tuning) <= step(tuning, state, without_surge(reading)).limit(tuning)
            assert (found.integral, found.error) == (state.integral, state.error)

    @given(situations())
    def test_after_a_surge_at_the_target_the_limit_is_what_it_was(self, situation):
        tuning, state, reading = situation
        calm = dataclasses.replace(state, integral=0.0, error=0.0, surge=0.0)
        there = Reading(peak=reading.total * tuning.target_ratio, total=reading.total)
        during = step(tuning, calm, dataclasses.replace(there, surge=reading.surge))
        assert step(tuning, during, there).limit(tuning) == calm.limit(tuning)

    @given(situations(), BROKEN, st.sampled_from(["peak", "total"]))
    def test_what_cannot_be_a_measurement_changes_nothing(self, situation, broken, field):
        tuning, state, reading = situation
        found = step(tuning, state, dataclasses.replace(reading, **{field: broken}))
        assert found == dataclasses.replace(state, surge=reading.surge)

    @given(situations())
    def test_before_anything_was_measured_the_limit_stays(self, situation):
        tuning, state, reading = situation
        unmeasured = dataclasses.replace(reading, peak=0.0)
        assert step(tuning, state, unmeasured).course == state.course

    @given(situations())
    def test_an_infinite_surge_leaves_the_least(self, situation):
        tuning, state, reading = situation
        found = step(tuning, state, dataclasses.replace(reading, surge=math.inf))
        assert found.limit(tuning) == int(tuning.least)


class Profiler:
    peak_usage_bytes = 0

    def profiler_start(self) -> None: ...

    def profiler_end(self) -> None: ...


def regulator_options(**changes: Any) -> MemoryOptions.RegulatorOptions:
    return MemoryOptions.RegulatorOptions(max_memory_limit_gib=100, profiler=Profiler(), **changes)


class TestHandle:
    def test_it_starts_at_the_least(self):
        assert regulator_options().regulator.current_limit_bytes == 10 * GIB

    def test_contexts_that_hold_the_same_options_share_it(self):
        options = regulator_options()
        first = ocp.Context().replace({"memory.regulator_options": options})
        child = ocp.Context(first)
        child.memory.expected_surge_bytes = 1
        assert child.memory.regulator_options.regulator is options.regulator
        assert first.options.memory.regulator_options.regulator is options.regulator

    def test_other_options_start_another(self):
        options = regulator_options()
        changed = dataclasses.replace(options, kp=0.5)
        assert changed.regulator is not options.regulator

    def test_it_is_no_part_of_the_value(self):
        options = regulator_options()
        again = dataclasses.replace(options)
        options.regulator.update(Reading(peak=GIB, total=100 * GIB))
        assert again == options
        assert hash(again) == hash(options)
        assert again.regulator.current_limit_bytes != options.regulator.current_limit_bytes

    def test_updating_steps_the_state(self):
        tuning = Tuning(least=10, most=90, target_ratio=0.5, kp=1, ki=0, kd=0)
        handle = Regulator(tuning)
        assert handle.update(Reading(peak=30, total=100)) == 30
        assert handle.state == step(tuning, State(course=10), Reading(peak=30, total=100))
