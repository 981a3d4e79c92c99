"""Every row of docs/leaves.md is true."""

from __future__ import annotations

import collections
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from flax.core import FrozenDict
from orbax.checkpoint import v1 as orbax

import sealwax
from tests.strategies import Indexed, Layer, Pair, TrainState, assert_same

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "leaves.md"
NAMESPACE = {
    "jax": jax,
    "jnp": jnp,
    "np": np,
    "ml_dtypes": ml_dtypes,
    "optax": optax,
    "OrderedDict": collections.OrderedDict,
    "defaultdict": collections.defaultdict,
    "FrozenDict": FrozenDict,
    "Pair": Pair,
    "Layer": Layer,
    "TrainState": TrainState,
    "Indexed": Indexed,
}


def rows(columns: int) -> list[list[str]]:
    """The rows of the page's tables that have so many columns, without their heads."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = [row for row in cells if len(row) == columns]
    return [row for row in found if "---" not in row[0] and "`" in row[1]]


def value(cell: str) -> Any:
    (expression,) = re.findall(r"`(.+)`", cell)
    return eval(expression, NAMESPACE)


def check(cell: str, saved: Any, seen: Any) -> None:
    assert_same(seen, saved if cell == "same" else value(cell))


@pytest.mark.parametrize("row", rows(6), ids=lambda row: row[1])
def test_what_comes_back(tmp_path: Path, row: list[str]) -> None:
    _, example, without, template, reads, alone = row
    state = {"x": value(example), "rest": 1}
    sealwax.save(tmp_path / "ours", state)
    check(without, state["x"], sealwax.load(tmp_path / "ours")["x"])
    check(template, state["x"], sealwax.load(tmp_path / "ours", state)["x"])
    seen = orbax.load(tmp_path / "ours")
    check(reads, state["x"], seen["x"])
    assert seen["rest"] == 1
    if alone == "refused":
        return
    orbax.save(tmp_path / "theirs", state)
    check(alone, state["x"], orbax.load(tmp_path / "theirs")["x"])
    assert_same(sealwax.load(tmp_path / "theirs"), orbax.load(tmp_path / "theirs"))


REFUSALS = """
import os, sys, tempfile
from orbax.checkpoint import v1
from tests.interop.test_leaves import rows, value

saved = []
for row in rows(6):
    if row[5] == "refused":
        try:
            v1.save(tempfile.mkdtemp() + "/ckpt", {"x": value(row[1])})
        except Exception:
            continue
        saved.append(row[1])
print(saved, flush=True)
os._exit(len(saved))
"""


def test_what_orbax_refuses() -> None:
    # In a process of its own: after some refusals Orbax waits five minutes before it exits.
    paths = os.pathsep.join([str(ROOT / "lib"), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"}
    ended = subprocess.run(
        [sys.executable, "-c", REFUSALS], env=environment, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr


@pytest.mark.parametrize("row", rows(3), ids=" as ".join)
def test_what_a_template_asks_for(tmp_path: Path, row: list[str]) -> None:
    stored, wanted, gives = row
    sealwax.save(tmp_path / "ckpt", {"x": value(stored)})
    if gives.endswith("Error`"):
        with pytest.raises(getattr(sealwax.errors, gives.strip("`"))):
            sealwax.load(tmp_path / "ckpt", {"x": value(wanted)})
        return
    loaded = sealwax.load(tmp_path / "ckpt", {"x": value(wanted)})["x"]
    assert loaded is ... if gives == "`...`" else assert_same(loaded, value(gives)) is None


def test_the_page_has_the_tables() -> None:
    assert len(rows(6)) > 35
    assert len(rows(3)) > 20
