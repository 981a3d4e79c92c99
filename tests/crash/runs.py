"""What is run and stopped in crash tests. Imports neither JAX nor pytest: it is forked."""

from __future__ import annotations

from pathlib import Path

import sealwax
from tests.crash.states import context, half, state


def save(directory: Path, *, layout: str = "database", overwrite: bool = False) -> None:
    """Saves the second state."""
    sealwax.save(directory / "c", state(2), overwrite=overwrite, context=context(layout))


def save_async(directory: Path, *, layout: str = "database", overwrite: bool = False) -> None:
    """Saves the second state in the background."""
    how = {"overwrite": overwrite, "context": context(layout)}
    sealwax.save_async(directory / "c", state(2), **how).result()


def train(directory: Path) -> None:
    """Saves one state after another."""
    for step in range(3):
        sealwax.save(directory / f"step_{step}", state(step))


def first_part(directory: Path, *, layout: str = "database") -> None:
    """Saves one half of the second state."""
    sealwax.partial.save(directory / "c", half(2, 0), context=context(layout))


def second_part(directory: Path, *, layout: str = "database") -> None:
    """Saves the other half."""
    sealwax.partial.save(directory / "c", half(2, 1), context=context(layout))


def finalize(directory: Path) -> None:
    """Puts both together."""
    sealwax.partial.finalize(directory / "c")


def discard(directory: Path) -> None:
    """Gives both up."""
    sealwax.partial.discard(directory / "c")
