"""New files on a real file system: what is there afterwards, and what happens where one fails."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable

import pytest

from sealwax.effects import WriteFile, WriteFiles
from sealwax.runtime import files
from sealwax.runtime.filesystem import LOCAL, Writable
from sealwax.runtime.manyfiles import write_file, write_files
from tests.gates import open_below

CONTENTS = {"x": b"1", "a/y": b"", "a/b/z": b"z" * 100_000, "last": b"9"}


class Failing:
    """This machine's file system, on which one thing that is done to the files may fail."""

    def __init__(self, method: str, name: str) -> None:
        self.method = method
        self.name = name
        self.closed = 0

    def ensure_directory(self, path: str) -> None:
        LOCAL.ensure_directory(path)

    def create(self, path: str) -> Writable:
        return FailingFile(self, path, LOCAL.create(path))  # type: ignore[return-value]


class FailingFile:
    def __init__(self, system: Failing, path: str, file: Writable) -> None:
        self._system, self._path, self._file = system, path, file

    def __getattr__(self, method: str) -> Callable[..., object]:
        def act(*args: object) -> object:
            done = getattr(self._file, method)(*args)
            if method == self._system.method and self._path.endswith(f"/{self._system.name}"):
                raise OSError(errno.EIO, "Input/output error")
            return done

        return act


@pytest.mark.parametrize("sync", [True, False])
class TestWhatIsWritten:
    def test_is_there_with_the_directories_between(self, tmp_path, sync):
        write_files(WriteFiles(directory=str(tmp_path), contents=CONTENTS, sync=sync))
        found = {name: (tmp_path / name).read_bytes() for name in CONTENTS}
        assert found == CONTENTS
        assert sum(path.is_file() for path in tmp_path.rglob("*")) == len(CONTENTS)
        assert open_below(tmp_path) == []

    def test_is_never_written_over_what_is_there(self, tmp_path, sync):
        (tmp_path / "last").write_text("old")
        with pytest.raises(FileExistsError) as caught:
            write_files(WriteFiles(directory=str(tmp_path), contents=CONTENTS, sync=sync))
        assert caught.value.filename == str(tmp_path / "last")
        with pytest.raises(FileExistsError):
            write_file(WriteFile(path=str(tmp_path / "last"), content=b"new", sync=sync))
        assert (tmp_path / "last").read_text() == "old"
        assert open_below(tmp_path) == []

    def test_needs_few_descriptors_however_many_files_they_are(self, tmp_path, sync):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = max(int(name) for name in os.listdir("/dev/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken + 16, 64), limits[1]))
        try:
            contents = {f"{n}/x": b"x" for n in range(200)}
            write_files(WriteFiles(directory=str(tmp_path), contents=contents, sync=sync))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert len(os.listdir(tmp_path)) == 200


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("method", ["write", "sync", "close"])
def test_a_failure_names_its_file_and_every_file_is_closed(tmp_path, method, name):
    with pytest.raises(OSError, match="Input/output") as caught:
        write_files(WriteFiles(directory=str(tmp_path), contents=CONTENTS), Failing(method, name))
    assert caught.value.filename == str(tmp_path / name)
    assert open_below(tmp_path) == []


def test_every_file_is_synced_while_it_is_open(tmp_path, monkeypatch):
    synced: set[int] = set()
    monkeypatch.setattr(files, "sync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    write_files(WriteFiles(directory=str(tmp_path), contents=CONTENTS))
    write_file(WriteFile(path=str(tmp_path / "one"), content=b"1"))
    assert synced == {(tmp_path / name).stat().st_ino for name in (*CONTENTS, "one")}
