"""What handlers that plan write, read by handlers of Orbax's protocol, and the other way round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from orbax.checkpoint import v1 as orbax

import sealwax
from tests.planned import PlannedPoint, PointAsTree
from tests.points import Point, PointHandler


def name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


class OrbaxTree(PointHandler):
    """Reads with Orbax's own handler what ``PointAsTree`` wrote."""

    async def load(self, directory: Any, abstract: Any = None) -> Any:
        rest = await orbax.handlers.PyTreeHandler().load(directory)

        async def read() -> Point:
            tree = await rest
            return Point(int(tree["x"][0]), int(tree["y"]))

        return read()

    async def save(self, directory: Any, checkpointable: Point) -> Any:
        tree = {"x": np.full(3, checkpointable.x), "y": checkpointable.y}
        return await orbax.handlers.PyTreeHandler().save(directory, tree)

    async def metadata(self, directory: Any) -> Any:
        return await orbax.handlers.PyTreeHandler().metadata(directory)


PAIRS = pytest.mark.parametrize(
    ("planning", "called"), [(PlannedPoint, PointHandler), (PointAsTree, OrbaxTree)]
)


def context(library: Any, kind: type, other: type) -> Any:
    ctx = library.Context()
    ctx.checkpointables.registry = library.handlers.local_registry().add(
        kind, secondary_typestrs=[name_of(other)]
    )
    return ctx


ITEMS = {"p": Point(3, 4), "state": {"w": np.arange(4.0)}}


@PAIRS
def test_orbax_reads_what_was_planned(tmp_path: Path, planning: type, called: type) -> None:
    path = tmp_path / "c"
    sealwax.save_checkpointables(path, ITEMS, context=context(sealwax, planning, called))
    with context(orbax, called, planning):
        found = orbax.load_checkpointables(path)
    np.testing.assert_equal(found, ITEMS)


@PAIRS
def test_what_orbax_saved_is_read_by_plan(tmp_path: Path, planning: type, called: type) -> None:
    path = tmp_path / "c"
    with context(orbax, called, planning):
        orbax.save_checkpointables(path, ITEMS)
    found = sealwax.load_checkpointables(path, context=context(sealwax, planning, called))
    np.testing.assert_equal(found, ITEMS)


def test_the_same_files_whichever_the_protocol(tmp_path: Path) -> None:
    def files(handler: type) -> dict[str, bytes]:
        path = tmp_path / handler.__name__
        ctx = context(sealwax, handler, handler)
        sealwax.save_checkpointables(path, {"p": Point(3, 4)}, context=ctx)
        below = [file for file in (path / "p").rglob("*") if file.is_file()]
        return {str(file.relative_to(path)): file.read_bytes() for file in below}

    assert files(PlannedPoint) == files(PointHandler)
