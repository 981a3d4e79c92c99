"""What happens when the interpreter exits: nothing is lost in silence, and nothing hangs for ever.

While there are jobs, one thread that is not a daemon keeps the interpreter from exiting. Once the
main thread has ended, it says what it waits for, and gives up a job that has not even ended some
time after its deadline. Afterwards, failures that nobody asked for are printed, and the exit
status is not zero.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sealwax.errors import InternalError, OperationCancelledError, SealwaxError

if TYPE_CHECKING:
    from sealwax.runtime.background import Job

_STATUS = 74  # EX_IOERR of sysexits.h
_PIECE = 0.5
_PATIENCE = 5.0
"""Seconds that an exit waits in silence; the silence after each message is twice as long."""
_GRACE = 10.0
"""Seconds that a job has to clear up after its deadline, or after an interrupt."""

_changed = threading.Condition()
_running: dict[Job[Any], None] = {}
_failed: dict[Job[Any], None] = {}
_before: list[Callable[[], object]] = []
_keeper: threading.Thread | None = None
_exiting = False
_status_is_set = False
_finalizes = False


def begun(job: Job[Any]) -> None:
    """Remembers a job that must not be lost."""
    global _keeper
    _finalize_in_child()
    with _changed:
        _running[job] = None
        if _keeper is None and not threads_are_over():
            _keeper = threading.Thread(target=_keep, name="sealwax exit", daemon=False)
            # Where no thread can be started any more, the job will run in its caller's.
            with contextlib.suppress(RuntimeError):
                _keeper.start()
                return
            _keeper = None


def ended(job: Job[Any]) -> None:
    """Remembers a failure until somebody asks for it; whoever cancelled a job knows it."""
    with _changed:
        _running.pop(job, None)
        lost = job.owed and not isinstance(job.error, OperationCancelledError | None)
        if lost:
            _failed[job] = None
        _changed.notify_all()
    if lost and _exiting:
        _report(_failures())


def asked(job: Job[Any]) -> None:
    """Forgets a failure: somebody was told of it."""
    with _changed:
        _failed.pop(job, None)


def is_owed(job: Job[Any]) -> bool:
    """Whether a job failed, and nobody was told of it yet."""
    with _changed:
        return job in _failed


def before_exit(function: Callable[[], object]) -> None:
    """Calls a function at exit before jobs are waited for: it sees to it that the last begin."""
    if function not in _before:
        _before.append(function)


def threads_are_over() -> bool:
    """Whether exit functions run: of a thread that is started now nobody would see the end."""
    if sys.is_finalizing():  # starting one would not fail then, but wait for ever
        return True
    main = threading.main_thread()
    return threading.current_thread() is main and not main.is_alive()


def _keep() -> None:
    """Keeps the interpreter from exiting while jobs run."""
    global _keeper
    with _changed:
        while _running:
            _changed.wait(_PIECE)
            if not threading.main_thread().is_alive():
                _wait.look()
        _keeper = None


class _Wait:
    """Waiting for jobs at exit, which says what it waits for and ends at their deadlines."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._silence = _PATIENCE

    def until_over(self) -> None:
        """Waits for all jobs, in pieces: a signal is not noticed that comes just before one."""
        with _changed:
            while _running:
                _changed.wait(_PIECE)
                self.look()

    def look(self) -> None:
        """Says what there is to say, and gives up whom it is time to."""
        now = time.monotonic()
        self._began = self._began or now
        for job in list(_running):
            left = job.watch.left()
            if left is not None and left < -_GRACE:
                _give_up(job)
        if _running and now - self._began >= self._silence:
            self._silence = 3 * self._silence
            _print([_waiting(job) for job in _running])


_wait = _Wait()


def _waiting(job: Job[Any]) -> str:
    left = job.watch.left()
    most = "it has no deadline" if left is None else f"for {max(left, 0) + _GRACE:.0f} s at most"
    return f"sealwax: waiting at exit for the {job.name}, {most} ({job.watch.status()}).\n"


