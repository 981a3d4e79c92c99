"""Handlers that plan, for tests: of the objects in ``points``, and some that do wrong."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from sealwax import effects as e
from sealwax import handlers
from tests.points import Point


class PlannedPoint(handlers.PlanningHandler[Point, Any]):
    """Keeps points in the files that ``PointHandler`` has."""

    def is_handleable(self, checkpointable: Any) -> bool:
        return isinstance(checkpointable, Point)

    def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool | None:
        return isinstance(abstract_checkpointable, Point)

    def plan_save(self, checkpointable: Point, item: handlers.NewItem) -> handlers.Files:
        y = checkpointable.y
        return handlers.Files(
            {"x.txt": str(checkpointable.x).encode(), "deep/y.txt": lambda: str(y).encode()}
        )

    def plan_load(
        self, item: handlers.StoredItem, abstract_checkpointable: Any
    ) -> handlers.FromFiles[Point]:
        return handlers.FromFiles(["x.txt", "deep/y.txt"], lambda x, y: Point(int(x), int(y)))

    def plan_metadata(self, item: handlers.StoredItem) -> handlers.Known[str]:
        return handlers.Known("a point")


class PointAsTree(handlers.PyTreeHandler):
    """Keeps points as trees, of which it looks at the arrays before it plans."""

    def is_handleable(self, checkpointable: Any) -> bool:
        return isinstance(checkpointable, Point)

    def plan_save(self, checkpointable: Any, item: handlers.NewItem) -> handlers.Writing:
        tree = {"x": np.full(3, checkpointable.x), "y": checkpointable.y}
        return super().plan_save(tree, item)

    def plan_load(
        self, item: handlers.StoredItem, abstract_checkpointable: Any = None
    ) -> handlers.Reading[Any]:
        whole = super().plan_load(item, None)
        return whole.map(lambda tree: Point(int(tree["x"][0]), tree["y"]))


class ShardedPoint(PlannedPoint):
    """Keeps each coordinate in a file whose name only its header tells."""

    def plan_save(self, checkpointable: Point, item: handlers.NewItem) -> handlers.Files:
        parts = {
            f"part-{n}.txt": str(v).encode() for n, v in enumerate(vars(checkpointable).values())
        }
        return handlers.Files({**parts, "header.json": json.dumps(list(parts)).encode()})

    async def observe(self, item: handlers.StoredItem, look: Any) -> Any:
        return json.loads(await look(e.ReadFile(path=item.path("header.json"))))

    def plan_load(
        self, item: handlers.StoredItem, abstract_checkpointable: Any
    ) -> handlers.FromFiles[Point]:
        return handlers.FromFiles(item.observed, lambda *parts: Point(*map(int, parts)))

    def plan_metadata(self, item: handlers.StoredItem) -> handlers.Known[Any]:
        return handlers.Known({"files": item.observed})
