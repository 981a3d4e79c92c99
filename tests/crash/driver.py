"""A process that saves in children, which are killed at random times; run by the tests beside it.

It imports everything and forks before JAX starts a backend, so that a kill costs a fork and not
an import of JAX. Each child first judges what the one before it left behind, then goes on saving
until it is killed itself.
"""

from __future__ import annotations

import dataclasses
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

import jax  # noqa: F401 so that no child has to import it

import sealwax
from tests.crash.states import leftovers, state, step_at


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """Saves of one state after another: to one path, or to a path each.

    Attributes:
      base: Where the checkpoints are.
      overwriting: Whether all go to one path.
      background: Whether they are made by ``save_async``, and two at once where each has a path.
    """

    base: Path
    overwriting: bool
    background: bool

    def path(self, step: int) -> Path:
        return self.base / ("c" if self.overwriting else f"c{step}")

    def judge(self, first: int, told: int) -> None:
        """Holds that every acknowledged state is there, and that all that is there is whole.

        Those before ``first`` were judged and need not be there any more; ``told`` is the last
        acknowledged one.
        """
        if self.overwriting:
            found = step_at(self.path(0))
            assert found in ({told, told + 1} if told else {None, 1}), (found, told)
        else:
            names = (name[1:] for name in os.listdir(self.base) if name[1:].isdigit())
            listed = {int(name) for name in names if int(name) >= first}
            assert listed >= set(range(first, told + 1)), (listed, told)
            assert all(step_at(self.path(step)) == step for step in listed)
        for name in leftovers(self.base):
            assert not sealwax.is_orbax_checkpoint(self.base / name), name

    def go_on(self, first: int, step: int, tell: Callable[[int], None]) -> None:
        """Saves from ``step`` on, for ever; what was sealed without being told of is kept."""
        for old in range(0 if self.overwriting else first):
            shutil.rmtree(self.path(old), ignore_errors=True)
        pending: list[tuple[int, sealwax.AsyncResponse[None] | None]] = []
        while True:
            if self.overwriting or not self.path(step).exists():
                pending.append((step, self._save(step)))
            else:
                pending.append((step, None))
            step += 1
            if len(pending) > (self.background and not self.overwriting):
                saved, response = pending.pop(0)
                if response is not None:
                    response.result()
                # Whatever was left of this path, the save has cleaned it up.
                mine = f"{self.path(saved).name}."
                assert not [name for name in leftovers(self.base) if name.startswith(mine)]
                tell(saved)

    def _save(self, step: int) -> sealwax.AsyncResponse[None] | None:
        path, overwrite = self.path(step), self.overwriting
        if self.background:
            return sealwax.save_async(path, state(step), overwrite=overwrite)
        sealwax.save(path, state(step), overwrite=overwrite)
        return None


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


def killed(series: Series, judged: int, told: int, rng: random.Random) -> tuple[str, list[int]]:
    """Kills one child; how it ended, and what it had acknowledged."""
    reading, writing = os.pipe()

    def work() -> None:
        series.judge(judged + 1, told)
        series.go_on(judged + 1, told + 1, lambda step: os.write(writing, b"%d\n" % step) and None)

    child = fork(work)
    os.close(writing)
    # Some die while they judge or in their first save, most in one that comes after it.
    if rng.random() < 0.8:
        select.select([reading], [], [], 60)
    time.sleep(rng.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    how = ending(os.waitpid(child, 0)[1])
    with os.fdopen(reading) as lines:
        return how, [int(line) for line in lines.read().split()]


def main(base: str, seed: str, kills: str, where: str, how: str) -> None:
    series = Series(
        base=Path(base), overwriting=where == "overwrite", background=how == "background"
    )
    series.base.mkdir(parents=True)
    rng = random.Random(int(seed))
    endings: dict[str, int] = {}
    judged = told = left = 0
    for _ in range(int(kills)):
        ended, steps = killed(series, judged, told, rng)
        endings[ended] = endings.get(ended, 0) + 1
        left += bool(leftovers(series.base))
        # Whoever has told something has judged what was there before.
        judged, told = (told, steps[-1]) if steps else (judged, told)
    json.dump({"endings": endings, "told": told, "left": left}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
