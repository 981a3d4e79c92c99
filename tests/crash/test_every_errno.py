"""Every error at every effect of every operation: old, new or nothing, and it goes on.

Each case is a run that meets one error at one effect, before it, during it (a short write) or
after it. Afterwards the path holds the old state, the new one or nothing, to the bit; the error
is an ``OSError`` with its number, the path, and the leaf where one is concerned; nothing else is
left; and the next save works. ``pytest -rP`` shows how many cases there were.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sealwax
from sealwax import effects as e
from sealwax.context import Context
from sealwax.effect_handlers import inject
from sealwax.errors import SealwaxError, StorageError
from sealwax.testing import Stop, fail_at_every_effect
from tests.crash.states import leftovers
from tests.points import Point, PointHandler

ERRORS = (
    errno.ENOSPC,
    errno.EIO,
    errno.EACCES,
    errno.EROFS,
    errno.EMFILE,
    errno.EDQUOT,
    errno.EINTR,
    errno.ESTALE,
)
IN_PLACE = Context().replace({"atomicity.mode": "commit_file"})
FILES = Context().at.array.saving.use_ocdbt.set(False)


def state(number: int) -> dict[str, Any]:
    """One leaf of each kind of move: an array that may be compressed, and what is not an array."""
    return {"w": np.full(20_000, number, np.int32), "name": f"run {number}"}


def number_at(path: Path) -> int | None:
    """Which state is at the path, complete and to the bit; ``None`` where nothing is."""
    if not os.path.lexists(path):
        return None
    found = sealwax.load(path)
    number = int(found["name"].removeprefix("run "))
    assert found["w"].dtype == np.int32
    assert found["w"].tobytes() == state(number)["w"].tobytes()
    return number


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """An operation that turns what is at ``c``, state 1 or nothing, into what it makes of it.

    Attributes:
      run: The operation.
      old: Whether state 1 is there before.
      new: The state that is there afterwards.
    """

    run: Callable[[Path], object]
    old: bool = False
    new: int | None = 2


def save(path: Path, **how: Any) -> None:
    sealwax.save(path / "c", state(2), **how)


def save_async(path: Path, **how: Any) -> None:
    sealwax.save_async(path / "c", state(2), **how).result()


def save_several(path: Path, **how: Any) -> None:
    """Beside the state an item of JSON, and one of a handler of its own."""
    items = {"state": state(2), "config": {"number": 2}, "point": Point(2, 2)}
    sealwax.save_checkpointables(path / "c", items, context=POINTS, **how)


def points() -> Context:
    registry = sealwax.handlers.local_registry().add(PointHandler)
    registry.add(sealwax.handlers.JsonHandler, checkpointable_name="config")
    context = Context()
    context.checkpointables.registry = registry
    return context


POINTS = points()
SCENARIOS = {
    "save": Scenario(run=save),
    "save, a file for each chunk": Scenario(run=lambda p: save(p, context=FILES)),
    "overwrite": Scenario(run=lambda p: save(p, overwrite=True), old=True),
    "overwrite, a file for each chunk": Scenario(
        run=lambda p: save(p, overwrite=True, context=FILES), old=True
    ),
    "save in place": Scenario(run=lambda p: save(p, context=IN_PLACE)),
    "overwrite with commit files": Scenario(
        run=lambda p: save(p, overwrite=True, context=IN_PLACE), old=True
    ),
    "save_async": Scenario(run=save_async),
    "overwrite async": Scenario(run=lambda p: save_async(p, overwrite=True), old=True),
    "delete": Scenario(run=lambda p: sealwax.delete(p / "c"), old=True, new=None),
    "several checkpointables": Scenario(run=save_several),
    "overwrite with several": Scenario(run=lambda p: save_several(p, overwrite=True), old=True),
}


@pytest.fixture(scope="module")
def quick() -> Iterator[Path]:
    """A directory in memory where the system has one: thousands of saves need no disk."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as path:
        yield Path(path)


@pytest.fixture(scope="module")
def old(quick: Path) -> Path:
    sealwax.save(quick / "old" / "c", state(1))
    return quick / "old"


@pytest.mark.slow
@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_error_at_every_effect(quick, old, name, number, request, record_property):
    scenario = SCENARIOS[name]
    base = quick / request.node.name
    # What is torn is torn the same way whatever the error: with one of them is enough.
    moments = ("before", "during", "after") if number == errno.ENOSPC else ("before", "after")
    outcomes: list[int | None] = []
    stops = fail_at_every_effect(
        scenario.run,
        base,
        error=lambda _: OSError(number, os.strerror(number)),
        moments=moments,
        start=old if scenario.old else None,
    )
    for stop in stops:
        judge_error(stop, number)
        outcomes.append(number_at(stop.directory / "c"))
        judge_rest(stop, outcomes[-1], scenario)
        sealwax.save(stop.directory / "c", state(3), overwrite=True)
        assert number_at(stop.directory / "c") == 3, stop
        assert os.listdir(stop.directory) == ["c"], stop
    shutil.rmtree(base)
    before = 1 if scenario.old else None
    assert set(outcomes) == {before, scenario.new}
    # Once it is sealed it is not taken back.
    assert outcomes == [before] * outcomes.count(before) + [scenario.new] * outcomes.count(
        scenario.new
    )
    assert len(outcomes) > 30
    record_property("cases", len(outcomes))
    print(f"{name}, {errno.errorcode[number]}: {len(outcomes)} cases")


def judge_error(stop: Stop, number: int) -> None:
    error = stop.error
    assert isinstance(error, OSError), stop
    assert isinstance(error, SealwaxError), stop
    assert error.errno == number, stop
    assert os.strerror(number) in str(error), stop
    assert error.path, stop
    assert error.path.startswith(str(stop.directory)), stop
    assert error.__cause__ is not None, stop
    assert not any("Could not" in note for note in getattr(error, "__notes__", [])), stop
    if stop.kind in ("Stage", "Probe", "WriteBatch", "WriteChunks"):
        assert error.leaf == "w", stop


def judge_rest(stop: Stop, found: int | None, scenario: Scenario) -> None:
    assert found in (1 if scenario.old else None, scenario.new), stop
    others = set(os.listdir(stop.directory)) - {"c"}
    assert others == set(leftovers(stop.directory)), stop
    # What fails after the seal cannot be undone: the old state then waits for the next save.
    assert len(others) <= (scenario.old and found == scenario.new), stop


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
def test_the_error_of_a_write_names_the_leaf_and_its_file(quick, number):
    broken = inject(e.WriteBatch, error=OSError(number, os.strerror(number)))
    with broken, pytest.raises(StorageError) as caught:
        sealwax.save(quick / "named", state(2))
    assert caught.value.leaf == "w"
    assert caught.value.path.endswith("/state/d/00000000")
    assert str(caught.value).startswith("Could not write leaf 'w'")
    assert not (quick / "named").exists()


def test_the_error_of_one_file_of_several_names_that_one(quick, monkeypatch):
    """Real ones of the system, which names a file only where it cannot open it."""
    where = quick / "several"
    saved = FILES.replace({"array.saving.storage_options.chunk_byte_size": 8_000})

    def broken(*args: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", broken)
        with pytest.raises(StorageError, match="w/c/0") as written:
            sealwax.save(where, state(2), context=saved)
    assert written.value.path.endswith("/state/w/c/0")
    sealwax.save(where, state(2), context=saved)
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", broken)
        with pytest.raises(StorageError) as read:
            sealwax.load(where)
    assert read.value.path == f"{where}/state/w/c/0"
    assert sealwax.load(where)["name"] == "run 2"
