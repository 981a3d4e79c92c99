"""Runs that are stopped at one of their effects."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeAlias

from sealwax.effect_handlers.injecting import Moment, beginning
from sealwax.effects import Effect
from sealwax.effects.wording import sentence

Run: TypeAlias = Callable[[Path], object]
"""A function under test: does its work in the directory that it is given, from start to end."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One run that was stopped at an effect.

    Attributes:
      number: Which effect it was, counted from 0 as they were performed.
      moment: Whether it was stopped before that effect, during it, or after.
      kind: The name of the effect's type.
      effect: What the effect does, in words.
      directory: Where the run was at work. It is removed when the next run starts.
      error: What the run raised; ``None`` if it was killed, or came to its end nevertheless.
    """

    number: int
    moment: Moment
    kind: str
    effect: str
    directory: Path
    error: Exception | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """The effect that a run was stopped at."""

    kind: str
    effect: str
    writes: bool


class Strike:
    """Tells effect ``number`` from the others, and remembers what it was."""

    def __init__(self, number: int, met: Callable[[Struck], object] | None = None) -> None:
        self._left = itertools.count(-number)
        self._met = met
        self.struck: Struck | None = None

    def __call__(self, effect: Effect) -> bool:
        if next(self._left):
            return False
        self.struck = Struck(
            kind=type(effect).__name__,
            effect=sentence(effect),
            writes=beginning(effect) is not None,
        )
        if self._met is not None:
            self._met(self.struck)
        return True


def each_stop(
    stop: Callable[[int, Moment, Path], tuple[Struck, Exception | None] | None],
    directory: Path,
    moments: tuple[Moment, ...],
    start: Path | None,
) -> Iterator[Stop]:
    """Stops a run at its first effect, then at its second, and so on, until it comes to its end."""
    for number in itertools.count():
        writes = True
        for moment in moments:
            if moment == "during" and not writes:
                continue
            with _place(directory / f"{number}-{moment}", start) as place:
                met = stop(number, moment, place)
                if met is None:
                    return
                struck, error = met
                writes = struck.writes
                yield Stop(
                    number=number,
                    moment=moment,
                    kind=struck.kind,
                    effect=struck.effect,
                    directory=place,
                    error=error,
                )


@contextlib.contextmanager
def _place(path: Path, start: Path | None) -> Generator[Path]:
    """A directory for one run, which is left for inspection when what looks at it fails."""
    if start is None:
        path.mkdir(parents=True)
    else:
        shutil.copytree(start, path, symlinks=True)
    yield path
    shutil.rmtree(path)
