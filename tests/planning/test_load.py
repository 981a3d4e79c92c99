"""Plans of loads: what is read, once, in which pieces, and for whom."""

from __future__ import annotations

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import sealwax
from sealwax import effects as e
from sealwax.context import Context

ROWS, COLUMNS = 64, 1 << 18


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Any:
    made = tmp_path_factory.mktemp("load") / "c"
    big = np.broadcast_to(np.arange(ROWS, dtype=np.float32)[:, None], (ROWS, COLUMNS))
    tree = {"big": jnp.asarray(big), "host": np.zeros(1000), "step": 3, "text": "x"}
    off = Context().replace({"array.saving.use_compression": False, "file.durability": "atomic"})
    sealwax.save(made, tree, context=off)
    return made


def effects(plan: e.Plan, kind: type) -> list[Any]:
    return [step.effect for step in plan.steps if isinstance(step.effect, kind)]


def fetched(plan: e.Plan) -> Counter[tuple[str, int]]:
    return Counter(
        (fetch.file, fetch.offset) for b in effects(plan, e.ReadBatch) for fetch in b.fetches
    )


def wanted(*spec: Any) -> jax.ShapeDtypeStruct:
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("x", "y"))
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    return jax.ShapeDtypeStruct((ROWS, COLUMNS), np.float32, sharding=sharding)


def only(big: Any) -> dict[str, Any]:
    return {"big": big, "host": ..., "step": ..., "text": ...}


def test_everything_is_read_once_in_bounded_pieces(path):
    plan = sealwax.plan_load(path)
    assert set(fetched(plan).values()) == {1}
    sizes = [sum(f.length for f in b.fetches) for b in effects(plan, e.ReadBatch)]
    assert sum(sizes) == plan.bytes >= ROWS * COLUMNS * 4 + 8000
    assert max(sizes) <= 16 << 20
    assert len(sizes) >= 4
    assert plan.seal is None
    assert plan.undo == ()
    assert plan.result == len(plan.steps) - 1
    assert all(need < step.number for step in plan.steps for need in step.needs)


def test_nothing_is_read_for_what_is_skipped(path):
    plan = sealwax.plan_load(path, {"big": ..., "host": ..., "step": int, "text": str})
    assert plan.names == ("step",)
    assert plan.bytes < 100
    assert effects(plan, e.Place) == []


@pytest.mark.parametrize(
    ("spec", "regions"),
    [((), 1), (("x",), 2), (("y",), 4), (("x", "y"), 8), ((None, "y"), 4), ((("x", "y"),), 8)],
)
def test_each_shard_is_read_once_however_many_devices_take_it(path, spec, regions):
    plan = sealwax.plan_load(path, only(wanted(*spec)))
    (allocated,) = effects(plan, e.Allocate)
    ((array,),) = [place.arrays for place in effects(plan, e.Place)]
    assert len(allocated.buffers) == regions
    assert sum(buffer.nbytes for buffer in allocated.buffers) == ROWS * COLUMNS * 4
    assert sorted(d.id for _, d in array.parts) == [d.id for d in jax.devices()]
    assert {number for number, _ in array.parts} == set(range(regions))
    # Chunks are ranges of rows, so that rows are read once, and columns once for each part.
    assert set(fetched(plan).values()) == {4 if None in spec or spec == ("x", "y") else 1}


def test_a_whole_chunk_goes_where_it_belongs_without_a_copy(path):
    plan = sealwax.plan_load(path, only(wanted("x")))
    fetches = [f for b in effects(plan, e.ReadBatch) for f in b.fetches]
    assert all(f.source is None and f.destination is None and f.payload for f in fetches)
    ends = Counter()
    for fetch in sorted(fetches, key=lambda f: (f.target, f.start)):
        assert fetch.start == ends[fetch.target]
        ends[fetch.target] += fetch.payload
    assert ends == Counter(dict.fromkeys(range(2), ROWS * COLUMNS * 2))


def test_checking_can_be_left_out(path):
    for verify in ("always", "never"):
        context = Context().at.array.loading.verify.set(verify)
        plan = sealwax.plan_load(path, context=context)
        assert {b.verify for b in effects(plan, e.ReadBatch)} == {verify == "always"}


def test_planning_twice_gives_the_same_reads(path):
    one, two = (sealwax.plan_load(path, only(wanted("x", "y"))) for _ in range(2))
    assert str(one) == str(two)
    for kind in (e.Allocate, e.ReadBatch, e.Place):
        assert effects(one, kind) == effects(two, kind)
