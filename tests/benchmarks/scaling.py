"""Draws seconds against leaves and against bytes: ``make bench ARGS=--scaling``."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Samples, time_sides
from tests.benchmarks.table import SIDES
from tests.benchmarks.workloads import MIB, Workload, large_arrays, small_leaves

LEAVES = (10, 100, 1_000, 10_000, 100_000)
BYTES = tuple(MIB << (2 * power) for power in range(7))
_COLOURS = {"sealwax": "#b3202a", "orbax": "#4c72b0", "limit": "#888888"}
_ORBAX_LEAVES = 10_000
"""Orbax took over a quarter of an hour for one round of 100,000, and is left out of them."""
_TOGETHER_BYTES = 1 << 30
"""Each side holds the state, and Orbax three times: more are measured one after the other."""

Curves = dict[str, dict[str, list[tuple[int, float]]]]
"""Medians in seconds by measure and side, over leaves or bytes."""


def curves(folder: Path, *, rounds: int, shrink: int) -> dict[str, Curves]:
    """Measures both axes."""
    leaves = [count for count in LEAVES if count <= max(LEAVES) // shrink]
    sizes = [size for size in BYTES if size <= max(BYTES) // shrink]
    by_leaves = {n: _workload(f"{n:,} leaves", small_leaves(n), packed=True) for n in leaves}
    by_bytes = {
        size: _workload(f"{size // MIB:,} MiB", large_arrays(1, size // MIB)) for size in sizes
    }
    return {
        "leaves of 1 KiB": _measured(by_leaves, folder, rounds),
        "bytes in one array": _measured(by_bytes, folder, rounds),
    }


def _workload(title: str, abstract: Any, *, packed: bool = False) -> Workload:
    return Workload(name="", title=title, abstract=abstract, packed=packed)


def _measured(workloads: dict[int, Workload], folder: Path, rounds: int) -> Curves:
    found: Curves = {measure: {side: [] for side in SIDES} for measure in ("save", "load")}
    for amount, workload in workloads.items():
        print(f"measuring {workload.title} ...", flush=True)
        samples: Samples = {}
        for sides in _groups(amount, packed=workload.packed):
            samples |= time_sides(
                workload, folder, rounds=rounds, shrink=1, sides=sides, besides=()
            )
        for (measure, side), values in samples.items():
            if measure in found:
                found[measure][side].append((amount, statistics.median(values)))
    return found


def _groups(amount: int, *, packed: bool) -> list[tuple[str, ...]]:
    """The sides that take turns: all, unless that takes too long or too much memory."""
    if packed:
        return [SIDES if amount <= _ORBAX_LEAVES else ("sealwax", "limit")]
    return [SIDES] if amount <= _TOGETHER_BYTES else [(side,) for side in SIDES]


def draw(measured: dict[str, Curves], target: Path) -> None:
    """Draws one panel for each measure and axis, and writes the picture."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, len(measured), figsize=(10, 7), squeeze=False)
    for column, (axis, found) in enumerate(measured.items()):
        for row, (measure, by_side) in enumerate(found.items()):
            panel = panels[row][column]
            for side, points in by_side.items():
                panel.loglog(*zip(*points, strict=True), "o-", label=side, color=_COLOURS[side])
            panel.set(xlabel=axis, ylabel=f"seconds to {measure}")
            panel.grid(visible=True, which="major", alpha=0.3)
    panels[0][0].legend(frameon=False)
    figure.tight_layout()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
    plt.close(figure)
