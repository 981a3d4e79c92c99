"""Prints the table of `make bench`: sealwax beside Orbax v1 beside the raw limit.

Every round saves and loads with each side in turn, so that a slow moment of the machine meets
all of them. The columns show medians and half the range; the ratios are ratios of medians.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax

import sealwax
from tests.benchmarks import extras, scaling
from tests.benchmarks.measure import BESIDES, Samples, drop_caches, peak, time_sides
from tests.benchmarks.table import SIDES, Row, render, rows_of
from tests.benchmarks.workloads import WORKLOADS, Workload

EXTRAS = "extras"
_ROUNDS = 5


def machine() -> dict[str, Any]:
    """Describes what the numbers depend on."""
    packages = ("orbax-checkpoint", "jax", "tensorstore", "numpy")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _field("/proc/cpuinfo", "model name"),
        "cpus": os.cpu_count(),
        "load before": os.getloadavg()[0],
        "memory": _field("/proc/meminfo", "MemTotal"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "devices": [str(device) for device in jax.devices()],
        "sealwax": sealwax.__version__,
        **{name: importlib.metadata.version(name) for name in packages},
    }


def _field(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith(name)), "unknown")


def memory_of(workload: Workload, folder: Path, *, shrink: int) -> Samples:
    """Finds the peak of memory of each side, saving and loading; in bytes."""
    return {
        (f"peak {action}", side): [peak(workload, side, action, folder, shrink)]
        for action in ("save", "load")
        for side in SIDES
    }


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks", description="Measures sealwax beside Orbax and the limit."
    )
    names = [*(workload.name for workload in WORKLOADS), EXTRAS]
    parser.add_argument("--quick", action="store_true", help="small sizes, three rounds")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=names,
        default=names,
        metavar="WORKLOAD",
        help=f"some of: {', '.join(names)}",
    )
    parser.add_argument("--scaling", action="store_true", help="draw how times grow, instead")
    parser.add_argument(
        "--picture", type=Path, default=Path("docs/scaling.png"), help="where the drawing goes"
    )
    parser.add_argument("--rounds", type=int, help="how often; five, or three with --quick")
    parser.add_argument("--no-cold", action="store_true", help="leave out loads from the disk")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks of memory")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("build/bench"),
        help="where to write; on the disk to be measured",
    )
    parser.add_argument(
        "--json", type=Path, default=Path("build/bench.json"), help="where the numbers go"
    )
    return parser.parse_args()


def main() -> None:
    """Measures what the command line asks for, prints the tables and writes the numbers."""
    options = arguments()
    shrink = 16 if options.quick else 1
    rounds = options.rounds or (3 if options.quick else _ROUNDS)
    facts = machine() | {"rounds": rounds, "shrink": shrink}
    cold = not options.no_cold and drop_caches()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.scaling:
        scale(options, facts)
        return
    folder = Path(tempfile.mkdtemp(dir=options.folder)).resolve()
    rows: list[Row] = []
    try:
        for workload in WORKLOADS:
            if workload.name in options.only:
                print(f"measuring {workload.title} ...", flush=True)
                samples: Samples = {}
                if workload.timed:
                    besides = BESIDES if cold else ("blocked",)
                    samples |= time_sides(
                        workload, folder, rounds=rounds, shrink=shrink, besides=besides
                    )
                if not options.no_memory:
                    samples |= memory_of(workload, folder, shrink=shrink)
                rows += show(rows_of(workload, samples))
        if EXTRAS in options.only:
            for found in extras.rows(folder, rounds=rounds, shrink=shrink):
                rows += show(found)
    finally:
        shutil.rmtree(folder)
    report(rows, options, facts | {"cold": cold})


def show(rows: list[Row]) -> list[Row]:
    """Prints a table, if there is anything in it."""
    if rows:
        print(f"\n{render(rows)}\n", flush=True)
    return rows


def scale(options: argparse.Namespace, facts: dict[str, Any]) -> None:
    """Measures how times grow, and draws it."""
    folder = Path(tempfile.mkdtemp(dir=options.folder)).resolve()
    try:
        measured = scaling.curves(folder, rounds=facts["rounds"], shrink=facts["shrink"])
    finally:
        shutil.rmtree(folder)
    scaling.draw(measured, options.picture)
    write(options.json, {"machine": facts, "scaling": measured})
    print(f"picture: {options.picture}")


def report(rows: list[Row], options: argparse.Namespace, facts: dict[str, Any]) -> None:
    """Prints what was missed and the conditions of the measurement, and writes the numbers."""
    missed = [f"{row.workload}, {row.measure}: {text}" for row in rows for text in row.misses]
    met = sum(len(row.passes) for row in rows)
    print("\n".join(("missed:", *missed)) if missed else f"all {met} budgets measured were met")
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    if facts["shrink"] > 1:
        print(f"Sizes were divided by {facts['shrink']}; the budgets are meant for the full sizes.")
    if facts["rounds"] < _ROUNDS:
        print(f"The budgets are meant for medians of at least {_ROUNDS} rounds.")
    if not (facts["cold"] or options.no_cold):
        print("No loads from the disk: /proc/sys/vm/drop_caches cannot be written here.")
    write(options.json, {"machine": facts, "rows": [dataclasses.asdict(row) for row in rows]})


def write(target: Path, numbers: dict[str, Any]) -> None:
    """Writes the numbers as JSON."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(numbers, indent=2) + "\n")
    print(f"numbers: {target}")


if __name__ == "__main__":
    main()
