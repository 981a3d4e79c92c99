"""Running handlers that are not ours: their coroutines, and where they believe to be.

They run in an asyncio loop of their own, in a thread that lasts as long as the operation needs it.
So a handler may block as it likes and delays nobody else, it finds asyncio also where the caller
runs trio, and both parts of its save are in one loop, whichever the caller's is.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
from collections.abc import Awaitable
from typing import Any, TypeVar, assert_never

from sealwax.effects import BeginSave, FinishSave, HandlerEffect, RunLoad, RunMetadata
from sealwax.errors import InvalidHandlerError
from sealwax.options import Options
from sealwax.runtime.handler_loop import HandlerLoop

T = TypeVar("T")
_log = logging.getLogger("sealwax")


class Growing:
    """The directory of an item while it is saved, as handlers of Orbax's protocol expect it.

    It is there already when a handler sees it, so nothing is waited for.
    """

    def __init__(self, path: Any) -> None:
        self._path = path

    @property
    def path(self) -> Any:
        """The path."""
        return self._path

    @property
    def name(self) -> str:
        """The last component of the path."""
        return str(self._path.name)

    def __truediv__(self, other: str | os.PathLike[str]) -> Growing:
        return Growing(self._path / other)

    def __fspath__(self) -> str:
        return str(self._path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._path)!r})"

    async def await_creation(self) -> Any:
        """The path, which is there."""
        return self._path


class Handling:
    """Performs the effects that run handlers, for one operation."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._loop: HandlerLoop | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Ends the loop, and drops what was begun in it and never finished."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    async def __call__(self, effect: HandlerEffect) -> Any:
        """Performs one effect and returns its answer."""
        loop = self._running()
        match effect:
            case BeginSave():
                return await loop.run(_begin, effect, loop.pending)
            case FinishSave():
                return await loop.run(_finish, effect, loop.pending)
            case RunLoad():
                return await loop.run(_load, effect)
            case RunMetadata():
                return await loop.run(_metadata, effect)
            case _:
                assert_never(effect)

    def _running(self) -> HandlerLoop:
        with self._lock:
            self._loop = self._loop or HandlerLoop(self._options)
            return self._loop


async def _begin(effect: BeginSave, pending: list[Any]) -> Any:
    path = effect.path_class(effect.path)
    rest = await called(effect.handler, "save", Growing(path), effect.value)
    pending.append(rest)
    return rest


async def _finish(effect: FinishSave, pending: list[Any]) -> None:
    rest: Any = effect.rest
    pending.remove(rest)
    await rest


async def _load(effect: RunLoad) -> Any:
    path = effect.path_class(effect.path)
    return await (await called(effect.handler, "load", path, effect.abstract))


async def _metadata(effect: RunMetadata) -> Any:
    # Who asks what a checkpoint holds is to learn of all that the others can tell.
    try:
        return await effect.handler.metadata(effect.path_class(effect.path))
    except NotImplementedError:
        return None
    except Exception:
        kind = type(effect.handler).__name__
        _log.warning("%s could not tell what is in %s", kind, effect.path, exc_info=True)
        return None


async def called(handler: Any, method: str, *args: Any) -> Awaitable[Any]:
    """What a method gives once it was awaited: the awaitable that does the rest.

    Raises:
      InvalidHandlerError: It is no coroutine function, or does not return an awaitable.
    """
    coroutine = getattr(handler, method)(*args)
    rest: object = await coroutine if inspect.isawaitable(coroutine) else None
    if not inspect.isawaitable(rest):
        raise InvalidHandlerError(
            f"{type(handler).__qualname__}.{method} does not follow the protocol of handlers",
            expected="a coroutine function that returns an awaitable, which does the rest",
            found="a function that is not one"
            if not inspect.isawaitable(coroutine)
            else f"one that returns {type(rest).__name__}",
            hint=f"Write `async def {method}(...)`, and let it return the call of another "
            "coroutine function.",
        )
    return rest
