"""What is compared: two libraries with one API, and plain files as the limit."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import ml_dtypes  # noqa: F401  gives NumPy the names of JAX's dtypes
import numpy as np

LIBRARIES = {"sealwax": "sealwax", "orbax": "orbax.checkpoint.experimental.v1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way to save and load.

    Attributes:
      name: What the table calls it.
      save: Writes a tree to a path that does not exist yet, and returns when it is durable.
      load: Reads it back, given the path and an abstract tree.
      save_async: Starts to write, and returns what waits for the end; `None` where there is none.
    """

    name: str
    save: Callable[[Path, Any], object]
    load: Callable[[Path, Any], Any]
    save_async: Callable[[Path, Any], Callable[[], object]] | None = None


def library(name: str) -> Side:
    """Makes a side of a library that has Orbax v1's API."""
    module = importlib.import_module(LIBRARIES[name])
    return Side(
        name=name,
        save=module.save,
        load=module.load,
        save_async=lambda path, tree: module.save_async(path, tree).result,
    )


def plain_files(*, packed: bool) -> Side:
    """Makes the limit: the leaves' bytes in plain files, synced, and `numpy.fromfile` to read.

    Args:
      packed: One file for all leaves instead of one for each.
    """

    def save(path: Path, tree: Any) -> None:
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
        path.mkdir()
        for number, group in enumerate([leaves] if packed else [[leaf] for leaf in leaves]):
            _write(path / str(number), group)
        _sync(path)
        _sync(path.parent)

    def load(path: Path, tree: Any) -> list[np.ndarray]:
        abstract = jax.tree.leaves(tree)
        if packed:
            return _split(np.fromfile(path / "0", np.uint8), abstract)
        return [
            np.fromfile(path / str(number), leaf.dtype).reshape(leaf.shape)
            for number, leaf in enumerate(abstract)
        ]

    return Side(name="limit", save=save, load=load)


def _write(path: Path, leaves: list[np.ndarray]) -> None:
    with path.open("xb", buffering=0 if len(leaves) == 1 else 4 * 2**20) as file:
        for leaf in leaves:
            rest = leaf.reshape(-1).view(np.uint8).data
            while rest:
                rest = rest[file.write(rest) :]
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _split(packed: np.ndarray, abstract: list[Any]) -> list[np.ndarray]:
    sizes = [int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in abstract]
    parts = np.split(packed, np.cumsum(sizes)[:-1])
    return [
        part.view(leaf.dtype).reshape(leaf.shape)
        for part, leaf in zip(parts, abstract, strict=True)
    ]
