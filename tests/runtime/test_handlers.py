"""Handlers: how they stack, what they may change, and who sees them."""

from __future__ import annotations

import contextvars
import threading

import anyio
import numpy as np
import pytest

import sealwax
from sealwax import effects as e
from sealwax.effect_handlers import Handler, inject, record
from sealwax.errors import OptionValueError, SealError, StorageError
from sealwax.runtime import handlers
from tests.clocks import put_forward


class Tag(Handler):
    """Adds its name to the path of what passes, and to a trace."""

    def __init__(self, name: str, trace: list[str]) -> None:
        self.name, self.trace = name, trace

    async def perform(self, effect, forward):
        self.trace.append(self.name)
        return await forward(e.Look(path=effect.path + self.name))


class Answer(Handler):
    def __init__(self, value: object) -> None:
        self.value = value

    async def perform(self, effect, forward):
        return self.value


async def live(effect: e.Effect) -> object:
    return effect


async def test_without_handlers_the_live_one_answers():
    effect = e.Look(path="/")
    assert await handlers.perform(effect, (), live) is effect


async def test_the_innermost_comes_first_and_may_pass_on_something_else():
    trace = []
    with Tag("outer", trace), Tag("inner", trace):
        stack = handlers.current()
    assert await handlers.perform(e.Look(path="/"), stack, live) == e.Look(path="/innerouter")
    assert trace == ["inner", "outer"]


async def test_one_that_answers_hides_those_outside():
    trace = []
    with Tag("a", trace), Answer(7), Tag("b", trace):
        stack = handlers.current()
    assert await handlers.perform(e.Look(path="/"), stack, live) == 7
    assert trace == ["b"]


async def test_one_may_forward_more_than_once():
    class Twice(Handler):
        async def perform(self, effect, forward):
            return await forward(effect), await forward(effect)

    trace = []
    with Tag("a", trace), Twice():
        stack = handlers.current()
    one = e.Look(path="/a")
    assert await handlers.perform(e.Look(path="/"), stack, live) == (one, one)
    assert trace == ["a", "a"]


def test_blocks_nest_and_restore():
    one, two = record(), record()
    with one as given:
        assert given is one
        with two:
            assert handlers.current() == (one, two)
            with one:
                assert handlers.current() == (one, two, one)
            assert handlers.current() == (one, two)
        assert handlers.current() == (one,)
        with pytest.raises(ZeroDivisionError), two:
            1 / 0  # noqa: B018
        assert handlers.current() == (one,)
    assert handlers.current() == ()


def test_a_block_that_was_entered_elsewhere_can_be_left_here():
    handler = record()
    contextvars.copy_context().run(handler.__enter__)
    assert handlers.current() == ()
    with (outer := record()):
        handler.__exit__(None, None, None)
        assert handlers.current() == (outer,)


def test_a_thread_starts_with_none():
    seen = []
    with record():
        thread = threading.Thread(target=lambda: seen.append(handlers.current()))
        thread.start()
        thread.join()
    assert seen == [()]


async def test_tasks_see_their_own():
    met, seen = anyio.Event(), {}

    async def enter(name: str) -> None:
        with record() as handler:
            if len(seen) == 1:
                met.set()
            seen[name] = handler
            await met.wait()
            assert handlers.current() == (*outer, handler)

    with record() as first:
        outer = (first,)
        async with anyio.create_task_group() as group:
            group.start_soon(enter, "a")
            group.start_soon(enter, "b")
        assert handlers.current() == outer
    assert len(seen) == 2


def test_an_operation_keeps_the_handlers_it_started_with(tmp_path):
    class Slow(Handler):
        def __init__(self) -> None:
            self.last = None

        async def perform(self, effect, forward):
            if isinstance(effect, e.Rename):
                await anyio.sleep(0.05)
            self.last = effect
            return await forward(effect)

    with (slow := Slow()):
        response = sealwax.save_async(tmp_path / "c", {"step": 1})
    with record() as late:
        response.result()
    assert isinstance(slow.last, e.SyncDirectory)
    assert late.effects == []


