"""What the golden checkpoints hold; none is ever written again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

HERE = Path(__file__).parent
CUSTOM_METADATA = {"run": "golden", "losses": [1.5, 2]}


def first() -> Any:
    """Leaves and containers of every kind, and compressed data in several chunks."""
    return {
        "params": {
            "kernel": jnp.arange(6, dtype=jnp.float32).reshape(2, 3),
            "half": jnp.array([1.5, -0.0, np.nan], jnp.bfloat16),
            "zeros": jnp.zeros((1100, 1024), jnp.float32),
        },
        "keys": jax.random.split(jax.random.key(7), 2),
        "numpy": [np.arange(3, dtype=np.int64), np.array(2.5), np.array([True, False])],
        "scalars": (3, -0.5, True, 1 + 2j, 2**70, np.int8(-3), np.float32(0.1)),
        "text": ["é / ~", b"wax", ""],
        "odd": {
            "uint4": np.array([1, 15], ml_dtypes.uint4),
            "empty": np.zeros((0, 3), np.float32),
        },
        "containers": {1: None, 10: {}, 2: [[], ()]},
    }


STATES: dict[str, Callable[[], Any]] = {"v1": first, "v2": first}
"""The state of each; that of a release without new kinds of leaves is that of the one before."""
