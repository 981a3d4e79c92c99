"""Turns samples into rows with ratios and verdicts, and rows into a table."""

from __future__ import annotations

import statistics
from collections.abc import Callable
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
    "4 saves": "4 saves",
    "size of 4 saves": "size of 4 saves",
    "peak save": "memory to save",
    "peak load": "memory to load",
}
_HEADINGS = (*SIDES, "Orbax / sealwax", "sealwax / limit", "at best", "budget")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measure of one workload.

    Attributes:
      samples: By side, in the order of the rounds; in seconds or bytes.
      medians: By side.
      spreads: By side; half the range over the median.
      gain: Orbax's median over sealwax's.
      distance: sealwax's median over the limit's.
      at_best: The least of sealwax's samples over the least of the limit's, which is nearer to the
        truth where one side has met a slow moment of the machine more often.
      passes: The parts of the budget that were reached, in words.
      misses: Those that were not, or that were not measured.
    """

    workload: str
    measure: str
    samples: dict[str, list[float]]
    medians: dict[str, float]
    spreads: dict[str, float]
    gain: float | None
    distance: float | None
    at_best: float | None
    passes: tuple[str, ...]
    misses: tuple[str, ...]


def rows_of(workload: Workload, samples: Samples) -> list[Row]:
    """Summarises the samples of one workload: a row for what was measured, or should have been."""
    measured = {measure for measure, _ in samples} | workload.budgets.keys()
    if unknown := measured - MEASURES.keys():
        raise ValueError(f"the table has no row for {sorted(unknown)}")
    return [
        _row(workload, measure, {s: samples[measure, s] for s in SIDES if (measure, s) in samples})
        for measure in MEASURES
        if measure in measured
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
    least = {side: min(values) for side, values in samples.items()}
    budget = workload.budgets.get(measure, Budget())
    judged = _judge(budget, medians.get("sealwax"), gain, distance, in_bytes=_in_bytes(measure))
    return Row(
        workload=workload.title,
        measure=measure,
        samples=samples,
        medians=medians,
        spreads=spreads,
        gain=gain,
        distance=distance,
        at_best=None if in_memory else _ratio(least, "sealwax", "limit"),
        passes=tuple(text for text, reached in judged if reached),
        misses=tuple(text for text, reached in judged if not reached),
    )


def _ratio(medians: dict[str, float], over: str, under: str) -> float | None:
    return medians[over] / (medians[under] or 1.0) if over in medians and under in medians else None


def _judge(
    budget: Budget,
    median: float | None,
    gain: float | None,
    distance: float | None,
    *,
    in_bytes: bool,
) -> list[tuple[str, bool]]:
    judged: list[tuple[str, bool]] = []

    def judge(text: str, found: float | None, reached: Callable[[float], bool]) -> None:
        judged.append((text, reached(found)) if found is not None else (f"{text} unknown", False))

    if (least := budget.faster_than_orbax) is not None:
        judge(f"Orbax / {least:g}", gain, lambda found: found >= least)
    if (most := budget.within_limit) is not None:
        judge(f"limit x {most:g}", distance, lambda found: found <= most)
    if (ceiling := budget.at_most) is not None:
        judge(_amount(ceiling, in_bytes=in_bytes), median, lambda found: found <= ceiling)
    return judged


def _in_bytes(measure: str) -> bool:
    return measure.startswith(("size", "peak"))


def render(rows: list[Row]) -> str:
    """Draws the rows of one workload as a table in Markdown."""
    return _table((rows[0].workload, *_HEADINGS), [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    sides = (_cell(row, side) if side in row.medians else "-" for side in SIDES)
    ratios = ("-" if r is None else f"{r:.2f}" for r in (row.gain, row.distance, row.at_best))
    verdicts = [f"pass: {text}" for text in row.passes] + [f"MISS: {text}" for text in row.misses]
    return (MEASURES[row.measure], *sides, *ratios, ", ".join(verdicts) or "-")


def _cell(row: Row, side: str) -> str:
    median = _amount(row.medians[side], in_bytes=_in_bytes(row.measure))
    # What was measured once has no spread that could be told.
    return f"{median} ±{100 * row.spreads[side]:.0f}%" if len(row.samples[side]) > 1 else median


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
