"""SIGKILL at every effect of a save and at random times: old, new or nothing, and it goes on."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax.effect_handlers import record
from sealwax.testing import kill_at_every_effect
from tests.crash import runs
from tests.crash.states import context, leftovers, state, step_at

ROOT = Path(__file__).parents[2]


def drive(*arguments: object) -> dict[str, Any]:
    """What the driver reports."""
    paths = os.pathsep.join([str(ROOT / "lib"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.driver", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overwriting", "layout"),
    [(False, "database"), (True, "database"), (True, "files")],
    ids=["fresh", "overwrite", "overwrite-files"],
)
def test_killed_at_every_effect(tmp_path, overwriting, layout):
    old = tmp_path / "old" if overwriting else None
    run = functools.partial(runs.save, layout=layout, overwrite=overwriting)
    if overwriting:
        sealwax.save(old / "c", state(1), context=context(layout))
    count = tmp_path / "count"
    shutil.copytree(old, count) if overwriting else count.mkdir()
    with record() as trace:
        run(count)
    found = []
    for stop in kill_at_every_effect(run, tmp_path / "killed", start=old):
        path = stop.directory / "c"
        found.append(step_at(path))
        assert found[-1] in ({1, 2} if overwriting else {None, 2}), stop
        assert len(leftovers(stop.directory)) <= 1
        sealwax.save(path, state(3), overwrite=True)
        assert step_at(path) == 3
        assert os.listdir(stop.directory) == ["c"]
    assert len(found) == 2 * len(trace.effects)
    assert found[0] == (1 if overwriting else None)
    assert found[-1] == 2
    assert len(set(found)) == 2


SERIES = [(where, how) for where in ("fresh", "overwrite") for how in ("blocking", "background")]


def survives(base: Path, kills: int, where: str, how: str) -> None:
    """Kills children at random times, of which each judges what the one before it left."""
    ran = drive(base, kills, kills, where, how)
    assert ran["endings"] == {"SIGKILL": kills}
    # Both happened: saves that came through, and saves that were broken off.
    assert ran["told"] > 0
    assert ran["left"] > 0
    print(f"{kills} kills survived, {ran['told']} checkpoints acknowledged, all found")


@pytest.mark.slow
@pytest.mark.parametrize(("where", "how"), SERIES)
def test_killed_at_random_times(tmp_path, where, how):
    survives(tmp_path / "runs", 25, where, how)


@pytest.mark.long
@pytest.mark.parametrize(("where", "how"), SERIES)
def test_killed_at_random_times_a_thousand_times(tmp_path, where, how):
    survives(tmp_path / "runs", 250, where, how)
