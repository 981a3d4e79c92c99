"""The handle: views and assignment, blocks, threads and tasks, rule by rule of the design."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import dataclasses
import gc
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax import options as o
from sealwax.context import Context, current_options, get_context, resolve
from sealwax.errors import (
    FrozenOptionError,
    OptionError,
    OptionTypeError,
    OptionValueError,
    UnknownOptionError,
)
from sealwax.settings.frozen import walk
from sealwax.settings.lens import diff
from tests.test_options import NAMES, OTHER, Callback, at

GROUP_NAMES = {
    "pytree": "pytree_options",
    "array": "array_options",
    "asynchronous": "async_options",
    "multiprocessing": "multiprocessing_options",
    "file": "file_options",
    "checkpointables": "checkpointables_options",
    "pathways": "pathways_options",
    "deletion": "deletion_options",
    "memory": "memory_options",
    "safetensors": "safetensors_options",
    "atomicity": "atomicity_options",
}


def durability() -> str:
    return current_options().file.durability


def in_thread(function: Any, *args: Any) -> Any:
    """Runs a call in a raw thread, which inherits nothing."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result()


def assign(root: Any, name: str, value: object) -> None:
    *parents, last = name.split(".")
    setattr(at(root, ".".join(parents)) if parents else root, last, value)


# -- C1 and C2: construction, views, assignment --------------------------------------------------


def test_a_context_has_every_default_inside_another_block_too():
    with Context(file_options=o.FileOptions(durability="atomic")):
        assert Context().options == o.Options()
        assert Context().options is Context().options


def test_a_child_starts_at_its_parents_snapshot_and_shares_it():
    parent = Context()
    parent.file.durability = "atomic"
    child = Context(parent)
    assert child.options is parent.options
    parent.file.durability = "durable"
    child.array.saving.use_zarr3 = False
    assert child.file.durability == "atomic"
    assert parent.array.saving.use_zarr3
    with parent:
        assert Context(parent).options is parent.options
    assert Context(child.options).options is child.options


@pytest.mark.parametrize("name", NAMES)
def test_assignment_copies_the_path_and_shares_the_rest(name):
    ctx = Context()
    before = ctx.options
    assign(ctx, name, OTHER[name])
    assert before == o.Options()
    changed = set(diff(before, ctx.options))
    assert changed == {name}
    top = name.split(".")[0]
    for field in dataclasses.fields(before):
        shared = getattr(before, field.name) is getattr(ctx.options, field.name)
        assert shared == (field.name != top)
    assert at(ctx, name) == OTHER[name]


def test_siblings_of_the_path_are_shared():
    ctx = Context()
    before = ctx.options
    ctx.array.saving.use_zarr3 = False
    assert ctx.options.array.loading is before.array.loading
    assert ctx.options.array.saving.storage_options is before.array.saving.storage_options


def test_assigning_what_is_there_makes_no_new_snapshot():
    ctx = Context()
    before = ctx.options
    ctx.array.saving.use_zarr3 = True
    ctx.array.saving = ctx.array.saving
    assert ctx.options is before


@pytest.mark.parametrize("name", sorted(GROUP_NAMES))
def test_whole_groups_are_given_assigned_and_aliased(name):
    keyword = GROUP_NAMES[name]
    options = next(n for n in NAMES if n.startswith(f"{name}."))
    group = getattr(Context().replace({options: OTHER[options]}).options, name)
    ctx = Context(**{keyword: group})
    assert getattr(ctx.options, name) is group
    assert getattr(ctx, keyword) == getattr(ctx, name) == group
    fresh = Context()
    setattr(fresh, name, group)
    aliased = Context()
    setattr(aliased, keyword, group)
    assert fresh.options == aliased.options == ctx.options


def test_nested_groups_and_views_are_assigned_as_plain_groups():
    ctx, other = Context(), Context()
    other.array.loading.verify = "never"
    ctx.array.loading = other.array.loading
    ctx.array.saving.storage_options = o.ArrayOptions.Saving.StorageOptions(chunk_byte_size=8)
    assert type(ctx.options.array.loading) is o.ArrayOptions.Loading
    other.array.loading.verify = "always"
    assert ctx.array.loading.verify == "never"
    assert ctx.array.saving.storage_options.chunk_byte_size == 8


