"""The executor: the order of a graph, side by side, one error, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import math
import threading
import weakref

import anyio
import anyio.lowlevel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sealwax
from sealwax import effects as e
from sealwax.context import Context
from sealwax.effect_handlers import Handler
from sealwax.effects import Plan, Step
from sealwax.errors import (
    CorruptionError,
    InternalError,
    SealError,
    StorageError,
)
from sealwax.runtime.executor import Limits, execute
from sealwax.runtime.meter import Meter
from sealwax.runtime.threads import own_loop
from tests.runtime.plans import UNDO, Performer, act, giving, plan_of, raising, using

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
few = settings(max_examples=30)


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    return [
        draw(st.lists(st.integers(0, n - 1), max_size=3, unique=True)) if n else []
        for n in range(draw(st.integers(1, 10)))
    ]


@BACKENDS
@few
@given(needs=graphs(), data=st.data())
def test_every_step_happens_once_and_after_what_it_needs(backend, needs, data):
    seal = data.draw(st.none() | st.integers(0, len(needs) - 1))
    holds = data.draw(st.dictionaries(st.integers(0, len(needs) - 1), st.integers(0, 5)))
    plan = plan_of(
        [[*n, seal] if seal is not None and k > seal else n for k, n in enumerate(needs)],
        seal=seal,
        writes=holds,
    )
    performer = Performer({str(n): anyio.lowlevel.checkpoint for n in range(0, len(needs), 2)})

    async def main() -> None:
        with anyio.fail_after(60):
            await execute(plan, performer, limits=Limits(write=4))

    anyio.run(main, backend=backend)
    assert sorted(performer.begun, key=int) == [str(n) for n in range(len(needs))]
    order = {int(name): place for place, name in enumerate(performer.begun)}
    done = {int(name): place for place, name in enumerate(performer.ended)}
    for step in plan.steps:
        for need in step.needs:
            assert order[need] < order[step.number]
            assert done[need] < done[step.number]
    assert performer.undone == []


async def test_steps_that_do_not_need_each_other_run_side_by_side():
    events = [anyio.Event() for _ in range(3)]

    def meeting(number: int):
        async def meet() -> None:
            events[number].set()
            for event in events:
                await event.wait()

        return meet

    performer = Performer({str(n): meeting(n) for n in range(3)})
    with anyio.fail_after(60):
        await execute(plan_of([[], [], [], [0, 1, 2]]), performer)
    assert performer.ended[-1] == "3"


async def test_results_go_where_they_are_named():
    def add(found: dict[str, int], more: int) -> int:
        return found["a"] + more

    steps = (
        Step(number=0, effect=act("0")),
        using(1, 0),
        using(2, 0, "b"),
        using(3, e.SOURCES),
        Step(number=4, effect=e.Derive(name="sum", function=add, inputs=(e.From(step=0), 5))),
    )
    plan = Plan(title="t", path="/p", steps=steps, result=4)
    performer = Performer({"0": giving({"a": 1, "b": 2})})
    assert await execute(plan, performer, sources=("source",)) == 6
    resolved = performer.resolved
    assert {"a": 1, "b": 2} in resolved
    assert 2 in resolved
    assert ("source",) in resolved


async def test_what_was_given_is_in_no_circle_that_the_collector_must_find():
    class Big:
        pass

    plan = plan_of([[]], result=0)
    gc.disable()
    try:
        given = await execute(plan, Performer({"0": giving(Big())}))
        alive = weakref.ref(given)
        del given
        assert alive() is None
    finally:
        gc.enable()


async def test_a_result_is_let_go_when_its_last_user_is_done():
    class Big:
        pass

    alive: list[weakref.ref[Big]] = []
    seen: list[bool] = []

    async def make() -> Big:
        alive.append(weakref.ref(big := Big()))
        return big

    async def look() -> None:
        seen.append(alive[0]() is not None)

    steps = (
        Step(number=0, effect=act("0")),
        using(1, 0),
        Step(number=2, effect=act("2"), after=(1,)),
    )
    performer = Performer({"0": make, "2": look})
    run = execute(Plan(title="t", path="/p", steps=steps), performer)
    performer.resolved = Forgetful()
    await run
    assert seen == [False]


class Forgetful(list):
    def append(self, _) -> None:
        pass


async def test_the_first_error_is_raised_and_later_ones_are_notes():
    begun = anyio.Event()

    async def fail_while_stopped() -> None:
        begun.set()
        try:
            await anyio.sleep(60)
        finally:
            raise OSError(errno.EIO, "Input/output error")

    async def fail() -> None:
        await begun.wait()
        raise full()

    performer = Performer({"0": fail, "1": fail_while_stopped})
    with pytest.raises(StorageError) as caught:
        await execute(plan_of([[], [], [0]]), performer)
    assert caught.value.errno == errno.ENOSPC
    assert "Could not sync directory /0" in str(caught.value)
    assert caught.value.path == "/0"
    assert any(
        "sync directory /1" in note and "Input/output" in note for note in caught.value.__notes__
    )
    assert performer.begun.count("2") == 0
    assert performer.undone == [UNDO]


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (OSError(errno.EACCES, "Permission denied"), StorageError),
        (CorruptionError("bad", leaf="w"), CorruptionError),
        (ValueError("odd"), Exception),
        (MemoryError(), MemoryError),
    ],
    ids=lambda x: getattr(x, "__name__", type(x).__name__),
)
async def test_an_error_says_what_could_not_be_done(cause, kind):
    performer = Performer({"1": raising(cause)})
    with pytest.raises(kind) as caught:
        await execute(plan_of([[], [0]]), performer)
    assert not isinstance(caught.value, BaseExceptionGroup)
    if isinstance(cause, CorruptionError):
        assert caught.value is cause
        assert (cause.leaf, cause.path) == ("w", "/1")


async def test_an_error_of_ours_that_nobody_foresaw_is_an_internal_one():
    steps = (Step(number=0, effect=e.Derive(name="it", function=lambda: 1 // 0, inputs=())),)
    with pytest.raises(InternalError, match="Could not derive it: integer division") as caught:
        await execute(Plan(title="t", path="/p", steps=steps), Performer())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@BACKENDS
@pytest.mark.parametrize("own", [contextlib.nullcontext, own_loop])
@pytest.mark.parametrize("brief", [False, True])
def test_a_function_that_raises_what_cancels_tasks_fails_and_nobody_waits_for_it(
    backend, own, brief
):
    def cancelled() -> None:
        raise asyncio.CancelledError

    first = e.Derive(name="it", function=cancelled, inputs=(), brief=brief)
    then = e.Derive(name="that", function=repr, inputs=(e.From(step=0),))
    steps = (Step(number=0, effect=first), Step(number=1, effect=then, after=(0,)))

    async def main() -> None:
        with anyio.fail_after(60):
            await execute(Plan(title="t", path="/p", steps=steps), Performer())

    with own(), pytest.raises(InternalError, match="Could not derive it.*CancelledError"):
        anyio.run(main, backend=backend)


async def test_a_failed_write_names_its_leaves():
    def write(*leaves: int) -> e.WriteBatch:
        slabs = tuple(e.Slab(leaf, 0, 0, 1) for leaf in leaves)
        return e.WriteBatch(
            path="/7/d", name="d", slabs=slabs, forms=(), buffers=(), compressed=(), nbytes=0
        )

    async def fail(_: e.Effect) -> None:
        raise full()

    async def error_of(*leaves: int) -> StorageError:
        steps = (Step(number=0, effect=write(*leaves)),)
        with pytest.raises(StorageError) as caught:
            await execute(Plan(title="t", path="/7", steps=steps, names=("a", "b", "c")), fail)
        return caught.value

    one, several = await error_of(1), await error_of(0, 1, 2)
    assert (one.leaf, one.path, one.errno) == ("b", "/7/d", errno.ENOSPC)
    assert several.leaf is None
    assert several.__notes__ == ["The step holds 3 leaves, from 'a' to 'c'."]


async def test_cancelling_stops_everything_and_undoes():
    begun = anyio.Event()

    async def hang() -> None:
        begun.set()
        await anyio.sleep(60)

    performer = Performer({"0": hang})
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(execute, plan_of([[], [0]], seal=1), performer)
            await begun.wait()
            scope.cancel()
    assert scope.cancelled_caught
    assert performer.begun == ["0"]
    assert performer.undone == [UNDO]


def test_a_task_that_asyncio_itself_cancels_undoes_too():
    async def main() -> Performer:
        begun = asyncio.Event()

        async def hang() -> None:
            begun.set()
            await anyio.sleep(60)

        performer = Performer({"0": hang})
        task = asyncio.create_task(execute(plan_of([[], [0]], seal=1), performer))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return performer

    assert asyncio.run(main()).undone == [UNDO]


async def test_work_under_way_ends_before_it_is_undone():
    order, begun = [], threading.Event()

    def write() -> None:
        begun.set()
        for _ in range(20):
            threading.Event().wait(0.005)
        order.append("written")

    async def in_thread() -> None:
        await anyio.to_thread.run_sync(write)

    async def undo() -> None:
        order.append("undone")

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            performer = Performer({"0": in_thread, "undo": undo})
            group.start_soon(execute, plan_of([[], [0]]), performer)
            await anyio.to_thread.run_sync(begun.wait)
            scope.cancel()
    assert order == ["written", "undone"]


async def test_the_callers_own_deadline_is_the_callers():
    async def hang() -> None:
        await anyio.sleep(60)

    performer = Performer({"0": hang})
    with anyio.move_on_after(0.05) as scope:
        await execute(plan_of([[]]), performer)
    assert scope.cancelled_caught
    assert performer.undone == [UNDO]


async def test_what_fails_after_the_seal_is_not_undone():
    performer = Performer({"2": raising(full())})
    with pytest.raises(StorageError):
        await execute(plan_of([[], [0], [1]], seal=1), performer)
    assert performer.undone == []


async def test_a_seal_that_fails_is_undone_and_says_so():
    performer = Performer({"1": raising(full())})
    with pytest.raises(SealError) as caught:
        await execute(plan_of([[], [0], [1]], seal=1), performer)
    assert caught.value.errno == errno.ENOSPC
    assert performer.begun == ["0", "1"]
    assert performer.undone == [UNDO]


async def test_what_fails_after_the_seal_says_that_it_was_sealed():
    async def error_of(effect: e.Effect) -> StorageError:
        async def fail(performed: e.Effect) -> None:
            if performed is effect:
                raise full()

        steps = (
            Step(number=0, effect=e.Rename(source="/tmp-7", target="/7")),
            Step(number=1, effect=effect, after=(0,)),
        )
        with pytest.raises(StorageError) as caught:
            await execute(Plan(title="save", path="/7", steps=steps, seal=0), fail)
        return caught.value

    unsynced, left = await error_of(act("7")), await error_of(UNDO)
    [lost], [behind] = unsynced.__notes__, left.__notes__
    assert lost.startswith(
        "The save itself was complete before this: everybody sees it, and a loss"
    )
    assert behind.startswith("The save itself was complete before this: what it leaves behind is")


@pytest.mark.parametrize(("seal", "rest"), [(0, "; the checkpoint '/7' is complete"), (1, "")])
async def test_a_call_that_exits_says_whether_the_checkpoint_is_there(seal, rest):
    async def leave(effect: e.Effect) -> None:
        if isinstance(effect, e.Call):
            raise SystemExit(3)

    effects = [e.Call(name="callback", function=dict), e.Rename(source="/tmp-7", target="/7")]
    steps = tuple(
        Step(number=number, effect=effect, after=(0,) * number)
        for number, effect in enumerate(effects if seal else reversed(effects))
    )
    with pytest.raises(SystemExit) as caught:
        await execute(Plan(title="save", path="/7", steps=steps, seal=seal), leave)
    assert caught.value.__notes__ == [f"callback raised this{rest}."]


async def test_after_the_seal_it_is_too_late_to_cancel():
    sealed = anyio.Event()

    async def seal() -> None:
        sealed.set()

    async def slow() -> None:
        await anyio.sleep(0.05)

    performer = Performer({"1": seal, "2": slow})
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(execute, plan_of([[], [0], [1], [2]], seal=1), performer)
            await sealed.wait()
            scope.cancel()
    assert performer.ended == ["0", "1", "2", "3"]
    assert performer.undone == []


async def test_an_undo_that_fails_is_a_note():
    performer = Performer({"0": raising(full()), "undo": raising(OSError(errno.EIO, "bad disk"))})
    with pytest.raises(StorageError) as caught:
        await execute(plan_of([[]]), performer)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.__notes__ == ["Could not remove /tmp-7: [Errno 5] bad disk"]


class Held:
    """Counts what is held, from the making of each result to the end of its last user."""

    def __init__(self, sizes: list[int], pauses: list[int]) -> None:
        self.sizes, self.pauses = sizes, pauses
        self.held = self.peak = 0

    def maker(self, number: int):
        async def make() -> None:
            self.held += self.sizes[number]
            self.peak = max(self.peak, self.held)
            await anyio.lowlevel.checkpoint()

        return make

    def user(self, number: int):
        async def use() -> None:
            for _ in range(self.pauses[number]):
                await anyio.lowlevel.checkpoint()
            self.held -= self.sizes[number]

        return use


@BACKENDS
@few
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    budget=st.none() | st.integers(1, 20),
    pauses=st.lists(st.integers(0, 3), min_size=8, max_size=8),
)
def test_what_results_hold_stays_within_the_plans_peak(backend, sizes, budget, pauses):
    count, held = len(sizes), Held(sizes, pauses)
    plan = plan_of(
        [*[[]] * (2 * count), range(2 * count)],
        uses={count + n: n for n in range(count)},
        holds=dict(enumerate(sizes)),
        host_budget=budget,
    )
    actions = {str(n): held.maker(n) for n in range(count)}
    actions |= {str(count + n): held.user(n) for n in range(count)}

    async def main() -> None:
        with anyio.fail_after(60):
            await execute(plan, Performer(actions))

    anyio.run(main, backend=backend)
    assert held.held == 0
    assert held.peak <= plan.peak_host_bytes


@BACKENDS
def test_later_steps_do_not_starve_earlier_ones_of_memory(backend):
    """As in a save: the first batch is looked at before any other of its leaf is written."""
    batches = 6
    plan = plan_of(
        [*[[]] * (batches + 1), *[[batches]] * batches],
        uses={batches: 0} | {batches + 1 + n: n for n in range(batches)},
        holds=dict.fromkeys(range(batches), 1),
        host_budget=2,
    )

    async def main() -> None:
        with anyio.fail_after(60):
            for _ in range(10):
                await execute(plan, Performer())

    anyio.run(main, backend=backend)


class HostBytes(Handler):
    """Measures the bytes that staging allocated and that are still alive."""

    def __init__(self, original: np.ndarray) -> None:
        self.original = original
        self.alive = self.peak = self.staged = 0
        self.lock = threading.RLock()

    def free(self, nbytes: int) -> None:
        with self.lock:
            self.alive -= nbytes

    async def perform(self, effect, forward):
        answer = await forward(effect)
        if isinstance(effect, e.Stage):
            for buffer in answer:
                if np.may_share_memory(buffer, self.original):
                    continue
                weakref.finalize(buffer, self.free, buffer.nbytes)
                with self.lock:
                    self.alive += buffer.nbytes
                    self.staged += buffer.nbytes
                    self.peak = max(self.peak, self.alive)
        return answer


@pytest.mark.parametrize("limit", [8 << 20, 12 << 20])
def test_a_real_save_stays_within_the_peak_of_its_plan(tmp_path, limit):
    array = np.zeros((40, 1 << 18), np.float32).T
    context = Context().replace(
        {"memory.transfer_concurrent_bytes": limit, "file.durability": "atomic"}
    )
    plan = sealwax.plan_save(tmp_path / "c", [array], context=context)
    with HostBytes(array) as host:
        sealwax.save(tmp_path / "c", [array], context=context)
    assert host.staged == array.nbytes
    assert plan.peak_host_bytes <= limit
    # The budget plus one piece is what is promised: a worker thread lets go of its last buffer
    # a moment after it has handed the answer over.
    piece = max(step.holds for step in plan.steps)
    assert 0 < host.peak <= plan.peak_host_bytes + piece


async def test_progress_and_staging_are_told():
    meter, staged = Meter(), []
    fractions = []

    async def look() -> None:
        fractions.append((meter.now.fraction, len(staged)))

    plan = plan_of([[], [0], [1], [2]], writes={0: 1, 2: 3}, staging=[0, 1])
    performer = Performer({str(n): look for n in range(4)})
    await execute(plan, performer, meter=meter, on_staged=lambda: staged.append(1))
    assert fractions == [(0, 0), (0.25, 0), (0.25, 1), (1, 1)]
    assert staged == [1]
    assert (meter.now.effects_done, meter.now.effects_total) == (4, 4)
    assert math.isclose(meter.now.fraction, 1)


async def test_a_plan_that_stages_nothing_is_staged_at_once():
    staged = []

    async def look() -> None:
        assert staged == [1]

    await execute(plan_of([[]]), Performer({"0": look}), on_staged=lambda: staged.append(1))
    assert staged == [1]