def test_an_answer_of_a_handler_is_what_the_operation_sees(tmp_path):
    class Clock(Handler):
        async def perform(self, effect, forward):
            return 1_234 if isinstance(effect, e.Now) else await forward(effect)

    with Clock():
        sealwax.save(tmp_path / "c", {"step": 1})
    assert sealwax.metadata(tmp_path / "c").commit_timestamp_nsecs == 1_234


def test_a_changed_effect_is_what_happens(tmp_path):
    class Elsewhere(Handler):
        async def perform(self, effect, forward):
            if isinstance(effect, e.Rename):
                effect = e.Rename(source=effect.source, target=str(tmp_path / "moved"))
            return await forward(effect)

    with Elsewhere():
        sealwax.save(tmp_path / "c", {"step": 1})
    assert not (tmp_path / "c").exists()
    assert sealwax.load(tmp_path / "moved") == {"step": 1}


async def test_the_coroutines_see_handlers_too(tmp_path):
    with record() as trace:
        await sealwax.aio.save(tmp_path / "c", {"step": 1})
        assert await sealwax.aio.load(tmp_path / "c") == {"step": 1}
    assert {"Rename", "ReadBatch"} <= set(trace.kinds())


def test_no_handler_sees_a_result_that_is_not_there_yet(tmp_path):
    with record() as trace:
        sealwax.save(tmp_path / "c", {"w": np.zeros(100_000), "s": "x"})
        sealwax.load(tmp_path / "c")
    assert not any(isinstance(effect, e.Derive) for effect in trace.effects)
    for effect in trace.effects:
        for value in (getattr(effect, name) for name in type(effect).__slots__):
            parts = value if isinstance(value, tuple) else (value,)
            assert not any(isinstance(part, e.From) for part in parts)


# ---------------------------------------------------------------- record and inject


def test_record_keeps_what_passes_in_order_and_changes_nothing(tmp_path):
    with record() as trace:
        sealwax.save(tmp_path / "c", {"step": 1})
    assert trace.kinds()[:2] == ["Look", "Look"]
    assert trace.kinds()[-2:] == ["Rename", "SyncDirectory"]
    assert sealwax.load(tmp_path / "c") == {"step": 1}


def test_record_keeps_failed_effects_and_the_undoing(tmp_path):
    with record() as trace, inject(e.Rename, error=OSError(5, "bad")), pytest.raises(SealError):
        sealwax.save(tmp_path / "c", {"step": 1})
    assert "Rename" not in trace.kinds()
    assert trace.kinds()[-1] == "RemoveTree"
    with inject(e.Rename, error=OSError(5, "bad")), record() as trace, pytest.raises(SealError):
        sealwax.save(tmp_path / "c", {"step": 1})
    assert "Rename" in trace.kinds()


async def strike(handler: Handler, *effects: e.Effect) -> list[object]:
    """What becomes of effects: what they answer, or what they raise."""
    answers: list[object] = []
    for effect in effects:
        try:
            answers.append(await handlers.perform(effect, (handler,), live))
        except OSError as error:
            answers.append(error)
    return answers


LOOK, NOW, OTHER = e.Look(path="/a"), e.Now(), e.Look(path="/b")
BAD = OSError(5, "bad")


@pytest.mark.parametrize(
    ("at", "answers"),
    [
        (0, [BAD, NOW, OTHER]),
        (2, [LOOK, NOW, BAD]),
        (3, [LOOK, NOW, OTHER]),
        (e.Look, [BAD, NOW, BAD]),
        (e.Rename, [LOOK, NOW, OTHER]),
        (lambda effect: effect == OTHER, [LOOK, NOW, BAD]),
    ],
    ids=["first", "third", "beyond", "type", "other type", "predicate"],
)
async def test_inject_strikes_at_a_number_a_type_or_what_fits(at, answers):
    handler = inject(at, error=BAD)
    assert await strike(handler, LOOK, NOW, OTHER) == answers
    assert handler.seen == 3
    assert handler.hits == answers.count(BAD)


