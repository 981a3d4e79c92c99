"""What each workload of the benchmark costs, as counts: a step for each leaf fails here first.

Plans are pure, so that their effects and bytes can be counted without a clock.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import sealwax
from sealwax import effects as e
from sealwax.context import Context
from sealwax.effects.plan import later_fields, uses
from sealwax.planning.batches import BATCH_BYTES
from sealwax.runtime.handlers import Forward, Handler
from tests.benchmarks.workloads import WORKLOADS, small_leaves
from tests.planning.requests import planned, virtual

CHECKSUM = 4
"""Bytes behind each chunk."""
ATOMIC = Context().replace({"file.durability": "atomic"})
FIXED = 9
"""Effects of a save besides its batches: directories, files that describe, syncs, the seal."""


def small(count: int) -> dict[str, Any]:
    return virtual_tree(small_leaves(count)(1))


def virtual_tree(abstract: Any) -> dict[str, Any]:
    return jax.tree.map(lambda leaf: virtual(leaf.shape, leaf.dtype), abstract)


def nbytes(tree: dict[str, Any]) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def kinds(plan: e.Plan) -> Counter[str]:
    return Counter(type(step.effect).__name__ for step in plan.steps)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """How many effects move the arrays of a workload, and how many a load of it has in all.

    Attributes:
      batches: The batches of a save, of 64 MiB at most.
      probes: Those that are looked at before they are written.
      load: All effects of a load.
      chunks: The chunks that are stored, each with its checksum behind it.
    """

    batches: int
    probes: int = 0
    load: int
    chunks: int


COSTS = {
    "small-1k": Cost(batches=1, load=3, chunks=1_000),
    "small-10k": Cost(batches=1, load=3, chunks=10_000),
    "large-f32": Cost(batches=8, probes=8, load=64, chunks=128),
    "large-bf16": Cost(batches=8, probes=8, load=64, chunks=128),
    "single": Cost(batches=16, probes=1, load=88, chunks=256),
    "huge": Cost(batches=32, probes=1, load=173, chunks=512),
    "transformer": Cost(batches=9, probes=9, load=60, chunks=413),
    "compressible": Cost(batches=8, probes=8, load=64, chunks=128),
}
"""By the name of a workload of the benchmark."""


@functools.cache
def abstract(name: str) -> Any:
    return next(each for each in WORKLOADS if each.name == name).abstract(1)


def test_every_workload_of_the_benchmark_is_here() -> None:
    assert COSTS.keys() == {workload.name for workload in WORKLOADS}


class TestASave:
    @pytest.mark.parametrize("name", COSTS)
    @pytest.mark.parametrize("background", [False, True])
    def test_has_as_many_effects_as_batches(self, name: str, background: bool) -> None:
        tree, cost = virtual_tree(abstract(name)), COSTS[name]
        plan = planned(tree, background=background)
        found, effects, moved = kinds(plan), plan.effects, plan.bytes
        assert found["Stage"] == found["WriteBatch"] == cost.batches
        assert found["Probe"] == cost.probes
        assert effects == FIXED + 2 * cost.batches + cost.probes
        assert moved == nbytes(tree)

    def test_of_100_000_leaves_has_two_batches(self) -> None:
        tree = small(100_000)
        plan = planned(tree)
        assert plan.effects == FIXED + 2 * 2
        assert plan.bytes == nbytes(tree)

    @pytest.mark.parametrize("name", COSTS)
    def test_moves_no_more_than_a_batch_at_once(self, name: str) -> None:
        most = max(step.writes for step in planned(virtual_tree(abstract(name))).steps)
        assert most <= BATCH_BYTES

    def test_has_the_same_steps_for_one_leaf_and_for_ten_thousand(self) -> None:
        assert kinds(planned(small(1))) == kinds(planned(small(10_000)))

    def test_of_constants_is_looked_at_once_for_each_array(self) -> None:
        looked = [
            s.effect
            for s in planned(virtual_tree(abstract("compressible"))).steps
            if isinstance(s.effect, e.Probe)
        ]
        assert [len(effect.candidates) for effect in looked] == [1] * 8


class WithoutData(Handler):
    """Performs a save but for its arrays, of which it only tells where they would be."""

    def __init__(self) -> None:
        self._dry = sealwax.effect_handlers.dry_run()

    async def perform(self, effect: e.Effect, forward: Forward) -> Any:
        match effect:
            case e.Stage() | e.Probe() | e.WriteBatch():
                return await self._dry.perform(effect, forward)
            case _:
                return await forward(effect)


class TestALoad:
    @pytest.mark.parametrize("name", COSTS)
    def test_has_as_many_effects_as_pieces(self, name: str, tmp_path: Path) -> None:
        wanted = abstract(name)
        with WithoutData():
            tree = virtual_tree(wanted)
            sealwax.save(tmp_path / "c", tree, context=ATOMIC)
        plan = sealwax.plan_load(tmp_path / "c", wanted)
        assert plan.effects == COSTS[name].load
        assert plan.bytes == nbytes(tree) + CHECKSUM * COSTS[name].chunks

    @pytest.fixture(scope="class")
    @classmethod
    def path(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        made = tmp_path_factory.mktemp("cost")
        sealwax.save(made / "few", small(10), context=ATOMIC)
        sealwax.save(made / "many", small(2_000), context=ATOMIC)
        return made

    def test_has_the_same_steps_for_ten_leaves_and_for_two_thousand(self, path: Path) -> None:
        few, many = sealwax.plan_load(path / "few"), sealwax.plan_load(path / "many")
        assert kinds(few) == kinds(many)
        assert many.effects == 2
        assert many.bytes == 2_000 * (1024 + CHECKSUM)

    def test_reads_each_run_of_small_chunks_with_few_calls(self, path: Path) -> None:
        from sealwax.runtime.datafiles import read_batch
        from sealwax.runtime.filesystem import LOCAL, Readable

        calls: list[int] = []

        class Counting:
            def __getattr__(self, name: str) -> Any:
                return getattr(LOCAL, name)

            def open(self, path: str) -> Readable:
                file = LOCAL.open(path)
                found = file.read

                class Counted:
                    close = file.close

                    def read(self, parts: list[memoryview], offset: int) -> int:
                        calls.append(len(parts))
                        return found(parts, offset)

                return Counted()

        plan = sealwax.plan_load(path / "many")
        (effect,) = [s.effect for s in plan.steps if isinstance(s.effect, e.ReadBatch)]
        buffers = [np.empty((256,), np.float32) for _ in effect.fetches]
        values = {"buffers": buffers}
        fields = {f: getattr(effect, f) for f in effect.__slots__} | values
        read_batch(e.ReadBatch(**fields), Counting())  # pyright: ignore[reportArgumentType]
        assert len(calls) <= 10
        assert not np.any(buffers)


def every_effect() -> Sequence[type]:
    return [kind for kind in vars(e).values() if hasattr(kind, "__dataclass_fields__")]


class TestWhatIsLookedThroughForResults:
    @pytest.mark.parametrize("kind", every_effect(), ids=lambda kind: kind.__name__)
    def test_are_the_fields_that_may_hold_one(self, kind: type) -> None:
        fields: dict[str, Any] = kind.__dataclass_fields__  # pyright: ignore[reportAttributeAccessIssue]
        expected = [name for name, field in fields.items() if "Later[" in str(field.type)]
        assert list(later_fields(kind)) == expected

    def test_are_not_the_slabs(self) -> None:
        buffers: Any = e.From(step=3)
        probe = e.Probe(slabs=(e.Slab(0, 0, 0, 1),), candidates=frozenset({0}), buffers=buffers)
        assert list(uses(probe)) == [3]
