"""``inject``: a handler that fails, delays, tears or kills at chosen effects."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, cast

import anyio

from sealwax.arrays.forms import Form, as_bytes
from sealwax.arrays.zarr import ZarrFormat, chunk_key
from sealwax.effects import Effect, WriteBatch, WriteChunks, WriteFile, WriteFiles
from sealwax.errors import OptionValueError
from sealwax.runtime.handlers import Forward, Handler

Moment: TypeAlias = Literal["before", "during", "after"]
Where: TypeAlias = int | type[Any] | tuple[type[Any], ...] | Callable[[Effect], bool]
Failure: TypeAlias = BaseException | Callable[[Effect], BaseException]


class Inject(Handler):
    """Does something to one effect, or to all that fit; the others pass. See ``inject``.

    ``hits`` counts how often it struck, and ``seen`` how many effects passed by.
    """

    def __init__(
        self,
        at: Where,
        *,
        nth: int | None,
        every: int | None,
        error: Failure | None,
        delay: float,
        kill: bool,
        moment: Moment,
    ) -> None:
        self.at = at
        self.seen = 0
        self.hits = 0
        self._nth = nth
        self._every = every
        self._error = error
        self._delay = delay
        self._kill = kill
        self._moment: Moment = moment
        self._fitted = 0
        self._lock = threading.Lock()

    async def perform(self, effect: Effect, forward: Forward) -> Any:
        """Strikes before, while or after the effect is performed, if it is one to strike at."""
        with self._lock:
            number = self.seen
            self.seen += 1
            strikes = self._fits(effect, number) and self._is_due()
        if not strikes:
            return await forward(effect)
        if self._moment == "after":
            answer = await forward(effect)
            await self._strike(effect)
            return answer
        part = beginning(effect) if self._moment == "during" else None
        if part is not None:
            await forward(part)
        await self._strike(effect)
        return await forward(effect)

    def _fits(self, effect: Effect, number: int) -> bool:
        if isinstance(self.at, int):
            return number == self.at
        kinds: Any = self.at
        if isinstance(kinds, type | tuple):
            return isinstance(effect, cast("type[Any]", kinds))
        return kinds(effect)

    def _is_due(self) -> bool:
        place = self._fitted
        self._fitted += 1
        if self._every is None:
            return self._nth is None or place == self._nth
        first = self._nth or 0
        return place >= first and (place - first) % self._every == 0

    async def _strike(self, effect: Effect) -> None:
        self.hits += 1
        if self._delay:
            await anyio.sleep(self._delay)
        if self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(self._error, BaseException):
            raise self._error
        if self._error is not None:
            raise self._error(effect)


def beginning(effect: Effect) -> Effect | None:
    """What a write that was torn has done: some of its files and half of one, and none is synced.

    ``None`` for an effect that writes no file.
    """
    match effect:
        case WriteFile(content=bytes() as content):
            return dataclasses.replace(effect, content=_half(content), sync=False)
        case WriteFiles(directory=directory, contents=Mapping() as contents) if contents:
            begun = dict(list(contents.items())[: len(contents) // 2 + 1])
            last = next(reversed(begun))
            begun[last] = _half(begun[last])
            return WriteFiles(directory=directory, contents=begun, sync=False)
        case WriteBatch(path=path):
            return WriteFile(path=path, content=_half(_first_chunk(effect)), sync=False)
        case WriteChunks(directory=directory, names=names, slabs=slabs):
            form: Form = effect.forms[slabs[0].leaf]
            index = form.chunks[slabs[0].shard][slabs[0].first].index
            name = chunk_key(names[slabs[0].leaf], index, ZarrFormat(effect.zarr))
            contents = {name: _half(_first_chunk(effect))}
            return WriteFiles(directory=directory, contents=contents, sync=False)
        case _:
            return None


def _first_chunk(effect: WriteBatch | WriteChunks) -> bytes:
    form: Form = effect.forms[effect.slabs[0].leaf]
    return as_bytes(cast(Any, effect.buffers)[0])[: form.chunk_bytes].tobytes()


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def inject(
    at: Where,
    *,
    nth: int | None = None,
    every: int | None = None,
    error: Failure | None = None,
    delay: float = 0.0,
    kill: bool = False,
    moment: Moment = "before",
) -> Inject:
    """A handler that strikes at an effect: by number, by type, or by predicate.

    Args:
      at: The number of the effect, counted from 0 as they are performed, its type or types, or a
        function that tells whether to strike at an effect.
      nth: Strikes only at this one of those that fit, counted from 0.
      every: Strikes only at each so-manieth of those that fit; the first is ``nth`` or 0.
      error: Raised there; or a function that makes it from the effect.
      delay: Seconds to wait there.
      kill: Whether to end the process there with SIGKILL.
      moment: Whether to strike before the effect is performed, after, or during it. A write that
        is struck during it has put some of its files and half of one on the disk; any other effect
        is then struck before it.

    Raises:
      OptionValueError: ``nth`` or ``every`` is out of its range.

    >>> import errno, numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> full = OSError(errno.ENOSPC, "No space left on device")
    >>> with ocp.effect_handlers.inject(ocp.effects.WriteBatch, error=full):
    ...     ocp.save(path, {"w": np.zeros(3)})
    Traceback (most recent call last):
    sealwax.errors.StorageError: Could not write leaf 'w' ...
    """
    for name, value, least in (("nth", nth, 0), ("every", every, 1)):
        if value is not None and value < least:
            raise OptionValueError(
                f"{name} is out of its range", expected=f"at least {least}", found=repr(value)
            )
    return Inject(at, nth=nth, every=every, error=error, delay=delay, kill=kill, moment=moment)
