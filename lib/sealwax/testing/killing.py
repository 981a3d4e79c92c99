"""SIGKILL at effects of a run, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from sealwax.effect_handlers.injecting import Moment
from sealwax.errors import RunFailedError
from sealwax.testing.stops import Run, Stop, Struck, each_stop

_TAIL = 2000
_START_SECONDS = 120.0
_TELL_SECONDS = 10.0


class _Driver:
    """A process that runs the function in children of its own, and has them killed.

    It imports the function's module once and forks for each run, before JAX has started a
    backend: a run costs a fork, and not an import of JAX.
    """

    def __init__(self, run: Run, timeout: float) -> None:
        self._name = getattr(run, "__qualname__", repr(run))
        self._timeout = timeout
        pickled = pickle.dumps(run)
        main = getattr(sys.modules["__main__"], "__file__", None)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed with the driver
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sealwax.testing.driver", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stderr=self._errors,
                start_new_session=True,
            )
        try:
            self._ask((main if b"__main__" in pickled else None, pickled), _START_SECONDS)
        except BaseException:
            self.close()
            raise

    def stop(self, number: int, moment: Moment, place: Path) -> Struck | None:
        """Kills a run at an effect; ``None`` when it came to its end before."""
        struck, status = self._ask((number, moment, str(place)), self._timeout)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and struck is not None:
            return struck
        if status == 0 and struck is None:
            return None
        raise self._failed("failed by itself")

    def close(self) -> None:
        """Ends the process, and whatever it still runs."""
        self._connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._errors.close()

    def _ask(self, request: object, timeout: float) -> Any:
        try:
            self._connection.send(request)
            if not self._connection.poll(timeout):
                raise self._failed(f"did not end within {timeout:g} s")
            return self._connection.recv()
        except (EOFError, ConnectionError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it has more to say
                self._process.wait(_TELL_SECONDS)
            raise self._failed("could not be started") from error

    def _failed(self, how: str) -> RunFailedError:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        return RunFailedError(
            f"The run of {self._name} that was to be killed {how}",
            found=said[-_TAIL:] or None,
            hint="It must come to its end by itself when nothing stops it.",
        )


def kill_at_every_effect(
    run: Run,
    directory: str | Path,
    *,
    moments: tuple[Moment, ...] = ("before", "after"),
    start: str | Path | None = None,
    timeout: float = 60.0,
) -> Iterator[Stop]:
    """Runs a function in other processes, and kills the first at its first effect, and so on.

    As ``fail_at_every_effect``, but with SIGKILL: nothing is undone, as when the machine takes
    the process away.

    Args:
      run: A function of a module, or anything else that can be pickled. Importing the module must
        not use JAX's devices: the processes are forked after it.
      directory: Where to make a directory for each run.
      moments: When: before the effect, after it, or ``"during"`` it, if it writes.
      start: A directory that each run starts from a copy of; from an empty one by default.
      timeout: Seconds that one run may take.

    Raises:
      RunFailedError: A run failed by itself, or took too long.
    """
    with contextlib.closing(_Driver(run, timeout)) as driver:

        def stop(number: int, moment: Moment, place: Path) -> tuple[Struck, None] | None:
            struck = driver.stop(number, moment, place)
            return None if struck is None else (struck, None)

        yield from each_stop(stop, Path(directory), moments, None if start is None else Path(start))


def kill_at(
    run: Run,
    directory: str | Path,
    number: int,
    *,
    moment: Moment = "before",
    timeout: float = 60.0,
) -> Stop:
    """Runs a function in another process, and kills it at one of its effects.

    Args:
      run: As for ``kill_at_every_effect``.
      directory: What the function is called with.
      number: The number of the effect, counted from 0.
      moment: When: before the effect, after it, or ``"during"`` it, if it writes.
      timeout: Seconds that the run may take.

    Returns:
      What it was killed at.

    Raises:
      RunFailedError: It has not so many effects, failed by itself, or took too long.
    """
    with contextlib.closing(_Driver(run, timeout)) as driver:
        struck = driver.stop(number, moment, Path(directory))
    if struck is None:
        raise RunFailedError(
            "The run came to its end before it could be killed",
            expected=f"more than {number} effects",
            hint="Kill it at an earlier one.",
        )
    return Stop(
        number=number,
        moment=moment,
        kind=struck.kind,
        effect=struck.effect,
        directory=Path(directory),
    )
