"""File effects on a real file system."""

from __future__ import annotations

import errno
import os
import stat
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


def test_only_files_are_read_and_a_pipe_is_not_waited_at(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="not a regular file"):
            files.read_file(str(tmp_path / name))
    with pytest.raises(IsADirectoryError):
        files.read_file(str(tmp_path))


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
