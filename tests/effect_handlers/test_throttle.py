"""``throttle``: never more bytes than the rate allows, in equal shares, and none are lost."""

from __future__ import annotations

import threading

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax
from sealwax import effects as e
from sealwax.context import Context
from sealwax.effect_handlers import throttle
from sealwax.effect_handlers.throttling import Bucket, Queue, _Waiter
from sealwax.errors import OptionValueError
from sealwax.runtime import handlers, meter
from sealwax.testing import VirtualClock
from tests.gates import eventually


def write(nbytes: int) -> e.WriteFile:
    return e.WriteFile(path="/p", content=bytes(nbytes))


class Outside:
    """Answers effects, and keeps when each began."""

    def __init__(self, clock: VirtualClock, answer: object = None) -> None:
        self.clock, self.answer, self.began = clock, answer, []

    async def __call__(self, effect: e.Effect) -> object:
        self.began.append((self.clock.now(), effect))
        return self.answer


def run(handler, live, *effects: e.Effect) -> None:
    async def one_after_another() -> None:
        for effect in effects:
            await handlers.perform(effect, (handler,), live)

    anyio.run(one_after_another)


class TestBucket:
    @given(
        st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 10)), min_size=1, max_size=20),
        st.floats(0.5, 1000),
        st.floats(0, 1000),
    )
    def test_never_gives_more_than_the_burst_and_what_came_since(self, asked, rate, burst):
        bucket, now, given_ = Bucket(rate, burst, 0.0), 0.0, 0
        for nbytes, pause in asked:
            now += pause
            now += bucket.wait(nbytes, now)
            given_ += nbytes
            assert given_ <= burst + rate * now + 1e-6 * given_

    @given(st.lists(st.integers(1, 1000), min_size=1), st.floats(0.5, 1000))
    def test_keeps_nobody_waiting_longer_than_that(self, asked, rate):
        bucket, now = Bucket(rate, 0.0, 0.0), 0.0
        for nbytes in asked:
            now += bucket.wait(nbytes, now)
        assert now == pytest.approx(sum(asked) / rate)

    def test_does_not_save_more_than_the_burst(self):
        bucket = Bucket(10, 20, 0.0)
        assert bucket.wait(20, 1000.0) == 0
        assert bucket.wait(10, 1000.0) == 1

    def test_what_was_given_back_can_be_had(self):
        bucket = Bucket(10, 0, 0.0)
        assert bucket.wait(100, 0.0) == 10
        bucket.give_back(100)
        assert bucket.wait(10, 0.0) == 1


class TestQueue:
    @given(
        st.lists(st.integers(1, 100), min_size=5, max_size=30),
        st.lists(st.integers(1, 100), min_size=5, max_size=30),
    )
    def test_two_operations_that_both_wait_get_the_same_up_to_an_effect_each(self, ones, others):
        queue, names = Queue(), {}
        a, b = meter.Meter(), meter.Meter()
        for operation, sizes in (a, ones), (b, others):
            for nbytes in sizes:
                names[waiter := _Waiter(nbytes)] = operation
                queue.enter(operation, waiter)
        served, left = {a: 0, b: 0}, {a: len(ones), b: len(others)}
        waiting = set(names)
        while all(left.values()):
            (turn,) = (w for w in waiting if w.turn.is_set())
            served[names[turn]] += turn.nbytes
            left[names[turn]] -= 1
            waiting.remove(turn)
            queue.leave(turn)
            assert abs(served[a] - served[b]) <= 200

    def test_whoever_gives_up_is_passed_over(self):
        queue, operation = Queue(), meter.Meter()
        first, second, third = (_Waiter(1) for _ in range(3))
        for waiter in (first, second, third):
            queue.enter(operation, waiter)
        queue.leave(second)
        assert not third.turn.is_set()
        queue.leave(first)
        assert third.turn.is_set()
        assert not second.turn.is_set()


class TestThrottle:
    @given(st.lists(st.integers(0, 500), max_size=20), st.floats(1, 100), st.floats(0, 100))
    def test_bytes_begin_no_sooner_than_the_rate_allows(self, sizes, rate, burst):
        live = Outside(clock := VirtualClock())
        run(throttle(rate, burst=burst, clock=clock), live, *map(write, sizes))
        total = 0
        assert [len(effect.content) for _, effect in live.began] == sizes
        for when, effect in live.began:
            total += len(effect.content)
            assert total <= burst + rate * when + 1e-6 * total

    def test_what_moves_nothing_does_not_wait(self):
        live = Outside(clock := VirtualClock())
        run(throttle(1, burst=0, clock=clock), live, e.Look(path="/p"), write(10), e.Now())
        assert [when for when, _ in live.began] == [0, 10, 10]

    def test_one_direction_can_be_free(self):
        live = Outside(clock := VirtualClock(), answer=b"12345")
        read = e.ReadFile(path="/p")
        run(throttle(1, burst=0, reads=False, clock=clock), live, read, read, write(2), read)
        assert clock.now() == 2
        run(throttle(1, burst=0, writes=False, clock=clock), live, write(2), read, write(2))
        assert clock.now() == 2 + 5

    def test_an_operation_is_not_kept_waiting_by_all_the_effects_of_another(self):
        """Two threads with loops of their own; the second comes when the first has lined up."""
        clock, order, lined_up = VirtualClock(), [], threading.Event()

        class Held(VirtualClock):
            async def sleep(self, seconds: float) -> None:
                await anyio.to_thread.run_sync(lined_up.wait)
                await clock.sleep(seconds)

        handler = throttle(1000, burst=0, clock=Held())

        async def operation(name: str, count: int) -> None:
            token = meter._current.set(meter.Meter())

            async def live(_: e.Effect) -> None:
                order.append(name)

            async with anyio.create_task_group() as group:
                for _ in range(count):
                    group.start_soon(handlers.perform, write(100), (handler,), live)
                if name == "second":
                    await anyio.wait_all_tasks_blocked()
                    lined_up.set()
            meter._current.reset(token)

        first = threading.Thread(target=lambda: anyio.run(operation, "first", 20))
        first.start()
        eventually(lambda: len(handler._queue._heap) == 19)
        anyio.run(operation, "second", 3)
        first.join()
        assert order.index("second") <= 2
        assert order[:8].count("second") == 3

    async def test_a_cancelled_wait_gives_its_bytes_back(self):
        handler, began = throttle(10, burst=0), []

        async def live(effect: e.Effect) -> None:
            began.append(effect)

        with anyio.move_on_after(0.01):
            await handlers.perform(write(10_000), (handler,), live)
        with anyio.fail_after(60):
            await handlers.perform(write(1), (handler,), live)
        assert [len(effect.content) for effect in began] == [1]

    def test_a_real_save_takes_as_long_as_the_rate_says(self, tmp_path):
        clock, raw = VirtualClock(), Context().at.array.saving.use_compression.set(False)
        with throttle(1e6, burst=0, clock=clock):
            sealwax.save(tmp_path / "c", {"w": np.zeros(1_000_000)}, context=raw)
        assert 8 < (saved := clock.now()) < 8.1
        with throttle(1e6, burst=0, writes=False, clock=clock):
            sealwax.load(tmp_path / "c")
        assert 8 < clock.now() - saved < 8.1

    @pytest.mark.parametrize("wrong", [0, -1, float("nan")])
    def test_a_limit_is_positive(self, wrong):
        with pytest.raises(OptionValueError):
            throttle(wrong)
        with pytest.raises(OptionValueError):
            throttle(1, burst=-1)
