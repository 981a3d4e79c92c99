"""What saving costs a step: the demo's loop without checkpoints, with ours and with Orbax's.

Run as `python -m tests.benchmarks.loop`. Every round trains once with each side, in turn, in one
process, from the same state. A checkpoint, of 3.4 MiB in 22 leaves, is begun in the background
every tenth step, and the loop waits for the last one; the state is donated to every step.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import itertools
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from tests.benchmarks.sides import LIBRARIES

ROOT = Path(__file__).parents[2]
Seconds = tuple[float, float, float]
"""Of one run: all of it for each step, the median step, and the median step that saves."""


@functools.cache
def demo() -> Any:
    """The module that trains on handwritten digits."""
    sys.path.insert(0, str(ROOT / "examples" / "digits"))
    return importlib.import_module("train")


@functools.cache
def compiled() -> tuple[Callable[..., Any], list[Any]]:
    """The step, compiled, and some batches on the device."""
    step = jax.jit(demo().train_step, donate_argnums=0)
    batches = list(itertools.islice(demo().batches(0, seed=0), 13))
    step(demo().initial_state(0), batches[0])
    return step, jax.device_put(batches)


def bare(directory: Path, steps: int, every: int) -> Seconds:
    """The loop of the demo, without checkpoints."""
    return timed(steps, every, lambda step, state: None, lambda: None)


def by_hand(name: str, directory: Path, steps: int, every: int) -> Seconds:
    """The same loop, with calls of a library's `training.Checkpointer`."""
    training = importlib.import_module(LIBRARIES[name]).training
    policy = training.save_decision_policies.FixedIntervalPolicy(every)
    with training.Checkpointer(directory, save_decision_policy=policy) as checkpointer:

        def save(step: int, state: Any) -> None:
            checkpointer.save_checkpointables_async(step, {"state": state})

        return timed(steps, every, save, checkpointer.close)


def timed(
    steps: int, every: int, save: Callable[[int, Any], object], close: Callable[[], object]
) -> Seconds:
    """Trains, and takes the time."""
    step_fn, batches = compiled()
    state = jax.block_until_ready(demo().initial_state(0))
    times = [time.perf_counter()]
    for step in range(1, steps + 1):
        state, metrics = step_fn(state, batches[step % len(batches)])
        jax.block_until_ready(metrics)
        save(step, state)
        times.append(time.perf_counter())
    close()
    return summed(times, time.perf_counter(), every, first=every - 1)


def driven(directory: Path, steps: int, every: int) -> Seconds:
    """`sealwax.training.run`, which also records the loss with each save."""
    from sealwax import training

    policy = training.save_decision_policies.FixedIntervalPolicy(every)
    step_fn, batches = compiled()
    state = jax.block_until_ready(demo().initial_state(0))
    endless = lambda done: (batches[step % len(batches)] for step in itertools.count(done + 1))  # noqa: E731
    with training.Checkpointer(directory, save_decision_policy=policy) as checkpointer:
        times = [time.perf_counter()]

        def on_step(step: int, state: Any, metrics: Any) -> None:
            jax.block_until_ready(metrics)
            times.append(time.perf_counter())

        training.run(
            step_fn, state, endless, checkpointer, steps=steps, on_step=on_step, progress=False
        )
    # `on_step` is called before a save, whose time is then that of the step after.
    return summed(times, time.perf_counter(), every, first=every)


def summed(times: list[float], end: float, every: int, first: int) -> Seconds:
    """Reduces the moments at which steps were done; the interval `first` has the first save."""
    took = [after - before for before, after in itertools.pairwise(times)]
    saving = took[first::every]
    return (end - times[0]) / len(took), statistics.median(took), statistics.median(saving)


SIDES: dict[str, Callable[[Path, int, int], Seconds]] = {
    "without checkpoints": bare,
    "sealwax, training.run": driven,
    "sealwax, Checkpointer": functools.partial(by_hand, "sealwax"),
    "Orbax v1, Checkpointer": functools.partial(by_hand, "orbax"),
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=10, help="steps between two checkpoints")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    logging.getLogger("absl").setLevel(logging.ERROR)
    runs: dict[str, list[Seconds]] = {name: [] for name in SIDES}
    for number in range(arguments.rounds + 1):
        turn = number % len(SIDES)
        for name in [*SIDES][turn:] + [*SIDES][:turn]:
            with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
                took = SIDES[name](Path(folder) / "run", arguments.steps, arguments.every)
            if number:  # the first round rehearses
                runs[name].append(took)
    base = statistics.median(run[0] for run in runs["without checkpoints"])
    print("| loop | ms per step | added | median step | step that saves |")
    print("| --- | --- | --- | --- | --- |")
    for name, each in runs.items():
        whole, step, saving = (
            1e3 * statistics.median(column) for column in zip(*each, strict=True)
        )
        print(f"| {name} | {whole:.2f} | {whole - 1e3 * base:.2f} | {step:.2f} | {saving:.2f} |")


if __name__ == "__main__":
    main()
