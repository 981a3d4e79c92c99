"""For your own crash tests: stop a program at every effect, and damage what it wrote.

Nothing here needs a test framework. ``docs/handlers.md`` shows a training loop under test.
"""

from sealwax.runtime.clock import Clock as Clock
from sealwax.runtime.clock import VirtualClock as VirtualClock
from sealwax.testing.damage import Corruption as Corruption
from sealwax.testing.damage import corrupt as corrupt
from sealwax.testing.damage import corruptions as corruptions
from sealwax.testing.failing import fail_at_every_effect as fail_at_every_effect
from sealwax.testing.killing import kill_at as kill_at
from sealwax.testing.killing import kill_at_every_effect as kill_at_every_effect
from sealwax.testing.stops import Run as Run
from sealwax.testing.stops import Stop as Stop
