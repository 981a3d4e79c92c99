"""What a handler writes beside the directory that it was given is noticed before the seal."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sealwax as ocp
from sealwax import effects as e
from sealwax import errors
from sealwax.effect_handlers import dry_run, record
from tests.gates import names
from tests.points import Counter

TREE = {"w": np.arange(3.0)}


class Astray:
    """Saves itself, and leaves something else beside its directory."""

    def __init__(self, name: str = "vocabulary.txt", *, directory: bool = False) -> None:
        self.name = name
        self.directory = directory

    async def save(self, directory: Any) -> Awaitable[None]:
        return self._write(await directory.await_creation())

    async def _write(self, path: Any) -> None:
        (path / "own.txt").write_text("mine")
        beside = path.parent / self.name
        if self.directory:
            beside.mkdir()
        else:
            beside.write_text("not mine")

    async def load(self, directory: Any) -> Awaitable[None]:
        async def read() -> None:
            return None

        return read()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


@pytest.fixture(params=["atomic_rename", "commit_file"])
def mode(request: pytest.FixtureRequest) -> ocp.Context:
    return ocp.Context().at.atomicity.mode.set(request.param)


@pytest.mark.parametrize("directory", [False, True])
def test_it_is_refused_by_name_and_nothing_is_left(
    path: Path, directory: bool, mode: ocp.Context
) -> None:
    items = {"data": Astray(directory=directory), "params": TREE}
    with pytest.raises(errors.HandlerError) as caught:
        ocp.save_checkpointables(path, items, context=mode)
    text = str(caught.value)
    assert "'vocabulary.txt'" in text, text
    assert "checkpointable 'data'" in text, text
    assert "below the directory" in text, text
    assert names(path.parent) == []


def test_what_was_there_stays(path: Path) -> None:
    ocp.save(path, TREE)
    with pytest.raises(errors.HandlerError):
        ocp.save_checkpointables(path, {"data": Astray()}, overwrite=True)
    np.testing.assert_equal(ocp.load(path), TREE)
    assert names(path.parent) == ["ckpt"]


def test_in_the_background_the_response_tells(path: Path) -> None:
    response = ocp.save_checkpointables_async(path, {"data": Astray(), "params": TREE})
    with pytest.raises(errors.HandlerError, match="vocabulary"):
        response.result()
    assert names(path.parent) == []


def test_of_several_handlers_all_that_could_be_meant_are_named(path: Path) -> None:
    with pytest.raises(errors.HandlerError, match="those of 'data', 'loop'"):
        ocp.save_checkpointables(path, {"data": Astray(), "loop": Counter(1), "params": TREE})


@pytest.mark.parametrize("name", ["_METADATA", "commit_success.txt", "_SEALWAX", "metrics"])
def test_also_where_it_has_a_name_that_checkpoints_use(path: Path, name: str) -> None:
    with pytest.raises(errors.HandlerError, match=name):
        ocp.save_checkpointables(path, {"data": Astray(name)})


def test_what_file_systems_leave_unasked_is_no_reason(path: Path) -> None:
    ocp.save_checkpointables(path, {"data": Astray(".nfs0000001"), "params": TREE})
    assert ocp.delete(path)


def test_only_who_calls_handlers_looks(path: Path) -> None:
    def listings(items: dict[str, Any]) -> int:
        with record() as trace:
            ocp.save_checkpointables(path, items, overwrite=True)
        inside = [x for x in trace.effects if isinstance(x, e.ListDirectory)]
        return sum(".orbax-checkpoint-tmp" in x.path for x in inside)

    assert listings({"params": TREE}) == 0
    assert listings({"params": TREE, "loop": Counter(1), "more": Counter(2)}) == 1


def test_a_dry_run_goes_through(path: Path) -> None:
    with dry_run() as dry:
        ocp.save_checkpointables(path, {"loop": Counter(1), "params": TREE})
    assert dry.report.files
    assert names(path.parent) == []


class Nested:
    """Saves itself as a checkpoint of its own, in its directory or as that."""

    def __init__(self, below: str) -> None:
        self.below = below
        self.found: Any = None

    async def save(self, directory: Any) -> Awaitable[None]:
        return self._write(await directory.await_creation())

    async def _write(self, path: Any) -> None:
        await ocp.aio.save(path / self.below, TREE, overwrite=True)

    async def load(self, directory: Any) -> Awaitable[None]:
        async def read() -> None:
            self.found = await ocp.aio.load(directory / self.below)

        return read()


@pytest.mark.parametrize("below", ["", "inner", "inner/deep"])
def test_a_checkpoint_in_a_checkpoint_is_verified_as_what_it_is(path: Path, below: str) -> None:
    ocp.save_checkpointables(path, {"data": Nested(below), "params": TREE})
    assert ocp.verify(path), ocp.verify(path)
    np.testing.assert_equal(ocp.load(path), TREE)
    fresh = Nested(below)
    ocp.load_checkpointables(path, {"data": fresh})
    np.testing.assert_equal(fresh.found, TREE)
    for name in ("_SEALWAX", "state/_SEALWAX", "state/d/00000000"):
        file = path / "data" / below / name
        data = file.read_bytes()
        file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        assert not ocp.verify(path), name
        file.write_bytes(data)
    assert ocp.delete(path)
