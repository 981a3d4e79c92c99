"""Turns samples into rows with ratios and verdicts, and rows into a table."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from tests.benchmarks.measure import Samples
from tests.benchmarks.workloads import MIB, Budget, Workload

SIDES = ("sealwax", "orbax", "limit")
MEASURES = {
    "save": "save",
    "load": "load, from the page cache",
    "cold load": "load, from the disk",
    "blocked": "blocked in save_async",
    "load of Orbax's": "load of a checkpoint of Orbax's",
    "plan": "plan a save",
    "import": "import",
    "size": "size on disk",
    "size of 4 saves": "size of 4 saves",
    "peak save": "memory to save",
    "peak load": "memory to load",
}
_HEADINGS = (*SIDES, "Orbax / sealwax", "sealwax / limit", "budget")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measure of one workload.

    Attributes:
      medians: By side; in seconds or bytes.
      spreads: By side; half the range over the median.
      gain: Orbax's median over sealwax's.
      distance: sealwax's median over the limit's.
      misses: The parts of the budget that were not reached, in words.
      passes: Those that were.
    """

    workload: str
    measure: str
    medians: dict[str, float]
    spreads: dict[str, float]
    gain: float | None
    distance: float | None
    passes: tuple[str, ...]
    misses: tuple[str, ...]


def rows_of(workload: Workload, samples: Samples) -> list[Row]:
    """Summarises the samples of one workload."""
    return [
        _row(workload, measure, {s: samples[measure, s] for s in SIDES if (measure, s) in samples})
        for measure in MEASURES
        if any((measure, side) in samples for side in SIDES)
    ]


def _row(workload: Workload, measure: str, samples: dict[str, list[float]]) -> Row:
    medians = {side: statistics.median(values) for side, values in samples.items()}
    spreads = {
        side: (max(values) - min(values)) / 2 / (medians[side] or 1.0)
        for side, values in samples.items()
    }
    gain = _ratio(medians, "orbax", "sealwax")
    in_memory = measure.startswith("peak")  # where the limit may be nothing at all
    distance = None if in_memory else _ratio(medians, "sealwax", "limit")
    budget = workload.budgets.get(measure, Budget())
    judged = _judge(budget, medians["sealwax"], gain, distance)
    return Row(
        workload=workload.title,
        measure=measure,
        medians=medians,
        spreads=spreads,
        gain=gain,
        distance=distance,
        passes=tuple(text for text, reached in judged if reached),
        misses=tuple(text for text, reached in judged if not reached),
    )


def _ratio(medians: dict[str, float], over: str, under: str) -> float | None:
    return medians[over] / (medians[under] or 1.0) if over in medians and under in medians else None


def _judge(
    budget: Budget, median: float, gain: float | None, distance: float | None
) -> list[tuple[str, bool]]:
    judged: list[tuple[str, bool]] = []
    if budget.faster_than_orbax is not None and gain is not None:
        text = f"Orbax / {budget.faster_than_orbax:g}"
        judged.append((text, gain >= budget.faster_than_orbax))
    if budget.within_limit is not None and distance is not None:
        judged.append((f"limit x {budget.within_limit:g}", distance <= budget.within_limit))
    if budget.seconds is not None:
        judged.append((f"{1e3 * budget.seconds:g} ms", median <= budget.seconds))
    return judged


def render(rows: list[Row]) -> str:
    """Draws the rows of one workload as a table in Markdown."""
    return _table((rows[0].workload, *_HEADINGS), [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    in_bytes = row.measure.startswith(("size", "peak"))
    sides = (
        f"{_amount(row.medians[side], in_bytes=in_bytes)} ±{100 * row.spreads[side]:.0f}%"
        if side in row.medians
        else "-"
        for side in SIDES
    )
    ratios = ("-" if r is None else f"{r:.2f}" for r in (row.gain, row.distance))
    verdicts = [f"pass: {text}" for text in row.passes] + [f"MISS: {text}" for text in row.misses]
    return (MEASURES[row.measure], *sides, *ratios, ", ".join(verdicts) or "-")


def _amount(value: float, *, in_bytes: bool) -> str:
    if in_bytes:
        return f"{value / MIB:,.1f} MiB" if value >= MIB else f"{value / 1024:.1f} KiB"
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.1f} ms"


def _table(headings: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    ruled = [headings, tuple("-" * width for width in widths), *lines]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in ruled
    )
