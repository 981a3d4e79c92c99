"""Handlers that only have opinions, for tests of who is chosen."""

from __future__ import annotations

from typing import Any

from sealwax.checkpointables.protocols import CheckpointableHandler


def opinionated(name: str, saves: tuple[type, ...] = (), loads: tuple[type, ...] = ()) -> type:
    """A handler's class that says that it can handle instances of these types."""

    class Handler(CheckpointableHandler[Any, Any]):
        async def save(self, directory, checkpointable):
            raise AssertionError("nothing is saved here")

        async def load(self, directory, abstract_checkpointable=None):
            raise AssertionError("nothing is loaded here")

        async def metadata(self, directory):
            return None

        def is_handleable(self, checkpointable):
            return isinstance(checkpointable, saves)

        def is_abstract_handleable(self, abstract_checkpointable):
            return isinstance(abstract_checkpointable, loads)

    Handler.__name__ = Handler.__qualname__ = name
    return Handler


class Iterator:
    """An object that saves and loads itself."""

    async def save(self, directory):
        raise AssertionError("nothing is saved here")

    async def load(self, directory):
        raise AssertionError("nothing is loaded here")
