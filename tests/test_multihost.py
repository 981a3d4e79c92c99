"""The namespace ``multihost`` in a program that runs alone; jobs are in ``tests/distributed``."""

from __future__ import annotations

from typing import Any

import pytest

import sealwax as ocp
from sealwax import multihost
from sealwax.runtime import processes

pytestmark = pytest.mark.anyio


async def meet(**kwargs: Any) -> None:
    await multihost.sync_global_processes(**{"key": "here"} | kwargs)


def test_there_is_one_process_and_it_is_the_primary_one() -> None:
    assert (multihost.process_index(), multihost.process_count()) == (0, 1)
    assert [multihost.is_primary_host(host) for host in (0, 1, None)] == [True, False, True]
    assert not multihost.is_pathways_backend()


async def test_there_is_nobody_to_wait_for() -> None:
    await meet()
    await meet(operation_id="7", timeout=1, processes=[0])


@pytest.mark.parametrize(
    ("argument", "kind", "said"),
    [
        ({"timeout": 0}, ValueError, "Argument 'timeout' leaves no time"),
        ({"timeout": -1.5}, ValueError, "found -1.5"),
        ({"processes": [1]}, ValueError, "This process is not among"),
        ({"processes": []}, ValueError, "expected process 0|Expected process 0"),
        ({"processes": [0, 3]}, ValueError, "indices from 0 to 0"),
        ({"processes": [-1, 0]}, ValueError, "indices from 0 to 0"),
        ({"key": ""}, ValueError, "empty"),
        ({"key": 3}, TypeError, "no string"),
    ],
)
async def test_what_cannot_be_right_is_refused_by_one_process_too(
    argument: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        await meet(**argument)
    assert isinstance(caught.value, ocp.errors.SealwaxError)


def test_identifiers_differ() -> None:
    assert len({multihost.next_operation_id() for _ in range(100)}) == 100


async def test_a_barrier_needs_a_coordinator() -> None:
    with pytest.raises(ocp.errors.ProcessesError, match=r"Call jax.distributed.initialize\(\)"):
        await processes.barrier("b", within=1, among=None, event="/x")
