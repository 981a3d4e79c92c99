"""Which item ``load(path)`` takes when it is told no name: a tree, not what only looks like one."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sealwax as ocp
from sealwax import errors
from tests.points import Point

TREE = {"w": np.arange(3.0)}


class Shuffler:
    """Saves itself by means of the tree's handler, as an iterator with big buffers would."""

    def __init__(self, seen: int = 0, *, by: Any = ocp.handlers.PyTreeHandler) -> None:
        self.seen = seen
        self.by = by

    async def save(self, directory: Any) -> Awaitable[None]:
        return await self.by().save(directory, {"seen": self.seen})

    async def load(self, directory: Any) -> Awaitable[None]:
        async def read() -> None:
            self.seen = (await (await self.by().load(directory)))["seen"]

        return read()


class PointTrees:
    """A handler of a user's own, whose points are trees on disk."""

    async def save(self, directory: Any, checkpointable: Point) -> Awaitable[None]:
        tree = {"x": checkpointable.x, "y": checkpointable.y}
        return await ocp.handlers.PyTreeHandler().save(directory, tree)

    async def load(self, directory: Any, abstract: Any = None) -> Awaitable[Point]:
        async def read() -> Point:
            return Point(**(await (await ocp.handlers.PyTreeHandler().load(directory))))

        return read()

    async def metadata(self, directory: Any) -> None:
        return None

    def is_handleable(self, checkpointable: Any) -> bool:
        return isinstance(checkpointable, Point)

    def is_abstract_handleable(self, abstract: Any) -> bool | None:
        return isinstance(abstract, Point)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


def test_what_saves_itself_is_passed_over_although_its_name_comes_first(path: Path) -> None:
    ocp.save_checkpointables(path, {"data": Shuffler(5), "params": TREE})
    np.testing.assert_equal(ocp.load(path), TREE)
    assert ocp.metadata(path).metadata.keys() == TREE.keys()
    assert list(ocp.open(path)) == ["w"]
    assert ocp.verify(path)
    # By its name it is as it was.
    assert ocp.load(path, checkpointable_name="data") == {"seen": 5}
    fresh = Shuffler()
    ocp.load_checkpointables(path, {"data": fresh})
    assert fresh.seen == 5


def test_even_where_it_has_the_name_of_the_default_item(path: Path) -> None:
    ocp.save_checkpointables(path, {"state": Shuffler(5), "params": TREE})
    np.testing.assert_equal(ocp.load(path), TREE)


def test_what_a_handler_of_a_user_saved_as_a_tree_still_counts(path: Path) -> None:
    registry = ocp.handlers.local_registry().add(PointTrees)
    ctx = ocp.Context()
    ctx.checkpointables.registry = registry
    with ctx:
        ocp.save_checkpointables(path, {"a": Shuffler(), "point": Point(1, 2)})
    assert ocp.load(path) == {"x": 1, "y": 2}


class Notes(ocp.handlers.PlanningHandler[Point, None]):
    """Has a file with the name of one of a tree's."""

    def is_handleable(self, checkpointable: Any) -> bool:
        return isinstance(checkpointable, Point)

    def plan_save(self, checkpointable: Point, item: Any) -> ocp.handlers.Files:
        return ocp.handlers.Files({"_METADATA": b"no tree"})

    def plan_load(self, item: Any, abstract: None) -> ocp.handlers.FromFiles[bytes]:
        return ocp.handlers.FromFiles(["_METADATA"], lambda data: data)


@pytest.mark.parametrize("name", ["a", "state"])
def test_a_file_with_the_name_of_a_trees_is_no_tree_where_there_is_one(
    path: Path, name: str
) -> None:
    ctx = ocp.Context()
    ctx.checkpointables.registry = ocp.handlers.local_registry().add(Notes)
    if name == "state":
        ctx.checkpointables.registry = (
            ocp.handlers.local_registry(include_global_registry=False)
            .add(Notes)
            .add(ocp.handlers.PyTreeHandler, checkpointable_name="params")
        )
    ocp.save_checkpointables(path, {name: Point(1, 2), "params": TREE}, context=ctx)
    np.testing.assert_equal(ocp.load(path), TREE)
    assert list(ocp.open(path)) == ["w"]
    assert ocp.load_checkpointables(path, {name: None}, context=ctx) == {name: b"no tree"}


def test_without_a_tree_the_items_are_told_and_how_to_load_them(path: Path) -> None:
    ocp.save_checkpointables(path, {"data": Shuffler(5), "more": Shuffler(6)})
    with pytest.raises(errors.InvalidLayoutError) as caught:
        ocp.load(path)
    text = str(caught.value)
    assert "'data' of StatefulCheckpointableHandler, 'more' of" in text, text
    assert "load_checkpointables(path)" in text
    with pytest.raises(errors.InvalidLayoutError, match="load_checkpointables"):
        ocp.metadata(path)


def test_an_item_that_is_named_and_is_no_tree_says_how_to_load_it(path: Path) -> None:
    ctx = ocp.Context()
    registry = ocp.handlers.local_registry()
    ctx.checkpointables.registry = registry.add(
        ocp.handlers.JsonHandler, checkpointable_name="config"
    )
    ocp.save_checkpointables(path, {"config": {"a": 1}, "params": TREE}, context=ctx)
    with pytest.raises(errors.InvalidLayoutError, match="load_checkpointables.path, .'config'"):
        ocp.load(path, checkpointable_name="config")
