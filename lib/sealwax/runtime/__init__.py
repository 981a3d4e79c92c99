"""Where effects happen: the stack of handlers, the executor, and the threads that they run in."""

from sealwax.runtime.handlers import Forward as Forward
from sealwax.runtime.handlers import Handler as Handler
from sealwax.runtime.meter import Progress as Progress