def test_a_view_is_live_and_an_instance_of_its_group():
    ctx = Context()
    view = ctx.array.saving
    view.use_zarr3 = False
    assert view.use_zarr3 is False
    assert isinstance(view, o.ArrayOptions.Saving)
    plain = o.ArrayOptions.Saving(use_zarr3=False)
    assert view == plain
    assert plain == view
    assert hash(view) == hash(plain)
    assert repr(view) == repr(plain)
    assert dict(walk_values(view)) == dict(walk_values(plain))
    ctx.array = o.ArrayOptions()
    assert view.use_zarr3 is True


def walk_values(group: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, _, value in walk(group)]


def test_what_is_made_from_a_view_belongs_to_no_context():
    ctx = Context()
    view = ctx.array.saving
    for made in (
        dataclasses.replace(view, use_zarr3=False),
        copy.copy(view),
        copy.deepcopy(view),
        pickle.loads(pickle.dumps(view)),
    ):
        assert type(made) is o.ArrayOptions.Saving
        with pytest.raises(FrozenOptionError):
            made.use_ocdbt = False
    assert ctx.options == o.Options()


def test_a_view_of_a_group_that_went_away_says_so():
    ctx = Context().replace({"memory.regulator_options": OTHER["memory.regulator_options"]})
    view = ctx.memory.regulator_options
    assert view is not None
    view.kp = 0.5
    assert ctx.memory.regulator_options.kp == 0.5
    ctx.memory.regulator_options = None
    with pytest.raises(OptionTypeError, match=r"memory.regulator_options"):
        _ = view.kp
    with pytest.raises(OptionTypeError, match=r"memory.regulator_options"):
        view.kp = 0.5


@pytest.mark.parametrize(
    ("name", "value", "error", "says"),
    [
        ("arry", 1, UnknownOptionError, "Did you mean 'array'"),
        ("use_zarr3", False, UnknownOptionError, "Did you mean 'array.saving.use_zarr3'"),
        ("array.saving.use_zar3", False, UnknownOptionError, "Did you mean 'use_zarr3'"),
        ("array.saving.use_zarr3", "no", OptionTypeError, "Write True or False"),
        ("checkpoint_layout", "zip", OptionValueError, "'safetensors'"),
        ("array", o.FileOptions(), OptionTypeError, "ArrayOptions"),
        ("memory.write_concurrent_bytes", 0, OptionValueError, "at least 1"),
    ],
)
def test_a_refused_assignment_leaves_the_context_as_it_was(name, value, error, says):
    ctx = Context()
    with pytest.raises(error, match=says):
        assign(ctx, name, value)
    with ctx, pytest.raises(error, match=says):
        assign(ctx, name, value)
    assert ctx.options is Context().options


def test_a_context_starts_at_nothing_but_a_context_or_options():
    with pytest.raises(OptionTypeError, match="Expected a Context"):
        Context(5)
    with pytest.raises(OptionTypeError, match="array"):
        Context(array_options=o.FileOptions())
    with pytest.raises(UnknownOptionError, match="arry"):
        _ = Context().arry


# -- C3 and C4: values and the functional way ----------------------------------------------------


def test_the_snapshot_of_a_context_is_frozen():
    ctx = Context()
    with pytest.raises(FrozenOptionError, match=r"ctx\.at\.array\.saving\.use_zarr3\.set\(False\)"):
        ctx.options.array.saving.use_zarr3 = False
    assert ctx.options == o.Options()


@given(st.sets(st.sampled_from(NAMES), max_size=5).map(sorted))
def test_the_ways_to_change_agree(names):
    assigned, at_once, chained = Context(), Context(), Context()
    values = {name: OTHER[name] for name in names}
    for name, value in values.items():
        assign(assigned, name, value)
        chained = at(chained.at, name).set(value)
    at_once.assign(values)
    replaced = Context().replace(values)
    assert assigned.options == at_once.options == chained.options == replaced.options
    assert {name: new for name, (_, new) in diff(o.Options(), replaced.options).items()} == values


