"""What no single state shows: planning, importing, growth, Orbax's checkpoints, what repeats."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import msgspec

import sealwax
from sealwax.layouts import manifest
from tests.benchmarks.measure import Samples, abstract
from tests.benchmarks.sides import LIBRARIES, library
from tests.benchmarks.table import Row, rows_of
from tests.benchmarks.workloads import WORKLOADS, Budget, Workload, small_leaves

_IMPORT = """
import time, jax, tensorstore
began = time.perf_counter()
import {module}
print(time.perf_counter() - began)
"""
_READ = ("small-1k", "large-f32", "large-bf16", "single", "transformer")
_SAVES = 4
_FEW, _MANY = 1_000, 100_000


def rows(folder: Path, *, rounds: int, shrink: int) -> Iterator[list[Row]]:
    """Measures all of them, one table after another."""
    yield importing(rounds)
    yield planning(rounds, shrink)
    yield growing(folder, rounds, shrink)
    for workload in WORKLOADS:
        if workload.name in _READ:
            yield reading_orbax(workload.title, workload.build(shrink), folder, rounds)
    yield repeating(folder, shrink)
    yield changing(folder, rounds, shrink)


def importing(rounds: int) -> list[Row]:
    """How much longer a start takes than that of JAX and TensorStore, in fresh processes."""
    samples: Samples = {("import", side): [] for side in LIBRARIES}
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for number in range(rounds + 1):
        for side, module in LIBRARIES.items():
            command = [sys.executable, "-c", _IMPORT.format(module=module)]
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            if number:  # The first has to compile.
                samples["import", side].append(float(done.stdout.split()[-1]))
    return rows_of(_named("after jax and tensorstore", {"import": Budget(seconds=0.200)}), samples)


def planning(rounds: int, shrink: int) -> list[Row]:
    """Seconds for the plan of a save of 100,000 leaves: 10 us for each."""
    count = _MANY // shrink
    state = small_leaves(count)(1)
    samples: Samples = {("plan", "sealwax"): []}
    for _ in range(rounds):
        plan = functools.partial(sealwax.plan_save, "/no/such/place", state)
        samples["plan", "sealwax"].append(_seconds(plan))
    return rows_of(_named(f"{count:,} leaves", {"plan": Budget(seconds=10e-6 * count)}), samples)


def growing(folder: Path, rounds: int, shrink: int) -> list[Row]:
    """100,000 leaves beside a hundred times 1,000: what grows in step stays at 1."""
    many = _MANY // shrink
    states = {"limit": small_leaves(_FEW)(1), "sealwax": small_leaves(many)(1)}
    samples: Samples = {}
    for _ in range(rounds):
        for side, state in states.items():
            times = many / _FEW if side == "limit" else 1
            for measure, seconds in _once(folder / side, state).items():
                samples.setdefault((measure, side), []).append(times * seconds)
    budgets = {measure: Budget(within_limit=1.5) for measure in ("save", "load", "blocked")}
    title = f"{many:,} leaves beside {many // _FEW:,} x {_FEW:,}, as limit"
    return rows_of(_named(title, budgets), samples)


def _once(path: Path, state: Any) -> dict[str, float]:
    found = {"save": _seconds(lambda: sealwax.save(path, state))}
    found["load"] = _seconds(lambda: jax.block_until_ready(sealwax.load(path)))
    shutil.rmtree(path)
    began = time.perf_counter()
    response = sealwax.save_async(path, state)
    found["blocked"] = time.perf_counter() - began
    response.result()
    shutil.rmtree(path)
    return found


def reading_orbax(title: str, state: Any, folder: Path, rounds: int) -> list[Row]:
    """Both libraries load what Orbax has written."""
    path, wanted = folder / "of-orbax", abstract(state)
    library("orbax").save(path, state)
    samples: Samples = {}
    for _ in range(rounds):
        for side in LIBRARIES:
            read = functools.partial(library(side).load, path, wanted)
            seconds = _seconds(lambda read=read: jax.block_until_ready(read()))
            samples.setdefault(("load of Orbax's", side), []).append(seconds)
    shutil.rmtree(path)
    return rows_of(_named(title, {"load of Orbax's": Budget(faster_than_orbax=1.5)}), samples)


def repeating(folder: Path, shrink: int) -> list[Row]:
    """Four saves, each with one leaf in twenty changed: their size, and that of what differs."""
    transformer = next(each for each in WORKLOADS if each.name == "transformer")
    leaves, treedef = jax.tree.flatten(transformer.build(shrink))
    samples: Samples = {("size of 4 saves", side): [0] for side in (*LIBRARIES, "limit")}
    distinct: dict[tuple[int, int], None] = {}
    for number in range(_SAVES):
        leaves = _changed(leaves) if number else leaves
        for side in LIBRARIES:
            path = folder / f"{side}-{number}"
            library(side).save(path, treedef.unflatten(leaves))
            samples["size of 4 saves", side][0] += _size(path)
            if side == "sealwax":
                distinct |= dict.fromkeys(_chunks(path / "state" / manifest.NAME))
            shutil.rmtree(path)
    samples["size of 4 saves", "limit"] = [sum(length for length, _ in distinct)]
    return rows_of(_named("one leaf in 20 changes; the limit is what differs", {}), samples)


def changing(folder: Path, rounds: int, shrink: int) -> list[Row]:
    """Four saves of a state of which one leaf in twenty changes, beside four of one that stays."""
    transformer = next(each for each in WORKLOADS if each.name == "transformer")
    leaves, treedef = jax.tree.flatten(transformer.build(shrink))
    states = [leaves]
    while len(states) < _SAVES:
        states.append(jax.block_until_ready(_changed(states[-1])))
    samples: Samples = {("save", side): [] for side in ("sealwax", "limit")}
    for _ in range(rounds):
        for side, several in (("sealwax", states), ("limit", [leaves] * _SAVES)):
            total = 0.0
            for number, state in enumerate(several):
                path = folder / f"{side}-{number}"
                save = functools.partial(sealwax.save, path, treedef.unflatten(state))
                total += _seconds(save)
                shutil.rmtree(path)
            samples["save", side].append(total)
    budgets = {"save": Budget(within_limit=1.1)}
    return rows_of(
        _named("4 saves, one leaf in 20 changes; the limit: none does", budgets), samples
    )


def _changed(leaves: list[Any]) -> list[Any]:
    return [leaf + 1 if n % 20 == 0 else leaf for n, leaf in enumerate(leaves)]


def _chunks(path: Path) -> Iterator[tuple[int, int]]:
    body = path.read_bytes()[:-9]
    for row in msgspec.json.decode(body, type=manifest.Item).rows:
        yield from zip(row.chunks[2::4], row.chunks[3::4], strict=True)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _seconds(work: Callable[[], object]) -> float:
    os.sync()
    began = time.perf_counter()
    result = work()
    took = time.perf_counter() - began
    del result
    return took


def _named(title: str, budgets: dict[str, Budget]) -> Workload:
    return Workload(name="", title=title, build=lambda shrink: None, budgets=budgets)
