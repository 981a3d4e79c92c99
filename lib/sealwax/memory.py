"""Names for those who budget memory: what is private in Orbax is public here.

>>> import sealwax as ocp
>>> ocp.memory.memory_in_use() < ocp.memory.memory_in_all()
True
"""

from sealwax.runtime.hostmemory import HostMemoryProfiler, memory_in_all, memory_in_use
from sealwax.settings.option_types import (
    MemoryProfiler,
    SerializationStatusCallback,
    TransferPriority,
)
from sealwax.settings.regulator import Regulator

__all__ = [
    "HostMemoryProfiler",
    "MemoryProfiler",
    "Regulator",
    "SerializationStatusCallback",
    "TransferPriority",
    "memory_in_all",
    "memory_in_use",
]


def __dir__() -> list[str]:
    return __all__