async def test_inject_strikes_before_or_after():
    for moment, happened in ("before", 0), ("after", 1):
        trace = record()
        stack = (trace, inject(0, error=BAD, moment=moment))
        with pytest.raises(OSError, match="bad"):
            await handlers.perform(LOOK, stack, live)
        assert len(trace.effects) == happened


async def test_inject_delays_without_blocking_others():
    handler, order = inject(e.Look, delay=1e6), []

    async def do(effect: e.Effect) -> None:
        order.append(await handlers.perform(effect, (handler,), live))

    async with anyio.create_task_group() as group:
        group.start_soon(do, LOOK)
        await anyio.wait_all_tasks_blocked()
        await do(NOW)
        assert order == [NOW]
        put_forward(5e5)
        await anyio.wait_all_tasks_blocked()
        assert order == [NOW]
        put_forward(5e5)
    assert order == [NOW, LOOK]


async def test_inject_can_be_made_to_strike_once():
    handler = inject(lambda _: handler.hits == 0, error=BAD)
    assert await strike(handler, LOOK, LOOK) == [BAD, LOOK]


@pytest.mark.parametrize(
    ("how", "answers"),
    [
        ({"nth": 0}, [BAD, NOW, OTHER, LOOK]),
        ({"nth": 1}, [LOOK, NOW, BAD, LOOK]),
        ({"every": 1}, [BAD, NOW, BAD, BAD]),
        ({"every": 2}, [BAD, NOW, OTHER, BAD]),
        ({"every": 2, "nth": 1}, [LOOK, NOW, BAD, LOOK]),
        ({"every": 1, "nth": 2}, [LOOK, NOW, OTHER, BAD]),
    ],
)
async def test_inject_counts_those_that_fit(how, answers):
    assert await strike(inject(e.Look, error=BAD, **how), LOOK, NOW, OTHER, LOOK) == answers


async def test_inject_makes_errors_from_effects():
    handler = inject((e.Look, e.Now), error=lambda effect: OSError(5, type(effect).__name__))
    assert [error.strerror for error in await strike(handler, LOOK, NOW)] == ["Look", "Now"]


@pytest.mark.parametrize("wrong", [{"nth": -1}, {"every": 0}])
def test_inject_refuses_numbers_that_count_nothing(wrong):
    with pytest.raises(OptionValueError):
        inject(e.Look, **wrong)


@pytest.mark.parametrize(
    ("kind", "files"),
    [(e.WriteFiles, False), (e.WriteBatch, False), (e.WriteFiles, True), (e.WriteChunks, True)],
)
def test_inject_tears_a_write(tmp_path, kind, files):
    """Half of a file is there when the error comes; the undoing is kept from happening."""
    data = np.arange(1000.0)
    context = sealwax.Context().replace({"array.saving.use_ocdbt": not files})
    torn = inject(kind, nth=0, error=lambda _: OSError(28, "full"), moment="during")
    kept = inject(e.RemoveTree, error=lambda _: OSError(5, "bad"))
    with record() as trace, kept, torn, pytest.raises(StorageError):
        sealwax.save(tmp_path / "c", {"w": data}, context=context)
    written = [x for x in trace.effects if isinstance(x, e.WriteFile | e.WriteFiles)]
    assert any(not part.sync for part in written)
    if kind in (e.WriteBatch, e.WriteChunks):
        written = [p for p in tmp_path.rglob("*") if p.is_file() and p.stat().st_size == 4000]
        assert [p.read_bytes() for p in written] == [data.tobytes()[:4000]]


async def test_inject_strikes_before_what_it_cannot_tear():
    trace = record()
    with pytest.raises(OSError, match="bad"):
        await handlers.perform(LOOK, (trace, inject(0, error=BAD, moment="during")), live)
    assert trace.effects == []
