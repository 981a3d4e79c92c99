"""What each workload of the benchmark costs, as counts: a step for each leaf fails here first.

Plans are pure, so that their effects and bytes can be counted without a clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sealwax
from sealwax import effects as e
from sealwax.context import Context
from sealwax.effects.plan import later_fields, uses
from sealwax.planning.batches import BATCH_BYTES
from tests.planning.requests import planned, virtual

MIB = 1 << 20
FIXED = 9
"""Effects of a save besides its batches: directories, files that describe, syncs, the seal."""


def small(count: int) -> dict[str, Any]:
    leaf = virtual((256,))
    return {f"leaf_{n}": leaf for n in range(count)}


def large(count: int, mebibytes: int, dtype: Any = np.float32) -> dict[str, Any]:
    rows = mebibytes * MIB // (1024 * np.dtype(dtype).itemsize)
    return {f"array_{n}": virtual((rows, 1024), dtype) for n in range(count)}


def transformer() -> dict[str, Any]:
    matrices = {f"kernel_{n}": virtual((512, 2048)) for n in range(120)}
    return matrices | {f"bias_{n}": virtual((512,)) for n in range(260)}


def nbytes(tree: dict[str, Any]) -> int:
    return sum(leaf.nbytes for leaf in tree.values())


def kinds(plan: e.Plan) -> Counter[str]:
    return Counter(type(step.effect).__name__ for step in plan.steps)


WORKLOADS = {
    "1,000 leaves of 1 KiB": (small(1_000), 1),
    "10,000 leaves of 1 KiB": (small(10_000), 1),
    "100,000 leaves of 1 KiB": (small(100_000), 2),
    "8 float32 arrays of 64 MiB": (large(8, 64), 8),
    "8 bfloat16 arrays of 64 MiB": (large(8, 64, np.int16), 8),
    "one array of 1 GiB": (large(1, 1024), 16),
    "one array of 2 GiB": (large(1, 2048), 32),
    "transformer and Adam, 380 leaves": (transformer(), 8),
}


class TestASave:
    @pytest.mark.parametrize("name", WORKLOADS)
    @pytest.mark.parametrize("background", [False, True])
    def test_has_as_many_effects_as_batches(self, name: str, background: bool) -> None:
        tree, batches = WORKLOADS[name]
        plan = planned(tree, background=background)
        found, effects, moved = kinds(plan), plan.effects, plan.bytes
        assert found["Stage"] == found["WriteBatch"] == batches
        assert found["Probe"] <= batches
        assert effects == FIXED + 2 * batches + found["Probe"]
        assert moved == nbytes(tree)

    @pytest.mark.parametrize("name", WORKLOADS)
    def test_moves_no_more_than_a_batch_at_once(self, name: str) -> None:
        most = max(step.writes for step in planned(WORKLOADS[name][0]).steps)
        assert most <= BATCH_BYTES

    def test_has_the_same_steps_for_one_leaf_and_for_ten_thousand(self) -> None:
        assert kinds(planned(small(1))) == kinds(planned(small(10_000)))

    def test_of_constants_is_looked_at_once_for_each_array(self) -> None:
        looked = [s.effect for s in planned(large(8, 64)).steps if isinstance(s.effect, e.Probe)]
        assert [len(effect.candidates) for effect in looked] == [1] * 8


class TestALoad:
    @pytest.fixture(scope="class")
    @classmethod
    def path(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        made = tmp_path_factory.mktemp("cost")
        context = Context().replace({"file.durability": "atomic"})
        sealwax.save(made / "few", small(10), context=context)
        sealwax.save(made / "many", small(2_000), context=context)
        return made

    def test_has_the_same_steps_for_ten_leaves_and_for_two_thousand(self, path: Path) -> None:
        few, many = sealwax.plan_load(path / "few"), sealwax.plan_load(path / "many")
        assert kinds(few) == kinds(many)
        assert many.effects == 2
        assert many.bytes == 2_000 * (1024 + 4)

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
