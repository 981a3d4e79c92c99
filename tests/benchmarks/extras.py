"""What no single state shows: importing, growth, Orbax's checkpoints, what repeats."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

import sealwax
from tests.benchmarks.measure import (
    Samples,
    abstract,
    check,
    in_turn,
    one_round,
    size,
    timed,
)
from tests.benchmarks.sides import LIBRARIES, library
from tests.benchmarks.table import Row, rows_of
from tests.benchmarks.workloads import WORKLOADS, Budget, Workload, fill, small_leaves

_IMPORT = """
import time, jax, tensorstore
began = time.perf_counter()
import {module}
print(time.perf_counter() - began)
"""
_READ = ("small-1k", "large-f32", "large-bf16", "single", "transformer")
_SAVES = 4
_FEWER, _MANY = (1_000, 10_000), 100_000


def rows(folder: Path, *, rounds: int, shrink: int) -> Iterator[list[Row]]:
    """Measures all of them, one table after another."""
    yield importing(rounds)
    yield from growing(folder, rounds, shrink)
    for workload in WORKLOADS:
        if workload.name in _READ:
            yield reading_orbax(workload, folder, rounds, shrink)
    yield repeating(folder, rounds, shrink)


def importing(rounds: int) -> list[Row]:
    """How much longer a start takes than that of JAX and TensorStore, in fresh processes."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def start(module: str) -> dict[str, float]:
        command = [sys.executable, "-c", _IMPORT.format(module=module)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        return {"import": float(done.stdout.split()[-1])}

    starts = {side: functools.partial(start, module) for side, module in LIBRARIES.items()}
    samples = in_turn(starts, rounds)
    return rows_of(_named("after jax and tensorstore", {"import": Budget(at_most=0.200)}), samples)


def growing(folder: Path, rounds: int, shrink: int) -> Iterator[list[Row]]:
    """100,000 leaves beside a hundred times 1,000 and ten times 10,000: what is in step is 1.

    The plan of a save alone may take 10 us for each leaf.
    """
    many = _MANY // shrink
    counts = {f"{count:,}": count for count in (*_FEWER, many)}
    turns = {
        name: functools.partial(_grown, fill(small_leaves(count)(1)), folder)
        for name, count in counts.items()
    }
    samples = in_turn(turns, rounds)
    budgets = {measure: Budget(within_limit=1.5) for measure in ("save", "load", "blocked")}
    budgets["plan"] = Budget(within_limit=1.5, at_most=10e-6 * many)
    for few in _FEWER:
        times = many / few
        beside: Samples = {}
        for (measure, name), values in samples.items():
            if counts[name] == many:
                beside[measure, "sealwax"] = values
            elif counts[name] == few:
                beside[measure, "limit"] = [times * value for value in values]
        title = f"{many:,} leaves; the limit: {times:g} x {few:,}"
        yield rows_of(_named(title, budgets), beside)


def _grown(state: Any, folder: Path) -> dict[str, float]:
    path = folder / "grown"
    planned = {"plan": timed(lambda: sealwax.plan_save(path, state))}
    return planned | one_round(library("sealwax"), state, path, ("blocked",))


def reading_orbax(workload: Workload, folder: Path, rounds: int, shrink: int) -> list[Row]:
    """Both libraries load what Orbax has written."""
    path, state = folder / "of-orbax", workload.build(shrink)
    wanted = abstract(state)
    library("orbax").save(path, state)

    def read(name: str) -> dict[str, float]:
        load = library(name).load
        return {"load of Orbax's": timed(lambda: jax.block_until_ready(load(path, wanted)))}

    for name in LIBRARIES:
        check(library(name), path, state)
    samples = in_turn({name: functools.partial(read, name) for name in LIBRARIES}, rounds)
    shutil.rmtree(path)
    budgets = {"load of Orbax's": Budget(faster_than_orbax=1.5)}
    return rows_of(_named(workload.title, budgets), samples)


def repeating(folder: Path, rounds: int, shrink: int) -> list[Row]:
    """Four saves, each with one leaf in twenty changed: their time, and what they could share.

    To save what changes is no other work than to save what stays, so that what the budget leaves
    over one is for the noise of the machine.
    """
    transformer = next(each for each in WORKLOADS if each.name == "transformer")
    leaves, treedef = jax.tree.flatten(transformer.build(shrink))
    states = [leaves]
    while len(states) < _SAVES:
        states.append([leaf + 1 if n % 20 == 0 else leaf for n, leaf in enumerate(states[-1])])
    jax.block_until_ready(states)
    distinct = {id(leaf): leaf.nbytes for state in states for leaf in state}

    def save(side: str, several: list[list[Any]]) -> dict[str, float]:
        found = {"4 saves": 0.0, "size of 4 saves": 0.0}
        for number, state in enumerate(several):
            path, tree = folder / str(number), treedef.unflatten(state)
            found["4 saves"] += timed(lambda path=path, tree=tree: library(side).save(path, tree))
            found["size of 4 saves"] += size(path)
            shutil.rmtree(path)
        return found

    turns: dict[str, Callable[[], dict[str, float]]] = {
        "sealwax": lambda: save("sealwax", states),
        "orbax": lambda: save("orbax", states),
        "limit": lambda: save("sealwax", [leaves] * _SAVES),
    }
    samples = in_turn(turns, rounds)
    samples["size of 4 saves", "limit"] = [float(sum(distinct.values()))]
    budgets = {"4 saves": Budget(within_limit=1.1)}
    title = "one leaf in 20 changes; the limit: saves of what stays, bytes that differ"
    return rows_of(_named(title, budgets), samples)


def _named(title: str, budgets: dict[str, Budget]) -> Workload:
    """A workload that is only a name in the table."""
    return Workload(name="", title=title, abstract=lambda shrink: None, budgets=budgets)
