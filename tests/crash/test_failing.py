"""An error at every effect of a save: it is told, nothing is left, and the next save works."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from pathlib import Path

import pytest

import sealwax
from sealwax import effects as e
from sealwax.effect_handlers import inject, record
from sealwax.errors import SealError, SealwaxError, StorageError
from sealwax.runtime import files
from tests.crash.states import LAYOUTS, context, leftovers, state, step_at

NUMBERS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT, errno.EMFILE, errno.EROFS)


def full(number: int = errno.ENOSPC) -> OSError:
    return OSError(number, os.strerror(number))


def prepare(directory: Path, overwriting: bool) -> Path:
    directory.mkdir()
    if overwriting:
        sealwax.save(directory / "c", state(1))
    return directory / "c"


def failure_at(
    path: Path, number: int, moment: str, overwrite: bool, error: OSError
) -> OSError | None:
    """What a save raises when its effect ``number`` fails; ``None`` if it has not so many."""
    count = itertools.count()
    with inject(lambda _: next(count) == number, moment=moment, error=error):
        try:
            sealwax.save(path, state(2), overwrite=overwrite)
        except OSError as raised:
            return raised
    return None


@pytest.mark.parametrize("overwriting", [False, True], ids=["fresh", "overwrite"])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_error_at_every_effect(tmp_path, overwriting, moment, layout):
    outcomes, kinds = [], set()
    for number in itertools.count():
        path = prepare(tmp_path / str(number), overwriting)
        code = NUMBERS[number % len(NUMBERS)]
        with record() as trace, context(layout):
            error = failure_at(path, number, moment, overwriting, full(code))
        if error is None:
            break
        assert isinstance(error, SealwaxError)
        assert error.errno == code
        assert os.strerror(code) in str(error)
        assert error.path.startswith(str(path.parent))
        assert not any("Could not" in note for note in getattr(error, "__notes__", []))
        kinds |= set(trace.kinds())
        sealed = next((k for k in trace.kinds() if k in ("Rename", "Exchange")), None)
        outcomes.append(2 if sealed else 1 if overwriting else None)
        assert step_at(path) == outcomes[-1], trace.kinds()
        # What fails after the seal cannot be undone: the old checkpoint then waits for the next.
        assert leftovers(path.parent) == [] or (sealed == "Exchange" and not undone(trace))
        sealwax.save(path, state(3), overwrite=True)
        assert step_at(path) == 3
        assert os.listdir(path.parent) == ["c"]
    assert outcomes == sorted(outcomes, key=lambda x: x or 0)
    assert len(set(outcomes)) == 2
    assert {"MakeDirectory", "WriteFile", "SyncDirectory", "RemoveTree"} <= kinds
    assert {"WriteBatch", "WriteChunks"} & kinds


def undone(trace) -> bool:
    return trace.kinds()[-1] == "RemoveTree"


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_every_number_is_told(tmp_path, number):
    with inject(e.WriteBatch, error=full(number)), pytest.raises(StorageError) as caught:
        sealwax.save(tmp_path / "c", {"w": 1.0})
    assert caught.value.errno == number
    assert caught.value.leaf == "w"
    assert os.listdir(tmp_path) == []


def test_a_failed_background_save_leaves_the_old_and_is_told_by_its_response(tmp_path):
    sealwax.save(tmp_path / "c", state(1))
    for kind in (e.WriteBatch, e.WriteFile, e.SyncDirectory, e.Exchange):
        with inject(kind, error=full()):
            response = sealwax.save_async(tmp_path / "c", state(2), overwrite=True)
            with pytest.raises(OSError, match="No space left"):
                response.result()
        assert step_at(tmp_path / "c") == 1
        assert os.listdir(tmp_path) == ["c"]


def test_what_cannot_be_undone_is_noted_and_cleared_by_the_next_save(tmp_path):
    bad = inject(e.RemoveTree, error=full(errno.EIO))
    with bad, inject(e.Rename, error=full()), pytest.raises(SealError) as caught:
        sealwax.save(tmp_path / "c", state(1))
    assert caught.value.errno == errno.ENOSPC
    assert any("Could not remove" in note for note in caught.value.__notes__)
    assert len(leftovers(tmp_path)) == 1
    sealwax.save(tmp_path / "c", state(2))
    assert os.listdir(tmp_path) == ["c"]


def test_a_disk_that_is_really_full(tmp_path, monkeypatch):
    """The error comes from the system call and in the middle of a write."""
    real, written = os.write, []

    def write(descriptor: int, data) -> int:
        if written:
            raise full()
        written.append(1)
        return real(descriptor, bytes(data)[:5])

    class System:
        def __getattr__(self, name: str):
            return write if name == "write" else getattr(os, name)

    monkeypatch.setattr(files, "os", System())
    with pytest.raises(OSError, match="No space left") as caught:
        sealwax.save(tmp_path / "c", state(1))
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_missing_parents_are_made_and_may_stay(tmp_path):
    with inject(e.WriteBatch, error=full()), pytest.raises(OSError, match="No space left"):
        sealwax.save(tmp_path / "a" / "b" / "c", state(1))
    with contextlib.suppress(FileNotFoundError):
        assert os.listdir(tmp_path / "a" / "b") == []
    sealwax.save(tmp_path / "a" / "b" / "c", state(1))
    assert step_at(tmp_path / "a" / "b" / "c") == 1
