"""The laws of a byte budget, whatever the sizes, the order and the cancellations."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwax.runtime.budget import Budget

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
few = settings(max_examples=40)


class Watched(Budget):
    """A budget that checks itself at every change."""

    def __init__(self, limit: int | None) -> None:
        super().__init__(limit)
        self.out: list[int] = []
        self.order: list[int] = []

    def _lend(self, nbytes: int) -> None:
        self.out.append(nbytes)
        self.order.append(nbytes)
        super()._lend(nbytes)
        self.check()

    def release(self, nbytes: int) -> None:
        if nbytes:
            self.out.remove(nbytes)
        super().release(nbytes)
        self.check()

    def check(self) -> None:
        assert self.lent == sum(self.out)
        if self.limit is not None:
            assert self.lent <= self.limit or len(self.out) == 1


REQUESTS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 3), st.none() | st.integers(0, 4)), max_size=8
)


async def use(budget: Budget, nbytes: int, ticks: int, task_status) -> None:
    task_status.started()
    await budget.acquire(nbytes)
    try:
        for _ in range(ticks):
            await checkpoint()
    finally:
        budget.release(nbytes)


async def cancel_after(ticks: int, scope: anyio.CancelScope) -> None:
    for _ in range(ticks):
        await checkpoint()
    scope.cancel()


async def run_all(budget: Budget, requests) -> None:
    async def one(nbytes, ticks, cancelled, *, task_status) -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as inner:
                if cancelled is not None:
                    inner.start_soon(cancel_after, cancelled, scope)
                await use(budget, nbytes, ticks, task_status)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for request in requests:
                await group.start(one, *request)


@BACKENDS
@few
@given(limit=st.none() | st.integers(1, 40), requests=REQUESTS)
def test_no_more_than_the_limit_is_lent_and_everything_comes_back(backend, limit, requests):
    budget = Watched(limit)
    anyio.run(run_all, budget, requests, backend=backend)
    assert budget.lent == 0
    assert budget.out == []
    largest = max((nbytes for nbytes, *_ in requests), default=0)
    assert budget.peak <= (sum(n for n, *_ in requests) if limit is None else max(limit, largest))


@BACKENDS
@few
@given(limit=st.integers(1, 40), sizes=st.lists(st.integers(1, 50), max_size=8), ticks=st.data())
def test_the_first_to_come_is_the_first_to_be_served(backend, limit, sizes, ticks):
    requests = [(size, ticks.draw(st.integers(0, 3)), None) for size in sizes]
    budget = Watched(limit)
    anyio.run(run_all, budget, requests, backend=backend)
    assert budget.order == sizes


async def test_a_small_request_does_not_pass_a_large_one_that_waits():
    budget, served = Budget(10), []

    async def ask(nbytes: int) -> None:
        await budget.acquire(nbytes)
        served.append(nbytes)

    await budget.acquire(6)
    async with anyio.create_task_group() as group:
        for nbytes in (8, 1):
            group.start_soon(ask, nbytes)
            await anyio.wait_all_tasks_blocked()
        assert served == []
        budget.release(6)
    assert sorted(served) == [1, 8]


async def test_a_request_that_is_larger_than_the_budget_is_served_alone():
    budget = Budget(10)
    await budget.acquire(1)
    with anyio.move_on_after(0) as scope:
        await budget.acquire(100)
    assert scope.cancelled_caught
    budget.release(1)
    await budget.acquire(100)
    with anyio.move_on_after(0) as scope:
        await budget.acquire(1)
    assert scope.cancelled_caught
    assert (budget.lent, budget.peak) == (100, 100)


async def test_giving_up_lets_the_next_one_in():
    budget = Budget(10)
    await budget.acquire(6)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(budget.acquire, 9)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    await budget.acquire(4)
    assert budget.lent == 10


async def test_bytes_granted_to_one_who_gives_up_at_that_moment_are_not_lost():
    budget, got = Budget(10), []

    async def ask() -> None:
        await budget.acquire(10)
        got.append(10)

    await budget.acquire(10)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            budget.release(10)
            scope.cancel()
    assert budget.lent == sum(got)


async def test_nothing_and_no_limit_never_wait():
    full, free = Budget(1), Budget(None)
    await full.acquire(1)
    with anyio.fail_after(60):
        await full.acquire(0)
        for _ in range(100):
            await free.acquire(1 << 40)
    assert free.peak == 100 << 40
