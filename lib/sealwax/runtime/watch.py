"""What an operation is doing and until when it may, from its call on: read from any thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence

from sealwax.effects import Effect
from sealwax.effects.wording import sentence
from sealwax.runtime.meter import Meter


class Watch:
    """Watches one operation, from its call on.

    Args:
      seconds: How long it may take; ``None`` for as long as it needs.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self.meter = Meter()
        self.names: Sequence[str] = ()
        self._began = time.monotonic()
        self._under_way: dict[object, Effect] = {}
        self._when_late: str | None = None

    def took(self) -> float:
        """Seconds since the call."""
        return time.monotonic() - self._began

    def left(self) -> float | None:
        """Seconds until the deadline, less than 0 once it has passed; ``None`` without one."""
        if self.seconds is None:
            return None
        return self._began + self.seconds - time.monotonic()

    @contextlib.contextmanager
    def doing(self, effect: Effect) -> Generator[None]:
        """Knows of an effect while it is under way."""
        mark = object()
        self._under_way[mark] = effect
        try:
            yield
        finally:
            # Cancellation may break off what waits, and has to wait for what a thread does: the
            # first to end after the deadline ends among those that were waited for.
            if self._when_late is None and (self.left() or 1.0) <= 0:
                self._when_late = self.status()
            del self._under_way[mark]

    def status(self) -> str:
        """What is done and what is under way, in words."""
        now = self.meter.now
        parts = [f"{now.effects_done} of {now.effects_total} effects done"]
        # A copy, in one step: the operation goes on in another thread.
        effects = list(self._under_way.values())
        if effects:
            more = f", and {len(effects) - 1} more" if len(effects) > 1 else ""
            parts.append(f"under way: {sentence(effects[0], self.names)}{more}")
        return "; ".join(parts if now.effects_total else parts[1:]) or "not begun"

    def status_when_late(self) -> str:
        """What was done and under way when the deadline passed."""
        return self._when_late or self.status()
