"""Cancelling at any moment, and two saves to one path at every interleaving that can be forced."""

from __future__ import annotations

import contextvars
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import numpy as np
import pytest

import sealwax as ocp
from sealwax import effects as e
from sealwax import errors
from sealwax.effect_handlers import Handler
from sealwax.runtime import exits
from sealwax.runtime.moments import Moment
from tests.gates import names

QUICK = ocp.Context().at.file.durability.set("atomic")


def state(number: int) -> dict[str, Any]:
    return {"w": np.full(100, number), "step": number}


def step_at(path: Path) -> int | None:
    """Which state is at ``path``; it must be a whole one, with nothing beside it."""
    if not path.exists():
        assert names(path.parent) == []
        return None
    loaded = ocp.load(path)
    np.testing.assert_array_equal(loaded["w"], np.full(100, loaded["step"]))
    assert names(path.parent) == [path.name]
    return loaded["step"]


class At(Handler):
    """Does something before, or after, the effect of a number."""

    def __init__(self, number: int, moment: str, act: Callable[[], Any]) -> None:
        self.number = number
        self.moment = moment
        self.act = act
        self.struck = False
        self._seen = itertools.count()

    async def perform(self, effect: Any, forward: Any) -> Any:
        here = next(self._seen) == self.number
        if here and self.moment == "before":
            await self._strike()
        answer = await forward(effect)
        if here and self.moment == "after":
            await self._strike()
        return answer

    async def _strike(self) -> None:
        self.struck = True
        done = self.act()
        if done is not None:
            await done


def moments() -> Any:
    """Every effect there may be, before and after."""
    return ((number, moment) for number in itertools.count() for moment in ("before", "after"))


@pytest.mark.parametrize("old", [None, 1], ids=["fresh", "overwrite"])
class TestEverywhere:
    """Cancelled at any effect, a save leaves what was there, or it is sealed: nothing else."""

    async def test_a_coroutine(self, tmp_path: Path, old: int | None, anyio_backend: str) -> None:
        outcomes = set[int | None]()
        for number, moment in moments():
            path = tmp_path / f"{number}-{moment}" / "ckpt"
            path.parent.mkdir()
            if old is not None:
                await ocp.aio.save(path, state(old), context=QUICK)
            with anyio.CancelScope() as scope, At(number, moment, scope.cancel) as at:
                await ocp.aio.save(path, state(2), overwrite=old is not None, context=QUICK)
            found = step_at(path)
            assert found == (old if scope.cancelled_caught else 2)
            if not at.struck:
                break
            outcomes.add(found)
        assert outcomes == {old, 2}
        assert number > 10

    @pytest.mark.parametrize("until", ["staged", "captured"])
    async def test_the_start_of_one_in_the_background(
        self, tmp_path: Path, old: int | None, until: Any, anyio_backend: str
    ) -> None:
        """The save goes on where the caller was told of it, and else is given up."""
        for number, moment in moments():
            path = tmp_path / f"{number}-{moment}" / "ckpt"
            path.parent.mkdir()
            if old is not None:
                await ocp.aio.save(path, state(old), context=QUICK)
            token = anyio.lowlevel.current_token()
            response = None
            with anyio.CancelScope() as scope:

                def cancel(scope: Any = scope, token: Any = token) -> None:
                    anyio.from_thread.run_sync(scope.cancel, token=token)

                with At(number, moment, lambda: anyio.to_thread.run_sync(cancel)) as at:
                    response = await ocp.aio.save_async(
                        path, state(2), until=until, overwrite=old is not None, context=QUICK
                    )
                    with anyio.CancelScope(shield=True):
                        await response
            assert response is not None or scope.cancelled_caught
            assert step_at(path) in ({2} if response is not None else {old, 2})
            assert not exits._running
            if not at.struck:
                break
        assert number > 10
        assert not exits._failed

    def test_a_response(self, tmp_path: Path, old: int | None) -> None:
        outcomes = set[int | None]()
        for number, moment in moments():
            path = tmp_path / f"{number}-{moment}" / "ckpt"
            path.parent.mkdir()
            if old is not None:
                ocp.save(path, state(old), context=QUICK)
            there = Moment("response")
            held: list[ocp.AsyncResponse[None]] = []

            async def cancel(there: Moment = there, held: list[Any] = held) -> None:
                with anyio.CancelScope(shield=True):
                    await there.reached()
                held[0].cancel()

            with At(number, moment, cancel) as at:
                held.append(
                    ocp.save_async(
                        path,
                        state(2),
                        until="captured",
                        overwrite=old is not None,
                        context=QUICK,
                    )
                )
                there.set()
            try:
                held[0].result(60)
            except errors.OperationCancelledError:
                outcome = old
            else:
                outcome = 2
            assert step_at(path) == outcome
            if not at.struck:
                break
            outcomes.add(outcome)
        assert outcomes == {old, 2}
        assert not exits._failed


