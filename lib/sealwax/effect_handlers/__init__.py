"""Effect handlers: watch, change or break what operations do."""

from sealwax.effect_handlers.crashes import Crash
from sealwax.effect_handlers.dry_running import DryRun, Report, dry_run
from sealwax.effect_handlers.in_memory import Memory, memory
from sealwax.effect_handlers.injecting import Inject, inject
from sealwax.effect_handlers.progressing import ProgressHandler, Status, progress
from sealwax.effect_handlers.recording import Record, record
from sealwax.effect_handlers.retrying import TRANSIENT, Retry, retry
from sealwax.effect_handlers.throttling import Throttle, throttle
from sealwax.runtime.handlers import Forward, Handler

__all__ = [
    "TRANSIENT",
    "Crash",
    "DryRun",
    "Forward",
    "Handler",
    "Inject",
    "Memory",
    "ProgressHandler",
    "Record",
    "Report",
    "Retry",
    "Status",
    "Throttle",
    "dry_run",
    "inject",
    "memory",
    "progress",
    "record",
    "retry",
    "throttle",
]


def __dir__() -> list[str]:
    return __all__
