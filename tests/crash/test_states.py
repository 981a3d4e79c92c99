"""What a loss of power may leave, at every moment of every operation: all of it keeps P1 to P3."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import sealwax
from sealwax.context import Context
from sealwax.effect_handlers import memory
from sealwax.effect_handlers.crashes import Tree
from sealwax.errors import CheckpointExistsError, InvalidLayoutError
from sealwax.layouts.manifest import UNFINISHED
from sealwax.layouts.orbax import COMMIT, DELETION, INDICATOR
from tests.crash.power import Scenario, explore, load, written
from tests.crash.states import MARK, context, half, same, state

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


def save_part(which: int, **how: Any):
    return lambda path: sealwax.partial.save(path, half(2, which), **how)


def session(*parts: int, **how: Any) -> Callable[[], Tree]:
    """A session with parts of the second state."""

    def made() -> Tree:
        with memory() as fs:
            for part in parts:
                save_part(part, **how)("/c")
        return {"c.partial_save": fs.tree("/c.partial_save")}

    return made


def load_finalized(path: str, number: int | None) -> str | None:
    """Finishes what was begun, and finds the second state whatever it was interrupted at."""
    finish(path)
    return load(path, 2)


def finish(path: str) -> None:
    with contextlib.suppress(CheckpointExistsError):
        sealwax.partial.finalize(path)


def load_parts(path: str, number: int | None) -> str | None:
    """What is wrong with a session, whose path this is, that has so many parts."""
    target = path.removesuffix(".partial_save")
    try:
        sealwax.partial.finalize(path)
    except FileNotFoundError as error:
        return None if not number else repr(error)
    wanted = half(2, 0) if number == 1 else state(2)
    return None if same(sealwax.load(target), wanted) else "what loads is not what was saved"


def only_empty(path: str, content: Tree) -> str | None:
    return "a part is there that is not complete" if content else None


def growing(path: str, content: Tree) -> str | None:
    """No reader takes a checkpoint that is made in place for one before it has its commit file."""
    for reader in (Context(), IN_PLACE):
        try:
            found = sealwax.load(path, context=reader)
        except InvalidLayoutError:
            if COMMIT in content:
                return "it has its commit file and does not load"
        else:
            if COMMIT not in content or not same(found, state(2)):
                return "something loads that was not finished"
    return None


IN_PLACE = Context().replace({"atomicity.mode": "commit_file"})
GIVEN_UP: Tree = {UNFINISHED: b"", INDICATOR: b"", "state": {"d": {"00000000": b"half"}}}
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
    "save in place": Scenario(
        acts=(save(2, context=IN_PLACE),), leaves=(2,), between=growing, least=300
    ),
    "save in place of what was given up": Scenario(
        acts=(save(2, context=IN_PLACE),),
        leaves=(2,),
        beside=lambda: {"c": GIVEN_UP},
        between=growing,
        least=300,
    ),
    "overwrite with commit files": Scenario(
        acts=(save(2, overwrite=True, context=IN_PLACE),), leaves=(2,), old=1, least=1000
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
    "finalize two parts": Scenario(
        acts=(sealwax.partial.finalize,),
        leaves=(2,),
        beside=session(0, 1),
        load=load_finalized,
        recover=finish,
        least=400,
    ),
    "finalize parts of many files": Scenario(
        acts=(sealwax.partial.finalize,),
        leaves=(2,),
        beside=session(0, 1, context=FILES),
        load=load_finalized,
        recover=finish,
        least=2000,
    ),
}
"""Operations on a path."""
SESSIONS = {
    "save one part": Scenario(
        acts=(save_part(0),), leaves=(1,), path="c.partial_save", load=load_parts,
        between=only_empty, least=400,
    ),
    "save two parts": Scenario(
        acts=(save_part(0), save_part(1)), leaves=(1, 2), path="c.partial_save", load=load_parts,
        between=only_empty, least=1000,
    ),
    "save two parts of many files": Scenario(
        acts=(save_part(0, context=FILES), save_part(1, context=FILES)), leaves=(1, 2),
        path="c.partial_save", load=load_parts, between=only_empty, least=4000,
    ),
}  # fmt: skip
"""Operations on a session, which is no checkpoint that another save could replace."""
assert sum(scenario.least for scenario in SCENARIOS.values()) > 10_000


@pytest.mark.parametrize("name", SESSIONS)
def test_every_state_of_a_session_keeps_its_parts(name, record_property):
    verdict = explore(name, SESSIONS[name], next_save=False)
    assert verdict.broken == []
    assert len(verdict.states) >= SESSIONS[name].least
    record_property("figure: different states that this may leave", len(verdict.states))


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_state_keeps_the_promises(name, record_property):
    verdict = explore(name, SCENARIOS[name])
    assert verdict.broken == []
    assert len(verdict.states) >= SCENARIOS[name].least
    record_property("figure: moments at which the power was cut", verdict.cuts)
    record_property("figure: different states that this may leave", len(verdict.states))