class Stop(Handler):
    """Stops a save before an effect that others may notice, the one of a number among these."""

    KINDS = (e.Look, e.Token, e.MakeDirectory, e.Rename, e.Exchange, e.RemoveTree, e.SyncDirectory)

    def __init__(self, number: int) -> None:
        self.number = number
        self.there = Moment("stop")
        self.go = Moment("go")
        self.struck = False
        self._seen = itertools.count()

    def failed(self, _: BaseException) -> None:
        self.there.set()

    async def perform(self, effect: Any, forward: Any) -> Any:
        if isinstance(effect, self.KINDS) and next(self._seen) == self.number:
            self.struck = True
            self.there.set()
            await self.go.reached()
        return await forward(effect)


@pytest.mark.parametrize(
    ("old", "overwrites"),
    [(False, both) for both in itertools.product([False, True], repeat=2)] + [(True, (True, True))],
)
def test_two_saves_to_one_path_never_mix(
    tmp_path: Path, old: bool, overwrites: tuple[bool, bool]
) -> None:
    """Each stops at some effect; then the first goes on to its end, then the other."""
    for one, two in itertools.product(range(9), repeat=2):
        path = tmp_path / f"{one}-{two}" / "ckpt"
        path.parent.mkdir()
        if old:
            ocp.save(path, state(9), context=QUICK)
        stops = Stop(one), Stop(two)
        saves: list[ocp.AsyncResponse[None]] = []
        for number, stop in enumerate(stops):
            with stop:
                saves.append(attempt(path, number, overwrites[number]))
            saves[number].on_complete(lambda _, s=stop: s.there.set(), on_error=stop.failed)
            assert stop.there.wait(60)
        outcomes: list[Exception | None] = []
        for save, stop in zip(saves, stops, strict=True):
            stop.go.set()
            outcomes.append(end(save))
        check(path, outcomes, overwrites)
    assert not stops[0].struck, "there are more effects to stop at"


def attempt(path: Path, number: int, overwrite: bool) -> ocp.AsyncResponse[None]:
    return ocp.save_async(path, state(number), until="captured", overwrite=overwrite, context=QUICK)


def end(save: ocp.AsyncResponse[None]) -> Exception | None:
    try:
        save.result(60)
    except errors.SealwaxError as error:
        return error
    return None


def check(path: Path, outcomes: list[Any], overwrites: tuple[bool, bool]) -> None:
    """One of the two is there, whole; who failed was told why, and did so with good reason."""
    found = step_at(path)
    assert found in (0, 1)
    assert outcomes[found] is None
    for outcome, overwrite in zip(outcomes, overwrites, strict=True):
        if outcome is not None:
            assert isinstance(outcome, errors.CheckpointExistsError), outcome
            assert not overwrite
            assert outcome.path == str(path)


def test_what_others_put_at_the_path_meanwhile_is_never_removed(tmp_path: Path) -> None:
    """Not even by a third who cleans up at the moment when it lies under a temporary name."""
    path = tmp_path / "ckpt"
    ocp.save(path, state(1))

    class Meddle(Handler):
        async def perform(self, effect: Any, forward: Any) -> Any:
            if not isinstance(effect, e.Exchange):
                return await forward(effect)
            path.rename(tmp_path / "moved")
            path.mkdir()
            (path / "thesis.tex").write_text("precious")
            answer = await forward(effect)
            await anyio.to_thread.run_sync(lambda: others.run(clean))
            return answer

    def clean() -> None:
        ocp.save(path, state(3), overwrite=True)

    others = contextvars.copy_context()
    with Meddle(), pytest.raises(errors.StorageError, match="is not a checkpoint, and is kept"):
        ocp.save(path, state(2), overwrite=True)
    (kept,) = [name for name in names(tmp_path) if ".kept" in name]
    assert (tmp_path / kept / "thesis.tex").read_text() == "precious"
    assert ocp.load(path)["step"] == 3
    assert names(tmp_path) == sorted(["ckpt", "moved", kept])
