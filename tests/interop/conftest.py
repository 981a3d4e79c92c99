"""What the tests with a real Orbax share."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Gives a new path each time, for tests that save once per example."""
    root, numbers = tmp_path_factory.mktemp("checkpoints"), itertools.count()
    return lambda: root / str(next(numbers))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keeps Orbax's log out of the output."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)
