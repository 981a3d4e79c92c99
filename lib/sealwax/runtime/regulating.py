"""Regulating the transfer budget of a save.

The controller takes one step before it, and the profiler measures the part of it that its caller
waits for.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any

from sealwax.errors import OptionValueError
from sealwax.options import MemoryOptions
from sealwax.runtime.hostmemory import memory_in_all
from sealwax.runtime.threads import in_thread
from sealwax.settings.regulator import GIB, Reading, Regulator

_log = logging.getLogger("sealwax")
_lock = threading.Lock()
_measuring: dict[int, int] = {}
"""How many saves each profiler measures at the moment, by its identity."""


class Measurement:
    """A measurement around a save, which ends once.

    Attributes:
      limit: The transfer budget of the save in bytes, or ``None`` where none is regulated.
    """

    def __init__(self, limit: int | None, stop: Callable[[], object] | None = None) -> None:
        self.limit = limit
        self._stop = stop

    def end(self) -> None:
        """Ends the measurement, if it has not ended."""
        stop, self._stop = self._stop, None
        if stop is None:
            return
        try:
            stop()
        except Exception:
            _log.exception("The memory profiler failed at its end; the save did not.")

    def until(self, staged: Callable[[], None] | None) -> Callable[[], None] | None:
        """``staged``, but the measurement ends when it is called."""
        if staged is None:
            return None

        def ended() -> None:
            self.end()
            staged()

        return ended


@contextlib.asynccontextmanager
async def regulated(memory: MemoryOptions) -> AsyncGenerator[Measurement]:
    """Takes a step of the controller that the settings have, and measures in the block.

    Raises:
      OptionValueError: The profiler gives no number.
    """
    options = memory.regulator_options
    if options is None:
        yield Measurement(None)
        return
    profiler: Any = options.profiler
    limit = await in_thread(_step, options.regulator, profiler, memory.expected_surge_bytes)
    await in_thread(_start, profiler)
    measurement = Measurement(limit, lambda: _end(profiler))
    try:
        yield measurement
    finally:
        measurement.end()


def _step(regulator: Regulator, profiler: Any, surge: float | None) -> int:
    total = getattr(profiler, "total_memory_bytes", None)
    if total is None:
        gib = getattr(profiler, "total_memory_gib", None)
        total = memory_in_all() if gib is None else gib * GIB
    if surge is None:
        expected = getattr(profiler, "get_expected_surge_gib", None)
        surge = 0.0 if expected is None else expected() * GIB
    try:
        reading = Reading(
            peak=float(profiler.peak_usage_bytes), total=float(total), surge=float(surge or 0)
        )
    except (TypeError, ValueError) as error:
        raise OptionValueError(
            "The profiler of option 'memory.regulator_options' gives no number of bytes",
            expected="numbers as peak_usage_bytes and total_memory_bytes",
            found=f"{profiler.peak_usage_bytes!r} and {total!r}",
        ) from error
    with _lock:
        return regulator.update(reading)


def _start(profiler: Any) -> None:
    """Starts a profiler, unless another save has started it and not ended it."""
    with _lock:
        before = _measuring.get(id(profiler), 0)
        if not before:
            profiler.profiler_start()
        _measuring[id(profiler)] = before + 1


def _end(profiler: Any) -> None:
    with _lock:
        left = _measuring.pop(id(profiler)) - 1
        if left:
            _measuring[id(profiler)] = left
        else:
            profiler.profiler_end()
