"""``run``: a training loop that may be stopped at any moment and goes on with the same bits."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, TypeVar

from sealwax.checkpointables.protocols import StatefulCheckpointable
from sealwax.errors import CheckpointableNotFoundError
from sealwax.training.bar import bar, numbers
from sealwax.training.checkpointer import Checkpointer
from sealwax.training.loop_arguments import (
    DATA,
    as_iterator,
    as_pair,
    as_signals,
    check_arguments,
    dropped,
    without_place,
)

State = TypeVar("State")
Batch = TypeVar("Batch")
Metrics = TypeVar("Metrics")
Batches = Iterable[Batch] | Callable[[int], Iterable[Batch]]
_log = logging.getLogger("sealwax")


class Preempted(SystemExit):
    """A signal ended the loop, and ``step`` is saved: the exit status is 75."""

    def __init__(self, step: int) -> None:
        super().__init__(os.EX_TEMPFAIL)
        self.step = step


def run(
    step_fn: Callable[[State, Batch], tuple[State, Metrics]],
    state: State,
    batches: Batches[Batch],
    checkpointer: Checkpointer,
    *,
    steps: int | None = None,
    on_step: Callable[[int, State, Metrics], object] | None = None,
    progress: bool | None = None,
    signals: Sequence[signal.Signals] = (signal.SIGTERM,),
) -> tuple[State, Metrics | None]:
    """Trains from the newest checkpoint on, or from ``state`` where there is none.

    Steps count from one. One is saved in the background, with those metrics that are numbers, when
    the checkpointer's policy says so, and at the end. A failure is raised at the next step.

    Args:
      step_fn: Takes the state, a pytree of all that steps depend on, random keys too, and a batch;
        returns the next state and metrics, as for ``jax.lax.scan``. It may donate the state.
      state: The first state. A loaded one has its structure, dtypes and shardings.
      batches: An iterator that saves itself, as Grain's do, or has ``get_state`` and ``set_state``
        is saved with the state; of others, as many are dropped as steps are done. A function of
        the number of steps done gives what comes next.
      checkpointer: Saves, and knows the newest step. It stays open.
      steps: The step to end with; ``None`` goes on while there are batches.
      on_step: Is called with the step, the state and the metrics before a step is saved.
      progress: Whether to draw a bar on stderr; ``None`` does so on a terminal.
      signals: End the loop, in the main thread, once its step is done and saved; but once only.

    Returns:
      The last state, and the last step's metrics; ``None`` if there was nothing left to do.

    Raises:
      Preempted: A signal came. Uncaught it ends the process with status 75.
      ArgumentTypeError: An argument is not what it should be, or ``step_fn`` gave no pair.
      ArgumentValueError: ``steps`` is negative, or the batches end before the newest checkpoint.
      CheckpointableNotFoundError: Batches are to go on where they were, and that was not saved.

    >>> import jax.numpy as jnp, sealwax as ocp
    >>> def step_fn(total, x):
    ...     return total + x, {"x": x}
    >>> with ocp.training.Checkpointer(getfixture("tmp_path") / "run") as checkpointer:
    ...     run(step_fn, jnp.int32(0), range(10), checkpointer, steps=4)
    (Array(6, dtype=int32), {'x': 3})
    """
    check_arguments(step_fn, checkpointer, steps, on_step)
    signals = as_signals(signals)
    step, state, iterator = _resumed(state, batches, checkpointer, steps)
    saved, metrics, came = step, None, list[int]()

    def save() -> None:
        items, record = {"state": state, **_data(iterator)}, numbers(metrics) or None
        checkpointer.save_checkpointables_async(step, items, force=True, metrics=record)

    with _deferred(signals, came), bar(progress, step, steps) as draw:
        for batch in itertools.islice(iterator, None if steps is None else max(steps - step, 0)):
            state, metrics = as_pair(step_fn(state, batch))
            step += 1
            draw(step, metrics)
            if on_step is not None:
                on_step(step, state, metrics)
            if checkpointer.should_save(step):
                save()
                saved = step
            if came:
                break
        if saved != step:
            save()
        checkpointer.wait()
    if came:
        _log.warning("%s: saved step %d", signal.Signals(came[0]).name, step)
        raise Preempted(step)
    return state, metrics


def _resumed(
    state: Any, batches: Batches[Any], checkpointer: Checkpointer, steps: int | None
) -> tuple[int, Any, Any]:
    """The steps that are done, the state after them, and the batches of those to come."""
    checkpointer.wait()
    latest = checkpointer.latest
    step = 0 if latest is None else latest.step
    iterator: Any
    if callable(batches):
        # A function of the step needs nothing saved; the chain hides what its iterator may offer.
        iterator = itertools.chain(as_iterator(batches(step), "What 'batches' gave"))
    else:
        iterator = as_iterator(batches)
    if latest is None:
        return step, state, iterator
    data, itself = _data(iterator), isinstance(iterator, StatefulCheckpointable)
    wanted = {"state": state, **(data if itself else dict.fromkeys(data))}
    try:
        loaded = checkpointer.load_checkpointables(step, wanted)
    except CheckpointableNotFoundError as error:
        raise without_place(error, latest.path) from error.__cause__
    if data and not itself:
        iterator.set_state(loaded[DATA]["state"])
    elif not data and not callable(batches) and (steps is None or step < steps):
        iterator = dropped(iterator, step, latest.path)
    return step, loaded["state"], iterator


def _data(iterator: Any) -> dict[str, Any]:
    """The item that tells where an iterator is, if it can."""
    if isinstance(iterator, StatefulCheckpointable):
        return {DATA: iterator}
    if hasattr(iterator, "get_state") and hasattr(iterator, "set_state"):
        return {DATA: {"state": iterator.get_state()}}
    return {}


@contextlib.contextmanager
def _deferred(signals: Sequence[signal.Signals], came: list[int]) -> Generator[None, None, None]:
    """Notes the first signal; what was there before has to do with the next."""
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    def note(number: int, _frame: object) -> None:
        came.append(number)
        restore()

    try:
        if threading.current_thread() is threading.main_thread():
            for each in signals:
                before[each] = signal.signal(each, note) or signal.SIG_DFL
        yield
    finally:
        restore()
