"""For your own crash tests: stop a program at every effect, and damage what it wrote.

Nothing here needs a test framework. ``docs/handlers.md`` shows a training loop under test.
"""

from sealwax.effect_handlers.clock import Clock, VirtualClock
from sealwax.testing.damage import Corruption, corrupt, corruptions
from sealwax.testing.failing import fail_at_every_effect
from sealwax.testing.killing import kill_at, kill_at_every_effect
from sealwax.testing.stops import Run, Stop

__all__ = [
    "Clock",
    "Corruption",
    "Run",
    "Stop",
    "VirtualClock",
    "corrupt",
    "corruptions",
    "fail_at_every_effect",
    "kill_at",
    "kill_at_every_effect",
]


def __dir__() -> list[str]:
    return __all__
