"""SIGKILL at every effect of a save and at random times: old, new or nothing, and it goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax.effect_handlers import record
from tests.crash.states import context, leftovers, state, step_at

ROOT = Path(__file__).parents[2]


def drive(*arguments: object) -> list[dict[str, Any]]:
    """What the driver reports, line by line."""
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
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overwriting", "layout"),
    [(False, "database"), (True, "database"), (True, "files")],
    ids=["fresh", "overwrite", "overwrite-files"],
)
def test_killed_at_every_effect(tmp_path, overwriting, layout):
    old = tmp_path / "old"
    sealwax.save(old, state(1), context=context(layout))
    with record() as trace, context(layout):
        sealwax.save(tmp_path / "count", state(2))
        if overwriting:
            trace.effects.clear()
            sealwax.save(tmp_path / "count", state(2), overwrite=True)

    start = old if overwriting else ""
    *killed, before, after = drive("effects", tmp_path / "killed", layout, start)
    assert [run["ending"] for run in (before, after)] == ["exit 0"] * 2
    assert len(killed) == 2 * len(trace.effects)
    assert {run["ending"] for run in killed} == {"SIGKILL"}
    found = []
    for run in killed:
        directory = Path(run["directory"])
        found.append(step_at(directory / "c"))
        assert found[-1] in ({1, 2} if overwriting else {None, 2}), directory
        assert len(leftovers(directory)) <= 1
        sealwax.save(directory / "c", state(3), overwrite=True)
        assert step_at(directory / "c") == 3
        assert os.listdir(directory) == ["c"]
    assert found[0] == (1 if overwriting else None)
    assert found[-1] == 2
    assert len(set(found)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_times_while_overwriting(tmp_path, seed):
    runs = drive("random", tmp_path / "runs", seed, 10, "")
    assert [run["ending"] for run in runs] == ["SIGKILL"] * 10
    last = max(step for run in runs for step in run["acknowledged"])
    assert step_at(tmp_path / "runs" / "c") in (last, last + 1)
    assert len(leftovers(tmp_path / "runs")) <= 1
    sealwax.save(tmp_path / "runs" / "c", state(3), overwrite=True)
    assert os.listdir(tmp_path / "runs") == ["c"]


@pytest.mark.slow
def test_killed_at_random_times_while_saving_step_after_step(tmp_path):
    runs = drive("random", tmp_path / "runs", 3, 10, "fresh")
    assert [run["ending"] for run in runs] == ["SIGKILL"] * 10
    saved = {name for name in os.listdir(tmp_path / "runs") if name[1:].isdigit()}
    for name in saved:
        assert step_at(tmp_path / "runs" / name) == int(name[1:])
    told = {f"c{step}" for run in runs for step in run["acknowledged"]}
    assert told
    assert told <= saved
