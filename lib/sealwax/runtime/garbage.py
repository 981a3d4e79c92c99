"""Pausing the garbage collector while very many small values are made.

Records of ten thousand leaves set off collections of the whole heap, which find nothing and cost
several times what making the records does.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Generator

_lock = threading.RLock()
_depth = 0
_resume = False


@contextlib.contextmanager
def paused() -> Generator[None]:
    """Keeps the collector from running until every such block, of any thread, is left.

    A collector that the program itself has switched off stays off.
    """
    global _depth, _resume
    with _lock:
        _depth += 1
        if _depth == 1:
            _resume = gc.isenabled()
            gc.disable()
    try:
        yield
    finally:
        with _lock:
            _depth = max(_depth - 1, 0)
            if _depth == 0 and _resume:
                gc.enable()


def _forget() -> None:
    """In a forked process: the other threads that were in such a block are not there."""
    global _lock, _depth
    _lock = threading.RLock()
    if _depth and _resume:
        gc.enable()
    _depth = 0


os.register_at_fork(after_in_child=_forget)
