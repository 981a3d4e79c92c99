"""Pausing the garbage collector while very many small values are made.

Records of ten thousand leaves set off collections of the whole heap, which find nothing and cost
several times what making the records does.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Generator

_MANY = 256  # records; fewer set off nothing that is worth a pause
_LONGEST = 5.0  # seconds; by then it matters more what the rest of the program leaves behind
_lock = threading.RLock()
_depth = 0
_since = 0.0
_resume = False


@contextlib.contextmanager
def paused(records: int = _MANY) -> Generator[None]:
    """Keeps the collector from running until every such block, of any thread, is left.

    A collector that the program itself has switched off stays off. Blocks that overlap for longer
    than some seconds, as those of a large save in the background do, no longer pause it.

    Args:
      records: How many small values are made in the block: where they are few, it is no pause.
    """
    global _depth, _resume, _since
    if records < _MANY:
        yield
        return
    # A signal may come between any two of these lines, and its handler may save: whatever it then
    # finds here, and even if it raises, the collector must not be left off.
    try:
        with _lock:
            first = not _depth
            _depth += 1
            if first:
                _since, _resume = time.monotonic(), gc.isenabled()
                gc.disable()
        yield
    finally:
        with _lock:
            if _resume and (_depth <= 1 or time.monotonic() - _since >= _LONGEST):
                gc.enable()
                _resume = False
            _depth = max(_depth - 1, 0)


def _forget() -> None:
    """In a forked process: the other threads that were in such a block are not there."""
    global _lock, _depth, _resume
    _lock = threading.RLock()
    if _depth and _resume:
        gc.enable()
    _depth, _resume = 0, False


os.register_at_fork(after_in_child=_forget)
