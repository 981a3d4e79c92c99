"""Where effects happen: handlers, the executor, and the threads that they run in."""

from sealwax.runtime.handlers import Forward as Forward
from sealwax.runtime.handlers import Handler as Handler
from sealwax.runtime.inject import Inject as Inject
from sealwax.runtime.inject import inject as inject
from sealwax.runtime.meter import Progress as Progress
from sealwax.runtime.record import Record as Record
from sealwax.runtime.record import record as record
