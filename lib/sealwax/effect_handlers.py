"""Effect handlers: watch, change or break what operations do."""

from sealwax.runtime.crashes import Crash
from sealwax.runtime.dry_run import DryRun, Report, dry_run
from sealwax.runtime.handlers import Forward, Handler
from sealwax.runtime.inject import Inject, inject
from sealwax.runtime.memory import Memory, memory
from sealwax.runtime.progress import ProgressHandler, Status, progress
from sealwax.runtime.record import Record, record
from sealwax.runtime.retry import TRANSIENT, Retry, retry
from sealwax.runtime.throttle import Throttle, throttle

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
