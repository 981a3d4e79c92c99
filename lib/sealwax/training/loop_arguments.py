"""What ``run`` refuses of what it is called with, before the first step is taken."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from typing import Any, cast

from sealwax.errors import ArgumentTypeError, ArgumentValueError, CheckpointableNotFoundError
from sealwax.planning.steps import as_step
from sealwax.training.checkpointer import Checkpointer

DATA = "data"
"""The name of the item that tells where the batches are."""
_SIGNALS = frozenset({signal.SIGKILL, signal.SIGSTOP})


def check_arguments(step_fn: object, checkpointer: object, steps: object, on_step: object) -> None:
    """Refuses what no loop could use.

    Raises:
      ArgumentTypeError: Something is of the wrong type.
      ArgumentValueError: ``steps`` is negative.
    """
    if not callable(step_fn):
        raise ArgumentTypeError(
            "The argument 'step_fn' cannot be called",
            expected="a function that takes a state and a batch",
            found=repr(step_fn),
        )
    if on_step is not None and not callable(on_step):
        raise ArgumentTypeError(
            "The argument 'on_step' cannot be called",
            expected="a function that takes the step, the state and the metrics, or None",
            found=repr(on_step),
        )
    if not isinstance(checkpointer, Checkpointer):
        raise ArgumentTypeError(
            "The argument 'checkpointer' is no Checkpointer",
            expected="a sealwax.training.Checkpointer",
            found=repr(checkpointer),
            hint="Make one: Checkpointer(directory).",
        )
    if steps is not None:
        try:
            as_step(steps)
        except (ArgumentTypeError, ArgumentValueError) as error:
            error.what = f"The argument 'steps' is the step to end with: {error.what.lower()}"
            error.expected = f"{error.expected}; or None"
            raise


def as_signals(signals: object) -> tuple[signal.Signals, ...]:
    """The signals that are to end a loop.

    Raises:
      ArgumentTypeError: These are no signals.
      ArgumentValueError: One of them cannot be noticed by any program.
    """
    try:
        made = tuple([signal.Signals(each) for each in cast("Iterable[Any]", signals)])
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            "The argument 'signals' does not list signals",
            expected="a sequence such as (signal.SIGTERM,)",
            found=repr(signals),
        ) from None
    for each in _SIGNALS.intersection(made):
        raise ArgumentValueError(
            "A signal that no program can handle cannot end a loop", found=each.name
        )
    return made


def as_iterator(batches: object, what: str = "The argument 'batches'") -> Iterator[Any]:
    """The batches one after another.

    Raises:
      ArgumentTypeError: There are none in there.
    """
    try:
        return iter(cast("Iterable[Any]", batches))
    except TypeError as error:
        if isinstance(batches, Iterable):
            raise
        raise ArgumentTypeError(
            f"{what} cannot be iterated",
            expected="an iterable of batches, or a function of the number of steps done that "
            "gives one",
            found=repr(batches),
        ) from error


def dropped(iterator: Iterator[Any], step: int, path: object) -> Iterator[Any]:
    """The iterator without the batches of the steps that are done.

    Raises:
      ArgumentValueError: There were fewer.
    """
    for taken in range(step):
        if next(iterator, _END) is _END:
            raise ArgumentValueError(
                "The batches end before the step from which the run would go on",
                path=path,
                expected=f"at least {step} batches, of which {step} are done",
                found=str(taken),
                hint="Pass what the run began with; or a function of the number of steps done, "
                "which gives the batches to come.",
            )
    return iterator


def as_pair(result: object) -> tuple[Any, Any]:
    """What a step gave: the state and the metrics.

    Raises:
      ArgumentTypeError: It gave something else.
    """
    given: Any = result
    pair = isinstance(result, tuple | list)
    if pair and len(given) == 2:
        return given[0], given[1]
    raise ArgumentTypeError(
        "The argument 'step_fn' did not return a state and metrics",
        expected="a pair, such as (state, {'loss': loss}) or (state, None)",
        found=type(given).__name__ + (f" of {len(given)}" if pair else ""),
    )


def without_place(error: CheckpointableNotFoundError, path: object) -> CheckpointableNotFoundError:
    """The error for batches that are to go on where they were, when nobody noted where that is."""
    if repr(DATA) not in error.what:
        return error
    made = CheckpointableNotFoundError(
        "These batches say themselves where they are, and the checkpoint does not: the run was "
        "saved with others",
        path=path,
        expected=f"a checkpointable {DATA!r}",
        found=error.found,
        hint="Go on with batches as they were then: an iterable from the first on, or a function "
        "of the number of steps done.",
    )
    made.__cause__ = error
    return made


_END = object()
