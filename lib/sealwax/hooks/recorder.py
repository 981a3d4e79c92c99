"""``Recorder``: brings metrics to the host while a program runs."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax as _jax
import numpy as np

from sealwax.errors import HookError
from sealwax.hooks import calls
from sealwax.hooks.inbox import raise_first

jax: Any = _jax

_MOST = 64 << 10


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured at one step.

    Attributes:
      step: Its number.
      metrics: Numbers by name; lists where an array was recorded.
    """

    step: int
    metrics: dict[str, Any]


@jax.tree_util.register_static
class Recorder:
    """Records metrics from inside ``jit``, in the order of the steps of a program.

    Args:
      every: Which steps are recorded: its multiples.
      sink: Called with each row as it comes, in a thread of the running program: it must be quick
        and do nothing with JAX. What it raises is raised by ``rows``.

    >>> import jax, jax.numpy as jnp
    >>> record = Recorder(every=2)
    >>> def body(loss, step):
    ...     record({"loss": loss}, step=step)
    ...     return loss / 2, None
    >>> _ = jax.jit(lambda loss: jax.lax.scan(body, loss, jnp.arange(4)))(jnp.float32(8))
    >>> [(row.step, row.metrics["loss"]) for row in record.rows()]
    [(0, 8.0), (2, 2.0)]
    """

    def __init__(self, *, every: int = 1, sink: Callable[[Row], object] | None = None) -> None:
        self._every = calls.positive("every", every)
        self._sink = sink
        self._lock = threading.Lock()
        self._rows: list[Row] = []
        self._failures: list[Exception] = []

    def __call__(self, metrics: Mapping[str, Any], *, step: Any, when: Any = None) -> None:
        """Records metrics if the step is due.

        Args:
          metrics: Numbers by name, or small arrays. On several devices they are the same on each;
            under ``shard_map`` those of the first are taken.
          step: The number of the step, an integer that may be traced.
          when: A traced bool that says whether to record, in place of ``every``.

        Raises:
          HookError: JAX cannot have a hook here, or the metrics are no small arrays.
        """
        number = calls.as_step(step)
        due = calls.is_due(number, self._every, when)
        names = sorted(metrics)
        values = [_small(name, metrics[name]) for name in names]
        axes = calls.manual_axes()
        if axes:
            due = due & (jax.lax.axis_index(tuple(sorted(axes))) == 0)

        def receive(step: Any, *values: Any) -> None:
            found = {name: np.asarray(v).tolist() for name, v in zip(names, values, strict=True)}
            self._receive(Row(step=int(step), metrics=found))

        def send(*operands: Any) -> None:
            # These are small: JAX has them on the host without another thread.
            jax.debug.callback(receive, *operands)

        def skip(*_: Any) -> None:
            return None

        operands = [calls.seen(each) for each in (number, *values)]
        jax.lax.cond(due, send, skip, *operands)

    def _receive(self, row: Row) -> None:
        with self._lock:
            self._rows.append(row)
            try:
                if self._sink is not None:
                    self._sink(row)
            except Exception as error:
                error.add_note(f"It was the sink of a recorder, given step {row.step}.")
                self._failures.append(error)

    def rows(self) -> tuple[Row, ...]:
        """All rows so far, once the programs that this thread has started have ended.

        Raises:
          Exception: What the sink raised, once.
        """
        jax.effects_barrier()
        with self._lock:
            failures, self._failures = self._failures, []
            rows = tuple(self._rows)
        raise_first(failures)
        return rows


def _small(name: str, value: Any) -> Any:
    array = jax.numpy.asarray(value)
    if array.size * array.dtype.itemsize > _MOST:
        raise HookError(
            f"The metric {name!r} is too large to be recorded",
            expected=f"at most {_MOST} bytes",
            found=f"{array.dtype} of shape {array.shape}",
            hint="Reduce it first, or save it with a Saver.",
        )
    return array
