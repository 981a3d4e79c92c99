"""What crash tests save, and what they find afterwards. Imports neither JAX nor pytest."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np

import sealwax
from sealwax import effects as e
from sealwax.context import Context

MARK = ".orbax-checkpoint-tmp"
LAYOUTS = {"database": {}, "files": {"array.saving.use_ocdbt": False}}
"""Settings by which a save has one data file for many chunks, or one for each."""


def state(number: int) -> dict[str, Any]:
    """A small state of many kinds of leaves, all of which depend on ``number``."""
    rng = np.random.default_rng(number)
    return {
        "params": [
            {
                "w": rng.normal(size=(40, 8)).astype(np.float32),
                "b": np.full(3, number % 128, np.int8),
            },
            {"w": np.asfortranarray(rng.normal(size=(6, 5))), "b": rng.integers(0, 2, 9) > 0},
        ],
        "compressible": np.full(20_000, number, np.int32),
        "big": 2**70 + number,
        "empty": {},
        "flag": number % 2 == 0,
        "lr": number / 7,
        "name": f"run {number}",
        "none": None,
        "raw": bytes([number % 256, 0, 255]),
        "step": number,
        "z": complex(number, -1),
        "zero": np.zeros((0, number % 5)),
    }


def half(number: int, which: int) -> dict[str, Any]:
    """Every other key of a state."""
    return dict(list(state(number).items())[which::2])


def context(layout: str) -> Context:
    return Context().replace(LAYOUTS[layout])


def same(found: Any, wanted: Any) -> bool:
    """Whether two states are the same to the bit."""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(wanted, np.ndarray):
        return (
            isinstance(found, np.ndarray)
            and (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            and found.tobytes() == wanted.tobytes()
        )
    return type(found) is type(wanted) and found == wanted


def step_at(path: Path) -> int | None:
    """The number of the state at ``path``, which must be complete; ``None`` where nothing is."""
    if not os.path.lexists(path):
        return None
    found = sealwax.load(path)
    assert same(found, state(found["step"])), f"{path} holds something that nobody saved"
    return found["step"]


def changing(number: int) -> Callable[[e.Effect], bool]:
    """Tells the effect of this number among those that change files, from 0, from all others."""
    count = itertools.count()
    return lambda effect: isinstance(effect, get_args(e.FileEffect)) and next(count) == number


def leftovers(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if MARK in name]
