"""A crash or an error at every effect of a save and of the deletions that follow it."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sealwax as ocp
from sealwax.effects import Effect
from sealwax.runtime.handlers import Forward, Handler
from sealwax.testing import kill_at_every_effect
from sealwax.training import Checkpointer
from sealwax.training import preservation_policies as keep
from sealwax.training import save_decision_policies as when

EVERY = when.FixedIntervalPolicy(1)
POLICY = keep.LatestN(1) | keep.OnlyItems({"params"}, keep.LatestN(2)) | keep.CustomSteps({0})
"""The step 0 is kept; of the last but one the parameters; and all of the last."""
RUN = "/a/run"


def items(step: int) -> dict[str, Any]:
    return {"params": {"w": np.full(3, step)}, "optimizer": {"m": np.full(2, step)}}


def made(run: Any) -> Checkpointer:
    return Checkpointer(run, save_decision_policy=EVERY, preservation_policy=POLICY)


def begin(run: Any) -> None:
    """Saves the first steps: 0 is whole, 1 thinned, 2 whole."""
    with made(run) as checkpointer:
        for step in range(3):
            checkpointer.save_checkpointables(step, items(step), metrics={"loss": step})


def go_on(run: Any, *, step: int = 3, background: bool = False) -> None:
    """Saves one more: 1 goes, and 2 is thinned."""
    with made(run) as checkpointer:
        save = checkpointer.save_checkpointables
        if background:
            save = checkpointer.save_checkpointables_async
        save(step, items(step + 100), metrics={"loss": step}, overwrite=step < 3)


def check_kept(run: Any) -> None:
    """What should be kept is kept and complete, and nothing else is listed."""
    checkpointer = made(run)
    there = [each.step for each in checkpointer.checkpoints]
    assert {0, 2} <= set(there) <= {0, 1, 2, 3}, there
    for step in there:
        assert ocp.verify(f"{run}/{step}").ok or step < there[-1], step
        loaded = checkpointer.load_checkpointables(step, {"params": None})["params"]
        assert loaded["w"].tolist() in ([step] * 3, [step + 100] * 3)
        assert checkpointer.metadata(step).metrics == {"loss": step}
    for whole in (0, there[-1]):
        assert checkpointer.load_checkpointables(whole).keys() == {"params", "optimizer"}


def check_goes_on(run: Any, left: Callable[[], set[str]]) -> None:
    """The next save works, and leaves what the policy keeps and nothing else."""
    with made(run) as checkpointer:
        checkpointer.save_checkpointables(4, items(4), metrics={"loss": 4})
        there = [each.step for each in checkpointer.checkpoints]
        assert (len(there), there[0], there[-1]) == (3, 0, 4)
        assert checkpointer.load_checkpointables(there[1]).keys() == {"params"}
        assert checkpointer.load_checkpointables(4).keys() == {"params", "optimizer"}
    assert left() == set(map(str, there))
    assert all(ocp.verify(f"{run}/{step}").ok for step in there)


@pytest.fixture(scope="module")
def begun() -> Any:
    with ocp.effect_handlers.memory() as memory:
        begin(RUN)
    return memory.tree()


def check(tree: Any) -> None:
    with ocp.effect_handlers.memory(tree) as memory:
        check_kept(RUN)
        check_goes_on(RUN, lambda: set(memory.tree(RUN)))


RUNS = {
    "save": go_on,
    "save_async": functools.partial(go_on, background=True),
    "overwrite": functools.partial(go_on, step=2),
}


@pytest.mark.parametrize(
    ("how", "moment", "first"),
    [
        ("save", "before", 0),
        ("save_async", "before", 1),
        ("save", "after", 0),
        ("save_async", "after", 1),
        ("overwrite", "before", 0),
        ("overwrite", "after", 1),
    ],
)
def test_an_error_at_every_effect(begun: Any, how: str, moment: Any, first: int) -> None:
    """In the foreground at each second effect, and in the background at the others."""
    refused = OSError(errno.EIO, os.strerror(errno.EIO))
    for number in range(first, 1000, 2):
        with ocp.effect_handlers.memory(begun) as memory:
            inject = ocp.effect_handlers.inject(number, error=refused, moment=moment)
            try:
                with inject:
                    RUNS[how](RUN)
            except OSError:
                pass
            if not inject.hits:
                break
            check_kept(RUN)
            if number % 5 == first:
                check_goes_on(RUN, lambda: set(memory.tree(RUN)))
    assert number > 60


class Snapshots(Handler):
    """Keeps what is on the disk after each effect."""

    def __init__(self, take: Callable[[], Any]) -> None:
        self.take = take
        self.taken: list[Any] = []

    async def perform(self, effect: Effect, forward: Forward) -> Any:
        try:
            return await forward(effect)
        finally:
            found = self.take()
            if not self.taken or found != self.taken[-1]:
                self.taken.append(found)


def snapshots(begun: Any, how: str, take: Callable[[Any], Any]) -> list[Any]:
    with ocp.effect_handlers.memory(begun) as memory, Snapshots(lambda: take(memory)) as handler:
        RUNS[how](RUN)
    return handler.taken


@pytest.mark.parametrize("how", RUNS)
def test_killed_at_every_effect(begun: Any, how: str) -> None:
    taken = snapshots(begun, how, lambda memory: memory.tree())
    assert len(taken) > 12
    for tree in taken:
        check(tree)


def _crashes(begun: Any, how: str, limit: int) -> Iterator[Any]:
    for disk in snapshots(begun, how, lambda memory: memory.disk()):
        for crash in disk.crashes(limit=limit, seed=0, block=512):
            yield disk.after(crash)


@pytest.mark.parametrize("how", ["save", "overwrite"])
@pytest.mark.parametrize("limit", [2, pytest.param(40, marks=pytest.mark.long)])
def test_a_loss_of_power_at_every_effect(begun: Any, how: str, limit: int) -> None:
    states = list(_crashes(begun, how, limit))
    assert len(states) > 12
    for tree in states:
        check(tree)


def _names(run: Path) -> set[str]:
    return {path.name for path in run.iterdir()}


@pytest.mark.long
def test_really_killed_at_every_effect(tmp_path: Path) -> None:
    start = tmp_path / "start"
    begin(start)
    for stop in kill_at_every_effect(go_on, tmp_path / "runs", start=start):
        run = stop.directory
        check_kept(run)
        check_goes_on(run, functools.partial(_names, run))
