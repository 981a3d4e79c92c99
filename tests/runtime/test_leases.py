"""Leases on a real file system: what is in use, and what may be removed."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import threading
from pathlib import Path

import pytest

from sealwax.effects import Entry
from sealwax.layouts.manifest import UNFINISHED
from sealwax.layouts.orbax import COMMIT
from sealwax.runtime import files
from sealwax.runtime import leases as leasing


def tree(path: Path, name: str = "f") -> str:
    path.mkdir()
    (path / name).write_text(name)
    return str(path)


@pytest.fixture
def leases():
    made = leasing.Leases()
    yield made
    made.close()


def test_what_is_in_use_is_spared_until_it_no_longer_is(tmp_path, leases):
    path = str(tmp_path / "d")
    leases.make(path, 0o700)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert not leasing.remove_abandoned(path)
    assert files.look(path) is Entry.DIRECTORY
    leases.close()
    assert leasing.remove_abandoned(path)
    assert files.look(path) is None
    leases.close()


def test_a_lease_follows_the_directory_that_is_renamed(tmp_path, leases):
    leases.make(str(tmp_path / "d"), None)
    files.rename(str(tmp_path / "d"), str(tmp_path / "e"))
    assert not leasing.remove_abandoned(str(tmp_path / "e"))


def test_what_is_not_there_or_not_a_directory_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("f")
    (tmp_path / "link").symlink_to(tree(tmp_path / "d"))
    (tmp_path / "broken").symlink_to("nowhere")
    for name in ("none", "file", "link", "broken"):
        assert not leasing.remove_abandoned(str(tmp_path / name))
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
    assert not leasing.remove_abandoned(path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(ready)
    assert leasing.remove_abandoned(path)


_HOLD = """
import os, sys, time
from sealwax.runtime import leases as leasing
leases = leasing.Leases()
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
        assert leasing.remove_abandoned(path)
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
            assert leasing.remove_abandoned(path)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, take)
    leases.make(path, None)
    monkeypatch.undo()
    assert taken
    assert files.look(path) is Entry.DIRECTORY
    assert not leasing.remove_abandoned(path)


def test_makers_and_cleaners_do_not_get_into_each_others_way(tmp_path):
    """Whoever holds a lease has its directory, however often others clean up meanwhile."""
    path, stop, errors = str(tmp_path / "d"), threading.Event(), []

    def clean() -> None:
        try:
            while not stop.is_set():
                leasing.remove_abandoned(path)
        except BaseException as error:
            errors.append(error)

    cleaners = [threading.Thread(target=clean) for _ in range(2)]
    for cleaner in cleaners:
        cleaner.start()
    try:
        for number in range(150):
            leases = leasing.Leases()
            leases.make(path, None)
            Path(path, "f").write_text(str(number))
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
    assert not leasing.remove_abandoned(path)
    assert files.look(path) is Entry.DIRECTORY


@pytest.mark.parametrize("remove", [leasing.remove_abandoned, leasing.remove_replaced])
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


# ---------------------------------------------------------------- what an operation made


def test_what_it_made_above_is_unmade_while_it_is_empty(tmp_path, leases):
    (tmp_path / "there").mkdir()
    for name in ("there", "new", "full"):
        leases.make_above(str(tmp_path / name), None)
    (tmp_path / "full" / "of").mkdir()
    leases.make_above(str(tmp_path / "again"), None)
    (tmp_path / "again").rmdir()
    (tmp_path / "keeper").mkdir()  # Lest the next one gets the number that has become free.
    (tmp_path / "again").mkdir()
    for name in ("there", "new", "full", "none"):
        leases.unmake(str(tmp_path / name))
    assert sorted(os.listdir(tmp_path)) == ["again", "full", "keeper", "there"]
    leases.unmake(str(tmp_path / "full"))
    assert (tmp_path / "full").exists()


def unfinished(path: Path, *names: str) -> str:
    path.mkdir()
    for name in names:
        (path / name).touch()
    return str(path)


def test_what_was_given_up_is_taken_away(tmp_path, leases):
    path, aside = unfinished(tmp_path / "c", UNFINISHED), str(tmp_path / "aside")
    leases.retract(path, aside, own=True)
    assert os.listdir(tmp_path) == ["c"]
    leases.retract(path, aside, own=False)
    assert os.listdir(tmp_path) == ["aside"]
    leases.retract(path, aside, own=False)


@pytest.mark.parametrize("inside", [(), ("notes",), (UNFINISHED, COMMIT)])
def test_what_is_not_given_up_is_not_taken_away(tmp_path, leases, inside):
    path = unfinished(tmp_path / "c", *inside)
    with pytest.raises(FileExistsError):
        leases.retract(path, str(tmp_path / "aside"), own=False)
    assert os.listdir(tmp_path) == ["c"]


def test_what_somebody_is_at_is_neither_taken_away_nor_exchanged(tmp_path, leases):
    other = leasing.Leases()
    path, new = str(tmp_path / "c"), unfinished(tmp_path / "new")
    other.make(path, None)
    for act in (
        lambda: leases.retract(path, str(tmp_path / "aside"), own=False),
        lambda: leases.exchange(new, path),
    ):
        with pytest.raises(FileExistsError):
            act()
    assert sorted(os.listdir(tmp_path)) == ["c", "new"]
    # Its own operation may, whatever is in it; once it is complete it can be exchanged.
    (tmp_path / "c" / COMMIT).touch()
    leases.exchange(new, path)
    leases.exchange(new, path)
    other.retract(path, str(tmp_path / "aside"), own=True)
    assert sorted(os.listdir(tmp_path)) == ["aside", "new"]
    other.close()
