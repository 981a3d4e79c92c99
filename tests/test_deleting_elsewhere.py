"""Moving what is deleted to where it cannot be moved: told before anything is changed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sealwax as ocp
from sealwax import effects as e
from sealwax import errors
from sealwax.effect_handlers import inject, record
from tests.gates import names

ITEMS = {name: {"w": np.arange(3)} for name in ("opt", "state")}
KEEPING = ocp.Context().at.deletion.todelete_subdir.set("trash/old")
ELSEWHERE = OSError(errno.EXDEV, "Invalid cross-device link")


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    ocp.save_checkpointables(tmp_path / "ckpt", ITEMS)
    return tmp_path / "ckpt"


def as_before(path: Path, *also: str) -> None:
    assert names(path.parent) == sorted(["ckpt", *also])
    assert not (path / "_CHECKPOINT_DELETION").exists()
    assert set(ocp.load_checkpointables(path)) == {"opt", "state"}
    assert ocp.verify(path)


@pytest.fixture
def other_disk() -> Iterator[Path]:
    shared = Path("/dev/shm")
    if not shared.is_dir() or not os.access(shared, os.W_OK):
        pytest.skip("there is no second file system here")
    made = Path(tempfile.mkdtemp(dir=shared))
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("item", ["opt", None])
def test_on_another_file_system_nothing_is_changed(
    ckpt: Path, other_disk: Path, item: str | None
) -> None:
    if os.stat(ckpt).st_dev == os.stat(other_disk).st_dev:
        pytest.skip("temporary files are on the second file system too")
    (ckpt.parent / "trash").symlink_to(other_disk)
    with pytest.raises(errors.SealError, match="one file system to another") as caught:
        ocp.delete(ckpt, checkpointable_name=item, context=KEEPING)
    assert caught.value.errno == errno.EXDEV
    assert not hasattr(caught.value, "__notes__")
    as_before(ckpt, "trash")
    assert names(other_disk) == []
    # It can still be deleted as it can be without the setting.
    assert ocp.delete(ckpt, checkpointable_name=item)


def test_the_directories_that_were_made_for_it_go_again(ckpt: Path) -> None:
    for item in ("opt", None):
        with (
            inject(e.Rename, nth=0, error=ELSEWHERE),
            pytest.raises(errors.SealError, match="one file system"),
        ):
            ocp.delete(ckpt, checkpointable_name=item, context=KEEPING)
        as_before(ckpt)


def test_a_failure_after_the_record_says_what_is_true_then(ckpt: Path) -> None:
    with inject(e.Rename, nth=1, error=ELSEWHERE), pytest.raises(errors.StorageError) as caught:
        ocp.delete(ckpt, checkpointable_name="opt", context=KEEPING)
    (note,) = caught.value.__notes__
    assert "complete" not in note
    assert note.startswith("The checkpointable no longer counts, but not all of it is done")
    assert set(ocp.load_checkpointables(ckpt)) == {"state"}
    assert ocp.delete(ckpt, checkpointable_name="opt", context=KEEPING)
    assert names(ckpt.parent) == ["ckpt", "trash"]


def test_what_an_interruption_leaves_there_goes_with_the_next(ckpt: Path) -> None:
    trash = ckpt.parent / "trash" / "old"
    trash.mkdir(parents=True)
    left = trash / f"ckpt.orbax-checkpoint-tmp-sealwax-{'0' * 32}"
    other = trash / f"ckpt2.orbax-checkpoint-tmp-sealwax-{'0' * 32}"
    left.touch()
    other.touch()
    with record() as trace:
        ocp.delete(ckpt, checkpointable_name="opt", context=KEEPING)
    assert e.RemoveFile(path=str(left)) in trace.effects
    assert not left.exists()
    assert other.exists()
