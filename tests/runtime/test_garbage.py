"""Pausing the collector: nested, by several threads, and never against the program's own wish."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

from sealwax.arrays.dtypes import storage_dtype
from sealwax.arrays.forms import WHOLE, Form, Shard
from sealwax.arrays.regions import Region
from sealwax.effects import Slab, WriteBatch
from sealwax.runtime import exits, garbage
from sealwax.runtime.datafiles import write_batch
from tests.gates import eventually


@pytest.fixture(autouse=True)
def _collecting(monkeypatch: pytest.MonkeyPatch):
    """No other test's operation pauses it, and no pause is too long unless a test says so."""
    eventually(lambda: not exits._running)
    monkeypatch.setattr(garbage, "_LONGEST", math.inf)
    gc.enable()
    yield
    gc.enable()


def test_the_collector_runs_again_when_the_last_block_is_left():
    with garbage.paused():
        with garbage.paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    with garbage.paused():
        assert not gc.isenabled()
    assert not gc.isenabled()


def test_an_error_does_not_leave_it_off():
    with pytest.raises(KeyError), garbage.paused():
        raise KeyError
    assert gc.isenabled()


def test_blocks_of_two_threads_are_one_pause():
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with garbage.paused():
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(60)
    with garbage.paused():
        pass
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()


def test_few_records_are_no_reason_for_a_pause():
    with garbage.paused(10):
        assert gc.isenabled()
    with garbage.paused(10_000):
        assert not gc.isenabled()


class Disk:
    """A file system and its only file: it notes whether the collector runs while it is written."""

    def __init__(self) -> None:
        self.collecting: set[bool] = set()

    def create(self, path: str) -> Disk:
        return self

    def write(self, parts: list[memoryview]) -> int:
        self.collecting.add(gc.isenabled())
        return sum(part.nbytes for part in parts)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("leaves", [3, 3000])
def test_only_a_batch_of_many_leaves_is_written_in_a_pause(leaves: int):
    shape = (16,)
    shards = (Shard(WHOLE, Region.whole(shape)),)
    form = Form(shape, storage_dtype(np.uint8), shape, shards, on_host=True, value_type="jax.Array")
    batch = WriteBatch(
        path="/d/0",
        name="d/0",
        slabs=tuple(Slab(leaf, 0, 0, 1) for leaf in range(leaves)),
        forms=(form,) * leaves,
        buffers=[np.zeros(shape, np.uint8)] * leaves,
        compressed=(),
        nbytes=16 * leaves,
        sync=False,
    )
    disk: Any = Disk()
    assert len(write_batch(batch, disk)) == leaves
    assert disk.collecting == {leaves < 100}


def test_blocks_that_go_on_overlapping_do_not_keep_it_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(garbage, "_LONGEST", 0)
    blocks = [contextlib.ExitStack() for _ in range(4)]
    for block in blocks:
        block.enter_context(garbage.paused())
    assert not gc.isenabled()
    for block in blocks[:-1]:
        block.close()
        assert gc.isenabled()
    gc.disable()
    blocks[-1].close()
    assert not gc.isenabled()


def interrupted_at(number: int, act: Callable[[], None]) -> bool:
    """Pauses, with ``act`` before its line of this number; whether there are as many."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename != garbage.__file__:
            return None
        if event == "line":
            count += 1
            if count == number:
                act()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with garbage.paused():
            pass
    finally:
        sys.settrace(before)
    return count >= number


@pytest.mark.parametrize("collecting", [True, False])
def test_a_signal_handler_that_pauses_may_come_between_any_two_lines(collecting: bool):
    def handler() -> None:
        with garbage.paused(), garbage.paused():
            pass

    (gc.enable if collecting else gc.disable)()
    number = 1
    while interrupted_at(number, handler):
        assert gc.isenabled() == collecting
        number += 1
    assert number > 10


def test_an_interruption_while_a_block_is_entered_does_not_leave_it_off():
    def interrupt() -> None:
        raise KeyboardInterrupt

    lines = range(1, 9)  # those before the block, which is where Python itself leaves it properly
    for number in lines:
        with pytest.raises(KeyboardInterrupt):
            interrupted_at(number, interrupt)
        assert gc.isenabled()
        with garbage.paused():
            assert not gc.isenabled()
        assert gc.isenabled()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_forked_process_does_not_wait_for_the_parents_blocks():
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with garbage.paused():
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(60)
    child = os.fork()
    if not child:
        collecting = gc.isenabled()
        with garbage.paused():
            collecting = collecting and not gc.isenabled()
        os._exit(not (collecting and gc.isenabled()))
    _, status = os.waitpid(child, 0)
    leave.set()
    thread.join()
    assert status == 0
