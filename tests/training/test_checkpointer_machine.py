"""Any sequence of calls to two checkpointers on one directory, against a model of the directory."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import sealwax as ocp
from sealwax.effects import Effect
from sealwax.runtime.handlers import Forward, Handler
from sealwax.training import Checkpointer, History, Step, errors, retain
from sealwax.training import preservation_policies as keep
from sealwax.training import save_decision_policies as when

RUN = "/a/run"
STEPS = st.integers(0, 12)
BOTH = st.integers(0, 1)
PRESERVING = st.sampled_from(
    [
        keep.PreserveAll(),
        keep.LatestN(0),
        keep.LatestN(2),
        keep.EveryNSteps(3),
        keep.EveryNSteps(4) | keep.LatestN(1),
        keep.best("loss", n=2, mode="min"),
        keep.LatestN(1) | keep.OnlyItems({"params"}, keep.LatestN(3)),
        keep.OnlyItems({"params"}),
        ~keep.EveryNSteps(2),
    ]
)
SAVING = st.sampled_from(
    [
        when.FixedIntervalPolicy(1),
        when.FixedIntervalPolicy(2),
        when.InitialSavePolicy(),
        when.SpecificStepsPolicy({1, 4, 5}),
    ]
)
REFUSED = OSError(errno.EIO, os.strerror(errno.EIO))


class Crash(Handler):
    """Lets a process die at an effect: from then on nothing that it does reaches the disk."""

    def __init__(self, number: int) -> None:
        self.left = number

    async def perform(self, effect: Effect, forward: Forward) -> Any:
        self.left -= 1
        if self.left < 0:
            raise REFUSED
        return await forward(effect)


class Machine(RuleBasedStateMachine):
    """Both checkpointers have the policies of the run; what is on disk is known at any time."""

    @initialize(preserving=PRESERVING, saving=SAVING, light=st.booleans())
    def begin(self, preserving: Any, saving: Any, light: bool) -> None:
        self.preserving, self.saving, self.light = preserving, saving, light
        self.memory = ocp.effect_handlers.memory()
        self.model: dict[int, tuple[int, Any, frozenset[str]]] = {}
        self.value = 0
        self.doubt: set[int] = set()
        with self.memory:
            self.made = [self.make(), self.make()]

    def make(self) -> Checkpointer:
        return Checkpointer(
            RUN,
            preservation_policy=self.preserving,
            save_decision_policy=self.saving,
            lightweight_initialize=self.light,
        )

    def items(self) -> dict[str, Any]:
        self.value += 1
        return {"params": {"w": np.full(2, self.value)}, "loop": {"n": self.value}}

    def keep(self, saved: int) -> None:
        """Does to the model what the policy does to the directory."""
        times = {number: place for place, number in enumerate(self.model)}
        history = History(
            Step(step=number, time_nsecs=1 + times[number], metrics=metrics, items=items)
            for number, (_, metrics, items) in self.model.items()
        )
        for verdict in retain(history, self.preserving).verdicts:
            number = verdict.step.step
            value, metrics, items = self.model[number]
            if number == saved or verdict.decision == keep.Keep():
                continue
            if isinstance(verdict.decision, keep.KeepItems):
                self.model[number] = value, metrics, items & verdict.decision.items
            else:
                del self.model[number]

    def wants(self, number: int, known: list[int]) -> bool:
        previous = History(Step(step=each) for each in known if each < number)
        later = any(each > number for each in known)
        return not later and self.saving.should_save(Step(step=number), previous)

    @rule(
        who=BOTH,
        number=STEPS,
        force=st.booleans(),
        overwrite=st.booleans(),
        loss=st.none() | st.integers(0, 5),
        background=st.booleans(),
    )
    def save(
        self, who: int, number: int, force: bool, overwrite: bool, loss: Any, background: bool
    ) -> None:
        made, items = self.made[who], self.items()
        known = [each.step for each in made.checkpoints]
        metrics = None if loss is None else {"loss": loss}
        expected = force or self.wants(number, known)
        there = not overwrite and (number in known or (expected and number in self.model))
        saved: Any = None
        with self.memory:
            try:
                if background:
                    response = made.save_checkpointables_async(
                        number, items, force=force, overwrite=overwrite, metrics=metrics
                    )
                    saved = response is not None and response.result()
                else:
                    saved = made.save_checkpointables(
                        number, items, force=force, overwrite=overwrite, metrics=metrics
                    )
            except errors.StepAlreadyExistsError:
                assert there
            else:
                assert not there
                assert saved is expected
        if saved:
            self.model.pop(number, None)
            self.model[number] = self.value, metrics, frozenset(items)
            self.keep(number)
            listed = [each.step for each in made.checkpoints]
            assert listed == sorted(self.model)

    @rule(who=BOTH, number=STEPS, at=st.integers(0, 90), dies=st.booleans())
    def fail(self, who: int, number: int, at: int, dies: bool) -> None:
        """A forced save that meets an error, or the death of its process, at some effect."""
        made, items, before = self.made[who], self.items(), dict(self.model)
        handler = Crash(at) if dies else ocp.effect_handlers.inject(at, error=REFUSED)
        saved = False
        with self.memory, handler, contextlib.suppress(OSError):
            saved = made.save_checkpointables(number, items, force=True, overwrite=True)
        if dies:
            with self.memory:
                self.made[who] = self.make()
        # What was there, or what the save and its deletions make of it, or a part of the way.
        after = before | {number: (self.value, None, frozenset(items))}
        self.model = dict(after)
        self.keep(number)
        final = self.model
        self.model = self.found()
        for each, (value, _, left) in self.model.items():
            one = before.get(each), after.get(each), final.get(each)
            assert value in [known[0] for known in one if known is not None]
            assert left
        sealed = number in self.model and self.model[number][0] == self.value
        assert sealed or self.model == before
        assert sealed or not saved
        assert set(final) <= set(self.model) or not sealed
        if not dies:
            with self.memory:
                made.reload()

    @rule(who=BOTH, number=STEPS)
    def delete(self, who: int, number: int) -> None:
        with self.memory:
            try:
                self.made[who].delete(number)
            except errors.StepNotFoundError:
                assert number not in self.model
            else:
                # What a save that died has left is removed too.
                self.model.pop(number, None)
        assert number not in [each.step for each in self.made[who].checkpoints]

    @rule(who=BOTH)
    def reload(self, who: int) -> None:
        with self.memory:
            self.made[who].reload()
        assert [each.step for each in self.made[who].checkpoints] == sorted(self.model)

    @rule(who=BOTH)
    def begin_again(self, who: int) -> None:
        with self.memory:
            self.made[who].close()
            self.made[who] = self.make()
        assert [each.step for each in self.made[who].checkpoints] == sorted(self.model)

    @precondition(lambda self: self.model)
    @rule(who=BOTH, data=st.data())
    def load(self, who: int, data: Any) -> None:
        number = data.draw(st.none() | st.sampled_from(sorted(self.model)))
        value, _, items = self.model[max(self.model) if number is None else number]
        with self.memory:
            loaded = self.made[who].load_checkpointables(number)
        assert loaded.keys() == items
        assert loaded["params"]["w"].tolist() == [value, value]

    def found(self) -> dict[int, tuple[int, Any, frozenset[str]]]:
        """What a reader that knows nothing finds, in the order of the times of sealing."""
        with self.memory:
            reader = Checkpointer(RUN)
            steps = sorted(reader.checkpoints, key=lambda each: each.commit_timestamp_nsecs or 0)
            found: dict[int, tuple[int, Any, frozenset[str]]] = {}
            for each in steps:
                loaded = reader.load_checkpointables(each.step)
                value = int(loaded["params"]["w"][0])
                found[each.step] = value, each.metrics, frozenset(loaded)
        return found

    @invariant()
    def what_must_be_there_is_there(self) -> None:
        if hasattr(self, "model"):
            assert self.found() == self.model


Machine.TestCase.settings = settings(max_examples=20, stateful_step_count=12, deadline=None)


class TestMachine(Machine.TestCase):
    """The ordinary run."""


class Longer(Machine):
    """The same, for longer."""


Longer.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


@pytest.mark.long
class TestLongerMachine(Longer.TestCase):
    """The long run."""
