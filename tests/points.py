"""Checkpointables and handlers for tests, written for Orbax's protocols and nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable
from typing import Any


@dataclasses.dataclass
class Point:
    """An object that no standard handler takes."""

    x: int
    y: int


class PointHandler:
    """Keeps points in two files, one of them in a directory of its own."""

    async def save(self, directory: Any, checkpointable: Point) -> Awaitable[None]:
        return self._write(directory, checkpointable.x, checkpointable.y)

    async def _write(self, directory: Any, x: int, y: int) -> None:
        path = await directory.await_creation()
        await asyncio.to_thread((path / "x.txt").write_text, str(x))
        (path / "deep").mkdir()
        (path / "deep" / "y.txt").write_text(str(y))

    async def load(self, directory: Any, abstract: Any = None) -> Awaitable[Point]:
        async def read() -> Point:
            x = await asyncio.to_thread((directory / "x.txt").read_text)
            return Point(int(x), int((directory / "deep" / "y.txt").read_text()))

        return read()

    async def metadata(self, directory: Any) -> str:
        return "a point"

    def is_handleable(self, checkpointable: Any) -> bool:
        return isinstance(checkpointable, Point)

    def is_abstract_handleable(self, abstract: Any) -> bool | None:
        return isinstance(abstract, Point)


class Counter:
    """An object that saves itself: what it has when ``save`` returns, in the background."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    async def save(self, directory: Any) -> Awaitable[None]:
        return self._write(directory, self.value)

    async def _write(self, directory: Any, value: int) -> None:
        path = await (directory / "value.txt").await_creation()
        await asyncio.to_thread(path.write_text, str(value))

    async def load(self, directory: Any) -> Awaitable[None]:
        async def read() -> None:
            self.value = int((directory / "value.txt").read_text())

        return read()