def test_at_leaves_the_context_alone_and_knows_its_names():
    ctx = Context()
    new = ctx.at.asynchronous.timeout_secs.apply(lambda seconds: seconds * 2)
    assert (ctx.asynchronous.timeout_secs, new.asynchronous.timeout_secs) == (1200, 2400)
    assert ctx.at.file.durability.get() == "durable"
    with pytest.raises(UnknownOptionError, match="durability"):
        _ = ctx.at.file.durabilty
    with pytest.raises(OptionTypeError, match=r"file\.durability"):
        _ = ctx.at.file.durability.more
    with pytest.raises(OptionTypeError, match="names no option"):
        ctx.at.set(o.Options())


def test_replace_takes_all_changes_or_none():
    ctx = Context()
    regulated = ctx.replace(memory=o.MemoryOptions(write_concurrent_bytes=3))
    inside = regulated.replace({"memory.read_concurrent_bytes": 4}, memory=o.MemoryOptions())
    assert inside.options.memory == o.MemoryOptions(read_concurrent_bytes=4)
    both = {"array.saving.use_zarr3": False, "array.saving.use_ocdbt": "no"}
    for change in (ctx.replace, ctx.assign):
        with pytest.raises(OptionTypeError, match="use_ocdbt"):
            change(both)
    with pytest.raises(OptionTypeError, match="dotted names"):
        ctx.replace(["array"])
    assert ctx.options == o.Options()


def test_repr_shows_what_is_not_default_and_can_be_read_back():
    ctx = Context()
    assert repr(ctx) == "Context()"
    ctx.array.saving.use_zarr3 = False
    ctx.checkpoint_layout = "auto"
    assert eval(repr(ctx)).options == ctx.options
    assert "use_zarr3" in repr(ctx)
    assert "use_ocdbt" not in repr(ctx)


def test_copies_of_a_context_are_contexts_of_their_own():
    ctx = Context().replace({"file.durability": "atomic"})
    for made in (copy.copy(ctx), copy.deepcopy(ctx), pickle.loads(pickle.dumps(ctx))):
        assert made is not ctx
        made.file.durability = "durable"
        assert ctx.file.durability == "atomic"
    assert ctx == ctx
    assert ctx != Context(ctx)


def test_children_hold_the_very_objects_of_their_parents():
    callback = Callback()
    parent = Context()
    parent.memory.serialization_status_callback = callback
    assert Context(parent).memory.serialization_status_callback is callback
    assert copy.deepcopy(parent).memory.serialization_status_callback is callback


# -- C5 and C6: blocks ---------------------------------------------------------------------------


def test_blocks_nest_and_restore_what_was_current():
    outer, inner = Context().at.file.durability.set("atomic"), Context()
    assert current_options() == o.Options()
    with outer as entered:
        assert entered is outer
        assert current_options() is outer.options
        with inner:
            assert current_options() is inner.options
        assert current_options() is outer.options
    assert current_options() == o.Options()


def test_blocks_of_one_context_nest():
    ctx = Context().at.file.durability.set("atomic")
    with ctx:
        with ctx:
            assert durability() == "atomic"
        assert durability() == "atomic"
    assert durability() == "durable"


def test_an_exception_leaves_the_block():
    with pytest.raises(ZeroDivisionError), Context().at.file.durability.set("atomic"):
        _ = 1 / 0
    assert durability() == "durable"


def test_assigning_inside_its_own_block_acts_on_what_follows():
    ctx = Context()
    with ctx:
        captured = resolve()
        ctx.file.durability = "atomic"
        assert captured.file.durability == "durable"
        assert durability() == "atomic"
        assert resolve(ctx) is current_options() is ctx.options
    assert durability() == "durable"
    assert ctx.file.durability == "atomic"


def test_one_thread_reads_back_what_it_assigned_whichever_block_is_left():
    outer, inner = Context(), Context()
    with outer:
        with inner, outer:
            outer.file.durability = "atomic"
            assert durability() == "atomic"
        assert durability() == outer.file.durability == "atomic"
        with inner:
            outer.file.durability = "durable"
            inner.file.durability = "atomic"
            assert durability() == "atomic"
        assert durability() == "durable"


def test_an_outer_block_can_be_left_first():
    a, b = Context().at.file.durability.set("atomic"), Context()
    first, second = contextlib.ExitStack(), contextlib.ExitStack()
    first.enter_context(a)
    second.enter_context(b)
    first.close()
    assert current_options() is b.options
    second.close()
    assert durability() == "durable"


