"""Answers that come before their effect is done: who may go on with them, and who waits."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import sealwax
from sealwax import effects as e
from sealwax.effect_handlers import Handler
from sealwax.errors import InternalError, StorageError
from sealwax.planning.describe import Description
from sealwax.runtime import early, files
from sealwax.runtime.executor import execute
from tests.gates import open_below
from tests.runtime.plans import UNDO, Performer, plan_of

STATE = {"w": np.arange(4096, dtype=np.float32), "v": np.ones(3, np.int8)}


async def test_what_needs_only_the_answer_goes_on_and_what_comes_after_waits() -> None:
    used = anyio.Event()

    async def answer_first() -> str:
        early.answer("early")
        with anyio.fail_after(60):
            await used.wait()
        return "late"

    async def use() -> None:
        used.set()

    performer = Performer({"0": answer_first, "1": use})
    await execute(plan_of([[], [], [0]], uses={1: 0}), performer)
    assert performer.ended == ["1", "0", "2"]


async def test_both_needs_of_one_step_are_one() -> None:
    async def answer_first() -> None:
        early.answer("early")
        await anyio.lowlevel.checkpoint()

    performer = Performer({"0": answer_first})
    await execute(plan_of([[], [0]], uses={1: 0}), performer)
    assert performer.ended == ["0", "1"]


async def test_what_fails_after_it_answered_fails_the_operation() -> None:
    async def answer_first() -> None:
        early.answer("early")
        raise OSError(errno.EIO, "I/O error")

    performer = Performer({"0": answer_first})
    with pytest.raises(StorageError, match="I/O error"):
        await execute(plan_of([[], []], uses={1: 0}, seal=1), performer)
    assert performer.undone == [UNDO]


class TestASave:
    """A batch of arrays answers when it is written, and is done when the disk has it."""

    def test_derives_what_describes_the_arrays_while_they_are_being_synced(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order: list[str] = []
        plain, item_files = files.sync, Description.item_files
        described = threading.Event()

        def sync(descriptor: int) -> None:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
            if name.endswith("/d/00000000"):
                assert described.wait(60), "nobody went on with the answer"
                order.append("synced")
            plain(descriptor)

        def describe(self: Description, store: object) -> object:
            made = item_files(self, store)  # pyright: ignore[reportArgumentType]
            order.append("described")
            described.set()
            return made

        monkeypatch.setattr(files, "sync", sync)
        monkeypatch.setattr(Description, "item_files", describe)
        sealwax.save(tmp_path / "c", STATE)
        assert order == ["described", "synced"]
        np.testing.assert_array_equal(sealwax.load(tmp_path / "c")["w"], STATE["w"])

    def test_is_not_sealed_where_the_disk_refuses_what_it_took(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = files.sync

        def sync(descriptor: int) -> None:
            if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/d/00000000"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            plain(descriptor)

        monkeypatch.setattr(files, "sync", sync)
        with pytest.raises(StorageError, match="d/00000000"):
            sealwax.save(tmp_path / "c", STATE)
        assert os.listdir(tmp_path) == []
        assert open_below(tmp_path) == []

    def test_goes_on_with_what_a_handler_gives_in_place_of_the_answer(self, tmp_path: Path) -> None:
        class Elsewhere(Handler):
            async def perform(self, effect: e.Effect, forward: object) -> object:
                answer = await forward(effect)  # pyright: ignore[reportCallIssue, reportGeneralTypeIssues]
                if isinstance(effect, e.WriteBatch):
                    seen.append(len(answer))
                    return answer[:-1]
                return answer

        seen: list[int] = []
        with Elsewhere(), pytest.raises(InternalError, match="chunk"):
            sealwax.save(tmp_path / "c", STATE)
        assert seen
        assert os.listdir(tmp_path) == []
