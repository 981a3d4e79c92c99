"""The protocol, broken on purpose: what judges the states after a loss of power must notice.

Where it does not, the step is listed here with the reason why nothing depends on it.
"""

from __future__ import annotations

import pytest

import sealwax
from sealwax import effects as e
from sealwax.effect_handlers import memory, record
from sealwax.errors import CheckpointExistsError, SealwaxError
from sealwax.layouts import manifest
from tests.crash.mutants import (
    Instead,
    Late,
    Mutant,
    Unsynced,
    is_seal,
    is_sync,
    label,
    numbered,
    only,
)
from tests.crash.power import RUN, explore, flat, written
from tests.crash.states import MARK, state
from tests.crash.test_states import SCENARIOS

TEMPORARY = f"{MARK}-sealwax-*"
PROTOCOLS = (
    "save below missing directories",
    "save of many files",
    "overwrite",
    "save_checkpointables over others",
    "delete",
    "delete, but keep",
    "delete one of two checkpointables",
)
NEEDLESS = {
    (f"SyncDirectory {RUN}/c", 1): "until the next sync of it the record is there for certain, and "
    "says how to go on from whatever is there: the item moved or not, its metadata replaced or not",
}
"""Syncs that another one makes superfluous, with their place among those of their name."""


def broken(name: str, *mutants: Mutant) -> list[str]:
    """What a protocol with these mutants in it breaks."""
    scenario = SCENARIOS[name]
    found = explore(name, scenario, *mutants, first=True, next_save=False).broken
    assert all(mutant.hits for mutant in mutants), "the mutant never struck"
    return found or explore(name, scenario, *mutants, first=True).broken


def syncs(name: str) -> list[tuple[str, int]]:
    """The syncs of a protocol, in order."""
    with record() as trace:
        explore(name, SCENARIOS[name], trace, limit=1)
    return numbered(filter(is_sync, trace.effects))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_sync_can_be_left_out(name):
    survived = [sync for sync in syncs(name) if not broken(name, Unsynced(only(*sync)))]
    assert survived == [sync for sync in syncs(name) if sync in NEEDLESS]


# The steps of an overwrite, in order: each of the first may come only before those after it.


def is_file(effect: e.Effect) -> bool:
    return not isinstance(effect, (e.SyncDirectory, e.SyncTree))


def is_directory(effect: e.Effect) -> bool:
    return not is_file(effect) and not is_parent(effect)


def is_root(effect: e.Effect) -> bool:
    """The last of the directories of a checkpoint to be synced."""
    return label(effect) == f"SyncTree {RUN}/c{TEMPORARY}"


def is_parent(effect: e.Effect) -> bool:
    return isinstance(effect, e.SyncDirectory) and effect.path == RUN


def is_removal(effect: e.Effect) -> bool:
    return isinstance(effect, e.RemoveTree) and effect.replaced


def sync_parent_first(seal: e.Exchange) -> tuple[e.Effect, ...]:
    return e.SyncDirectory(path=RUN), seal


def remove_first(seal: e.Exchange) -> tuple[e.Effect, ...]:
    return e.RemoveTree(path=seal.second), e.Rename(source=seal.first, target=seal.second)


REORDERED = {
    "files are synced after the seal": lambda: (Unsynced(is_file, is_seal),),
    "files are synced after the directory above": lambda: (Unsynced(is_file, is_parent),),
    "files are synced after the removal": lambda: (Unsynced(is_file, is_removal),),
    "directories are synced after the seal": lambda: (Unsynced(is_directory, is_seal),),
    "directories are synced after the directory above": lambda: (
        Unsynced(is_directory, is_parent),
    ),
    "directories are synced after the removal": lambda: (Unsynced(is_directory, is_removal),),
    "the directory above is synced before the seal": lambda: (
        Instead(is_parent, lambda _: ()),
        Instead(is_seal, sync_parent_first),
    ),
    "the old is removed before the seal": lambda: (Instead(is_seal, remove_first),),
    "the old is removed before the directory above is synced": lambda: (
        Late(is_parent, is_removal),
    ),
}
COMMUTE = {
    "files are synced after their directories": lambda: (Unsynced(is_file, is_root),),
}
"""A file's sync is for its bytes, a directory's for its names: both before the seal is enough."""


