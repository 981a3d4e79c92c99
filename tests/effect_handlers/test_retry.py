"""``retry``: again where it is safe and may help; everything else passes at once."""

from __future__ import annotations

import errno
import itertools
import os

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax
from sealwax import effects as e
from sealwax.effect_handlers import TRANSIENT, inject, record, retry
from sealwax.effects.nature import repeatable
from sealwax.errors import CorruptionError, OptionValueError, StorageError
from sealwax.runtime import handlers
from sealwax.testing import VirtualClock
from tests.effects.test_effects import EXAMPLES

READ = e.ReadFile(path="/p")


def flaw(number: int = errno.EIO) -> OSError:
    return OSError(number, os.strerror(number))


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, times: int, error: Exception) -> None:
        self.times, self.error, self.tries = times, error, 0

    async def __call__(self, effect: e.Effect) -> str:
        self.tries += 1
        if self.tries <= self.times:
            raise self.error
        return "answer"


def outcome(handler, live: Flaky, effect: e.Effect = READ) -> object:
    async def do() -> object:
        try:
            return await handlers.perform(effect, (handler,), live)
        except Exception as error:
            return error

    return anyio.run(do)


class TestWhat:
    @pytest.mark.parametrize(
        "effect", [x for x, _ in EXAMPLES], ids=lambda effect: type(effect).__name__
    )
    def test_only_what_is_safe_to_repeat(self, effect):
        live = Flaky(1, flaw())
        found = outcome(retry(clock=VirtualClock()), live, effect)
        assert (found == "answer") == repeatable(effect)
        assert live.tries == 1 + repeatable(effect)

    @pytest.mark.parametrize("kind", [e.WriteFiles, e.WriteBatch, e.SyncTree])
    def test_never_a_failed_sync(self, tmp_path, kind):
        broken, retries = inject(kind, nth=0, error=flaw()), retry(clock=VirtualClock())
        with record() as trace, broken, retries, pytest.raises(StorageError) as caught:
            sealwax.save(tmp_path / "c", {"w": 1.0})
        assert (broken.hits, retries.repeats) == (1, 0)
        assert any("sync may lie" in note for note in caught.value.__notes__)
        assert isinstance(trace.effects[-1], e.RemoveTree)
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("number", sorted(errno.errorcode))
    def test_only_errors_that_may_be_over(self, number):
        found = outcome(retry(clock=VirtualClock()), Flaky(1, flaw(number)))
        assert (found == "answer") == (number in TRANSIENT)

    @pytest.mark.parametrize("error", [CorruptionError("bad"), ValueError(), FileNotFoundError()])
    def test_no_other_errors(self, error):
        live = Flaky(1, error)
        assert outcome(retry(clock=VirtualClock()), live) is error
        assert live.tries == 1
        assert not hasattr(error, "__notes__")

    def test_those_that_are_asked_for(self):
        handler = retry(on={ValueError, errno.ENOENT}, clock=VirtualClock())
        assert outcome(handler, Flaky(1, ValueError())) == "answer"
        assert outcome(handler, Flaky(1, flaw(errno.ENOENT))) == "answer"
        assert isinstance(outcome(handler, Flaky(1, flaw(errno.EIO))), OSError)


class TestHowOften:
    @given(st.integers(0, 8), st.integers(0, 8))
    def test_as_often_as_allowed(self, fails, times):
        live = Flaky(fails, flaw())
        handler = retry(times, clock=VirtualClock())
        assert (outcome(handler, live) == "answer") == (fails <= times)
        assert live.tries == 1 + min(fails, times)
        assert handler.repeats == min(fails, times)

    @given(
        st.floats(0.01, 1), st.floats(1, 3), st.floats(0.01, 10), st.floats(0, 1), st.integers(0, 9)
    )
    def test_waits_grow_up_to_a_limit(self, first, factor, most, jitter, times):
        clock, waits = VirtualClock(), []

        class Noted(VirtualClock):
            async def sleep(self, seconds: float) -> None:
                waits.append(seconds)

        handler = retry(times, first=first, factor=factor, most=most, jitter=jitter, clock=Noted())
        outcome(handler, Flaky(times, flaw()))
        full = [min(most, first * factor**n) for n in range(times)]
        assert len(waits) == times
        for wait, longest in zip(waits, full, strict=True):
            assert longest * (1 - jitter) * 0.999999 <= wait <= longest * 1.000001
        assert clock.now() == 0

    def test_the_deadline_is_not_waited_for(self):
        async def do() -> OSError:
            with anyio.fail_after(60):
                await handlers.perform(READ, (retry(first=3600, most=3600),), Flaky(9, flaw()))

        with pytest.raises(OSError, match=os.strerror(errno.EIO)) as caught:
            anyio.run(do)
        assert caught.value.__notes__ == ["Not tried again: the operation's deadline comes first."]

    async def test_cancellation_passes_at_once(self):
        live = Flaky(99, flaw())
        async with anyio.create_task_group() as group:
            group.start_soon(handlers.perform, READ, (retry(first=3600, most=3600),), live)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        assert live.tries == 1


class TestWhatIsTold:
    def test_every_try_is_noted_on_the_error_that_is_raised(self):
        numbers = itertools.count(1)

        async def live(_: e.Effect) -> None:
            raise flaw([0, errno.EIO, errno.ESTALE, errno.EAGAIN][next(numbers)])

        handler = retry(2, jitter=0, clock=VirtualClock())
        found = outcome(handler, live)
        assert found.errno == errno.EAGAIN
        first, second, last = found.__notes__
        assert os.strerror(errno.EIO) in first
        assert "0.1 s" in first
        assert os.strerror(errno.ESTALE) in second
        assert last == "Not tried again: it failed 3 times."

    def test_it_reaches_the_caller_of_the_operation(self, tmp_path):
        sealwax.save(tmp_path / "c", {"step": 1})
        broken = inject(e.ReadFile, error=lambda _: flaw(errno.ESTALE))
        with broken, retry(1, clock=VirtualClock()), pytest.raises(StorageError) as caught:
            sealwax.load(tmp_path / "c")
        assert caught.value.errno == errno.ESTALE
        assert len(caught.value.__notes__) == 2

    def test_a_load_comes_through_a_flaky_disk(self, tmp_path):
        sealwax.save(tmp_path / "c", {"step": 1, "w": 2.5})
        broken = inject((e.ReadFile, e.ReadBatch), every=2, error=lambda _: flaw())
        with broken, retry(clock=VirtualClock()) as retries:
            assert sealwax.load(tmp_path / "c") == {"step": 1, "w": 2.5}
        assert retries.repeats == broken.hits > 0


@pytest.mark.parametrize(
    "wrong", [{"times": -1}, {"first": -1}, {"factor": 0.5}, {"most": -1}, {"jitter": 1.5}]
)
def test_numbers_outside_their_range_are_refused(wrong):
    with pytest.raises(OptionValueError, match=next(iter(wrong)).capitalize()):
        retry(**wrong)
