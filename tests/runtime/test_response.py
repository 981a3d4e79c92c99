"""``AsyncResponse``, and the thread that it stands for."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import signal
import threading
import time

import anyio
import anyio.lowlevel
import numpy as np
import pytest
import trio

import sealwax
from sealwax import effects as e
from sealwax.effect_handlers import inject
from sealwax.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DeadlockError,
    OperationCancelledError,
    OperationTimeoutError,
    StorageError,
)
from sealwax.runtime import background
from sealwax.runtime.background import Job
from sealwax.runtime.response import AsyncResponse
from tests.gates import eventually, gate, names, our_threads


class Work:
    """A job that does what it is told: it waits, then it returns or raises."""

    def __init__(self, outcome: object = None) -> None:
        self.go = threading.Event()
        self.undone = False
        self.outcome = outcome
        self.job = Job(self.run, "job", owed=False)
        self.response = AsyncResponse(self.job)
        self.job.start()

    async def run(self) -> object:
        try:
            while not self.go.is_set():  # noqa: ASYNC110 it is set from other threads
                await anyio.sleep(0.002)
        except BaseException:
            self.undone = True
            raise
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def finish(self) -> None:
        self.go.set()
        self.job.finished.wait()


@pytest.fixture
def work():
    made: list[Work] = []

    def make(outcome: object = None) -> Work:
        made.append(Work(outcome))
        return made[-1]

    yield make
    for one in made:
        one.finish()


def test_a_result_can_be_asked_for_again_and_again(work):
    one = work({"a": 1})
    assert not one.response.done()
    one.finish()
    assert one.response.done()
    assert one.response.result() is one.response.result(timeout=0)


def test_an_error_is_the_same_each_time_and_does_not_grow(work):
    error = StorageError("bad")
    one = work(error)
    one.finish()
    lengths = []
    for _ in range(3):
        with pytest.raises(StorageError) as caught:
            one.response.result()
        assert caught.value is error
        lengths.append(len(caught.traceback))
    assert len(set(lengths)) == 1


def test_a_timeout_leaves_the_operation_alone(work):
    one = work(7)
    with pytest.raises(OperationTimeoutError, match=r"not finished after 0\.01 s; it goes on"):
        one.response.result(timeout=0.01)
    assert not one.response.done()
    one.go.set()
    assert one.response.result(timeout=60) == 7


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_callback_is_called_once_with_the_result(work, late):
    one, calls, errors = work(7), [], []
    if late:
        one.finish()
    one.response.on_complete(calls.append, on_error=errors.append)
    one.finish()
    eventually(lambda: calls)
    one.response.result()
    assert (calls, errors) == ([7], [])


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_an_error_goes_to_the_other_callback_once(work, late):
    error, calls, errors = StorageError("bad"), [], []
    one = work(error)
    if late:
        one.finish()
    one.response.on_complete(calls.append, on_error=errors.append)
    one.response.on_complete(calls.append)
    one.finish()
    eventually(lambda: errors)
    assert (calls, errors) == ([], [error])


def test_a_callback_that_fails_is_logged_and_costs_nothing(work, caplog):
    one, calls = work(7), []

    def fail(_: object) -> None:
        raise ValueError("mine")

    one.response.on_complete(fail)
    one.response.on_complete(calls.append)
    with caplog.at_level(logging.ERROR, "sealwax"):
        one.finish()
        eventually(lambda: calls)
    assert one.response.result() == 7
    assert "mine" in caplog.text
    assert "the operation did not" in caplog.text


def test_a_callback_that_wants_to_exit_keeps_nobody_waiting(work, caplog):
    held, told = work(), []

    def leave(result: object) -> None:
        raise SystemExit(3)

    async def main() -> None:
        waiting = asyncio.ensure_future(held.response._wait())
        await asyncio.sleep(0)
        held.response.on_complete(told.append)
        held.finish()
        await asyncio.wait_for(waiting, 60)

    held.response.on_complete(leave)
    with caplog.at_level(logging.ERROR, logger="sealwax"):
        asyncio.run(main())
    eventually(lambda: told == [None])
    assert "SystemExit: 3" in caplog.text


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("timeout", ["5", True, [1], float("nan"), 1j])
def test_what_is_no_timeout_is_refused_in_any_state(work, timeout, done):
    one = work(7)
    if done:
        one.go.set()
        one.response.result(timeout=60)
    for wait in (one.response.result, one.response.staged.wait, one.response.committed.wait):
        with pytest.raises((ArgumentTypeError, ArgumentValueError), match="number of seconds"):
            wait(timeout)
    one.go.set()
    assert one.response.result(np.float32(60)) == 7


@pytest.mark.parametrize("timeout", [float("inf"), 1e30])
def test_the_longest_timeout_is_none(work, timeout):
    held = work()
    threading.Timer(0.05, held.go.set).start()
    assert held.response.result(timeout) is None


def test_what_an_operation_calls_cannot_wait_for_its_end(tmp_path):
    there = threading.Event()

    def call() -> None:
        there.wait(60)
        response.result()

    context = sealwax.Context()
    context.asynchronous.post_finalization_callback = call
    response = sealwax.save_async(tmp_path / "ckpt", {"step": 1}, context=context)
    there.set()
    with pytest.raises(DeadlockError, match="called waits for the end of the same save_async"):
        response.result(60)
    assert sealwax.load(tmp_path / "ckpt") == {"step": 1}


def test_a_failing_callback_does_not_lose_the_checkpoint(tmp_path, caplog):
    def fail(_: object) -> None:
        raise ValueError("mine")

    with gate(e.Rename) as held:
        response = sealwax.save_async(tmp_path / "c", {"step": 1})
        response.on_complete(fail)
        held.open()
    response.result()
    assert sealwax.load(tmp_path / "c") == {"step": 1}
    eventually(lambda: "mine" in caplog.text)


async def test_it_can_be_awaited(work):
    one, other = work(7), work(StorageError("bad"))
    for each in (one, other):
        each.go.set()
    assert await one.response == 7
    assert await one.response == 7
    with pytest.raises(StorageError):
        await other.response


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_it_can_be_awaited_without_anyio(work, run):
    one = work(7)

    async def main() -> object:
        one.go.set()
        return await one.response

    assert (run(main) if run is trio.run else run(main())) == 7


async def test_the_loop_goes_on_while_it_is_awaited(work):
    one, ticks = work(7), []

    async def tick() -> None:
        for _ in range(5):
            await anyio.sleep(0.001)
            ticks.append(1)
        one.go.set()

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        assert await one.response == 7
    assert len(ticks) == 5


def test_cancelling_stops_and_undoes(work):
    one = work(7)
    one.response.cancel()
    with pytest.raises(OperationCancelledError, match="job was cancelled before it was committed"):
        one.response.result(timeout=60)
    assert one.undone
    one.response.cancel()


def test_cancelling_before_it_has_begun(work):
    job = Job(work().run, "job")
    job.cancel()
    job.start()
    job.finished.wait()
    with pytest.raises(OperationCancelledError):
        job.value()


def test_cancelling_a_save_leaves_nothing(tmp_path):
    with gate(e.WriteBatch) as held:
        response = sealwax.save_async(tmp_path / "c", {"step": 1})
        assert held.arrived.wait(60)
        response.cancel()
        with pytest.raises(OperationCancelledError):
            response.result(timeout=60)
    assert names(tmp_path) == []


def test_cancelling_what_is_sealed_changes_nothing(tmp_path):
    with gate(e.SyncDirectory) as held:
        held.open()
        with inject(
            lambda x: isinstance(x, e.SyncDirectory) and x.path == str(tmp_path), delay=0.1
        ):
            response = sealwax.save_async(tmp_path / "c", {"step": 1})
            eventually(lambda: names(tmp_path) == ["c"])
            response.cancel()
    response.result(timeout=60)
    assert sealwax.load(tmp_path / "c") == {"step": 1}


def test_cancelling_while_the_loop_is_busy_does_not_block():
    """The job's loop must never wait for one who cancels, nor the other way round."""
    busy = threading.Event()

    async def block() -> int:
        busy.set()
        time.sleep(0.1)  # noqa: ASYNC251 that is the point
        return 7

    job = Job(block, "job")
    job.start()
    assert busy.wait(60)
    job.cancel()
    assert job.finished.wait(60)
    assert job.value() == 7


