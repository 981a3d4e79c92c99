"""File effects on a real file system, and the leases that tell what is in use."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import threading
from pathlib import Path

import pytest

from sealwax.effects import Entry
from sealwax.runtime import files


def tree(path: Path, name: str = "f") -> str:
    path.mkdir()
    (path / name).write_text(name)
    return str(path)


# ---------------------------------------------------------------- looking and writing


def test_looking_tells_what_is_there_and_follows_nothing(tmp_path):
    tree(tmp_path / "d")
    (tmp_path / "link").symlink_to("d")
    (tmp_path / "broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    found = {name: files.look(str(tmp_path / name)) for name in ("d", "link", "broken", "pipe")}
    assert found == {
        "d": Entry.DIRECTORY,
        "link": Entry.SYMLINK,
        "broken": Entry.SYMLINK,
        "pipe": Entry.OTHER,
    }
    assert files.look(str(tmp_path / "d" / "f")) is Entry.FILE
    assert files.look(str(tmp_path / "none")) is None
    assert files.look(str(tmp_path / "d" / "f" / "below")) is None


def test_what_is_written_is_read(tmp_path):
    path = str(tmp_path / "f")
    for durable, content in (True, b"x" * 100_000), (False, b""):
        files.write_file(path, content, durable)
        assert files.read_file(path) == content
        os.unlink(path)
    assert files.read_file(path) is None
    assert files.list_directory(str(tmp_path)) == ()


def test_a_file_that_is_there_is_not_written_over(tmp_path):
    (tmp_path / "f").write_text("old")
    with pytest.raises(FileExistsError):
        files.write_file(str(tmp_path / "f"), b"new", durable=False)
    assert (tmp_path / "f").read_text() == "old"


def test_directories_are_made_with_their_mode_and_their_parents(tmp_path):
    files.make_directory(str(tmp_path / "a" / "b"), None, parents=True)
    files.make_directory(str(tmp_path / "a" / "b"), None, parents=True)
    with pytest.raises(FileExistsError):
        files.make_directory(str(tmp_path / "a"), None, parents=False)
    files.make_directory(str(tmp_path / "m"), 0o751, parents=False)
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o751
    files.sync_directory(str(tmp_path / "a"))


def test_a_failed_sync_is_raised_and_the_descriptor_is_closed(tmp_path, monkeypatch):
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else None
    with monkeypatch.context() as patch:
        patch.setattr(files, "sync", fail)
        with pytest.raises(OSError, match="Input/output"):
            files.write_file(str(tmp_path / "f"), b"x", durable=True)
        with pytest.raises(OSError, match="Input/output"):
            files.sync_directory(str(tmp_path))
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) <= len(before)


def test_removing_takes_what_is_below_and_follows_no_link(tmp_path):
    keep = tree(tmp_path / "keep")
    (Path(tree(tmp_path / "gone")) / "link").symlink_to(keep)
    files.remove_tree(str(tmp_path / "gone"))
    files.remove_tree(str(tmp_path / "gone"))
    assert files.list_directory(str(tmp_path)) == ("keep",)
    assert files.list_directory(keep) == ("f",)


# ---------------------------------------------------------------- renaming


@pytest.mark.parametrize("flags", [True, False], ids=["renameat2", "plain"])
def test_renaming_refuses_whatever_is_there(tmp_path, monkeypatch, flags):
    if not flags:
        monkeypatch.setattr(files, "_rename_with", lambda *_: False)
    source = tree(tmp_path / "s")
    tree(tmp_path / "full")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("f")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("full", "empty", "file", "link"):
        with pytest.raises(FileExistsError):
            files.rename(source, str(tmp_path / name))
        assert files.list_directory(source) == ("f",)
    files.rename(source, str(tmp_path / "free"))
    assert files.list_directory(str(tmp_path / "free")) == ("f",)
    assert files.look(source) is None


def test_a_rename_that_cannot_be_says_why(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.rename(str(tmp_path / "none"), str(tmp_path / "x"))
    with pytest.raises(FileNotFoundError):
        files.rename(tree(tmp_path / "s"), str(tmp_path / "no" / "x"))


def test_exchanging_swaps_two_directories(tmp_path):
    one, two = tree(tmp_path / "one", "a"), tree(tmp_path / "two", "b")
    files.exchange(one, two)
    assert (files.list_directory(one), files.list_directory(two)) == (("b",), ("a",))


def test_exchanging_with_what_is_gone_meanwhile_is_renaming(tmp_path):
    one, two = tree(tmp_path / "one"), str(tmp_path / "two")
    files.exchange(one, two)
    assert files.list_directory(str(tmp_path)) == ("two",)
    with pytest.raises(FileNotFoundError):
        files.exchange(one, two)
    assert files.list_directory(two) == ("f",)


def test_a_file_system_without_exchange_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_rename_with", lambda *_: False)
    with pytest.raises(OSError, match="cannot exchange") as caught:
        files.exchange(tree(tmp_path / "one"), tree(tmp_path / "two"))
    assert caught.value.errno == errno.ENOTSUP
    assert files.list_directory(str(tmp_path)) == ("one", "two")


# ---------------------------------------------------------------- leases


@pytest.fixture
def leases():
    made = files.Leases()
    yield made
    made.close()


def test_what_is_in_use_is_spared_until_it_no_longer_is(tmp_path, leases):
    path = str(tmp_path / "d")
    leases.make(path, 0o700)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert not files.remove_abandoned(path)
    assert files.look(path) is Entry.DIRECTORY
    leases.close()
    assert files.remove_abandoned(path)
    assert files.look(path) is None
    leases.close()


def test_a_lease_follows_the_directory_that_is_renamed(tmp_path, leases):
    leases.make(str(tmp_path / "d"), None)
    files.rename(str(tmp_path / "d"), str(tmp_path / "e"))
    assert not files.remove_abandoned(str(tmp_path / "e"))


def test_what_is_not_there_or_not_a_directory_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("f")
    (tmp_path / "link").symlink_to(tree(tmp_path / "d"))
    (tmp_path / "broken").symlink_to("nowhere")
    for name in ("none", "file", "link", "broken"):
        assert not files.remove_abandoned(str(tmp_path / name))
    assert files.list_directory(str(tmp_path)) == ("broken", "d", "file", "link")
    assert files.list_directory(str(tmp_path / "d")) == ("f",)


def test_a_directory_that_must_not_exist_is_refused(tmp_path, leases):
    tree(tmp_path / "d")
    with pytest.raises(FileExistsError):
        leases.make(str(tmp_path / "d"), None)
    with pytest.raises(FileNotFoundError):
        leases.make(str(tmp_path / "no" / "d"), None)


def test_the_lease_of_a_killed_process_is_over(tmp_path):
    path = str(tmp_path / "d")
    ready, tell = os.pipe()
    child = os.posix_spawn(
        _python(),
        [_python(), "-c", _HOLD, path, str(tell)],
        {**os.environ, "PYTHONPATH": os.pathsep.join(_paths())},
        file_actions=[(os.POSIX_SPAWN_DUP2, tell, tell)],
    )
    os.close(tell)
    assert os.read(ready, 1) == b"!"
    assert not files.remove_abandoned(path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(ready)
    assert files.remove_abandoned(path)


_HOLD = """
import os, sys, time
from sealwax.runtime import files
leases = files.Leases()
leases.make(sys.argv[1], None)
os.write(int(sys.argv[2]), b"!")
time.sleep(60)
"""


def _python() -> str:
    import sys

    return sys.executable


def _paths() -> list[str]:
    import sys

    return [path for path in sys.path if path]


def test_a_child_that_was_forked_does_not_keep_a_lease_alive(tmp_path, leases):
    path = str(tmp_path / "d")
    leases.make(path, None)
    copies = [os.dup(descriptor) for descriptor in leases._held]
    leases.close()
    try:
        assert files.remove_abandoned(path)
    finally:
        for copy in copies:
            os.close(copy)


@pytest.mark.parametrize("moment", ["before open", "before lock"])
def test_a_directory_that_is_cleaned_up_before_it_is_leased_is_made_again(
    tmp_path, leases, monkeypatch, moment
):
    path, taken = str(tmp_path / "d"), []
    name, module = ("open", files.os) if moment == "before open" else ("flock", files.fcntl)
    original = getattr(module, name)

    def take(*args, **kwargs):
        if not taken:
            taken.append(1)
            assert files.remove_abandoned(path)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, take)
    leases.make(path, None)
    monkeypatch.undo()
    assert taken
    assert files.look(path) is Entry.DIRECTORY
    assert not files.remove_abandoned(path)


def test_makers_and_cleaners_do_not_get_into_each_others_way(tmp_path):
    """Whoever holds a lease has its directory, however often others clean up meanwhile."""
    path, stop, errors = str(tmp_path / "d"), threading.Event(), []

    def clean() -> None:
        try:
            while not stop.is_set():
                files.remove_abandoned(path)
        except BaseException as error:
            errors.append(error)

    cleaners = [threading.Thread(target=clean) for _ in range(2)]
    for cleaner in cleaners:
        cleaner.start()
    try:
        for number in range(150):
            leases = files.Leases()
            leases.make(path, None)
            files.write_file(f"{path}/f", str(number).encode(), durable=False)
            assert files.read_file(f"{path}/f") == str(number).encode()
            files.remove_tree(path)
            leases.close()
    finally:
        stop.set()
        for cleaner in cleaners:
            cleaner.join()
    assert errors == []


def test_a_cleaner_that_comes_late_takes_nothing(tmp_path, leases, monkeypatch):
    """It found an abandoned directory; when it may remove it, a new one of that name is in use."""
    path, original, replaced = str(tmp_path / "d"), files.fcntl.flock, []
    os.mkdir(path)

    def replace(*args):
        if not replaced:
            replaced.append(1)
            os.rmdir(path)
            leases.make(path, None)
        return original(*args)

    monkeypatch.setattr(files.fcntl, "flock", replace)
    assert not files.remove_abandoned(path)
    assert files.look(path) is Entry.DIRECTORY


@pytest.mark.parametrize("remove", [files.remove_abandoned, files.remove_replaced])
def test_what_the_owner_makes_again_at_once_is_not_removed(tmp_path, monkeypatch, remove):
    path = tmp_path / "c"
    path.mkdir()
    rmtree = shutil.rmtree

    def removed_and_made_again(where):
        rmtree(where)
        path.mkdir()
        (path / "data").write_bytes(b"mine")

    monkeypatch.setattr(files.shutil, "rmtree", removed_and_made_again)
    remove(str(path))
    assert (path / "data").read_bytes() == b"mine"
