"""File effects on a real file system."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from sealwax.effects import Entry
from sealwax.runtime import files
from tests.gates import open_below


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


def test_only_files_are_read_and_a_pipe_is_not_waited_at(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="not a regular file"):
            files.read_file(str(tmp_path / name))
    with pytest.raises(IsADirectoryError):
        files.read_file(str(tmp_path))


def test_directories_are_made_with_their_mode_and_their_parents(tmp_path):
    files.make_directory(str(tmp_path / "a" / "b"), None, parents=True)
    files.make_directory(str(tmp_path / "a" / "b"), None, parents=True)
    with pytest.raises(FileExistsError):
        files.make_directory(str(tmp_path / "a"), None, parents=False)
    files.make_directory(str(tmp_path / "m"), 0o751, parents=False)
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o751
    files.sync_directory(str(tmp_path / "a"))


def test_a_failed_sync_names_its_directory_and_the_descriptor_is_closed(tmp_path, monkeypatch):
    def fail(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), os.stat(tmp_path / "a" / "b")):
            raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(files, "sync", fail)
        with pytest.raises(OSError, match="Input/output") as caught:
            files.sync_tree(str(tmp_path))
    assert caught.value.filename == str(tmp_path / "a" / "b")
    if os.path.isdir("/proc/self/fd"):
        assert open_below(tmp_path) == []


@pytest.mark.parametrize("instead", ["nothing", "a file", "a link"])
def test_a_directory_that_is_gone_is_no_reason_to_take_the_others_for_synced(tmp_path, instead):
    (tmp_path / "d" / "b").mkdir(parents=True)
    made = [str(tmp_path / "d" / name) for name in ("b", "a")]
    if instead == "a file":
        (tmp_path / "d" / "a").write_text("")
    elif instead == "a link":
        (tmp_path / "d" / "a").symlink_to("b")
    with pytest.raises(FileNotFoundError) as caught:
        files.sync_tree(str(tmp_path / "d"), made)
    assert caught.value.filename == made[1]
    files.sync_tree(str(tmp_path / "d"), made[:1])


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
