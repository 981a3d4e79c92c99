"""Small programs for every namespace of Orbax v1, run with either library as ``ocp``.

Each returns what it saw, and the two must see the same.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as orbax

import sealwax
from tests.strategies import assert_same, mesh

Program = Callable[[Any, Path], object]


def several_checkpointables(ocp: Any, path: Path) -> object:
    ocp.save_checkpointables(
        path, {"state": {"w": np.arange(3)}, "config": {"name": "run"}}, custom_metadata={"a": 1}
    )
    ocp.save_checkpointables_async(
        path, {"state": {"w": np.arange(4)}, "config": {"name": "second"}}, overwrite=True
    ).result()
    loaded = ocp.load_checkpointables(path)
    some = ocp.load_checkpointables(path, {"config": None})
    found = ocp.checkpointables_metadata(path)
    return loaded["state"], loaded["config"], sorted(some), sorted(found.metadata)


def a_handler(ocp: Any, path: Path) -> object:
    @dataclasses.dataclass
    class Point:
        x: int
        y: int

    class PointHandler(ocp.CheckpointableHandler):
        def is_handleable(self, checkpointable: Any) -> bool:
            return isinstance(checkpointable, Point)

        def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool:
            return abstract_checkpointable is Point

        async def save(self, directory: Any, checkpointable: Any) -> Any:
            async def write() -> None:
                where = await directory.await_creation()
                (where / "point.txt").write_text(f"{checkpointable.x} {checkpointable.y}")

            return write()

        async def load(self, directory: Any, abstract_checkpointable: Any = None) -> Any:
            async def read() -> Point:
                return Point(*map(int, (directory / "point.txt").read_text().split()))

            return read()

        async def metadata(self, directory: Any) -> Any:
            return Point

    registry = ocp.handlers.local_registry()
    registry.add(PointHandler, checkpointable_name="point")
    with ocp.Context(checkpointables_options=ocp.options.CheckpointablesOptions(registry=registry)):
        ocp.save_checkpointables(path, {"point": Point(1, 2), "state": {"a": 1}})
        loaded = ocp.load_checkpointables(path)
        entries = [name for _, name in registry.get_all_entries()]
    names = registry.has("point"), registry.get("point") is PointHandler, "point" in entries
    return loaded["point"].x, loaded["point"].y, loaded["state"], names


def what_keeps_its_own_state(ocp: Any, path: Path) -> object:
    class Counter:
        def __init__(self, count: int) -> None:
            self.count = count

        async def save(self, directory: Any) -> Any:
            count = self.count

            async def write() -> None:
                (await directory.await_creation() / "count.txt").write_text(str(count))

            return write()

        async def load(self, directory: Any) -> Any:
            async def read() -> None:
                self.count = int((directory / "count.txt").read_text())

            return read()

    assert isinstance(Counter(1), ocp.StatefulCheckpointable)
    ocp.save_checkpointables(path, {"counter": Counter(7)})
    fresh = Counter(0)
    ocp.load_checkpointables(path, {"counter": fresh})
    return fresh.count


def in_parts(ocp: Any, path: Path) -> object:
    ocp.partial.save(path, {"params": {"w": np.arange(4)}})
    ocp.partial.save_async(path, {"params": {"b": np.ones(2)}, "step": 3}).result()
    before = path.exists()
    ocp.partial.finalize(path)
    return before, ocp.load(path)


def names_of_steps(ocp: Any, path: Path) -> object:
    step = ocp.path.step
    wide = step.standard_name_format(step_prefix="ckpt", step_format_fixed_length=4)
    plain = step.standard_name_format()
    both = step.composite_name_format(wide, [wide, plain])
    for name in (wide.build_name(3), plain.build_name(7), "other"):
        ocp.save(path / name, {"n": 1})
    found = [sorted(each.step for each in form.find_all(path)) for form in (wide, plain, both)]
    try:
        wide.find_step(path, 99)
    except ValueError:
        found.append([])
    return wide.build_name(12), wide.build_name(123456), found, wide.find_step(path, 3).path.name


def merging_trees(ocp: Any, path: Path) -> object:
    merge = ocp.tree.merge
    merged = merge({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 3}}, overwrite=True)
    refused: list[str] = []
    for trees in ([{"a": 1}, {"a": 2}], [{"a": [1, 2]}, {"a": [1]}]):
        try:
            merge(*trees)
        except ValueError:
            refused.append("refused")
    return merge(), merged, refused


def describing_arrays(ocp: Any, path: Path) -> object:
    describe = ocp.arrays.to_shape_dtype_struct
    on = NamedSharding(mesh(8), PartitionSpec("x"))
    placed = jax.device_put(jnp.arange(8.0), on)
    described = [
        describe(np.ones((2, 3))),
        describe(placed, dtype=jnp.bfloat16),
        describe(jax.random.key(0)),
    ]
    return [
        *((each.shape, str(each.dtype)) for each in described),
        described[1].sharding == on,
        *(describe(3), describe(2.5, scalar_dtype=int)),
    ]


def the_processes(ocp: Any, path: Path) -> object:
    m = ocp.multihost
    asyncio.run(m.sync_global_processes("here", operation_id="1", timeout=5))
    hosts = [m.is_primary_host(each) for each in (0, 1, None)]
    return m.process_index(), m.process_count(), m.is_pathways_backend(), hosts


def errors_of_layouts(ocp: Any, path: Path) -> object:
    path.mkdir()
    caught: list[str] = []
    for name in ("empty", "missing"):
        if name == "empty":
            (path / name).mkdir()
        try:
            ocp.load(path / name)
        except (ocp.errors.InvalidLayoutError, FileNotFoundError):
            caught.append(name)
    return caught, issubclass(ocp.errors.DeletionInProgressError, RuntimeError)


def deleting(ocp: Any, path: Path) -> object:
    ocp.save_checkpointables(path, {"state": {"a": 1}, "other": {"b": 2}})
    one = ocp.delete(path, checkpointable_name="other")
    left = ocp.load(path)
    gone = ocp.delete_async(path).result(), ocp.delete(path, missing_ok=True)
    return one, left, gone, path.exists()


def a_training_loop(ocp: Any, path: Path) -> object:
    save, keep = ocp.training.save_decision_policies, ocp.training.preservation_policies
    seen: list[object] = []
    with ocp.training.Checkpointer(
        path,
        save_decision_policy=save.FixedIntervalPolicy(2),
        preservation_policy=keep.LatestN(2),
        custom_metadata={"run": "a"},
    ) as checkpointer:
        for step in range(1, 8):
            state = {"w": np.full(3, step)}
            seen += [checkpointer.save(step, state, metrics={"loss": 1 / step})]
        seen += [each.step for each in checkpointer.checkpoints]
        seen += [checkpointer.latest.step, checkpointer.load()["w"].tolist()]
        seen.append(checkpointer.root_metadata().custom_metadata)
        seen.append(checkpointer.metadata(6).metrics)
        try:
            checkpointer.save(6, {"w": np.ones(1)}, force=True)
        except ocp.training.errors.StepAlreadyExistsError:
            seen.append("it is there")
        try:
            checkpointer.load(99)
        except ocp.training.errors.StepNotFoundError:
            seen.append("it is not there")
    with ocp.training.Checkpointer(path) as again:
        seen += [each.step for each in again.checkpoints]
        response = again.save_async(9, {"w": np.full(3, 9)}, force=True)
        seen.append(bool(response.result()))
        seen.append(again.load(9)["w"].tolist())
    return seen


def asking_policies(ocp: Any, path: Path) -> object:
    save = ocp.training.save_decision_policies
    context = save.DecisionContext(
        is_saving_in_progress=False,
        reached_preemption=False,
        multiprocessing_options=ocp.options.MultiprocessingOptions(),
    )

    @dataclasses.dataclass
    class At:
        step: int
        time: datetime.datetime = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        is_init: bool = False

    policies = [
        save.FixedIntervalPolicy(3),
        save.SpecificStepsPolicy({4, 5}),
        save.InitialSavePolicy(),
        save.ContinuousCheckpointingPolicy(),
        save.PreemptionCheckpointingPolicy(),
        save.AnySavePolicy([save.FixedIntervalPolicy(4), save.SpecificStepsPolicy([1])]),
    ]
    return [
        [policy.should_save(At(step), [At(0)], context=context) for step in range(6)]
        for policy in policies
    ]


def every_group_of_options(ocp: Any, path: Path) -> object:
    o = ocp.options
    with ocp.Context(
        pytree_options=o.PyTreeOptions(loading=o.PyTreeOptions.Loading(partial_load=True)),
        array_options=o.ArrayOptions(saving=o.ArrayOptions.Saving(use_zarr3=False)),
        async_options=o.AsyncOptions(timeout_secs=60),
        multiprocessing_options=o.MultiprocessingOptions(primary_host=0),
        file_options=o.FileOptions(path_permission_mode=0o750),
        checkpointables_options=o.CheckpointablesOptions(),
        pathways_options=o.PathwaysOptions(),
        checkpoint_layout=o.CheckpointLayout.ORBAX,
        deletion_options=o.DeletionOptions(),
        memory_options=o.MemoryOptions(write_concurrent_bytes=10**8),
        safetensors_options=o.SafetensorsOptions(),
        atomicity_options=o.AtomicityOptions(mode=o.AtomicityMode.AUTO),
    ) as ctx:
        ocp.save(path, {"a": np.arange(3), "b": 1})
        loaded = ocp.load(path, {"a": np.zeros(3, np.int64)})
        inner = ocp.Context(context=ctx)
        groups = [group for group in ("pytree", "array", "file", "memory") if hasattr(inner, group)]
        read = inner.pytree.loading.partial_load, inner.asynchronous.timeout_secs
    return loaded, groups, read, ctx.checkpoint_layout.value, [m.name for m in o.AtomicityMode]


PROGRAMS: list[Program] = [
    *(several_checkpointables, a_handler, what_keeps_its_own_state, in_parts, names_of_steps),
    *(merging_trees, describing_arrays, the_processes, errors_of_layouts, deleting),
    *(a_training_loop, asking_policies, every_group_of_options),
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_both_libraries_run_it_and_see_the_same(tmp_path: Path, program: Program) -> None:
    ours = program(sealwax, tmp_path / "ours")
    theirs = program(orbax, tmp_path / "theirs")
    assert_same(ours, theirs)
