"""A deletion that Orbax began is finished by sealwax, and the other way round, at any stop."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from orbax.checkpoint import v1 as orbax

import sealwax as ocp
from sealwax import errors
from sealwax.effect_handlers import inject
from tests.crash.states import changing
from tests.interop.several import MAKERS, TREES, by_orbax, by_sealwax, holds, loads, same

BROKEN = OSError(errno.EIO, "input/output error")
CALLS = ("link", "mkdir", "rename", "replace", "rmdir", "unlink", "remove", "fsync")


@contextlib.contextmanager
def failing_call(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Lets the file-changing call of this number fail, and all after it, as a dead process does."""
    made: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            made.append(name)
            if len(made) > number:
                raise BROKEN
            return real(*args, **keywords)

        return call

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, counted(name, getattr(os, name)))
        yield made


def interrupted_by_orbax(path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the call of this number was one that failed."""
    with failing_call(number, monkeypatch) as made:
        try:
            orbax.delete(path, checkpointable_name="opt")
        except OSError:
            return True
    return len(made) > number


@pytest.mark.parametrize("maker", MAKERS)
def test_what_orbax_began_is_read_and_finished(
    tmp_path: Path, maker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, recorded = MAKERS[maker](tmp_path / "source"), 0
    for number in itertools.count():
        path = Path(shutil.copytree(source, tmp_path / str(number) / "ckpt"))
        if not interrupted_by_orbax(path, number, monkeypatch):
            break
        loads(path, "state", "extra")
        alone = False
        if (path / "_CHECKPOINT_DELETION").exists():
            recorded += 1
            with pytest.raises(errors.DeletionInProgressError):
                ocp.load(path, checkpointable_name="opt")
            with pytest.raises(errors.DeletionRecoveryError):
                ocp.delete(path, checkpointable_name="extra")
            with pytest.raises(errors.DeletionInProgressError):
                ocp.save(path, {"a": 1}, overwrite=True)
            assert ocp.is_orbax_checkpoint(path)
            assert ocp.delete(path, checkpointable_name="opt")
        else:
            alone = not ocp.delete(path, checkpointable_name="opt", missing_ok=True)
        holds(path, "state", "extra", digests=not alone)
    assert recorded > 3


@pytest.mark.parametrize("maker", MAKERS)
def test_what_sealwax_began_is_read_and_finished_by_orbax(tmp_path: Path, maker: str) -> None:
    source, finished = MAKERS[maker](tmp_path / "source"), 0
    for number in itertools.count():
        path = Path(shutil.copytree(source, tmp_path / str(number) / "ckpt"))
        strike = inject(changing(number), error=BROKEN)
        with strike, contextlib.suppress(errors.StorageError):
            ocp.delete(path, checkpointable_name="opt")
        if not strike.hits:
            break
        for name, loaded in orbax.load_checkpointables(path).items():
            same(loaded, name)
        if (path / "_CHECKPOINT_DELETION").exists():
            finished += 1
            with pytest.raises(orbax.errors.DeletionInProgressError):
                orbax.load(path, checkpointable_name="opt")
            with pytest.raises(orbax.errors.DeletionRecoveryError):
                orbax.delete(path, checkpointable_name="extra")
        orbax.delete(path, checkpointable_name="opt", missing_ok=True)
        holds(path, "state", "extra", digests=False)
        ocp.save(path, {"a": 1}, overwrite=True)
        assert os.listdir(path.parent) == ["ckpt"]
    assert finished > 5


@pytest.mark.parametrize("maker", MAKERS)
def test_whole_checkpoints_of_either_are_deleted_by_both(tmp_path: Path, maker: str) -> None:
    for number, module in enumerate([ocp, orbax]):
        path = MAKERS[maker](tmp_path / str(number))
        assert module.delete(path) is True
        assert not path.exists()


def test_records_of_both_are_valid_for_both(tmp_path: Path) -> None:
    theirs, ours = by_orbax(tmp_path / "theirs"), by_sealwax(tmp_path / "ours")
    with inject(ocp.effects.RemoveFile, error=BROKEN), pytest.raises(errors.StorageError):
        ocp.delete(ours, checkpointable_name="opt")
    record = json.loads((ours / "_CHECKPOINT_DELETION").read_bytes())
    assert record["destination"] is None
    assert orbax.delete(ours, checkpointable_name="opt")
    # The same record, of the other checkpoint.
    metadata = json.loads((theirs / "_CHECKPOINT_METADATA").read_bytes())
    handlers = {k: v for k, v in metadata["item_handlers"].items() if k != "opt"}
    record |= {
        "original_metadata": metadata,
        "updated_metadata": metadata | {"item_handlers": handlers},
    }
    (theirs / "_CHECKPOINT_DELETION").write_text(json.dumps(record))
    assert ocp.delete(theirs, checkpointable_name="opt")
    for path in (theirs, ours):
        holds(path, "state", "extra", digests=path == theirs)


def test_orbax_leaves_alone_what_sealwax_was_about_to_keep(tmp_path: Path) -> None:
    path = by_sealwax(tmp_path / "ckpt")
    context = ocp.Context().at.deletion.todelete_subdir.set("trash")
    strike = inject(
        lambda x: isinstance(x, ocp.effects.Rename) and x.source.endswith("/opt"), error=BROKEN
    )
    with strike, pytest.raises(errors.StorageError):
        ocp.delete(path, checkpointable_name="opt", context=context)
    with pytest.raises(orbax.errors.DeletionRecoveryError):
        orbax.delete(path, checkpointable_name="opt")
    assert ocp.delete(path, checkpointable_name="opt")
    (kept,) = (tmp_path / "trash").iterdir()
    same(orbax.load(kept, checkpointable_name="opt"), "opt")
    holds(path, "state", "extra")


@pytest.mark.parametrize("module", [ocp, orbax], ids=["sealwax", "orbax"])
@pytest.mark.parametrize("record", ["", "{}", "[]", '{"operation_id": "x"}'])
def test_a_record_that_cannot_be_read_stops_both(tmp_path: Path, module: Any, record: str) -> None:
    path = by_orbax(tmp_path / "ckpt")
    (path / "_CHECKPOINT_DELETION").write_text(record)
    for attempt in (
        lambda: module.load(path),
        lambda: module.delete(path, checkpointable_name="opt"),
    ):
        with pytest.raises(module.errors.DeletionRecoveryError):
            attempt()
    assert module.is_orbax_checkpoint(path)
    assert module.delete(path)


def test_runs_lose_one_step_and_no_other(tmp_path: Path) -> None:
    with orbax.training.Checkpointer(tmp_path / "run") as checkpointer:
        for step in range(3):
            checkpointer.save(step, TREES["state"])
    with pytest.raises(errors.InvalidLayoutError, match="holds 3 checkpoints"):
        ocp.delete(tmp_path / "run")
    assert ocp.delete(tmp_path / "run" / "1")
    with orbax.training.Checkpointer(tmp_path / "run") as checkpointer:
        assert [found.step for found in checkpointer.checkpoints] == [0, 2]
        same(checkpointer.load(2), "state")
