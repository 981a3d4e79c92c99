"""A line that shows how far a training loop is."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Generator, Mapping
from typing import Any, TextIO, cast

import numpy as np

from sealwax.effect_handlers.clock import REAL, Clock

_TERMINAL_SECONDS = 0.1
_PLAIN_SECONDS = 10.0
_BAR = 24


def line(
    step: int, first: int, last: int | None, seconds: float, metrics: Mapping[str, Any]
) -> str:
    """How far it is, how fast, and how it goes.

    >>> line(150, 100, 400, 2.0, {"loss": 0.25})
    '[#########...............] step 150/400, 25.0/s, loss 0.25'
    >>> line(150, 100, None, 2.0, {})
    'step 150, 25.0/s'
    """
    full = 0 if not last else min(_BAR * step // last, _BAR)
    bar, end = (f"[{'#' * full:.<{_BAR}}] ", f"/{last}") if last else ("", "")
    rate = f", {(step - first) / seconds:.1f}/s" if seconds > 0 else ""
    return f"{bar}step {step}{end}{rate}" + "".join(
        f", {k} {float(v):.4g}" for k, v in metrics.items()
    )


def numbers(metrics: Any) -> dict[str, Any]:
    """The real numbers among metrics, by name.

    >>> numbers({"loss": 0.5, "per_class": [0.25, 0.75], "note": "warm"})
    {'loss': 0.5, 'per_class.0': 0.25, 'per_class.1': 0.75}
    """
    import jax

    util: Any = jax.tree_util
    found: list[tuple[Any, Any]] = util.tree_leaves_with_path(metrics)
    named = ((util.keystr(path, simple=True, separator="."), leaf) for path, leaf in found)
    return {name or "metric": leaf for name, leaf in named if _is_number(leaf)}


def _is_number(leaf: Any) -> bool:
    import jax

    if getattr(leaf, "ndim", 0):
        return False
    dtype = getattr(leaf, "dtype", None)
    if not isinstance(dtype, np.dtype):  # Typed keys have another.
        return hasattr(leaf, "__float__") and not isinstance(leaf, jax.Array)
    kinds = (np.bool_, np.integer, np.floating)
    return any(jax.numpy.issubdtype(cast("Any", dtype), kind) for kind in kinds)


@contextlib.contextmanager
def bar(
    shown: bool | None,
    first: int,
    last: int | None,
    *,
    stream: TextIO | None = None,
    clock: Clock = REAL,
) -> Generator[Callable[[int, Any], None], None, None]:
    """Gives a function that draws the line, on a terminal at most ten times a second.

    Args:
      shown: Whether to draw; ``None`` does so on a terminal. Elsewhere it is a line of its own
        each ten seconds.
      first: The step that the loop began after.
      last: The step it ends with, if that is known.
      stream: Where to; standard error by default.
      clock: What to measure with.

    Yields:
      Takes the step and its metrics, and waits for these only when it draws.
    """
    # There is no standard error in a process without a console.
    to: TextIO | None = sys.stderr if stream is None else stream
    terminal = to is not None and to.isatty()
    if to is None or not (terminal if shown is None else shown):
        yield lambda _step, _metrics: None
        return
    every = _TERMINAL_SECONDS if terminal else _PLAIN_SECONDS
    began = drawn = clock.now()

    def draw(step: int, metrics: Any) -> None:
        nonlocal drawn
        now = clock.now()
        if step != last and now - drawn < every:
            return
        drawn = now
        text = line(step, first, last, now - began, numbers(metrics))
        width = shutil.get_terminal_size().columns - 1
        _write(to, f"\r\x1b[2K{text[:width]}" if terminal else f"{text}\n")

    try:
        yield draw
    finally:
        if terminal and drawn > began:
            _write(to, "\n")


def _write(stream: TextIO, text: str) -> None:
    # A stream that is closed or broken is no reason to stop training.
    with contextlib.suppress(OSError, ValueError):
        stream.write(text)
        stream.flush()
