"""What survives power loss: everything is synced before the seal, and the seal itself after it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

import sealwax
from sealwax import effects as e
from sealwax.context import Context
from sealwax.effect_handlers import inject, record
from sealwax.errors import StorageError
from sealwax.layouts import manifest
from sealwax.runtime import files, leases
from tests.crash.states import LAYOUTS, context, state, step_at
from tests.gates import eventually

ATOMIC = Context().at.file.durability.set("atomic")


def traced(path: Path, **how) -> list[e.Effect]:
    with record() as trace:
        sealwax.save(path, state(2), **how)
    return trace.effects


@pytest.mark.parametrize("overwriting", [False, True], ids=["fresh", "overwrite"])
def test_the_trace_of_a_save_keeps_the_sync_contract(tmp_path, overwriting):
    path = tmp_path / "new" / "c"
    if overwriting:
        sealwax.save(path, state(1))
    trace = traced(path, overwrite=overwriting)
    kind = e.Exchange if overwriting else e.Rename
    (seal,) = (n for n, effect in enumerate(trace) if isinstance(effect, kind))

    def synced(directory: str, after: int, before: int) -> bool:
        return any(
            (isinstance(effect, e.SyncDirectory) and effect.path == directory)
            or (isinstance(effect, e.SyncTree) and f"{directory}/".startswith(f"{effect.path}/"))
            for effect in trace[after:before]
        )

    written = 0
    for number, effect in enumerate(trace):
        match effect:
            case e.WriteBatch(path=at, sync=sync):
                written += 1
                assert sync
                assert synced(os.path.dirname(at), number, seal)
            case e.WriteFiles(directory=at, contents=contents, sync=sync):
                written += len(contents)
                assert sync
                assert synced(at, number, seal)
            case e.MakeDirectory(path=at, lease=False):
                assert synced(os.path.dirname(at), number, seal)
            case e.RemoveTree():
                assert synced(str(path.parent), seal, number)
    assert written > 5
    assert synced(str(path.parent), seal, len(trace))


def test_without_durability_nothing_is_synced_but_the_order_is_the_same(tmp_path):
    durable, atomic = traced(tmp_path / "a"), traced(tmp_path / "b", context=ATOMIC)
    kinds = [type(x).__name__ for x in durable if not isinstance(x, e.SyncDirectory | e.SyncTree)]
    assert sorted(kinds) == sorted(type(x).__name__ for x in atomic)
    assert not any(getattr(x, "sync", False) for x in atomic)


class Watch:
    """Follows the system calls that matter, as the file system would see them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: set[str] = set()
        self.sealed: dict[str, set[str]] = {}
        real_sync, real_rename, real_exchange = files.sync, files.rename, files.exchange

        def sync(descriptor: int) -> None:
            real_sync(descriptor)
            self.synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))

        def rename(source: str, target: str) -> None:
            self.seal(source)
            real_rename(source, target)

        def exchange(first: str, second: str) -> None:
            self.seal(first)
            real_exchange(first, second)

        for name, function in (("sync", sync), ("rename", rename), ("exchange", exchange)):
            monkeypatch.setattr(files, name, function)

    def seal(self, directory: str) -> None:
        """At this moment everything below must be on stable storage."""
        below = {directory}
        for where, directories, names in os.walk(directory):
            below |= {os.path.join(where, name) for name in (*directories, *names)}
        self.sealed[directory] = below - self.synced


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="reads /proc")
@pytest.mark.parametrize("overwriting", [False, True], ids=["fresh", "overwrite"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_file_and_directory_was_really_synced(tmp_path, monkeypatch, overwriting, layout):
    path = tmp_path / "new" / "c"
    if overwriting:
        sealwax.save(path, state(1))
    watch = Watch(monkeypatch)
    sealwax.save(path, state(2), overwrite=overwriting, context=context(layout))
    assert list(watch.sealed.values()) == [set()]
    assert str(path.parent) in watch.synced
    assert overwriting or str(tmp_path) in watch.synced


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="reads /proc")
def test_the_watch_finds_what_was_not_synced(tmp_path, monkeypatch):
    watch = Watch(monkeypatch)
    sealwax.save(tmp_path / "c", state(2), context=ATOMIC)
    (missed,) = watch.sealed.values()
    assert len(missed) > 10


# ---------------------------------------------------------------- never neither


def complete(path: str) -> str | None:
    """Looks at a checkpoint through one descriptor: what is wrong, or ``None``."""
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return "nothing was at the path"
    try:
        opened = os.open("_SEALWAX", os.O_RDONLY, dir_fd=directory)
        with open(opened, "rb") as file:
            root = manifest.decode(file.read(), manifest.Checkpoint, path)
        for name, (size, *_) in root.digests.items():
            if os.stat(name, dir_fd=directory).st_size != size:
                return f"{name} is not complete"
    except FileNotFoundError as error:
        # What was exchanged is removed, also under the eyes of those who look at it.
        if os.path.samestat(os.fstat(directory), os.stat(path)):
            return f"something was missing: {error}"
    finally:
        os.close(directory)
    return None


def test_overwriting_has_no_moment_with_neither(tmp_path):
    path, stop, looked, wrong = str(tmp_path / "c"), threading.Event(), [0, 0], []
    sealwax.save(path, state(0))

    def watch(number: int) -> None:
        while not stop.is_set():
            looked[number] += 1
            if (problem := complete(path)) is not None:
                wrong.append(problem)
                return

    watchers = [threading.Thread(target=watch, args=(number,)) for number in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for number in range(1, 31):
            before = min(looked)
            sealwax.save(path, state(number), overwrite=True, context=ATOMIC)
            eventually(lambda before=before: wrong or min(looked) > before)
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()
    assert wrong == []
    assert min(looked) >= 30
    assert step_at(tmp_path / "c") == 30


def test_the_watcher_sees_a_moment_with_neither(tmp_path):
    path = tmp_path / "c"
    assert complete(str(path)) == "nothing was at the path"
    sealwax.save(path, state(1))
    assert complete(str(path)) is None
    (path / "state" / "_SEALWAX").unlink()
    assert "something was missing" in complete(str(path))


def test_what_is_recorded_of_a_save_is_what_was_written(tmp_path):
    sealwax.save(tmp_path / "c", state(1), custom_metadata={"a": 1})
    facts = json.loads((tmp_path / "c" / "_CHECKPOINT_METADATA").read_bytes())
    assert facts["custom_metadata"] == {"a": 1}
    assert facts["init_timestamp_nsecs"] <= facts["commit_timestamp_nsecs"]


@pytest.mark.parametrize("what", ["directory", "file"])
def test_what_appears_at_the_path_during_an_overwrite_is_kept(tmp_path, what):
    path = tmp_path / "c"

    def appears(effect):
        if isinstance(effect, e.Exchange):
            if what == "file":
                path.write_text("mine")
            else:
                path.mkdir()
                (path / "mine.txt").write_text("mine")
        return False

    with inject(appears), pytest.raises(StorageError, match="kept"):
        sealwax.save(path, {"w": np.ones(3)}, overwrite=True)
    np.testing.assert_array_equal(sealwax.load(path)["w"], np.ones(3))
    (kept,) = (p for p in tmp_path.iterdir() if p != path)
    sealwax.save(path, {"w": np.zeros(3)}, overwrite=True)  # and by the next save too
    mine = kept if what == "file" else kept / "mine.txt"
    assert mine.read_text() == "mine"


def test_nobody_else_cleans_up_what_is_about_to_be_replaced(tmp_path):
    """From before the exchange on it is in use, so a foreign directory could never be meant."""
    tried = []

    def someone_cleans_up(effect):
        if isinstance(effect, e.RemoveTree) and effect.replaced:
            tried.append(leases.remove_abandoned(replaced(tmp_path)))
        return False

    sealwax.save(tmp_path / "c", {"w": np.ones(3)})
    with inject(someone_cleans_up):
        sealwax.save(tmp_path / "c", {"w": np.zeros(3)}, overwrite=True)
    assert tried == [False]
    assert os.listdir(tmp_path) == ["c"]


def replaced(directory: Path) -> str:
    (found,) = (str(p) for p in directory.iterdir() if p.name != "c")
    return found
