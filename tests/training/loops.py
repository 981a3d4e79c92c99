"""Training loops that tests interrupt, and what they use. Imports no JAX backend, and no pytest."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import sealwax as ocp
from sealwax.training import Checkpointer
from sealwax.training.save_decision_policies import FixedIntervalPolicy

STEPS = 6


def initial() -> dict[str, Any]:
    """What every step changes, with a random generator in it."""
    return {"w": np.zeros(3), "rng": np.random.default_rng(0), "seen": 0}


def step_fn(state: dict[str, Any], batch: int) -> tuple[dict[str, Any], dict[str, float]]:
    """Depends on all of the state, and on the order of the batches."""
    w = 0.9 * state["w"] + batch + state["rng"].normal(size=3)
    seen = state["seen"] * 31 + batch
    return {"w": w, "rng": state["rng"], "seen": seen}, {"loss": float(w.sum())}


class Positioned(Iterator[int]):
    """An iterator that can tell where it is and be put there, and counts what is taken."""

    def __init__(self) -> None:
        self.at = self.taken = 0

    def __next__(self) -> int:
        self.at, self.taken = self.at + 1, self.taken + 1
        return self.at * self.at

    def get_state(self) -> dict[str, Any]:
        return {"at": self.at, "epoch": None, "raw": b"\0", "path": ("a", 1)}

    def set_state(self, state: dict[str, Any]) -> None:
        assert state == self.get_state() | {"at": state["at"]}
        self.at = state["at"]


class Stateful(Iterator[int]):
    """An iterator that saves itself, as those of Grain do."""

    def __init__(self) -> None:
        self.at = self.taken = 0

    __next__ = Positioned.__next__

    async def save(self, directory: Any) -> Any:
        return self._write(directory, str(self.at))

    async def _write(self, directory: Any, text: str) -> None:
        ((await directory.await_creation()) / "at").write_text(text)

    async def load(self, directory: Path) -> Any:
        return self._read(directory)

    async def _read(self, directory: Path) -> None:
        self.at = int((directory / "at").read_text())


def squares(done: int) -> Iterator[int]:
    """The batches that come after a number of steps."""
    return ((step + 1) ** 2 for step in itertools.count(done))


def every(directory: Path, interval: int = 2) -> Checkpointer:
    return Checkpointer(directory, save_decision_policy=FixedIntervalPolicy(interval))


def train(directory: Path, steps: int = STEPS) -> dict[str, Any]:
    """Goes on from the newest step, to the last."""
    with every(directory / "run") as checkpointer:
        state, _ = ocp.training.run(step_fn, initial(), Positioned(), checkpointer, steps=steps)
    return state


def bits(state: dict[str, Any]) -> tuple[bytes, object, int]:
    return state["w"].tobytes(), state["rng"].bit_generator.state, state["seen"]
