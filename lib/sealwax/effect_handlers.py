"""Effect handlers: watch, change or break what operations do."""

from sealwax.runtime.crashes import Crash as Crash
from sealwax.runtime.dry_run import DryRun as DryRun
from sealwax.runtime.dry_run import Report as Report
from sealwax.runtime.dry_run import dry_run as dry_run
from sealwax.runtime.handlers import Forward as Forward
from sealwax.runtime.handlers import Handler as Handler
from sealwax.runtime.inject import Inject as Inject
from sealwax.runtime.inject import inject as inject
from sealwax.runtime.memory import Memory as Memory
from sealwax.runtime.memory import memory as memory
from sealwax.runtime.progress import ProgressHandler as ProgressHandler
from sealwax.runtime.progress import Status as Status
from sealwax.runtime.progress import progress as progress
from sealwax.runtime.record import Record as Record
from sealwax.runtime.record import record as record
from sealwax.runtime.retry import TRANSIENT as TRANSIENT
from sealwax.runtime.retry import Retry as Retry
from sealwax.runtime.retry import retry as retry
from sealwax.runtime.throttle import Throttle as Throttle
from sealwax.runtime.throttle import throttle as throttle
