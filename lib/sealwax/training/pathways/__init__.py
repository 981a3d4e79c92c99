"""Snapshots in the memory of hosts, for runs that lose a part of their devices and go on."""

from sealwax.training.pathways.snapshotter import Snapshotter

__all__ = ["Snapshotter"]


def __dir__() -> list[str]:
    return __all__
