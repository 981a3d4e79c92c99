"""Kills a training run again and again, and shows that nothing was lost.

Starts `train.py`, ends it four times with SIGKILL (which no program can catch), twice of them in
the middle of a save, and starts it again each time. Then it trains once more without a kill and
compares the two final states bit for bit. `make demo` runs this; it takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from report import draw_losses, sparkline

TRAIN = Path(__file__).with_name("train.py")
Events = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """When to kill: as soon as this step is done, or inside the first save that follows it."""

    after_step: int
    in_save: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A kill that was carried out: the last step done, and the unfinished save it left behind."""

    step: int
    unfinished: str | None


KILLS = (
    Kill(after_step=77, in_save=False),
    Kill(after_step=140, in_save=True),
    Kill(after_step=203, in_save=False),
    Kill(after_step=260, in_save=True),
)


def start(directory: Path, steps: int, pause: float) -> subprocess.Popen[bytes]:
    """Starts one life of the training run."""
    options = ["--steps", str(steps), "--pause", str(pause)]
    return subprocess.Popen([sys.executable, str(TRAIN), str(directory), *options])


def read_events(directory: Path) -> Events:
    """Reads what the run has noted so far, over all its lives."""
    log = directory / "events.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def last_step(directory: Path) -> int:
    """Tells the step that was done last, over all lives."""
    return max((e["step"] for e in read_events(directory) if e["kind"] == "step"), default=0)


def unfinished_save(directory: Path) -> str | None:
    """Finds the directory of a save that is not sealed yet: one that no step names."""
    checkpoints = directory / "checkpoints"
    names = os.listdir(checkpoints) if checkpoints.exists() else []
    return next((name for name in names if not name.removeprefix("step_").isdigit()), None)


def kill_between_saves(process: subprocess.Popen[bytes], directory: Path) -> Death:
    """Kills the run wherever it is."""
    process.kill()
    process.wait()
    return Death(step=last_step(directory), unfinished=unfinished_save(directory))


def kill_in_save(process: subprocess.Popen[bytes], directory: Path) -> Death | None:
    """Kills the run while a save is under way, or returns None if the run ends before.

    The process is stopped first and looked at while it stands still: only a save that is then
    unfinished counts. Otherwise the process goes on, to be caught in a later save.
    """
    while process.poll() is None:
        if unfinished_save(directory):
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if unfinished_save(directory):
                return kill_between_saves(process, directory)
            process.send_signal(signal.SIGCONT)
        time.sleep(0.0002)
    return None


def live_and_die(directory: Path, steps: int, pause: float, kill: Kill) -> Death:
    """Starts the run, waits for the moment, and kills it."""
    process = start(directory, steps, pause)
    while process.poll() is None and last_step(directory) < kill.after_step:
        time.sleep(0.01)
    strike = kill_in_save if kill.in_save else kill_between_saves
    death = strike(process, directory) if process.poll() is None else None
    if death is None:
        sys.exit(f"the run ended by itself (status {process.returncode}) before {kill}")
    return death


def live(directory: Path, steps: int, pause: float) -> None:
    """Starts the run and lets it reach its end."""
    status = start(directory, steps, pause).wait()
    if status != 0:
        sys.exit(f"the run failed with status {status}")


def differences(first: Path, second: Path) -> tuple[int, list[str]]:
    """Compares two final states; returns how many bytes were equal and which arrays were not."""
    with np.load(first) as one, np.load(second) as other:
        if set(one) != set(other):
            return 0, sorted(set(one) ^ set(other))
        pairs = {name: (one[name], other[name]) for name in one}
    different = [
        name
        for name, (a, b) in pairs.items()
        if (a.dtype, a.shape, a.tobytes()) != (b.dtype, b.shape, b.tobytes())
    ]
    return sum(a.nbytes for a, _ in pairs.values()), different


def replayed_differently(events: Events, reference: dict[int, float]) -> list[int]:
    """Lists the steps whose loss, in any life, is not the reference's to the last bit."""
    return [e["step"] for e in events if e["kind"] == "step" and e["loss"] != reference[e["step"]]]


def in_milliseconds(seconds: list[float]) -> str:
    """Formats the median and the longest of some durations."""
    return f"median {1e3 * statistics.median(seconds):.1f} ms, max {1e3 * max(seconds):.1f} ms"


def print_report(directory: Path, deaths: list[Death], events: Events, losses: list[float]) -> None:
    """Prints what the killed run went through."""
    starts = [e["step"] for e in events if e["kind"] == "start"]
    saves = [e for e in events if e["kind"] == "save"]
    print(f"\nkills survived  {len(deaths)}")
    for death, resumed in zip(deaths, starts[1:], strict=True):
        during = (death.unfinished or "").partition(".")[0]
        where = f"inside the save of {during}" if during else "between saves"
        print(f"  killed after step {death.step}, {where}; resumed from step {resumed}")
    sizes = {
        entry.name: sum(file.stat().st_size for file in entry.rglob("*") if file.is_file())
        for entry in (directory / "checkpoints").iterdir()
        if entry.name.startswith("step_")
    }
    print(f"step blocked    {in_milliseconds([e['blocked'] for e in saves])} in save_async")
    print(f"                {in_milliseconds([e['waited'] for e in saves])} for the save before it")
    print(f"checkpoints     {len(sizes)}, {max(sizes.values()) / 2**20:.1f} MiB each")
    print(f"loss            {losses[0]:.3f} {sparkline(losses)} {losses[-1]:.3f}")


def main() -> int:
    """Runs the killed and the uninterrupted training, reports, and returns the exit status."""
    parser = argparse.ArgumentParser(description="Kills a training run, again and again.")
    parser.add_argument("--out", type=Path, default=Path("build/digits"), help="where results go")
    parser.add_argument("--steps", type=int, default=400, help="steps of training")
    parser.add_argument("--pause", type=float, default=0.01, help="seconds to sleep after a step")
    arguments = parser.parse_args()
    out, steps, pause = arguments.out.resolve(), arguments.steps, arguments.pause
    killed, reference = out / "killed", out / "uninterrupted"
    shutil.rmtree(out, ignore_errors=True)

    deaths = []
    for number, kill in enumerate(KILLS, start=1):
        print(f"life {number} of the run, to be killed", flush=True)
        deaths.append(live_and_die(killed, steps, pause, kill))
        print(f"\nSIGKILL after step {deaths[-1].step}", flush=True)
    print("the last life of the run, left alone", flush=True)
    live(killed, steps, pause)
    print("the same training, never interrupted", flush=True)
    live(reference, steps, pause)

    events = read_events(killed)
    expected = {e["step"]: e["loss"] for e in read_events(reference) if e["kind"] == "step"}
    print_report(killed, deaths, events, list(expected.values()))
    draw_losses(out / "loss.png", events, expected, [death.step for death in deaths])
    print(f"picture         {os.path.relpath(out / 'loss.png')}")

    equal, different = differences(killed / "final.npz", reference / "final.npz")
    strayed = replayed_differently(events, expected)
    if different or strayed:
        print(f"DIFFERENT: arrays {different}, losses of steps {strayed}")
        return 1
    print(f"final state     all {equal} bytes equal those of the uninterrupted run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
