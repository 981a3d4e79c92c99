"""What a loss of power may leave, at every moment of every operation: all of it keeps P1 to P3."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sealwax
from sealwax.context import Context
from sealwax.layouts.orbax import DELETION
from sealwax.runtime.crashes import Tree
from tests.crash.power import Scenario, explore, written
from tests.crash.states import MARK, context, same, state

FILES = context("files")
TRASH = Context().replace({"deletion.todelete_subdir": "trash"})
LEFT = f"c{MARK}-sealwax-{'5' * 32}"


def save(number: int, **how: Any):
    return lambda path: sealwax.save(path, state(number), **how)


def save_async(number: int, **how: Any):
    return lambda path: sealwax.save_async(path, state(number), **how).result()


def items(number: int) -> dict[str, Any]:
    """Two checkpointables, of a positive number; of a negative one only the first is left."""
    both = {"state": state(abs(number)), "opt": {"m": np.full(5, number)}}
    return both if number > 0 else {"state": both["state"]}


def save_items(number: int, **how: Any):
    return lambda path: sealwax.save_checkpointables(path, items(number), **how)


def write_items(path: str, number: int) -> None:
    sealwax.save_checkpointables(path, items(number))


def load_items(path: str, number: int | None) -> str | None:
    try:
        found = sealwax.load_checkpointables(path)
    except Exception as error:
        return None if number is None and isinstance(error, FileNotFoundError) else repr(error)
    return None if same(found, items(number or 0)) else "what loads is not what was saved"


def being_deleted(path: str, content: Tree) -> str | None:
    """Where a record says that an item is being deleted, whatever is not that item still loads."""
    if DELETION not in content:
        return "nothing says that it is being deleted"
    found = sealwax.load(path, checkpointable_name="state")
    return None if same(found, state(1)) else "the other item is not what was saved"


ITEMS = {"write": write_items, "load": load_items}
SCENARIOS = {
    "save": Scenario(acts=(save(2),), leaves=(2,), least=400),
    "save below missing directories": Scenario(
        acts=(save(2),), leaves=(2,), path="a/b/c", least=400
    ),
    "save of many files": Scenario(acts=(save(2, context=FILES),), leaves=(2,), least=8000),
    "overwrite": Scenario(acts=(save(2, overwrite=True),), leaves=(2,), old=1, least=1000),
    "overwrite with many files": Scenario(
        acts=(save(2, overwrite=True, context=FILES),), leaves=(2,), old=1, least=8000
    ),
    "overwrite of nothing": Scenario(acts=(save(2, overwrite=True),), leaves=(2,), least=400),
    "overwrite three times": Scenario(
        acts=tuple(save(n, overwrite=True) for n in (2, 3, 4)),
        leaves=(2, 3, 4),
        old=1,
        least=4000,
    ),
    "save_async": Scenario(acts=(save_async(2),), leaves=(2,), least=400),
    "save_async over another": Scenario(
        acts=(save_async(2, overwrite=True),), leaves=(2,), old=1, least=1000
    ),
    "save beside what was left": Scenario(
        acts=(save(2),),
        leaves=(2,),
        beside=lambda: {LEFT: {"state": {"_METADATA": b"half"}}},
        least=600,
    ),
    "overwrite beside what was left": Scenario(
        acts=(save(2, overwrite=True),),
        leaves=(2,),
        old=1,
        beside=lambda: {LEFT: written(1)},
        least=2000,
    ),
    "save_checkpointables": Scenario(acts=(save_items(2),), leaves=(2,), least=400, **ITEMS),
    "save_checkpointables over others": Scenario(
        acts=(save_items(2, overwrite=True),), leaves=(2,), old=1, least=1000, **ITEMS
    ),
    "delete": Scenario(acts=(sealwax.delete,), leaves=(None,), old=1, least=100),
    "delete_async": Scenario(
        acts=(lambda path: sealwax.delete_async(path).result(),),
        leaves=(None,),
        old=1,
        least=100,
    ),
    "delete, but keep": Scenario(
        acts=(lambda path: sealwax.delete(path, context=TRASH),),
        leaves=(None,),
        old=1,
        kept="trash",
        least=3,
    ),
    "delete, then save again": Scenario(
        acts=(sealwax.delete, save(2)), leaves=(None, 2), old=1, least=1000
    ),
    "delete one of two checkpointables": Scenario(
        acts=(lambda path: sealwax.delete(path, checkpointable_name="opt"),),
        leaves=(-1,),
        old=1,
        between=being_deleted,
        recover=lambda path: sealwax.delete(path, checkpointable_name="opt", missing_ok=True),
        least=100,
        **ITEMS,
    ),
}
assert sum(scenario.least for scenario in SCENARIOS.values()) > 10_000


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_state_keeps_the_promises(name, record_property):
    verdict = explore(name, SCENARIOS[name])
    assert verdict.broken == []
    assert len(verdict.states) >= SCENARIOS[name].least
    record_property("figure: moments at which the power was cut", verdict.cuts)
    record_property("figure: different states that this may leave", len(verdict.states))