def block(ctx: Context):
    with ctx:
        yield durability()


def test_generators_leave_their_own_blocks_in_any_order():
    ctx = Context().at.file.durability.set("atomic")
    other = Context()
    with other:
        generators = [block(ctx), block(other), block(ctx)]
        assert [next(g) for g in generators] == ["atomic", "durable", "atomic"]
        generators[2].close()
        assert durability() == "durable"
        generators[0].close()
        assert durability() == "durable"
        generators[1].close()
        assert current_options() is other.options
    assert current_options() == o.Options()


def test_a_collected_generator_leaves_its_block():
    generator = block(Context().at.file.durability.set("atomic"))
    next(generator)
    assert durability() == "atomic"
    del generator
    gc.collect()
    assert durability() == "durable"


def test_a_block_left_by_another_thread_is_left_where_it_was_opened():
    ctx = Context().at.file.durability.set("atomic")
    with ctx:
        generator = block(ctx)
        next(generator)
        in_thread(generator.close)
        assert durability() == "atomic"
    assert durability() == "durable"


def test_a_block_left_in_a_child_is_left_in_the_parent_and_kept_by_siblings():
    ctx = Context().at.file.durability.set("atomic")
    generator = block(ctx)
    next(generator)
    sibling, child = contextvars.copy_context(), contextvars.copy_context()
    child.run(generator.close)
    assert child.run(durability) == "durable"
    assert durability() == "durable"
    assert sibling.run(durability) == "atomic"
    assert sibling.run(durability) == "atomic"


def test_a_block_left_elsewhere_under_another_block_goes_when_that_is_left():
    ctx, over = Context().at.file.durability.set("atomic"), Context()
    generator = block(ctx)
    next(generator)
    with over:
        in_thread(generator.close)
        assert current_options() is over.options
    assert durability() == "durable"


def test_leaving_what_was_never_entered_changes_nothing():
    with Context().at.file.durability.set("atomic"):
        Context().__exit__(None, None, None)
        assert durability() == "atomic"


# -- C6 to C9: threads and tasks -----------------------------------------------------------------


def test_assignments_elsewhere_do_not_reach_an_open_block():
    ctx = Context()
    with ctx:
        in_thread(assign, ctx, "file.durability", "atomic")
        assert durability() == ctx.file.durability == "durable"
        ctx.array.saving.use_zarr3 = False
        assert durability() == "durable"
    assert ctx.file.durability == "atomic"
    assert ctx.array.saving.use_zarr3 is False


async def test_a_task_keeps_and_shows_the_snapshot_it_started_with():
    ctx = Context()
    go = anyio.Event()
    seen: list[object] = []

    async def work() -> None:
        await go.wait()
        seen.extend([durability(), ctx.file.durability, resolve(ctx).file.durability])

    async with anyio.create_task_group() as group:
        with ctx:
            group.start_soon(work)
            await anyio.lowlevel.checkpoint()
            ctx.file.durability = "atomic"
        ctx.file.durability = "atomic"
        go.set()
    assert seen == ["durable"] * 3


async def test_tasks_that_share_a_context_do_not_see_each_other_assign():
    ctx = Context()
    seen: dict[int, list[object]] = {}

    async def work(number: int) -> None:
        with ctx:
            ctx.memory.write_concurrent_bytes = number
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
                seen.setdefault(number, []).append(current_options().memory.write_concurrent_bytes)
                ctx.file.durability = "atomic"

    async with anyio.create_task_group() as group:
        for number in range(1, 9):
            group.start_soon(work, number)
    assert seen == {number: [number] * 3 for number in range(1, 9)}
    assert ctx.file.durability == "atomic"
    assert ctx.memory.write_concurrent_bytes in range(1, 9)


def test_a_block_of_an_async_generator_may_be_left_in_another_task():
    ctx = Context().at.file.durability.set("atomic")

    async def stream():
        with ctx:
            yield durability()

    async def main() -> None:
        generator = stream()
        assert await anext(generator) == "atomic"
        await asyncio.create_task(generator.aclose())
        assert durability() == "durable"
        entered = stream()
        await asyncio.create_task(anext(entered))
        assert durability() == "durable"
        await entered.aclose()
        assert durability() == "durable"

    asyncio.run(main())