def _give_up(job: Job[Any]) -> None:
    _running.pop(job)
    text = f"did not end within {job.watch.seconds:g} s, nor when it was told to"
    _report(
        [f"sealwax: the {job.name} {text}, and is left alone at exit ({job.watch.status()}).\n"]
    )


def _before_join() -> None:
    _settle()
    _wait.until_over()


def _settle() -> None:
    for function in _before:
        function()


def _at_exit() -> None:
    global _exiting
    _exiting = True
    with _changed:
        left = list(_running)
    # The interpreter has waited for all of them, unless Ctrl-C broke that off.
    if left:
        _set_status()
    for job in left:
        job.cancel()
    end = time.monotonic() + _GRACE
    for job in left:
        if not job.finished.wait(max(end - time.monotonic(), 0.0)):
            text = "was interrupted at exit, did not end, and is left alone"
            _report([f"sealwax: the {job.name} {text} ({job.watch.status()}).\n"])
        elif job.error is not None:
            _report([f"sealwax: the {job.name} was interrupted at exit, and given up.\n"])
    _report(_failures())


def _finalize_in_child() -> None:
    """Sees to it that a child of ``multiprocessing`` finishes too: it runs none of ours at exit."""
    global _finalizes
    process: Any = sys.modules.get("multiprocessing.process")
    if _finalizes or process is None or process.parent_process() is None:
        return
    from multiprocessing import util

    _finalizes = True
    # The last of all: what it raises keeps others from being called.
    util.Finalize(None, _at_end_of_child, exitpriority=-(10**9))


def _at_end_of_child() -> None:
    _settle()
    _wait.until_over()
    _report(_failures())
    if not _status_is_set:
        return
    if sys.version_info >= (3, 13):
        # The status is fixed already, and this is the last that is called.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, ValueError):
                stream.flush()
        os._exit(_STATUS)
    if isinstance(sys.exc_info()[1], SystemExit | None):
        raise SystemExit(_STATUS)


def _failures() -> list[str]:
    with _changed:
        jobs = list(_failed)
        _failed.clear()
    lines: list[str] = []
    for job in jobs:
        lines.append(f"sealwax: the {job.name} failed, and nobody asked for its result:\n")
        lines += _explained(job.error)
    return lines


def _explained(error: BaseException | None) -> list[str]:
    """The error as its reader needs it: the traceback of one with a message shows only our own."""
    if isinstance(error, SealwaxError) and not isinstance(error, InternalError):
        return traceback.format_exception_only(error)
    return traceback.format_exception(error)


def _report(lines: list[str]) -> None:
    if lines:
        _set_status()
        _print(lines)


def _print(lines: list[str]) -> None:
    if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr.writelines(lines)
        sys.stderr.flush()


def _set_status() -> None:
    """Makes the process exit with ``_STATUS`` once Python has done all that it does at exit."""
    global _status_is_set
    if _status_is_set:
        return
    _status_is_set = True
    # No exit function of Python can set the status. One of C's runs after them all and can: there
    # ``exit`` does the rest of what it was about to do, and then leaves with the new status.
    library = ctypes.CDLL(None)
    function = ctypes.cast(library.exit, ctypes.c_void_p)
    getattr(library, "__cxa_atexit")(function, ctypes.c_void_p(_STATUS), None)


def _forget() -> None:
    """In a forked process: the parent's jobs are the parent's."""
    global _changed, _keeper, _finalizes, _wait
    _changed = threading.Condition()
    _wait = _Wait()
    _keeper = None
    _finalizes = False
    _running.clear()
    _failed.clear()
    _before.clear()


# Python's own way to wait for threads before it joins them. Without it, the join of the thread that
# keeps the interpreter does the same, except that it may not notice Ctrl-C at once.
_register: Callable[[Callable[[], None]], object] | None
_register = getattr(threading, "_register_atexit", None)
if _register is not None:
    _register(_before_join)
atexit.register(_at_exit)
os.register_at_fork(after_in_child=_forget)
