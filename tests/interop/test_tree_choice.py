"""Which item of a checkpoint of Orbax's ``load(path)`` takes when it is told no name."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from orbax.checkpoint import v1 as orbax

import sealwax as ocp
from tests.test_tree_choice import TREE, Shuffler


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


def test_what_orbax_wrote_is_looked_at_in_the_same_way(path: Path) -> None:
    mine = Shuffler(5, by=orbax.handlers.PyTreeHandler)
    orbax.save_checkpointables(path, {"data": mine, "params": {"w": np.arange(3.0)}})
    np.testing.assert_equal(ocp.load(path), TREE)
    assert ocp.verify(path)


def test_files_that_only_look_like_those_of_a_tree_are_no_damage(path: Path) -> None:
    class Notes:
        async def save(self, directory: Any) -> Awaitable[None]:
            async def write() -> None:
                (await directory.await_creation() / "_METADATA").write_text("of my own")

            return write()

        async def load(self, directory: Any) -> Awaitable[None]:
            async def read() -> None:
                return None

            return read()

    orbax.save_checkpointables(path, {"data": Notes(), "params": {"w": np.arange(3.0)}})
    np.testing.assert_equal(ocp.load(path), TREE)
    assert ocp.verify(path), ocp.verify(path)
