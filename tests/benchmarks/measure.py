"""Times the sides in turn, and finds the peak of memory in a fresh process for each.

Run as a module with the arguments of `peak_here`, it prints that one number; `peak` does so.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tests.benchmarks.sides import LIBRARIES, Side, library, plain_files
from tests.benchmarks.workloads import WORKLOADS, Workload

# Times in seconds or sizes in bytes, one for each round: {(measure, side): [...]}.
Samples = dict[tuple[str, str], list[float]]


BESIDES = ("cold load", "blocked")
"""What is measured beside saving and loading, unless it is left out."""


def drop_caches() -> bool:
    """Writes out and forgets the page cache, so that reading starts at the disk, if it may."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True


def in_turn(turns: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int) -> Samples:
    """Lets each side measure in turn, round after round, each round starting with another side.

    A round before the first warms up all sides and is forgotten.
    """
    samples: Samples = {}
    names = list(turns)
    for number in range(rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            for measure, value in turns[name]().items():
                if number:
                    samples.setdefault((measure, name), []).append(value)
    return samples


def time_sides(
    workload: Workload,
    folder: Path,
    *,
    rounds: int,
    shrink: int,
    sides: Sequence[str] = (*LIBRARIES, "limit"),
    besides: Sequence[str] = BESIDES,
) -> Samples:
    """Measures all sides in turn.

    Each side has a process of its own, which stays for all rounds: what one leaves in the heap
    would slow down the others, and a program that trains has one of them.
    """
    with contextlib.ExitStack() as stack:
        turns = {
            name: stack.enter_context(_process(name, workload, folder / name, shrink, besides))
            for name in sides
        }
        return in_turn(turns, rounds)


@contextlib.contextmanager
def _process(
    name: str, workload: Workload, path: Path, shrink: int, besides: Sequence[str]
) -> Iterator[Callable[[], dict[str, float]]]:
    """A process for one side; calling what is given lets it go through one round."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(there, name, workload, path, shrink, besides))

    def turn() -> dict[str, float]:
        here.send("go on")
        found = here.recv()
        if isinstance(found, Exception):
            raise found
        return found

    process.start()
    there.close()
    try:
        yield turn
    finally:
        here.close()
        process.join()


def _serve(
    pipe: Connection, name: str, workload: Workload, path: Path, shrink: int, besides: Sequence[str]
) -> None:
    side = side_of(name, workload)
    with contextlib.suppress(EOFError):  # which is how the other end says that it is over
        pipe.recv()
        try:
            tree = jax.block_until_ready(workload.build(shrink))
            side.save(path, tree)
            check(side, path, tree)
            shutil.rmtree(path)
            pipe.send(one_round(side, tree, path, besides))
            while pipe.recv():
                pipe.send(one_round(side, tree, path, besides))
        except (OSError, RuntimeError, ValueError) as error:
            pipe.send(error)


def side_of(name: str, workload: Workload) -> Side:
    """Makes a side by its name."""
    return plain_files(packed=workload.packed) if name == "limit" else library(name)


def check(side: Side, path: Path, tree: Any) -> None:
    """Loads what was saved, and looks whether the bits come back."""
    loaded = side.load(path, abstract(tree))
    for saved, found in zip(jax.tree.leaves(tree), jax.tree.leaves(loaded), strict=True):
        one, other = np.asarray(saved), np.asarray(found)
        if one.dtype != other.dtype or not np.array_equal(one, other):
            raise RuntimeError(f"{side.name} loaded something else than what was saved")


def one_round(side: Side, tree: Any, path: Path, besides: Sequence[str]) -> dict[str, float]:
    """Measures one side once: saving, loading, the size, and what is asked for besides."""
    found = {"save": timed(lambda: side.save(path, tree))}
    found["size"] = size(path)
    wanted = abstract(tree)
    found["load"] = timed(lambda: jax.block_until_ready(side.load(path, wanted)))
    if "cold load" in besides:
        drop_caches()
        found["cold load"] = timed(lambda: jax.block_until_ready(side.load(path, wanted)))
    shutil.rmtree(path)
    if "blocked" in besides and side.save_async is not None:
        waits: list[Callable[[], object]] = []
        found["blocked"] = timed(lambda: waits.append(side.save_async(path, tree)))
        waits.pop()()
        shutil.rmtree(path)
    return found


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes, with nothing left to write or to collect before it."""
    os.sync()
    gc.collect()
    began = time.perf_counter()
    result = work()
    took = time.perf_counter() - began
    del result
    return took


def size(path: Path) -> int:
    """Bytes of all files below a directory."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def abstract(tree: Any) -> Any:
    """Describes a tree by shapes, dtypes and shardings."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )


def peak(workload: Workload, side: str, action: str, folder: Path, shrink: int) -> float:
    """Finds, in a process of its own, how far above the baseline memory goes; in bytes."""
    command = [sys.executable, "-m", __name__, workload.name, side, action, str(folder)]
    done = subprocess.run([*command, str(shrink)], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def peak_here(name: str, side_name: str, action: str, folder: str, shrink: str) -> float:
    """Saves or loads once, and returns the rise of the resident memory over what it was before.

    A tiny checkpoint goes first, so that imports and thread pools do not count.
    """
    workload = next(w for w in WORKLOADS if w.name == name)
    side = side_of(side_name, workload)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        tiny = {"x": jax.numpy.zeros(8)}
        side.save(Path(scratch) / "tiny", tiny)
        side.load(Path(scratch) / "tiny", abstract(tiny))
        tree = jax.block_until_ready(workload.build(int(shrink)))
        path = Path(scratch) / "state"
        if action == "load":
            side.save(path, tree)
        wanted = abstract(tree)
        tree = None if action == "load" else tree
        before = _restart_peak()
        if action == "load":
            kept = jax.block_until_ready(side.load(path, wanted))
        else:
            kept = side.save(path, tree)
        rise = _status("VmHWM") - before
        del kept
        return rise


def _restart_peak() -> int:
    """Gives freed memory back, lets the peak start again there, and returns what is resident."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5\n")
    return _status("VmRSS")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


if __name__ == "__main__":
    print(peak_here(*sys.argv[1:]))
