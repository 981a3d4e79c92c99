"""The processes of a ``jax.distributed`` job: which one this is, and waiting for one another.

What is asked of the job's coordinator starts no backend of JAX, so that looking at a checkpoint
takes no accelerator.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import anyio.to_thread

from sealwax.errors import OperationTimeoutError, ProcessesError

_LONGEST_MS = 2**31 - 1
_lock = threading.Lock()
_ids: dict[str, Iterator[int]] = collections.defaultdict(functools.partial(itertools.count, 1))


def index() -> int:
    """Which process of the job this is, from 0."""
    job = _job()
    return _jax().process_index() if job is None else int(job.process_id)


def count() -> int:
    """How many processes the job has."""
    job = _job()
    return _jax().process_count() if job is None else int(job.num_processes)


def on_pathways() -> bool:
    """Whether JAX runs on Pathways: one process that has the devices of many hosts."""
    import jax.extend as _extend

    extend: Any = _extend
    backend = extend.backend.get_backend()
    versions = f"{backend.platform_version} {getattr(backend, 'runtime_type', '')}"
    return "pathways" in versions.lower()


def next_id(key: str) -> str:
    """The next number of a series that every process counts for itself: "1", "2" and so on."""
    with _lock:
        return str(next(_ids[key]))


async def barrier(
    name: str, *, within: float | None, among: Sequence[int] | None, event: str
) -> None:
    """Returns once every process of ``among`` has come to the barrier; ``None`` is all.

    Raises:
      OperationTimeoutError: Somebody did not come ``within`` so many seconds.
      ProcessesError: The coordinator cannot be asked, or gave the barrier up.
    """
    milliseconds = _LONGEST_MS if within is None else min(max(1, int(within * 1e3)), _LONGEST_MS)
    client = _client(name)
    with _measured(event):
        try:
            await anyio.to_thread.run_sync(
                functools.partial(client.wait_at_barrier, name, milliseconds, among),
                abandon_on_cancel=True,
                limiter=anyio.CapacityLimiter(1),
            )
        except RuntimeError as error:
            raise _failure(error, name, within) from error


def _failure(error: RuntimeError, name: str, within: float | None) -> Exception:
    reason = str(error).partition("\n")[0]
    if "DEADLINE_EXCEEDED" in reason:
        return OperationTimeoutError(
            f"Not every process came to the barrier {name!r} within {within:g} s",
            hint="Every process of the job must make the same calls in the same order; look for "
            "one that is slower, ended, or took another way.",
        )
    return ProcessesError(
        f"The processes could not meet at the barrier {name!r}",
        found=reason,
        hint="Look for the process that failed first: its own error says why.",
    )


def _client(name: str) -> Any:
    job = _job()
    if job is None:
        raise ProcessesError(
            f"The processes cannot meet at the barrier {name!r}: they have no coordinator",
            hint="Call jax.distributed.initialize() in each of them first.",
        )
    return job.client


def _job() -> Any:
    """What ``jax.distributed`` knows of the job; ``None`` where it was not initialised."""
    # JAX has no public name for the client of its own coordinator.
    from jax._src import distributed as _distributed

    state: Any = _distributed.global_state
    return None if state.client is None else state


def _jax() -> Any:
    import jax

    return jax


@contextlib.contextmanager
def _measured(event: str) -> Generator[None]:
    import jax.monitoring as _monitoring

    monitoring: Any = _monitoring
    began = time.perf_counter()
    try:
        yield
    finally:
        monitoring.record_event_duration_secs(event, time.perf_counter() - began)