@pytest.mark.parametrize("pause", [0.0, 0.001, 0.003])
def test_cancelling_at_any_time_ends_well(tmp_path, pause):
    for number in range(5):
        response = sealwax.save_async(tmp_path / str(number), {"step": number})
        time.sleep(pause)
        response.cancel()
        try:
            response.result(timeout=60)
        except OperationCancelledError:
            assert str(number) not in names(tmp_path)
        else:
            assert sealwax.load(tmp_path / str(number)) == {"step": number}
    assert all(name.isdigit() for name in names(tmp_path))


# ---------------------------------------------------------------- background.run


def test_running_gives_the_result_or_the_error_and_leaves_no_thread():
    async def one() -> int:
        return 7

    async def bad() -> None:
        raise StorageError("bad")

    assert background.run(one, "one") == 7
    with pytest.raises(StorageError, match="Bad"):
        background.run(bad, "bad")
    eventually(lambda: our_threads() == [])


async def test_running_inside_a_loop_is_allowed():
    async def one() -> int:
        await anyio.lowlevel.checkpoint()
        return 7

    assert background.run(one, "one") == 7


def test_it_runs_in_the_callers_context():
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(3)

    async def read() -> int:
        value = variable.get()
        variable.set(4)
        return value

    assert background.run(read, "read") == 3
    assert variable.get() == 3


@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        ("save", e.Look),
        ("save", e.Stage),
        ("save", e.MakeDirectory),
        ("save", e.WriteFiles),
        ("save_async", e.Look),
        ("save_async", e.Stage),
    ],
)
def test_an_interrupt_leaves_nothing_behind(tmp_path, verb, kind):
    def press() -> None:
        assert held.arrived.wait(60)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    with gate(kind) as held:
        finger = threading.Thread(target=press)
        finger.start()
        with pytest.raises(KeyboardInterrupt):
            getattr(sealwax, verb)(tmp_path / "c", {"step": 1})
        finger.join()
    assert names(tmp_path) == []
    eventually(lambda: our_threads() == [])
    sealwax.save(tmp_path / "c", {"step": 2})
    assert sealwax.load(tmp_path / "c") == {"step": 2}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_interrupt_while_the_thread_starts_leaves_nothing_behind(tmp_path, monkeypatch, moment):
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        monkeypatch.undo()
        if moment == "after":
            original(thread)
        raise KeyboardInterrupt

    with inject(e.Look, delay=0.01):
        monkeypatch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            sealwax.save(tmp_path / "c", {"step": 1})
    assert names(tmp_path) == []
    eventually(lambda: our_threads() == [])
    assert names(tmp_path) == []


def test_a_job_that_was_given_up_before_it_began_never_runs(work):
    ran, one = [], work()

    async def run() -> None:
        ran.append(1)

    job = Job(run, "job")
    job.start = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        job.attend(one.job.finished)
    job._run()
    with pytest.raises(OperationCancelledError):
        job.value()
    assert ran == []
