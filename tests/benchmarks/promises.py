"""What durability and integrity cost: ``python -m tests.benchmarks.promises``.

Each pair is sealwax with the promise and without it, interleaved; the ratio is of medians. That
chunks are summed up cannot be turned off for a save, so there the sum is timed by itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import sealwax
from sealwax.checksum import crc32c
from tests.benchmarks.workloads import WORKLOADS, Workload

ATOMIC = sealwax.Context().replace({"file.durability": "atomic"})
TRUSTING = sealwax.Context().replace({"array.loading.verify": "never"})


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - start


def summed(state: Any) -> None:
    """Sums up every byte, as a save does while it writes."""
    for leaf in jax.tree.leaves(state):
        data = memoryview(np.asarray(leaf).reshape(-1).view(np.uint8))
        for start in range(0, len(data), 4 << 20):
            crc32c(data[start : start + (4 << 20)])


def measure(workload: Workload, folder: Path, rounds: int, shrink: int) -> dict[str, float]:
    """The medians of one workload, in seconds."""
    state = workload.build(shrink)
    taken: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        durable, atomic = folder / f"{number}d", folder / f"{number}a"
        works: dict[str, Callable[[], object]] = {
            "durable save": lambda durable=durable: sealwax.save(durable, state),
            "checked load": lambda durable=durable: sealwax.load(durable),
            "trusting load": lambda durable=durable: sealwax.load(durable, context=TRUSTING),
            "verify": lambda durable=durable: sealwax.verify(durable),
            "sums alone": lambda: summed(state),
            # Last, because the disk is at work for a while after it.
            "atomic save": lambda atomic=atomic: sealwax.save(atomic, state, context=ATOMIC),
        }
        for name, work in works.items():
            taken.setdefault(name, []).append(seconds(work))
        sealwax.delete(durable)
        sealwax.delete(atomic)
        os.sync()
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def main() -> None:
    """Prints a row for each workload."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.promises", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shrink", type=int, default=1, help="divides the sizes")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary one by default")
    asked = parser.parse_args()
    print(
        "| work | durable / atomic save | sums / durable save | checked / trusting load | verify |"
    )
    print("| --- | --- | --- | --- | --- |")
    for workload in WORKLOADS:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            found = measure(workload, Path(folder), asked.rounds, asked.shrink)
        durability = found["durable save"] / found["atomic save"]
        sums = found["sums alone"] / found["durable save"]
        checking = found["checked load"] / found["trusting load"]
        print(
            f"| {workload.title} | {durability:.2f} ({found['durable save'] * 1e3:.0f} ms) "
            f"| {sums:.2f} | {checking:.2f} ({found['checked load'] * 1e3:.0f} ms) "
            f"| {found['verify'] * 1e3:.0f} ms |",
            flush=True,
        )


if __name__ == "__main__":
    main()
