"""Names for those who budget memory: what is private in Orbax is public here.

>>> import sealwax as ocp
>>> ocp.memory.memory_in_use() < ocp.memory.memory_in_all()
True
"""

from sealwax.option_types import MemoryProfiler as MemoryProfiler
from sealwax.option_types import SerializationStatusCallback as SerializationStatusCallback
from sealwax.option_types import TransferPriority as TransferPriority
from sealwax.regulator import Regulator as Regulator
from sealwax.runtime.hostmemory import HostMemoryProfiler as HostMemoryProfiler
from sealwax.runtime.hostmemory import memory_in_all as memory_in_all
from sealwax.runtime.hostmemory import memory_in_use as memory_in_use
