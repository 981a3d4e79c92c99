"""What happens when the interpreter exits: nothing is lost in silence.

Operations run in threads that the interpreter waits for. When they have ended, failures that
nobody asked for are printed, and the exit status is not zero.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from typing import TextIO

_STATUS = 74  # EX_IOERR of sysexits.h
_lock = threading.Lock()
_failures: dict[int, tuple[object, str, BaseException]] = {}


def failed(owner: object, name: str, error: BaseException) -> None:
    """Remembers a failure until somebody asks for it."""
    with _lock:
        _failures[id(owner)] = owner, name, error


def reported(owner: object) -> None:
    """Forgets a failure: somebody was told of it."""
    with _lock:
        _failures.pop(id(owner), None)


def _report(stream: TextIO) -> bool:
    with _lock:
        pending = list(_failures.values())
        _failures.clear()
    for _, name, error in pending:
        print(f"sealwax: a {name} failed, and nobody asked for its result:", file=stream)
        traceback.print_exception(error, file=stream)
    return bool(pending)


def _at_exit() -> None:
    if not _report(sys.stderr):
        return
    # An exit function cannot set the exit status. What the others have to do is done first.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(_STATUS)


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    _failures.clear()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_forget)
