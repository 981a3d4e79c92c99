"""What is logged of operations: one line at INFO when each ends, one at DEBUG for each effect.

Everything goes to the logger ``sealwax``. A record has its numbers as attributes as well, for
handlers that write them down: ``operation``, ``path``, ``seconds``, and at INFO ``bytes`` and
``outcome``.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Generator, Sequence

from sealwax.effects import Effect
from sealwax.effects.wording import sentence, size

LOG = logging.getLogger("sealwax")


@contextlib.contextmanager
def ending(operation: str, path: str, nbytes: int, took: float = 0.0) -> Generator[None]:
    """Tells of an operation when the block ends, whichever way.

    Args:
      operation: The verb.
      path: What it works on.
      nbytes: Bytes that it writes or reads.
      took: Seconds since its call.
    """
    if not LOG.isEnabledFor(logging.INFO):
        yield
        return
    began, outcome = time.monotonic() - took, "failed"
    try:
        yield
        outcome = "done"
    finally:
        seconds = time.monotonic() - began
        numbers = {"bytes": nbytes, "outcome": outcome}
        LOG.info(
            "%s of %r %s",
            operation,
            path,
            _how(outcome, seconds, nbytes),
            extra=_about(operation, path, seconds) | numbers,
        )


@contextlib.contextmanager
def performing(operation: str, path: str, effect: Effect, names: Sequence[str]) -> Generator[None]:
    """Tells of one effect when the block ends, unless it fails: the error tells more."""
    if not LOG.isEnabledFor(logging.DEBUG):
        yield
        return
    began = time.monotonic()
    yield
    seconds = time.monotonic() - began
    LOG.debug(
        "%s of %r: %s (%.1f ms)",
        operation,
        path,
        sentence(effect, names),
        seconds * 1e3,
        extra=_about(operation, path, seconds),
    )


def _how(outcome: str, seconds: float, nbytes: int) -> str:
    if outcome == "failed":
        return f"failed after {seconds:.3f} s"
    return f"took {seconds:.3f} s" + (f" for {size(nbytes)}" if nbytes else "")


def _about(operation: str, path: str, seconds: float) -> dict[str, object]:
    return {"operation": operation, "path": path, "seconds": seconds}