@pytest.mark.parametrize("how", REORDERED)
def test_no_two_steps_can_change_places(how):
    assert broken("overwrite", *REORDERED[how]())


@pytest.mark.parametrize("how", COMMUTE)
def test_but_these_can(how):
    assert not broken("overwrite", *COMMUTE[how]())


@pytest.mark.parametrize("name", ["overwrite", "save"])
def test_each_single_sync_is_needed_before_the_seal(name):
    for sync in syncs(name):
        if sync != (f"SyncDirectory {RUN}", 0):
            late = Unsynced(only(*sync), is_seal)
            assert bool(broken(name, late)) != (sync in NEEDLESS), sync


def test_what_is_deleted_is_removed_only_when_its_new_name_is_certain():
    late = Late(is_parent, lambda effect: isinstance(effect, e.RemoveTree))
    assert broken("delete", late)


def test_directories_above_need_only_be_synced_before_the_save_returns():
    """Until then there is nothing at the path, and that is one of the two things allowed."""
    late = Late(is_parent, lambda effect: label(effect) == f"SyncDirectory {RUN}/a/b")
    assert not broken("save below missing directories", late)


# ---------------------------------------------------------------- not about syncs


class Race(Mutant):
    """Just before a seal, another save to the same path ends, and is acknowledged."""

    async def perform(self, effect, forward):
        if is_seal(effect) and not self.hits:
            self.hits += 1
            files = {name: data for name, data in flat(written(5)) if data is not None}
            await forward(e.MakeDirectory(path=effect.target))
            await forward(e.WriteFiles(directory=effect.target, contents=files))
            await forward(e.SyncTree(path=effect.target))
            await forward(e.SyncDirectory(path=RUN))
        return await forward(effect)


@pytest.mark.parametrize("mutated", [False, True], ids=["as it is", "mutated"])
def test_a_seal_that_replaces_what_is_there_is_noticed(mutated):
    clobbers = Instead(is_seal, lambda seal: (e.RemoveTree(path=seal.target), seal))
    with memory({"run": {}}) as fs, clobbers if mutated else record(), Race() as race:
        try:
            sealwax.save(f"{RUN}/c", state(2))
            acknowledged = 2
        except CheckpointExistsError:
            acknowledged = 5
        found = sealwax.load(f"{RUN}/c")
    assert race.hits == 1
    assert clobbers.hits == mutated
    assert acknowledged == found["step"]
    kept = fs.tree(f"{RUN}/c") == written(5)
    assert kept != mutated, "what was acknowledged first must be kept, and a mutant loses it"


MUTATIONS = {
    "as it is": {},
    "no checksum of its own": {"crc32c": lambda _: 0},
    "none in the checkpoint's manifest": {"agrees": lambda *_: True},
    "neither": {"crc32c": lambda _: 0, "agrees": lambda *_: True},
}


@pytest.mark.parametrize("how", MUTATIONS)
def test_a_manifest_that_nothing_holds_against_a_checksum_is_noticed(how, monkeypatch):
    """Either of the two is enough to tell any flipped bit; the second also tells mixed files."""
    for name, function in MUTATIONS[how].items():
        monkeypatch.setattr(manifest, name, function)
    with memory() as fs:
        sealwax.save("/c", {"w": 1.5, "step": 2})
        data = fs.tree("/c/state")[manifest.NAME]
    silent = 0
    for place in range(0, len(data), 5):
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        damaged = {**fs.tree("/c"), "state": {**fs.tree("/c/state"), manifest.NAME: flipped}}
        with memory({"c": damaged}):
            try:
                silent += sealwax.load("/c") != {"w": 1.5, "step": 2}
            except (SealwaxError, ValueError):
                continue
    assert bool(silent) == (how == "neither")
