"""The processes of a job: which one this is, and waiting for one another.

>>> import sealwax as ocp
>>> ocp.multihost.process_index(), ocp.multihost.process_count()
(0, 1)
"""

from __future__ import annotations

from collections.abc import Collection

from sealwax.context import current_options
from sealwax.errors import ArgumentTypeError, ArgumentValueError
from sealwax.runtime import processes as _processes
from sealwax.runtime.processes import count as process_count
from sealwax.runtime.processes import index as process_index
from sealwax.runtime.processes import on_pathways as is_pathways_backend

__all__ = [
    "is_pathways_backend",
    "is_primary_host",
    "next_operation_id",
    "process_count",
    "process_index",
    "sync_global_processes",
]

_EVENT = "/jax/checkpoint/sync_global_devices_duration_sec"


def __dir__() -> list[str]:
    return __all__


def is_primary_host(primary_host: int | None) -> bool:
    """Whether this process does what only one process has to do.

    Args:
      primary_host: Index of the process that does it, as in
        ``ctx.multiprocessing.primary_host``; ``None`` if every process does.

    >>> is_primary_host(0), is_primary_host(1), is_primary_host(None)
    (True, False, True)
    """
    return primary_host is None or primary_host == process_index()


def next_operation_id() -> str:
    """An identifier that all processes agree on, as long as each asks for it equally often.

    It is for several barriers that belong together: ``sync_global_processes`` finds one by itself.

    >>> next_operation_id() != next_operation_id()
    True
    """
    return _processes.next_id("")


async def sync_global_processes(
    key: str,
    *,
    operation_id: str | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - Orbax's name for it
    processes: Collection[int] | None = None,
    record_event_name: str = _EVENT,
) -> None:
    """Returns once every process has called it; at once where there is only one.

    It runs in any event loop, starts no backend of JAX, and does not block other tasks.

    Args:
      key: What is waited for. Not empty.
      operation_id: Tells meetings under one key apart, and is the same in every process. By
        default processes count their meetings under each key.
      timeout: How long to wait, in seconds; ``ctx.asynchronous.timeout_secs`` by default.
      processes: Indices of those that meet; all by default. This process must be among them.
      record_event_name: Name under which the time it took is given to ``jax.monitoring``.

    Raises:
      OperationTimeoutError: A process did not come in time.
      ProcessesError: A process has failed, or ``jax.distributed`` was not initialised.
      ArgumentValueError: An argument cannot be right.

    >>> import asyncio
    >>> asyncio.run(sync_global_processes("weights are there", timeout=60))
    """
    options = current_options()
    among = _checked(key, timeout, processes)
    if process_count() == 1:
        return
    prefix = options.multiprocessing.barrier_sync_key_prefix
    who = "all" if among is None else ",".join(map(str, among))
    name = "/".join(["sealwax", *([prefix] if prefix else []), key, who])
    await _processes.barrier(
        f"{name}/{_processes.next_id(name) if operation_id is None else f'id {operation_id}'}",
        within=options.asynchronous.timeout_secs if timeout is None else timeout,
        among=among,
        event=record_event_name,
    )


def _checked(
    key: object, timeout: float | None, processes: Collection[int] | None
) -> list[int] | None:
    if not isinstance(key, str):
        raise ArgumentTypeError(
            "The key of a barrier is no string", expected="a string", found=type(key).__name__
        )
    if not key:
        raise ArgumentValueError("The key of a barrier is empty", expected="a name for it")
    if timeout is not None and timeout <= 0:
        raise ArgumentValueError(
            "Argument 'timeout' leaves no time to meet", expected="above 0", found=f"{timeout:g}"
        )
    if processes is None:
        return None
    among, this, last = sorted(set(processes)), process_index(), process_count() - 1
    if this not in among:
        raise ArgumentValueError(
            "This process is not among those that are to meet",
            expected=f"process {this} in 'processes'",
            found=str(among),
            hint="Call it only in the processes that it names.",
        )
    if among[0] < 0 or among[-1] > last:
        raise ArgumentValueError(
            "Argument 'processes' names processes that the job does not have",
            expected=f"indices from 0 to {last}",
            found=str(among),
        )
    return among
