"""What happens when the interpreter exits: nothing is lost in silence.

Jobs run in threads that the interpreter waits for. Afterwards, failures that nobody asked for are
printed, and the exit status is not zero.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from sealwax.errors import InternalError, OperationCancelledError, SealwaxError

if TYPE_CHECKING:
    from sealwax.runtime.background import Job

_STATUS = 74  # EX_IOERR of sysexits.h
_lock = threading.Lock()
_running: set[Job[Any]] = set()
_failed: dict[Job[Any], None] = {}
_exiting = False
_status_is_set = False


def begun(job: Job[Any]) -> None:
    """Remembers a job that must not be lost."""
    with _lock:
        _running.add(job)


def ended(job: Job[Any]) -> None:
    """Remembers a failure until somebody asks for it; whoever cancelled a job knows it."""
    with _lock:
        _running.discard(job)
        lost = job.owed and not isinstance(job.error, OperationCancelledError | None)
        if lost:
            _failed[job] = None
    if lost and _exiting:
        _report(_failures())


def asked(job: Job[Any]) -> None:
    """Forgets a failure: somebody was told of it."""
    with _lock:
        _failed.pop(job, None)


def threads_are_over() -> bool:
    """Whether exit functions run: of a thread that is started now nobody would see the end."""
    main = threading.main_thread()
    return threading.current_thread() is main and not main.is_alive()


def _at_exit() -> None:
    global _exiting
    _exiting = True
    with _lock:
        left = list(_running)
    # The interpreter has waited for all of them, unless Ctrl-C broke that off.
    if left:
        _set_status()
    for job in left:
        job.cancel()
    for job in left:
        job.finished.wait()
        if job.error is not None:
            _report([f"sealwax: the {job.name} was interrupted at exit, and given up.\n"])
    _report(_failures())


def _failures() -> list[str]:
    with _lock:
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
    if not lines:
        return
    _set_status()
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
    global _lock
    _lock = threading.Lock()
    _running.clear()
    _failed.clear()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_forget)
