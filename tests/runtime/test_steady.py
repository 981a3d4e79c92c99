"""A hundred operations in a loop leave a process as it was: memory, files, threads, objects."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import sealwax as ocp
from sealwax import effects as e
from sealwax.effect_handlers import inject
from sealwax.errors import SealwaxError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc"),
]
MIB = 1 << 20
TIMES = 100


def tree() -> dict[str, object]:
    # A leak of one copy of it, in each of the rounds, would be 200 MiB.
    return {"w": np.ones((MIB // 4, 2), np.float32).T, "j": jnp.ones(1000), "step": 1}


def resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def standing() -> tuple[int, int, int, int]:
    """Bytes of memory, open files, threads, and objects that the collector knows."""
    gc.collect()
    files = len(os.listdir("/proc/self/fd"))
    return resident(), files, threading.active_count(), len(gc.get_objects())


def settled(once: Callable[[], None]) -> list[int]:
    """The least of several looks: a thread that is just ending still holds what it did."""
    looks: list[tuple[int, int, int, int]] = []
    for _ in range(3):
        once()
        looks.append(standing())
    return [min(each) for each in zip(*looks, strict=True)]


def check_steady(once: Callable[[], None]) -> None:
    # The allocator keeps what each of its arenas once needed: that is reached soon, and stays.
    for _ in range(40):
        once()
    # A leak shows in every span. What other tests left to the collector, or to caches of JAX's
    # that double now and then, shows in one.
    spans = [growth(once)]
    while not flat(spans[-1]) and len(spans) < 4:
        spans.append(growth(once))
    assert flat(spans[-1]), spans


def growth(once: Callable[[], None]) -> list[int]:
    """What ``TIMES`` rounds add to each figure of ``standing``."""
    before = settled(once)
    for _ in range(TIMES):
        once()
    return [b - a for a, b in zip(before, settled(once), strict=True)]


def flat(grown: list[int]) -> bool:
    memory, files, threads, objects = grown
    # A few objects may come and go with caches; one for each round would be a leak.
    return memory < 32 * MIB and files <= 0 and threads <= 0 and objects < TIMES


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


def test_saves(place: Path) -> None:
    state = tree()
    check_steady(lambda: ocp.save(place, state, overwrite=True))


def test_saves_in_the_background(place: Path) -> None:
    state = tree()
    check_steady(lambda: ocp.save_async(place, state, overwrite=True).result())


def test_loads(place: Path) -> None:
    ocp.save(place, tree())
    check_steady(lambda: ocp.load(place))


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("kind", [e.Stage, e.WriteBatch, e.Rename])
def test_saves_that_fail(place: Path, kind: type[e.Effect], background: bool) -> None:
    state = tree()

    def save() -> None:
        if background:
            ocp.save_async(place, state).result()
        else:
            ocp.save(place, state)

    def once() -> None:
        with inject(kind, error=OSError(5, "no")), pytest.raises(SealwaxError):
            save()

    check_steady(once)
    assert os.listdir(place.parent) == []


def test_saves_that_are_cancelled(place: Path) -> None:
    state = tree()

    def once() -> None:
        response = ocp.save_async(place, state)
        response.cancel()
        try:
            response.result()
        except SealwaxError:
            return
        shutil.rmtree(place)

    check_steady(once)


def test_regulated_saves_that_tell_of_each_leaf(place: Path) -> None:
    class Callback:
        def key_priority(self, keypath: object) -> ocp.memory.TransferPriority:
            return ocp.memory.TransferPriority.ASYNCHRONOUS_PRIORITIZED

        def on_transfer_end(self, keypath: object) -> None: ...

        def on_write_end(self, keypath: object) -> None: ...

    state = tree()
    context = ocp.Context()
    context.memory.serialization_status_callback = Callback()
    context.memory.regulator_options = ocp.options.MemoryOptions.RegulatorOptions(
        max_memory_limit_gib=4,
        min_memory_limit_gib=1,
        profiler=ocp.memory.HostMemoryProfiler(),
    )
    check_steady(lambda: ocp.save_async(place, state, overwrite=True, context=context).result())
