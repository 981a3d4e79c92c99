"""A deletion that fails or dies at any effect: all is there, or it is gone, or a retry ends it."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sealwax as ocp
from sealwax.effect_handlers import inject
from sealwax.errors import DeletionInProgressError, InvalidLayoutError, SealwaxError, StorageError
from tests.crash.states import changing, leftovers, state, step_at
from tests.interop.several import TREES, by_sealwax, holds, loads

ROOT = Path(__file__).parents[2]
BROKEN = OSError(errno.EIO, "input/output error")
SUBDIR = ["", "trash"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source")
    ocp.save(path / "whole", state(1))
    by_sealwax(path / "several")
    return path


def context(subdir: str) -> ocp.Context:
    return ocp.Context().replace({"deletion.todelete_subdir": subdir or None})


def check_whole(directory: Path, subdir: str) -> bool:
    """Whether the checkpoint is gone; it is so completely, and what was to be kept is kept."""
    gone = step_at(directory / "c") is None
    if gone and subdir:
        (kept,) = (directory / subdir).iterdir()
        assert step_at(kept) == 1
    assert len(leftovers(directory)) <= (gone and not subdir)
    ocp.delete(directory / "c", missing_ok=True, context=context(subdir))
    assert os.listdir(directory) == ([subdir] if subdir else [])
    return gone


def check_item(directory: Path, subdir: str) -> str:
    """What became of the item; the others are as they were."""
    path = directory / "c"
    loads(path, "state", "extra")
    try:
        loads(path, "opt")
        became = "there"
    except DeletionInProgressError:
        became = "going"
    except InvalidLayoutError:
        became = "gone"
    done = ocp.delete(path, checkpointable_name="opt", missing_ok=True, context=context(subdir))
    assert done or became == "gone"
    holds(path, "state", "extra", both=False)
    if subdir:
        (kept,) = (directory / subdir).iterdir()
        loads(kept, "opt")
    ocp.save(path, state(2), overwrite=True)
    assert sorted(os.listdir(directory)) == (["c", subdir] if subdir else ["c"])
    return became


def fail(path: Path, number: int, moment: Any, item: str | None, subdir: str) -> bool:
    """Lets a deletion fail at the effect of this number; whether it has so many."""
    with inject(changing(number), error=BROKEN, moment=moment) as strike:
        error = failure_of(
            lambda: ocp.delete(path, checkpointable_name=item, context=context(subdir))
        )
    assert (error is not None) == (strike.hits > 0)
    assert error is None or error.errno == errno.EIO
    return error is not None


def failure_of(call: Callable[[], object]) -> StorageError | None:
    try:
        call()
    except StorageError as error:
        return error
    return None


@pytest.mark.parametrize("subdir", SUBDIR, ids=["removed", "kept"])
@pytest.mark.parametrize("moment", ["before", "after"])
class TestAnErrorAtEveryEffect:
    def test_of_a_whole_checkpoint(self, tmp_path, source, moment, subdir):
        found = []
        for number in itertools.count():
            directory = tmp_path / str(number)
            shutil.copytree(source / "whole", directory / "c")
            if not fail(directory / "c", number, moment, None, subdir):
                break
            found.append(check_whole(directory, subdir))
        assert found == sorted(found)
        first_change_is_the_end = moment == "after" and not subdir
        assert set(found) == ({True} if first_change_is_the_end else {False, True})

    def test_of_one_item(self, tmp_path, source, moment, subdir):
        found = []
        for number in itertools.count():
            directory = tmp_path / str(number)
            shutil.copytree(source / "several", directory / "c")
            if not fail(directory / "c", number, moment, "opt", subdir):
                break
            found.append(check_item(directory, subdir))
        assert found == sorted(found, key=["there", "going", "gone"].index)
        assert set(found) == {"there", "going", "gone"}

    def test_of_finishing_one(self, tmp_path, source, moment, subdir):
        for number in itertools.count():
            directory = tmp_path / str(number)
            shutil.copytree(source / "several", directory / "c")
            begun = fail_at_the_item(directory / "c", subdir)
            assert begun
            if not fail(directory / "c", number, moment, "opt", subdir):
                break
            assert check_item(directory, subdir) in ("going", "gone")


def fail_at_the_item(path: Path, subdir: str) -> bool:
    strike = inject(
        lambda x: isinstance(x, ocp.effects.Rename) and x.source.endswith("/opt"), error=BROKEN
    )
    with strike, pytest.raises(SealwaxError):
        ocp.delete(path, checkpointable_name="opt", context=context(subdir))
    return (path / "_CHECKPOINT_DELETION").exists()


@pytest.mark.slow
@pytest.mark.parametrize("subdir", SUBDIR, ids=["removed", "kept"])
@pytest.mark.parametrize("item", ["", "opt"], ids=["whole", "item"])
def test_killed_at_every_effect(tmp_path, source, item, subdir):
    start = source / ("several" if item else "whole")
    *killed, before, after = drive(tmp_path / "killed", start, item, subdir)
    assert [run["ending"] for run in (before, after)] == ["exit 0"] * 2
    assert {run["ending"] for run in killed} == {"SIGKILL"}
    check = check_item if item else check_whole
    found = [check(Path(run["directory"]), subdir) for run in killed]
    assert set(found) == ({"there", "going", "gone"} if item else {False, True})


def drive(*arguments: object) -> list[dict[str, Any]]:
    """What the driver reports, line by line."""
    paths = os.pathsep.join([str(ROOT / "lib"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.delete_driver", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_was_lost_with_the_power_was_never_told(tmp_path, source):
    """The rename is on stable storage before the call returns, and before anything is removed."""
    shutil.copytree(source / "whole", tmp_path / "c")
    with ocp.effect_handlers.record() as trace:
        ocp.delete(tmp_path / "c")
    acts = [k for k in trace.kinds() if k in ("Rename", "SyncDirectory", "RemoveTree")]
    assert acts == ["Rename", "SyncDirectory", "RemoveTree"]
    assert set(TREES) == {"state", "opt", "extra"}
