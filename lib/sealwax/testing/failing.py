"""An error at every effect of a run."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from sealwax.effect_handlers.injecting import Failure, Moment, inject
from sealwax.effects import Effect
from sealwax.testing.stops import Run, Stop, Strike, Struck, each_stop


def _full(_: Effect) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_at_every_effect(
    run: Run,
    directory: str | Path,
    *,
    error: Failure = _full,
    moments: tuple[Moment, ...] = ("before", "after"),
    start: str | Path | None = None,
) -> Iterator[Stop]:
    """Runs a function again and again: its first effect fails, then its second, and so on.

    After each run that met its error there is a ``Stop``, to look at what the run left behind;
    a run that comes to its end without meeting one is the last.

    Args:
      run: Called with a directory of its own each time.
      directory: Where to make those directories.
      error: What is raised at the effect, or a function that makes it; a full disk by default.
      moments: When: before the effect, after it, or ``"during"`` it, if it writes: then some of
        its files and half of one have been written. Each is a run of its own.
      start: A directory that each run starts from a copy of; from an empty one by default.

    >>> import numpy as np, sealwax as ocp
    >>> def run(directory):
    ...     ocp.save(directory / "step_1", {"w": np.ones(3)})
    >>> for stop in ocp.testing.fail_at_every_effect(run, getfixture("tmp_path")):
    ...     path = stop.directory / "step_1"
    ...     assert not path.exists() or ocp.load(path)["w"].sum() == 3, stop
    ...     assert isinstance(stop.error, OSError)
    """

    def stop(number: int, moment: Moment, place: Path) -> tuple[Struck, Exception | None] | None:
        strike, raised = Strike(number), None
        try:
            with inject(strike, error=error, moment=moment):
                run(place)
        except Exception as caught:
            if strike.struck is None:
                raise
            raised = caught
        return None if strike.struck is None else (strike.struck, raised)

    return each_stop(stop, Path(directory), moments, None if start is None else Path(start))
