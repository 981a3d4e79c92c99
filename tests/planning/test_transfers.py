"""The order of transfers, and who is told of them: laws of the plan."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax as ocp
from sealwax import effects as e
from sealwax.errors import OptionValueError
from sealwax.memory import TransferPriority
from sealwax.planning.batches import batches
from sealwax.planning.inventory import take_inventory
from sealwax.planning.priorities import Rank, tiers
from sealwax.trees.flatten import flatten, key_paths

PRIORITIES = st.sampled_from(list(TransferPriority)[:3])
CHUNK = 1 << 12
RANK_OF = {
    TransferPriority.SYNCHRONOUS: Rank.SYNCHRONOUS,
    TransferPriority.ASYNCHRONOUS_PRIORITIZED: Rank.BACKGROUND,
    TransferPriority.ASYNCHRONOUS_DEPRIORITIZED: Rank.LAST,
}


class Callback:
    """Says what it was made with, and is told nothing."""

    def __init__(self, priorities: dict[str, Any]) -> None:
        self.priorities = priorities

    def key_priority(self, keypath: Any) -> Any:
        return self.priorities[keypath[0].key]

    def on_transfer_start(self, keypath: Any) -> None: ...
    def on_transfer_end(self, keypath: Any) -> None: ...
    def on_write_start(self, keypath: Any) -> None: ...
    def on_write_end(self, keypath: Any) -> None: ...


def inventory_for(tree: Any, **memory: Any) -> Any:
    options = ocp.options.MemoryOptions(**memory)
    flat, paths = flatten(tree).unwrap(), key_paths(tree)
    found = take_inventory(flat, memory=options, key_paths=paths, chunk_bytes=CHUNK)
    return found.unwrap()[0]


def plan_for(path: Any, tree: Any, **memory: Any) -> e.Plan:
    changes = {f"memory.{key}": value for key, value in memory.items()}
    saving = {"array.saving.storage_options.chunk_byte_size": CHUNK}
    context = ocp.Context().replace(changes | saving)
    return ocp.plan_save(path, tree, context=context)


def rows(count: int) -> Any:
    return jnp.zeros((count, CHUNK // 4), np.float32)


TREES = st.dictionaries(
    st.sampled_from("abcdefgh"), st.tuples(st.integers(1, 6), PRIORITIES), min_size=1
)


@given(st.lists(st.sampled_from(Rank), max_size=20))
def test_tiers_hold_every_array_once_by_rank_and_then_in_order(ranks):
    found = [(rank, n) for rank, numbers in tiers(ranks, len(ranks)) for n in numbers]
    assert found == sorted((rank, n) for n, rank in enumerate(ranks))


@given(TREES, st.integers(1, 5 * CHUNK))
def test_batches_are_of_one_rank_each_and_come_by_rank(drawn, limit):
    tree = {name: rows(count) for name, (count, _) in drawn.items()}
    callback = Callback({name: priority for name, (_, priority) in drawn.items()})
    inventory = inventory_for(tree, serialization_status_callback=callback)
    ranks = inventory.transfers.ranks
    assert ranks == tuple(RANK_OF[drawn[name][1]] for name in inventory.names)
    found = list(batches(inventory.arrays, limit, ranks))
    assert [batch.rank for batch in found] == sorted(batch.rank for batch in found)
    assert all(ranks[slab.leaf] is batch.rank for batch in found for slab in batch.slabs)
    assert sum(batch.nbytes for batch in found) == sum(form.nbytes for form in inventory.arrays)


@given(TREES, st.sets(st.sampled_from("abcdefgh")))
def test_prioritized_arrays_come_first_among_those_the_caller_waits_for(drawn, chosen):
    tree = {name: rows(1) for name in drawn}
    callback = Callback({name: priority for name, (_, priority) in drawn.items()})
    inventory = inventory_for(
        tree,
        serialization_status_callback=callback,
        is_prioritized_key_fn=lambda keypath: keypath[0].key in chosen,
    )
    for name, rank in zip(inventory.names, inventory.transfers.ranks, strict=True):
        waits = drawn[name][1] is TransferPriority.SYNCHRONOUS
        assert (rank is Rank.FIRST) == (waits and name in chosen)
        assert (rank > Rank.SYNCHRONOUS) == (not waits)


@given(TREES, st.integers(1, 5 * CHUNK))
def test_each_array_is_told_of_once_and_in_order(drawn, limit):
    tree = {name: rows(count) for name, (count, _) in drawn.items()}
    callback = Callback({name: priority for name, (_, priority) in drawn.items()})
    plan = plan_for(
        "/c",
        tree,
        serialization_status_callback=callback,
        transfer_concurrent_bytes=limit,
    )
    told = calls(plan)
    for name in drawn:
        numbers = [told[event, name] for event in EVENTS]
        assert all(len(found) == 1 for found in numbers)
        before = ancestors(plan)
        begins, ends, writes, written = (found[0] for found in numbers)
        leaf = plan.names.index(name)
        stages = steps_of(plan, e.Stage, leaf)
        wrote = steps_of(plan, e.WriteBatch, leaf)
        assert all(begins in before[stage] for stage in stages)
        assert before[ends] >= set(stages)
        assert all(writes in before[write] for write in wrote)
        assert before[written] >= set(wrote)
        assert begins in before[ends]
        assert {ends, writes} & before[written]
        assert len(stages) > 1 or ends in before[writes]


EVENTS = ("on_transfer_start", "on_transfer_end", "on_write_start", "on_write_end")


def calls(plan: e.Plan) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for step in plan.steps:
        event = step.effect.name.rpartition(".")[2] if isinstance(step.effect, e.Call) else ""
        if event in EVENTS:
            for key_path in step.effect.function.args[1]:
                found.setdefault((event, key_path[0].key), []).append(step.number)
    return found


def steps_of(plan: e.Plan, kind: type[Any], leaf: int) -> list[int]:
    return [
        step.number
        for step in plan.steps
        if isinstance(step.effect, kind) and leaf in {slab.leaf for slab in step.effect.slabs}
    ]


def ancestors(plan: e.Plan) -> list[set[int]]:
    found: list[set[int]] = []
    for step in plan.steps:
        found.append(set(step.needs).union(*(found[n] for n in step.needs)))
    return found


def test_what_its_owner_may_change_in_place_is_never_left_for_later():
    tree = {"host": np.zeros(3), "device": jnp.zeros(3), "number": 1}
    callback = Callback(dict.fromkeys(tree, TransferPriority.ASYNCHRONOUS_DEPRIORITIZED))
    inventory = inventory_for(tree, serialization_status_callback=callback)
    assert dict(zip(inventory.names, inventory.transfers.ranks, strict=True)) == {
        "device": Rank.LAST,
        "host": Rank.SYNCHRONOUS,
        "number": Rank.SYNCHRONOUS,
    }


@pytest.mark.parametrize("answer", [TransferPriority.UNKNOWN, None, 1, "SYNCHRONOUS"])
def test_an_answer_that_is_no_priority_is_refused_before_anything_is_written(tmp_path, answer):
    context = ocp.Context()
    context.memory.serialization_status_callback = Callback({"w": answer})
    with pytest.raises(OptionValueError, match="key_priority"):
        ocp.save(tmp_path / "c", {"w": jnp.zeros(3)}, context=context)
    assert list(tmp_path.iterdir()) == []


def test_without_anyone_to_ask_nothing_is_ordered_or_told(tmp_path):
    plan = ocp.plan_save(tmp_path / "c", {"w": jnp.zeros(3), "v": np.zeros(3)})
    assert not any(isinstance(step.effect, e.Call) for step in plan.steps)
