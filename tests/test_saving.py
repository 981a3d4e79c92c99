"""What ``save`` and ``plan_save`` do to a directory."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import sealwax
from sealwax import effects
from sealwax.effect_handlers import Handler, memory
from sealwax.errors import (
    CheckpointExistsError,
    InvalidMetadataError,
    InvalidPathError,
    StorageError,
    UnsupportedLeafError,
)
from tests.strategies import assert_same

STATE = {"w": np.arange(6.0), "j": jnp.ones(3), "s": "text", "n": 3}


def listing(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_nothing_but_the_checkpoint_appears(tmp_path: Path) -> None:
    assert sealwax.save(tmp_path / "deep" / "er" / "ckpt", STATE) is None
    assert os.listdir(tmp_path) == ["deep"]
    assert os.listdir(tmp_path / "deep" / "er") == ["ckpt"]
    assert_same(sealwax.load(tmp_path / "deep" / "er" / "ckpt"), STATE)


def test_a_thousand_leaves_are_a_handful_of_files(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", {str(n): np.full(10, n) for n in range(1000)})
    assert len(listing(tmp_path / "ckpt")) < 10


def test_the_state_that_was_passed_is_left_alone(tmp_path: Path) -> None:
    state: dict[str, Any] = {"b": {2: np.arange(3), 1: [None]}, "a": bytearray}
    del state["a"]
    order = list(state["b"])
    sealwax.save(tmp_path / "ckpt", state)
    assert list(state["b"]) == order
    state["b"][2][0] = 7  # still the caller's to change
    assert sealwax.load(tmp_path / "ckpt")["b"][2][0] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": {"x": object()}},
        {"custom_metadata": {"x": object()}},
        {"checkpointable_name": "../x"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_is_refused_touches_nothing_not_even_with_overwrite(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    sealwax.save(tmp_path / "ckpt", STATE)
    before = listing(tmp_path)
    refusals = (UnsupportedLeafError, InvalidMetadataError, InvalidPathError)
    for verb in (sealwax.save, sealwax.save_async, sealwax.plan_save):
        with pytest.raises(refusals):
            verb(tmp_path / "ckpt", **({"state": STATE} | wrong), overwrite=True)
    assert listing(tmp_path) == before


def test_overwriting_replaces_all_of_the_old_one(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", STATE, checkpointable_name="old", custom_metadata={"a": 1})
    sealwax.save(tmp_path / "ckpt", {"x": 1}, overwrite=True)
    assert os.listdir(tmp_path) == ["ckpt"]
    assert sealwax.load(tmp_path / "ckpt") == {"x": 1}
    assert sealwax.metadata(tmp_path / "ckpt").custom_metadata == {}
    assert not (tmp_path / "ckpt" / "old").exists()


def test_a_reader_that_holds_the_old_one_open_still_has_it(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", {"x": np.arange(5000)})
    (data,) = (p for p in (tmp_path / "ckpt" / "state" / "d").iterdir() if p.stat().st_size > 9999)
    with data.open("rb") as held:
        sealwax.save(tmp_path / "ckpt", {"x": np.zeros(5000)}, overwrite=True)
        assert np.frombuffer(held.read(40_000), np.int64)[4999] == 4999


@pytest.mark.parametrize("make", ["symlink", "file", "random", "empty"])
def test_what_is_at_the_path_stays_unless_it_may_go(tmp_path: Path, make: str) -> None:
    path, other = tmp_path / "path", tmp_path / "other"
    other.mkdir()
    match make:
        case "symlink":
            path.symlink_to(other)
        case "file":
            path.write_text("precious")
        case "random":
            path.mkdir()
            (path / "precious").write_text("precious")
        case _:
            path.mkdir()
    before = listing(tmp_path), path.is_symlink()
    with pytest.raises(CheckpointExistsError) as caught:
        sealwax.save(path, STATE)
    assert caught.value.path == str(path)
    if make == "empty":
        sealwax.save(path, STATE, overwrite=True)
        assert sealwax.load(path)["n"] == 3
        return
    with pytest.raises(CheckpointExistsError):
        sealwax.save(path, STATE, overwrite=True)
    assert (listing(tmp_path), path.is_symlink()) == before


def test_what_an_interrupted_save_left_is_removed_and_other_things_are_not(tmp_path: Path) -> None:
    plan = sealwax.plan_save(tmp_path / "ckpt", STATE)
    (left,) = {
        Path(step.effect.path).name for step in plan.steps if getattr(step.effect, "lease", False)
    }
    others = [left.replace("ckpt", "other"), "ckpt.orbax-checkpoint-tmp", "ckpt-notes"]
    for name in (left, *others):
        (tmp_path / name / "state").mkdir(parents=True)
    sealwax.save(tmp_path / "ckpt", STATE)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "ckpt"])


def test_the_name_of_the_item_is_the_callers(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", STATE, checkpointable_name="my params.v2")
    assert sealwax.load(tmp_path / "ckpt")["n"] == 3
    assert sealwax.load(tmp_path / "ckpt", checkpointable_name="my params.v2")["n"] == 3
    with pytest.raises(sealwax.errors.InvalidLayoutError, match="no tree named 'state'"):
        sealwax.load(tmp_path / "ckpt", checkpointable_name="state")


@pytest.mark.parametrize("given", ["context", "options", "current"])
def test_where_settings_come_from(tmp_path: Path, given: str) -> None:
    context, other = sealwax.Context(), sealwax.Context()
    context.array.saving.use_compression = False
    other.file.path_permission_mode = 0o700
    zeros = {"w": np.zeros(100_000)}
    match given:
        case "context":
            with other:
                sealwax.save(tmp_path / "ckpt", zeros, context=context)
        case "options":
            with other:
                sealwax.save(tmp_path / "ckpt", zeros, context=context.options)
        case _:
            with other, context:
                sealwax.save(tmp_path / "ckpt", zeros)
    assert sum(map(len, listing(tmp_path / "ckpt").values())) > 800_000


@pytest.mark.parametrize("mode", [0o700, 0o750])
def test_the_mode_of_the_directory(tmp_path: Path, mode: int) -> None:
    context = sealwax.Context()
    context.file.path_permission_mode = mode
    sealwax.save(tmp_path / "ckpt", STATE, context=context)
    assert stat.S_IMODE((tmp_path / "ckpt").stat().st_mode) == mode
    assert sealwax.load(tmp_path / "ckpt")["n"] == 3


def test_a_plan_tells_and_does_nothing(tmp_path: Path) -> None:
    state = {"w": np.zeros((1000, 10)), "b": jnp.ones(7), "s": "text", "e": None}
    plan = sealwax.plan_save(tmp_path / "a" / "ckpt", state)
    assert os.listdir(tmp_path) == []
    assert plan.names == ("b", "w")
    assert plan.bytes == 80_000 + 28
    assert plan.path == str(tmp_path / "a" / "ckpt")
    first, second, *table = str(plan).splitlines()
    assert first == f"save {plan.path}"
    assert second.startswith(f"2 leaves, {plan.effects} effects, 78.2 KiB")
    assert "seal: rename [tmp] to" in "\n".join(table)


def test_a_plan_says_what_it_would_replace(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", STATE)
    with pytest.raises(CheckpointExistsError, match="Pass overwrite=True"):
        sealwax.plan_save(tmp_path / "ckpt", STATE)
    plan = sealwax.plan_save(tmp_path / "ckpt", STATE, overwrite=True)
    kinds = {type(step.effect) for step in plan.steps}
    assert effects.Exchange in kinds
    assert effects.Rename not in kinds


class TestDirectoriesAbove:
    """Those that a save made go with it when it fails, and no others do."""

    def fail(self, path, meanwhile=lambda: None):
        class Broken(Handler):
            async def perform(self, effect, forward):
                if isinstance(effect, effects.WriteBatch):
                    meanwhile()
                    raise OSError(errno.ENOSPC, "full")
                return await forward(effect)

        with Broken(), pytest.raises(StorageError):
            sealwax.save(path, {"w": np.ones(3)})

    @pytest.mark.parametrize("stack", [contextlib.nullcontext, memory])
    def test_are_removed(self, tmp_path, stack):
        with stack():
            sealwax.save(tmp_path / "there" / "1", {"w": 1})
            self.fail(tmp_path / "there" / "a" / "b" / "c")
            with pytest.raises(FileNotFoundError):
                sealwax.load(tmp_path / "there" / "a")
            assert sealwax.load(tmp_path / "there" / "1") == {"w": 1}
            sealwax.save(tmp_path / "there" / "a" / "b" / "c", {"w": 2})

    def test_stay_where_they_were_there_before(self, tmp_path):
        (tmp_path / "empty").mkdir()
        self.fail(tmp_path / "empty" / "a" / "c")
        assert os.listdir(tmp_path) == ["empty"]
        assert os.listdir(tmp_path / "empty") == []

    def test_stay_where_somebody_has_put_something(self, tmp_path):
        self.fail(tmp_path / "a" / "b" / "c", lambda: (tmp_path / "a" / "notes").touch())
        assert os.listdir(tmp_path / "a") == ["notes"]

    def test_stay_after_a_save(self, tmp_path):
        sealwax.save(tmp_path / "a" / "b" / "c", {"w": 1})
        assert sealwax.load(tmp_path / "a" / "b" / "c") == {"w": 1}
