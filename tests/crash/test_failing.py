"""Errors of saves: they are told, nothing is left, and the next save works.

``test_every_errno.py`` has every error at every effect.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil

import pytest

import sealwax
from sealwax import effects as e
from sealwax.effect_handlers import Handler, inject
from sealwax.errors import SealError, StorageError
from sealwax.runtime import filesystem
from tests.crash.states import LAYOUTS, context, leftovers, state, step_at

NUMBERS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT, errno.EMFILE, errno.EROFS)


def full(number: int = errno.ENOSPC) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_every_number_is_told(tmp_path, number):
    with inject(e.WriteBatch, error=full(number)), pytest.raises(StorageError) as caught:
        sealwax.save(tmp_path / "c", {"w": 1.0})
    assert caught.value.errno == number
    assert caught.value.leaf == "w"
    assert os.listdir(tmp_path) == []


def test_a_failed_background_save_leaves_the_old_and_is_told_by_its_response(tmp_path):
    sealwax.save(tmp_path / "c", state(1))
    for kind in (e.WriteBatch, e.WriteFiles, e.SyncTree, e.Exchange):
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


@pytest.mark.parametrize("where", ["/state/d/00000000", "/state/_strings.json", "/_SEALWAX"])
def test_a_disk_that_is_really_full(tmp_path, monkeypatch, where):
    """The error comes from the system call and in the middle of a write."""
    torn = []

    def writev(descriptor: int, parts) -> int:
        if not os.readlink(f"/proc/self/fd/{descriptor}").endswith(where):
            return os.writev(descriptor, parts)
        if torn:
            raise full()
        torn.append(os.write(descriptor, bytes(parts[0])[:5]))
        return torn[-1]

    class System:
        def __getattr__(self, name: str):
            return writev if name == "writev" else getattr(os, name)

    monkeypatch.setattr(filesystem, "os", System())
    with pytest.raises(OSError, match="No space left") as caught:
        sealwax.save(tmp_path / "c", state(1))
    monkeypatch.undo()
    assert torn
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.path.endswith(where)
    assert os.listdir(tmp_path) == []


def test_missing_parents_are_made_and_may_stay(tmp_path):
    with inject(e.WriteBatch, error=full()), pytest.raises(OSError, match="No space left"):
        sealwax.save(tmp_path / "a" / "b" / "c", state(1))
    with contextlib.suppress(FileNotFoundError):
        assert os.listdir(tmp_path / "a" / "b") == []
    sealwax.save(tmp_path / "a" / "b" / "c", state(1))
    assert step_at(tmp_path / "a" / "b" / "c") == 1


class Cleaner(Handler):
    """Somebody who takes what is being saved for what was left behind."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def perform(self, effect, forward):
        if isinstance(effect, e.SyncTree):
            shutil.rmtree(f"{effect.path}/{self.name}")
        return await forward(effect)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", ["atomic_rename", "commit_file"])
def test_what_somebody_removed_meanwhile_is_not_sealed(tmp_path, layout, mode):
    how = context(layout).replace({"atomicity.mode": mode})
    name = "state/d" if layout == "database" else "state"
    with Cleaner(name), pytest.raises(StorageError) as caught:
        sealwax.save(tmp_path / "c", state(1), context=how)
    assert caught.value.filename.endswith(f"/{name}")
    assert os.listdir(tmp_path) == []
