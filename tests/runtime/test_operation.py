"""The deadline of an operation, which counts from its call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

import sealwax as ocp
from sealwax import effects as e
from sealwax.effect_handlers import Handler, inject
from sealwax.errors import InternalError, OperationTimeoutError
from sealwax.runtime.handlers import Forward
from tests.clocks import Late, put_forward
from tests.gates import gate, names

STATE = {"w": np.arange(1000), "step": 1}
pytestmark = pytest.mark.usefixtures("anyio_backend")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


def within(seconds: float) -> ocp.Context:
    return ocp.Context().at.asynchronous.timeout_secs.set(seconds)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (e.Look, "(under way: look at {path})"),
        (e.ListDirectory, "(under way: list {above})"),
        (e.Stage, "effects done; under way: bring 2 leaves to the host"),
        (e.MakeDirectory, "effects done; under way: make directory {path}.orbax-checkpoint-tmp"),
        (e.WriteBatch, "effects done; under way: write 2 leaves to {path}.orbax-checkpoint-tmp"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
async def test_it_names_what_a_save_waited_for(path: Path, kind: type[Any], what: str) -> None:
    with Late(kind, seconds=400), pytest.raises(OperationTimeoutError) as caught:
        await ocp.aio.save(path, STATE, context=within(400))
    assert "The save took longer than 400 s and was given up" in str(caught.value)
    assert what.format(path=path, above=path.parent) in str(caught.value)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.path == str(path)
    assert names(path.parent) == []


@pytest.mark.parametrize("kind", [e.Look, e.ReadFile, e.ReadBatch])
async def test_it_is_that_of_loads_too(path: Path, kind: type[Any]) -> None:
    await ocp.aio.save(path, STATE)
    late, took = Late(kind, seconds=400), "load took longer than 400 s"
    with late, pytest.raises(OperationTimeoutError, match=took):
        await ocp.aio.load(path, context=within(400))


async def test_it_names_what_a_thread_was_busy_with(path: Path) -> None:
    class Busy(Late):
        async def take(self, seconds: float) -> None:
            await anyio.to_thread.run_sync(anyio.from_thread.run_sync, put_forward, seconds)

    busy, what = Busy(e.Stage, seconds=400), "under way: bring 2 leaves to the"
    busy.open()
    with busy, pytest.raises(OperationTimeoutError, match=what):
        await ocp.aio.save(path, STATE, context=within(400))
    assert names(path.parent) == []


async def test_observing_and_acting_share_it(path: Path) -> None:
    """Half of it for each would be too long together."""
    observing = Late(e.Now, seconds=500)
    observing.open()
    with (
        observing,
        Late(e.WriteBatch, seconds=500),
        pytest.raises(OperationTimeoutError, match="under way: write 2 leaves"),
    ):
        await ocp.aio.save(path, STATE, context=within(800))
    assert observing.hits == 1


async def test_what_undoing_could_not_do_is_a_note(path: Path) -> None:
    refused = OSError(13, "Permission denied")
    with (
        Late(e.WriteBatch, seconds=400),
        inject(e.RemoveTree, error=refused),
        pytest.raises(OperationTimeoutError) as caught,
    ):
        await ocp.aio.save(path, STATE, context=within(400))
    (note,) = caught.value.__notes__
    assert note.startswith("Could not remove")
    assert "Permission denied" in note


async def test_the_callers_own_deadline_is_the_callers(path: Path) -> None:
    with gate(e.WriteBatch), anyio.move_on_after(0.05) as scope:
        await ocp.aio.save(path, STATE, context=within(50))
    assert scope.cancelled_caught
    assert names(path.parent) == []


class Broken(Handler):
    """Raises at effects of one kind."""

    def __init__(self, kind: type[Any], error: BaseException) -> None:
        self.kind = kind
        self.error = error

    async def perform(self, effect: e.Effect, forward: Forward) -> Any:
        if isinstance(effect, self.kind):
            raise self.error
        return await forward(effect)


KINDS = pytest.mark.parametrize("kind", [e.Look, e.Stage, e.WriteBatch, e.Rename])


class TestWhatAHandlerRaises:
    """Whatever it is, the save ends at once with it, and leaves nothing."""

    @KINDS
    def test_a_cancellation_of_its_own_ends_the_save(self, path: Path, kind: type[Any]) -> None:
        with Broken(kind, asyncio.CancelledError()), pytest.raises(InternalError) as caught:
            ocp.save(path, STATE, context=within(60))
        assert "what performs it was cancelled, and the save was not" in str(caught.value)
        assert caught.value.__notes__ == [
            "What the effect handler Broken raised or answered may be the cause."
        ]
        assert names(path.parent) == []

    @KINDS
    @pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
    def test_what_ends_a_program_comes_through(
        self, path: Path, kind: type[Any], error: BaseException, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with Broken(kind, error), pytest.raises(type(error)) as caught:
            ocp.save(path, STATE)
        assert caught.value is error
        assert names(path.parent) == []
        assert capfd.readouterr().err == ""

    def test_an_operation_that_does_not_begin_ends_what_has(self, path: Path) -> None:
        ended: list[str] = []

        class Whole(Broken):
            @contextlib.contextmanager
            def operation(self) -> Generator[Handler]:
                yield self
                ended.append("first")

        class Never(Broken):
            def operation(self) -> contextlib.AbstractContextManager[Handler]:
                raise ValueError("no operation")

        error = ValueError()
        with Whole(e.Look, error), Never(e.Look, error), pytest.raises(ValueError, match="no oper"):
            ocp.save(path, STATE)
        assert ended == ["first"]
