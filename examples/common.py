"""What the examples share: batches that follow from the step alone, and a look at every bit."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np

HALF, WHOLE = 5, 10
"""Each example trains to the first step, saves, resumes, and goes on to the second."""


def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    """The inputs, `f32[16, 4]`, and targets, `f32[16, 1]`, of one step."""
    x = np.random.default_rng(step).normal(size=(16, 4)).astype(np.float32)
    return x, np.sin(x.sum(axis=1, keepdims=True))


def bits(tree: Any) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """The dtype, the shape and the bytes of every array, by name."""
    found = {}
    for name, leaf in jax.tree_util.tree_leaves_with_path(tree):
        is_key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
            leaf.dtype, jax.dtypes.prng_key
        )
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        found[jax.tree_util.keystr(name)] = (str(leaf.dtype), array.shape, array.tobytes())
    return found


def report(path: Path, resumed: Any, uninterrupted: Any) -> None:
    """Fails unless both states are equal to the last bit, and says so in two lines."""
    one, other = bits(resumed), bits(uninterrupted)
    different = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
    assert not different, f"not the same bits: {sorted(different)}"
    print(f"saved {path.name} and resumed from it, to go on to step {WHOLE}")
    print(f"{len(one)} arrays equal those of an uninterrupted run, bit for bit")


def directory() -> Path:
    """The directory that the command line names."""
    parser = argparse.ArgumentParser(description="Trains, saves, resumes and compares.")
    parser.add_argument("directory", type=Path, help="where the checkpoint goes")
    return parser.parse_args().directory
