"""Where the time of one operation goes: ``python -m tests.benchmarks.profile small-1k save``.

A handler notes when each effect begins and ends. The lines are medians over several rounds, in
milliseconds since the call: when the first effect of a kind began, when the last one ended, and
for how long any of them was under way. What is left over is for no effect: capture, plan, what is
derived from results, and handing over. With a handler in force nothing is answered early, so the
whole takes longer than the benchmark says.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

import sealwax
from sealwax import effects as e
from sealwax.effect_handlers import Forward, Handler
from tests.benchmarks.measure import abstract
from tests.benchmarks.workloads import WORKLOADS

Span = tuple[float, float]
"""When an effect began and when it ended, in seconds since the call."""


class Timeline(Handler):
    """Notes the time of each effect."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.spans: dict[str, list[Span]] = {}

    async def perform(self, effect: e.Effect, forward: Forward) -> Any:
        """Performs the effect, and notes by the name of its kind how long that took."""
        began = time.perf_counter() - self.began
        try:
            return await forward(effect)
        finally:
            span = began, time.perf_counter() - self.began
            self.spans.setdefault(type(effect).__name__, []).append(span)


def covered(spans: Iterable[Span]) -> float:
    """For how long at least one of them was under way."""
    total = done = 0.0
    for began, ended in sorted(spans):
        total += max(0.0, ended - max(began, done))
        done = max(done, ended)
    return total


def profile(work: Callable[[], object]) -> dict[str, tuple[float, ...]]:
    """Count, begin, end and time under way of each kind of effect, in one call."""
    with Timeline() as timeline:
        jax.block_until_ready(work())
        whole = time.perf_counter() - timeline.began
    kinds = {
        name: (len(spans), min(spans)[0], max(end for _, end in spans), covered(spans))
        for name, spans in timeline.spans.items()
    }
    every = list(itertools.chain.from_iterable(timeline.spans.values()))
    left = whole - covered(every)
    return kinds | {"no effect": (0, 0.0, whole, left), "all": (len(every), 0.0, whole, whole)}


def repeated(action: str, state: Any, path: Path, rounds: int) -> list[dict[str, Any]]:
    """Profiles several saves or loads, after one that warms up."""
    wanted = abstract(state)
    sealwax.save(path, state)

    def once() -> dict[str, Any]:
        if action == "load":
            return profile(lambda: sealwax.load(path, wanted))
        shutil.rmtree(path)
        return profile(lambda: sealwax.save(path, state))

    return [once() for _ in range(rounds + 1)][1:]


def main() -> None:
    """Prints a line for each kind of effect, in the order in which they begin."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.profile", description=__doc__)
    parser.add_argument("workload", choices=[workload.name for workload in WORKLOADS])
    parser.add_argument("action", choices=["save", "load"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--shrink", type=int, default=1, help="divides the sizes")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary one by default")
    asked = parser.parse_args()
    workload = next(each for each in WORKLOADS if each.name == asked.workload)
    state = workload.build(asked.shrink)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        found = repeated(asked.action, state, Path(folder) / "c", asked.rounds)
    lines = {
        name: [statistics.median(column) for column in zip(*(x[name] for x in found), strict=True)]
        for name in found[0]
    }
    print("| effect | how many | first began | last ended | under way |")
    print("| --- | --- | --- | --- | --- |")
    for name, (count, *seconds) in sorted(lines.items(), key=lambda line: line[1][1:3]):
        print(f"| {name} | {count:g} | {' | '.join(f'{1e3 * s:.1f}' for s in seconds)} |")


if __name__ == "__main__":
    main()
