"""Sealwax and Orbax agree, in every mode, about which checkpoints are complete."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from orbax.checkpoint import v1 as orbax

import sealwax as ocp
from sealwax import effects as e
from sealwax.effect_handlers import Handler
from sealwax.layouts.orbax import CHECKPOINT_METADATA, COMMIT

MODES = ("ATOMIC_RENAME", "COMMIT_FILE")
READERS = [*((mode, False) for mode in MODES), ("COMMIT_FILE", True)]
TREE = {"w": np.arange(1000.0), "step": 7}


def options(library: Any, mode: str, legacy: bool = False) -> Any:
    kind = library.options.AtomicityOptions
    modes = getattr(library.options, "AtomicityMode", ocp.options.AtomicityMode)
    return library.Context(
        atomicity_options=kind(mode=modes[mode], allow_legacy_atomic_rename=legacy)
    )


def saved(library: Any, mode: str, path: Path) -> None:
    with options(library, mode):
        library.save(path, TREE)


def loads(library: Any, path: Path, reader: tuple[str, bool]) -> bool:
    """Whether a reader takes what is there for complete; if so, it is what was saved."""
    with options(library, *reader):
        try:
            found = library.load(path)
        except (ValueError, FileNotFoundError):
            return False
    assert np.array_equal(found["w"], TREE["w"])
    return True


# Of one that has a commit file the metadata was lost: that is for test_missing_pieces.
WITHOUT: dict[str, tuple[str, ...]] = {
    "nothing missing": (),
    "no commit file": (COMMIT,),
    "neither": (COMMIT, CHECKPOINT_METADATA),
}


@pytest.mark.parametrize("reader", READERS, ids=str)
@pytest.mark.parametrize("without", WITHOUT)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("writer", [orbax, ocp], ids=["by Orbax", "by sealwax"])
def test_they_agree_on_what_is_complete(
    tmp_path: Path, writer: Any, mode: str, without: str, reader: tuple[str, bool]
) -> None:
    path = tmp_path / "c"
    saved(writer, mode, path)
    for name in WITHOUT[without]:
        os.unlink(path / name)
    ours = loads(ocp, path, reader)
    assert ours == loads(orbax, path, reader)
    needs_commit = reader == ("COMMIT_FILE", False)
    assert ours == (
        CHECKPOINT_METADATA not in WITHOUT[without]
        and not (needs_commit and COMMIT in WITHOUT[without])
    )


@pytest.mark.parametrize("mode", MODES)
def test_either_way_leaves_the_same_files(tmp_path: Path, mode: str) -> None:
    saved(ocp, mode, tmp_path / "c")
    saved(ocp, "ATOMIC_RENAME", tmp_path / "d")
    listed = [sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*")) for n in "cd"]
    assert listed[0] == listed[1]
    assert sorted(os.listdir(tmp_path)) == ["c", "d"]


class Copying(Handler):
    """Copies what is at a path after every effect that changes files, as a kill leaves it."""

    def __init__(self, path: Path, to: Path) -> None:
        self.path, self.to = path, to
        self.count = itertools.count()

    async def perform(self, effect: e.Effect, forward: Callable[[e.Effect], Any]) -> Any:
        answer = await forward(effect)
        if isinstance(effect, (*get_args(e.FileEffect), e.WriteBatch)) and self.path.exists():
            shutil.copytree(self.path, self.to / f"{next(self.count):03}")
        return answer


def test_no_reader_takes_what_is_made_in_place_for_complete_before_it_is(tmp_path: Path) -> None:
    path, to = tmp_path / "c", tmp_path / "copies"
    with Copying(path, to):
        saved(ocp, "COMMIT_FILE", path)
    copies = sorted(to.iterdir())
    seen: list[tuple[bool, ...]] = []
    for copy in copies:
        complete = (copy / COMMIT).exists()
        assert [loads(ocp, copy, reader) for reader in READERS] == [complete] * 3
        theirs = [loads(orbax, copy, reader) for reader in READERS]
        # Orbax's other readers want this file only, and what it promises is all there by then.
        described = (copy / CHECKPOINT_METADATA).exists()
        assert theirs == [described, complete, described]
        assert loads(orbax, copy, READERS[1]) <= loads(ocp, copy, READERS[0])
        seen.append(tuple(theirs))
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert seen[0] == (False,) * 3
    assert seen[-1] == (True,) * 3


@pytest.mark.parametrize("reader", READERS, ids=str)
@pytest.mark.parametrize("library", [orbax, ocp], ids=["Orbax", "sealwax"])
def test_is_orbax_checkpoint_agrees_too(
    tmp_path: Path, library: Any, reader: tuple[str, bool]
) -> None:
    path = tmp_path / "c"
    saved(ocp, "COMMIT_FILE", path)
    os.unlink(path / COMMIT)
    with options(library, *reader):
        assert library.is_orbax_checkpoint(path) == (reader != ("COMMIT_FILE", False))
