"""The process that ``sealwax.testing.killing`` starts: it forks children, which are killed."""

from __future__ import annotations

import contextlib
import os
import pickle
import runpy
import sys
import threading
import traceback
import types
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from sealwax.effect_handlers.injecting import Moment, inject
from sealwax.testing.stops import Run, Strike, Struck


def main(descriptor: int) -> None:
    """Serves the process at the other end of a pipe until it hangs up."""
    with Connection(descriptor) as connection:
        path, pickled = connection.recv()
        if path is not None:
            _adopt(path)
        run: Run = pickle.loads(pickled)
        connection.send(None)
        while True:
            try:
                number, moment, place = connection.recv()
            except EOFError:
                return
            connection.send(_killed(run, number, moment, Path(place)))


def _adopt(path: str) -> None:
    """Makes the functions of the caller's script known under the name that they have there."""
    module = types.ModuleType("__main__")
    module.__dict__.update(runpy.run_path(path, run_name="__sealwax_main__"))
    sys.modules["__main__"] = module


def _killed(run: Run, number: int, moment: Moment, place: Path) -> tuple[Struck | None, int]:
    """Runs a function in a child; tells which effect it was killed at, and how it ended."""
    reading, writing = Pipe(duplex=False)
    child = os.fork()
    if not child:
        _child(run, number, moment, place, writing)
    with reading, writing:
        writing.close()
        struck: Struck | None = None
        with contextlib.suppress(EOFError):
            struck = reading.recv()
        return struck, os.waitpid(child, 0)[1]


def _child(run: Run, number: int, moment: Moment, place: Path, writing: Connection) -> None:
    status = 1
    try:
        with inject(Strike(number, writing.send), kill=True, moment=moment):
            run(place)
        # What goes on in the background is a part of the run, and may be where it is killed.
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.current_thread():
                thread.join()
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]))
