"""Checkpoints that are made in place: what is at the path at every moment, and whose it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax as ocp
from sealwax import effects as e
from sealwax import errors
from sealwax.effect_handlers import Handler, inject, record
from sealwax.layouts.manifest import UNFINISHED
from sealwax.layouts.orbax import CHECKPOINT_METADATA, COMMIT, INDICATOR
from sealwax.options import AtomicityMode, AtomicityOptions
from sealwax.planning.atomicity import in_place, needs_commit

IN_PLACE = ocp.Context().replace({"atomicity.mode": "commit_file"})
BY_RENAME = ocp.Context().replace({"atomicity.mode": "atomic_rename"})
TREE = {"w": np.arange(100.0)}
BROKEN = PermissionError(13, "not allowed")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c"


def given_up(path: Path) -> None:
    """What is left of a save in place whose process was killed."""
    (path / "state" / "d").mkdir(parents=True)
    (path / "state" / "d" / "00000000").write_bytes(b"half")
    (path / INDICATOR).touch()
    (path / UNFINISHED).touch()


class Meanwhile(Handler):
    """Calls a function once, before the first effect of a kind."""

    def __init__(self, kind: type, function: Callable[[], object]) -> None:
        self.kind, self.function, self.called = kind, function, False

    async def perform(self, effect: e.Effect, forward: Callable[[e.Effect], Any]) -> Any:
        if isinstance(effect, self.kind) and not self.called:
            self.called = True
            self.function()
        return await forward(effect)


class TestMode:
    @given(name=st.text(st.characters(exclude_characters="\0"), min_size=1), legacy=st.booleans())
    def test_left_to_itself_a_local_path_is_renamed_to_and_an_object_is_not(self, name, legacy):
        auto = AtomicityOptions(allow_legacy_atomic_rename=legacy)
        assert not in_place(auto, f"/{name}")
        assert not in_place(auto, f"file:///{name}")
        for scheme in ("gs", "s3", "GS", "memory"):
            assert in_place(auto, f"{scheme}://{name}")
            assert needs_commit(auto, f"{scheme}://{name}") != legacy

    @pytest.mark.parametrize("where", ["/runs/1", "gs://runs/1"])
    def test_asked_for_it_is_so_everywhere(self, where):
        assert in_place(AtomicityOptions(mode=AtomicityMode.COMMIT_FILE), where)
        assert not in_place(AtomicityOptions(mode=AtomicityMode.ATOMIC_RENAME), where)


class TestSaving:
    def test_what_says_that_it_is_complete_is_written_last(self, path):
        with record() as trace:
            ocp.save(path, TREE, context=IN_PLACE)
        acts = [x for x in trace.effects if isinstance(x, (e.WriteFile, e.WriteBatch))]
        written = [os.path.relpath(act.path, path) for act in acts]
        assert written[-1] == COMMIT
        assert written[-2] == CHECKPOINT_METADATA
        assert written[1] == INDICATOR
        assert written[0].endswith(f"/{UNFINISHED}")
        seal = trace.effects.index(acts[-1])
        before = [x for x in trace.effects[:seal] if getattr(x, "sync", True)]
        assert isinstance(before[-1], e.SyncDirectory)
        assert before[-1].path == str(path)

    def test_nothing_large_is_ever_renamed(self, path):
        with record() as trace:
            ocp.save(path, TREE, context=IN_PLACE)
        kinds = [type(x) for x in trace.effects]
        assert kinds.count(e.Rename) == 1
        assert kinds.index(e.Rename) < kinds.index(e.WriteBatch)
        assert e.Exchange not in kinds

    def test_what_is_there_is_replaced_only_when_the_new_one_is_complete(self, path):
        ocp.save(path, TREE, context=IN_PLACE)
        with inject(e.WriteBatch, error=BROKEN), pytest.raises(PermissionError):
            ocp.save(path, {"w": np.zeros(3)}, overwrite=True, context=IN_PLACE)
        assert ocp.load(path, context=IN_PLACE)["w"].shape == (100,)
        ocp.save(path, {"w": np.zeros(3)}, overwrite=True, context=IN_PLACE)
        assert ocp.load(path, context=IN_PLACE)["w"].shape == (3,)
        assert os.listdir(path.parent) == ["c"]

    def test_without_overwrite_what_is_there_stays(self, path):
        ocp.save(path, TREE, context=IN_PLACE)
        with pytest.raises(errors.CheckpointExistsError):
            ocp.save(path, {"w": np.zeros(3)}, context=IN_PLACE)
        assert ocp.load(path)["w"].shape == (100,)

    def test_a_failure_takes_back_what_was_made(self, path):
        with inject(e.WriteBatch, error=BROKEN), pytest.raises(PermissionError):
            ocp.save(path / "deep" / "er", TREE, context=IN_PLACE)
        assert os.listdir(path.parent) == []

    def test_in_parts_it_cannot_be(self, path):
        with pytest.raises(ValueError, match="atomicity"):
            ocp.partial.save(path, TREE, context=IN_PLACE)

    def test_in_the_background(self, path):
        ocp.save_async(path, TREE, context=IN_PLACE).result()
        assert ocp.load(path, context=IN_PLACE)["w"].shape == (100,)


class TestTwoAtOnce:
    @pytest.mark.parametrize("other", [IN_PLACE, BY_RENAME], ids=["in place", "by rename"])
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_while_one_writes_no_other_one_touches_it(self, path, other, overwrite):
        failures = []

        def second() -> None:
            with pytest.raises(errors.CheckpointExistsError, match="nother save") as caught:
                ocp.save(path, {"w": np.zeros(3)}, overwrite=overwrite, context=other)
            failures.append(caught.value)

        with Meanwhile(e.WriteBatch, second):
            ocp.save(path, TREE, context=IN_PLACE)
        assert len(failures) == 1
        assert ocp.load(path, context=IN_PLACE)["w"].shape == (100,)
        assert os.listdir(path.parent) == ["c"]
        assert sorted(os.listdir(path)) == sorted(
            [INDICATOR, CHECKPOINT_METADATA, COMMIT, "_SEALWAX", "state"]
        )

    def test_who_takes_the_place_first_has_it(self, path):
        def first() -> None:
            ocp.save(path, {"w": np.zeros(3)}, context=IN_PLACE)

        with Meanwhile(e.Rename, first), pytest.raises(errors.CheckpointExistsError):
            ocp.save(path, TREE, context=IN_PLACE)
        assert ocp.load(path)["w"].shape == (3,)
        assert os.listdir(path.parent) == ["c"]

    def test_an_exchange_does_not_take_what_is_being_written(self, path):
        done = []

        def between() -> None:
            def overwrite_late() -> None:
                done.append(len(os.listdir(path)))

            with Meanwhile(e.WriteBatch, overwrite_late):
                ocp.save(path, TREE, context=IN_PLACE)

        with Meanwhile(e.Exchange, between):
            ocp.save(path, {"w": np.zeros(3)}, overwrite=True, context=IN_PLACE)
        assert done == [3]
        assert ocp.load(path)["w"].shape == (3,)


class TestGivenUp:
    @pytest.mark.parametrize("reader", [ocp.Context(), IN_PLACE, BY_RENAME])
    def test_is_nothing_to_any_reader(self, path, reader):
        given_up(path)
        for read in (ocp.load, ocp.metadata, ocp.load_checkpointables, ocp.verify):
            with pytest.raises(errors.InvalidLayoutError, match="not finished"):
                read(path, context=reader)
        assert not ocp.is_orbax_checkpoint(path)

    def test_is_no_step(self, tmp_path):
        given_up(tmp_path / "1")
        ocp.save(tmp_path / "2", TREE, context=IN_PLACE)
        names = ocp.path.step.standard_name_format()
        assert [step.step for step in names.find_all(tmp_path)] == [2]

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("writer", [IN_PLACE, BY_RENAME], ids=["in place", "by rename"])
    def test_makes_room_for_the_next_save(self, path, writer, overwrite):
        given_up(path)
        ocp.save(path, TREE, overwrite=overwrite, context=writer)
        assert ocp.load(path, context=IN_PLACE)["w"].shape == (100,)
        assert os.listdir(path.parent) == ["c"]

    def test_is_cleaned_up_also_where_the_look_before_a_save_is_left_out(self, path):
        given_up(path)
        quick = IN_PLACE.replace({"file.skip_sync_file_validations": True})
        ocp.save(path, TREE, context=quick)
        assert ocp.load(path)["w"].shape == (100,)

    @pytest.mark.parametrize("names", [(), ("notes.txt",), (INDICATOR,), (UNFINISHED, COMMIT)])
    def test_what_does_not_say_so_is_not_touched(self, path, names):
        path.mkdir()
        for name in names:
            (path / name).write_text("mine")
        with pytest.raises(errors.CheckpointExistsError):
            ocp.save(path, TREE, context=IN_PLACE)
        assert sorted(os.listdir(path)) == sorted(names)

    def test_what_was_finished_meanwhile_is_not_touched(self, path):
        given_up(path)
        (path / COMMIT).touch()
        finished = sorted(os.listdir(path))

        def unfinished() -> None:
            (path / COMMIT).touch()

        (path / COMMIT).unlink()
        with Meanwhile(e.Retract, unfinished), pytest.raises(errors.CheckpointExistsError):
            ocp.save(path, TREE, context=IN_PLACE)
        assert sorted(os.listdir(path)) == finished


class TestReading:
    def test_only_a_commit_file_counts_where_it_is_asked_for(self, path):
        ocp.save(path, TREE)
        os.unlink(path / COMMIT)
        assert ocp.load(path)["w"].shape == (100,)
        with pytest.raises(errors.InvalidLayoutError, match="no commit file"):
            ocp.load(path, context=IN_PLACE)
        legacy = IN_PLACE.replace({"atomicity.allow_legacy_atomic_rename": True})
        assert ocp.load(path, context=legacy)["w"].shape == (100,)

    def test_steps_too(self, tmp_path):
        for step in (1, 2):
            ocp.save(tmp_path / f"{step}", TREE)
        os.unlink(tmp_path / "1" / COMMIT)
        names = ocp.path.step.standard_name_format()
        with IN_PLACE:
            assert [step.step for step in names.find_all(tmp_path)] == [2]
        assert [step.step for step in names.find_all(tmp_path)] == [1, 2]