def test_a_copied_context_keeps_its_snapshot():
    ctx = Context()
    with ctx:
        copied = contextvars.copy_context()
        ctx.file.durability = "atomic"
    assert copied.run(durability) == "durable"
    assert copied.run(lambda: ctx.file.durability) == "durable"
    copied.run(assign, ctx, "array.saving.use_zarr3", False)
    assert copied.run(durability) == "durable"
    assert copied.run(current_options).array.saving.use_zarr3 is False
    assert (ctx.file.durability, ctx.array.saving.use_zarr3) == ("atomic", False)


def test_raw_threads_start_from_the_defaults_and_three_things_carry_over():
    ctx = Context().at.file.durability.set("atomic")
    with ctx:
        assert in_thread(durability) == "durable"
        assert in_thread(ctx.run, durability) == "atomic"
        assert in_thread(ctx.bind(durability)) == "atomic"
        assert in_thread(resolve, ctx).file.durability == "atomic"
    with Context():
        assert resolve(ctx) is ctx.options


def test_bind_keeps_the_snapshot_of_the_moment():
    ctx = Context()
    with ctx:
        ctx.file.durability = "atomic"
        bound = ctx.bind(lambda: (durability(), ctx.file.durability))
        in_thread(assign, ctx, "file.durability", "durable")
    assert in_thread(bound) == ("atomic", "atomic")
    assert ctx.run(durability) == "durable"
    assert durability() == "durable"


async def test_bound_coroutine_functions_run_inside_the_block():
    ctx = Context().at.file.durability.set("atomic")

    async def work(word: str, *, more: str) -> tuple[str, str, str]:
        await anyio.lowlevel.checkpoint()
        return durability(), word, more

    assert await ctx.run(work, "a", more="b") == ("atomic", "a", "b")
    assert await ctx.bind(work)("a", more="b") == ("atomic", "a", "b")
    assert durability() == "durable"


def test_generator_functions_are_not_bound():
    with pytest.raises(OptionTypeError, match="generator"):
        Context().bind(block)


def test_concurrent_assignments_lose_none():
    ctx = Context()
    names = [n for n in NAMES if n != "memory.regulator_options"]
    start = threading.Barrier(8)
    interval = sys.getswitchinterval()

    def work(mine: list[str], inside: bool) -> None:
        start.wait()
        with ctx if inside else contextlib.nullcontext():
            for name in mine:
                assign(ctx, name, OTHER[name])
                assert at(ctx, name) == OTHER[name]

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(work, names[i::8], i % 2 == 0) for i in range(8)]
            for job in jobs:
                job.result()
    finally:
        sys.setswitchinterval(interval)
    assert set(diff(o.Options(), ctx.options)) == set(names)


def test_many_threads_in_blocks_of_one_context_stay_apart():
    ctx = Context()
    start = threading.Barrier(8)

    def work(number: int) -> bool:
        start.wait()
        for step in range(20):
            with ctx:
                ctx.memory.write_concurrent_bytes = mine = 1 + number * 100 + step
                with ctx:
                    kept = current_options().memory.write_concurrent_bytes == mine
                if not kept or ctx.memory.write_concurrent_bytes != mine:
                    return False
            if current_options() != o.Options():
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_get_context_is_a_new_handle_on_the_current_snapshot():
    ctx = Context().at.file.durability.set("atomic")
    default = Context()
    assert get_context(default) is default
    assert get_context().options == o.Options()
    with ctx:
        found = get_context(default)
        assert found.options is ctx.options
        found.file.durability = "durable"
        assert durability() == ctx.file.durability == "atomic"


def test_resolve_takes_contexts_only():
    with pytest.raises(OptionError, match="A context was asked for"):
        resolve("array")


def test_a_context_compares_and_round_trips_as_plain_data():
    changed = Context().replace({"file.durability": "atomic", "array.saving.use_zarr3": False})
    assert Context().diff(changed) == {
        "file.durability": ("durable", "atomic"),
        "array.saving.use_zarr3": (True, False),
    }
    assert Context.from_dict(changed.to_dict()).options == changed.options
    assert not changed.diff(changed.options)
