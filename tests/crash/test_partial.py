"""Parts, and the end of a session, that fail or die at any effect: nothing is lost or half done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax.errors import CheckpointExistsError, SealwaxError
from sealwax.testing import fail_at_every_effect, kill_at_every_effect
from tests.crash import runs
from tests.crash.states import half, leftovers, same, state

LAYOUTS = ["database", "files"]


@pytest.fixture(params=LAYOUTS)
def one(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with a session of one part."""
    (tmp_path / "start").mkdir()
    runs.first_part(tmp_path / "start", layout=request.param)
    return tmp_path / "start"


@pytest.fixture(params=LAYOUTS)
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with a session of two parts."""
    (tmp_path / "start").mkdir()
    runs.first_part(tmp_path / "start", layout=request.param)
    runs.second_part(tmp_path / "start", layout=request.param)
    return tmp_path / "start"


def parts_in(directory: Path) -> int:
    session = directory / "c.partial_save"
    return len(os.listdir(session)) if session.exists() else 0


def check_part(directory: Path) -> bool:
    """Whether the second part is there; the first is, and both make a checkpoint."""
    assert not (directory / "c").exists()
    sealwax.partial.finalize(directory / "c")
    found = sealwax.load(directory / "c")
    assert same(found, state(2)) or same(found, half(2, 0))
    assert os.listdir(directory) == ["c"]
    return same(found, state(2))


def check_finalized(directory: Path) -> bool:
    """Whether it is done; if not, all parts are there, and in either case it can be repeated."""
    done = (directory / "c").exists()
    if done:
        assert same(sealwax.load(directory / "c"), state(2))
    else:
        assert parts_in(directory) == 2
    try:
        sealwax.partial.finalize(directory / "c")
    except CheckpointExistsError:
        assert done
        assert parts_in(directory) == 0
    assert same(sealwax.load(directory / "c"), state(2))
    sealwax.save(directory / "c", {"next": 1}, overwrite=True)
    assert os.listdir(directory) == ["c"]
    return done


class TestAnErrorAtEveryEffect:
    def test_of_the_first_part(self, tmp_path: Path) -> None:
        found = []
        for stop in fail_at_every_effect(runs.first_part, tmp_path / "runs", moments=("after",)):
            assert isinstance(stop.error, SealwaxError)
            assert leftovers(stop.directory) == []
            found.append(parts_in(stop.directory) == 1)
            if not found[-1]:
                runs.first_part(stop.directory)
            assert parts_in(stop.directory) == 1
        # Once it is renamed it is a part; a failure to bring that to the disk is told all the same.
        assert found == sorted(found)

    def test_of_the_second_part(self, one: Path, tmp_path: Path) -> None:
        layout = "files" if list(one.rglob("zarr.json")) else "database"

        def run(directory: Path) -> None:
            runs.second_part(directory, layout=layout)

        found = []
        for stop in fail_at_every_effect(run, tmp_path / "runs", start=one, moments=("after",)):
            assert isinstance(stop.error, SealwaxError)
            assert leftovers(stop.directory) == []
            found.append(check_part(stop.directory))
        assert found == sorted(found)

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_of_finalize(self, two: Path, tmp_path: Path, moment: Any) -> None:
        found = []
        for stop in fail_at_every_effect(
            runs.finalize, tmp_path / "runs", start=two, moments=(moment,)
        ):
            assert isinstance(stop.error, SealwaxError)
            found.append(check_finalized(stop.directory))
        assert found == sorted(found)
        assert set(found) == {False, True}

    def test_of_giving_up(self, two: Path, tmp_path: Path) -> None:
        for stop in fail_at_every_effect(
            runs.discard, tmp_path / "runs", start=two, moments=("after",)
        ):
            assert parts_in(stop.directory) in (0, 2)
            sealwax.partial.discard(stop.directory / "c", missing_ok=True)
            sealwax.partial.save(stop.directory / "c", {"a": 1})
            sealwax.partial.finalize(stop.directory / "c")
            assert os.listdir(stop.directory) == ["c"]


@pytest.mark.slow
class TestKilledAtEveryEffect:
    def test_of_the_second_part(self, tmp_path: Path) -> None:
        (tmp_path / "start").mkdir()
        runs.first_part(tmp_path / "start")
        found = [
            check_part(stop.directory)
            for stop in kill_at_every_effect(
                runs.second_part,
                tmp_path / "runs",
                start=tmp_path / "start",
                moments=("during", "after"),
            )
        ]
        assert found == sorted(found)
        assert set(found) == {False, True}

    def test_of_finalize(self, two: Path, tmp_path: Path) -> None:
        found = [
            check_finalized(stop.directory)
            for stop in kill_at_every_effect(
                runs.finalize,
                tmp_path / "runs",
                start=two,
                moments=("during", "after"),
            )
        ]
        assert found == sorted(found)
        assert set(found) == {False, True}

    def test_a_part_whose_writer_died_is_not_waited_for(self, tmp_path: Path) -> None:
        """Its lease went with it, and what it left is removed."""
        for stop in kill_at_every_effect(runs.second_part, tmp_path / "runs", moments=("after",)):
            if leftovers(stop.directory):
                runs.first_part(stop.directory)
                sealwax.partial.finalize(stop.directory / "c")
                assert os.listdir(stop.directory) == ["c"]
                assert same(sealwax.load(stop.directory / "c"), half(2, 0))
                return
        pytest.fail("no run left anything")
