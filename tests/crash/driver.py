"""A process that saves in children, which are killed; run as a script by the tests beside it.

It forks before JAX starts a backend, so that a kill costs a fork and not an import of JAX. The
children die; what they left is judged by the process that started this one.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import sealwax
from sealwax.effect_handlers import inject
from tests.crash.states import context, state


def report(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit {os.WEXITSTATUS(status)}"


def at_every_effect(base: Path, layout: str, old: str) -> None:
    """Kills a save at its first effect, another at its second, and so on, before and after.

    ``old`` is a checkpoint to overwrite, or empty. Ends with the first that comes through.
    """

    def killed(number: int, moment: str) -> tuple[int, Path]:
        directory = base / f"{number}-{moment}"
        directory.mkdir(parents=True)
        if old:
            shutil.copytree(old, directory / "c")

        def work() -> None:
            with inject(number, kill=True, moment=moment):
                sealwax.save(
                    directory / "c", state(2), overwrite=bool(old), context=context(layout)
                )

        return fork(work), directory

    for number in itertools.count():
        children = [killed(number, moment) for moment in ("before", "after")]
        endings = [(ending(os.waitpid(child, 0)[1]), where) for child, where in children]
        for how, where in endings:
            report(directory=str(where), ending=how)
        if all(how == "exit 0" for how, _ in endings):
            return


def at_random_times(base: Path, seed: str, kills: str, fresh: str) -> None:
    """Kills, at times drawn from ``seed``, processes that save one state after another.

    Each goes on where the one before it was killed: over the same path, or to ``fresh`` ones.
    """
    base.mkdir(parents=True)
    rng = random.Random(int(seed))
    number = 0
    for _ in range(int(kills)):
        reading, writing = os.pipe()
        first = number + 1

        def work(first: int = first, writing: int = writing) -> None:
            for step in itertools.count(first):
                path = base / (f"c{step}" if fresh else "c")
                sealwax.save(path, state(step), overwrite=not fresh)
                os.write(writing, b"%d\n" % step)

        child = fork(work)
        os.close(writing)
        # The first save of a process includes the start of JAX: some die in it, most after it.
        if rng.random() < 0.8:
            select.select([reading], [], [], 60)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        how = ending(os.waitpid(child, 0)[1])
        with os.fdopen(reading) as lines:
            told = [int(line) for line in lines.read().split()]
        report(ending=how, acknowledged=told)
        # Whoever was killed may have sealed one more than it could tell.
        number = max(told, default=number) + bool(fresh)


if __name__ == "__main__":
    what, place, *rest = sys.argv[1:]
    {"effects": at_every_effect, "random": at_random_times}[what](Path(place), *rest)
