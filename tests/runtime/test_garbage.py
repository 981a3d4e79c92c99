"""Pausing the collector: nested, by several threads, and never against the program's own wish."""

from __future__ import annotations

import gc
import os
import threading

import pytest

from sealwax.runtime import garbage


@pytest.fixture(autouse=True)
def _collecting():
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
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(10)
    with garbage.paused():
        pass
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_forked_process_does_not_wait_for_the_parents_blocks():
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with garbage.paused():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(10)
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
