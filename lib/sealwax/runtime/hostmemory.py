"""Measuring the host's memory: how much is in use, how much there is, and the peak in between."""

from __future__ import annotations

import contextlib
import functools
import threading
from pathlib import Path
from typing import NamedTuple

from sealwax.errors import OptionUnavailableError

_PERIOD_SECONDS = 0.005
_MEMINFO = Path("/proc/meminfo")
_STATUS = Path("/proc/self/status")
_OWN = (["VmRSS:"], ["VmHWM:"])
_GROUP = Path("/sys/fs/cgroup")
_CONTROLS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def memory_in_use(meminfo: Path = _MEMINFO, group: Path = _GROUP) -> int:
    """Bytes of memory in use that cannot be had back by dropping caches.

    In a container with a limit of its own they are those of the container.

    Raises:
      OptionUnavailableError: The system does not tell.
    """
    known = _meminfo(meminfo)
    container = _container(group)
    if container is None or container.limit >= known["MemTotal"]:
        return known["MemTotal"] - known["MemAvailable"]
    return container.used - container.reclaimable


def memory_in_all(meminfo: Path = _MEMINFO, group: Path = _GROUP) -> int:
    """Bytes of memory that the host, or the container, has.

    Raises:
      OptionUnavailableError: The system does not tell.
    """
    total, container = _meminfo(meminfo)["MemTotal"], _container(group)
    return total if container is None else min(container.limit, total)


class HostMemoryProfiler:
    """Measures the peak of the host's memory between a start and an end.

    While it measures, a thread reads what the system says every 5 ms. What the kernel knows of the
    peak of this process is counted too, because the figures of the host may lag behind. Starts and
    ends may nest and come from several threads; the measurement is from the first to the last.

    >>> import numpy as np, sealwax as ocp
    >>> profiler = ocp.memory.HostMemoryProfiler()
    >>> ctx = ocp.Context()
    >>> ctx.memory.regulator_options = ocp.options.MemoryOptions.RegulatorOptions(
    ...     max_memory_limit_gib=4, min_memory_limit_gib=1, profiler=profiler
    ... )
    >>> ocp.save(getfixture("tmp_path") / "ckpt", {"w": np.zeros(3)}, context=ctx)
    >>> 0 < profiler.peak_usage_bytes < profiler.total_memory_bytes
    True
    """

    def __init__(self) -> None:
        self._peak = 0
        self._others = 0
        self._highest = 0
        self._open = 0
        self._over = threading.Event()
        self._lock = threading.Lock()

    @property
    def peak_usage_bytes(self) -> int:
        """The most memory in use that was seen, in bytes; 0 before the first start."""
        return self._peak

    @property
    def total_memory_bytes(self) -> int:
        """All the memory that there is, in bytes."""
        return memory_in_all()

    def profiler_start(self) -> None:
        """Starts measuring."""
        with self._lock:
            self._open += 1
            if self._open == 1:
                self._peak, self._over = memory_in_use(), threading.Event()
                now, self._highest = _own()
                self._others = self._peak - now
                watch = functools.partial(self._watch, self._over)
                # Where the interpreter goes down no thread starts, and the two ends must do.
                with contextlib.suppress(RuntimeError):
                    threading.Thread(target=watch, name="sealwax memory", daemon=True).start()

    def profiler_end(self) -> None:
        """Stops measuring."""
        with self._lock:
            self._open = max(0, self._open - 1)
            if self._open == 0:
                self._over.set()
        self._see()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(_PERIOD_SECONDS):
            self._see()

    def _see(self) -> None:
        host, (own, highest) = memory_in_use(), _own()
        with self._lock:
            own = highest if highest > self._highest else own
            self._peak = max(self._peak, host, self._others + own)


def _meminfo(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
        pairs = (line.split(":") for line in lines)
        found = {name: int(rest.split()[0]) << 10 for name, rest in pairs}
        return {name: found[name] for name in ("MemTotal", "MemAvailable")}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise OptionUnavailableError(
            f"The system does not tell in {str(path)!r} how much memory is in use",
            hint="Write a profiler of your own with what this system has: a class with "
            "profiler_start, profiler_end, peak_usage_bytes and total_memory_bytes.",
        ) from error


def _own(status: Path = _STATUS) -> tuple[int, int]:
    """Bytes of host memory that this process has, and the most that it ever had."""
    try:
        lines = (line.split() for line in status.read_text().splitlines())
        found = {words[0]: int(words[1]) << 10 for words in lines if words[:1] in _OWN}
        return found["VmRSS:"], found["VmHWM:"]
    except (OSError, ValueError, KeyError, IndexError):
        return 0, 0


class _Container(NamedTuple):
    limit: int
    used: int
    reclaimable: int


def _container(group: Path) -> _Container | None:
    """What control groups, of either version, say of the container; ``None`` without a limit."""
    for limit, used, stat, reclaimable in _CONTROLS:
        try:
            stats = dict(line.split() for line in (group / stat).read_text().splitlines())
            found = ((group / limit).read_text(), (group / used).read_text(), stats[reclaimable])
            return _Container(*map(int, found))
        except (OSError, ValueError, KeyError):
            continue
    return None
