"""Disks that are really full, read-only or gone: it is told what to do, and doing it helps."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sealwax
from sealwax import effects as e
from sealwax.effect_handlers import inject
from sealwax.errors import StorageError
from tests.crash.states import LAYOUTS, context

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
SMALL = {"w": RNG.integers(0, 256, 100_000, np.uint8)}
LARGE = {"w": RNG.integers(0, 256, 1_500_000, np.uint8), "b": np.zeros(3)}


def mount(*arguments: str) -> None:
    """Mounts, or skips the test with the reason why it cannot."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a disk of its own; the errors are injected elsewhere")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk of its own can be mounted here: {done.stderr.strip()}")


def unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one mebibyte."""
    path = tmp_path / "disk"
    path.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "sealwax-test", str(path))
    try:
        yield path
    finally:
        unmount(path)


def used(path: Path) -> int:
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("verb", ["save", "save_async"])
class TestFull:
    def save(self, verb: str, *args, **how) -> None:
        done = getattr(sealwax, verb)(*args, **how)
        if verb == "save_async":
            done.result()

    def test_it_is_told_nothing_is_left_and_it_works_when_there_is_space(self, disk, layout, verb):
        (disk / "other").write_bytes(bytes(200_000))
        before = used(disk)
        with pytest.raises(StorageError, match="Free some space") as caught:
            self.save(verb, disk / "c", LARGE, context=context(layout))
        assert caught.value.errno == errno.ENOSPC
        assert "No space left on device" in str(caught.value)
        assert caught.value.path.startswith(str(disk))
        assert os.listdir(disk) == ["other"]
        assert used(disk) == before
        mount("-o", "remount,size=8m", str(disk))
        self.save(verb, disk / "c", LARGE, context=context(layout))
        np.testing.assert_array_equal(sealwax.load(disk / "c")["w"], LARGE["w"])

    def test_the_old_checkpoint_stays(self, disk, layout, verb):
        sealwax.save(disk / "c", SMALL)
        with pytest.raises(StorageError, match="Free some space"):
            self.save(verb, disk / "c", LARGE, overwrite=True, context=context(layout))
        assert os.listdir(disk) == ["c"]
        np.testing.assert_array_equal(sealwax.load(disk / "c")["w"], SMALL["w"])
        self.save(verb, disk / "c", SMALL, overwrite=True, context=context(layout))

    def test_no_room_for_another_name(self, disk, layout, verb):
        mount("-o", "remount,nr_inodes=8", str(disk))
        with pytest.raises(StorageError, match="Free some space") as caught:
            self.save(verb, disk / "c", SMALL, context=context(layout))
        assert caught.value.errno == errno.ENOSPC
        assert os.listdir(disk) == []


class TestReadOnly:
    @pytest.fixture
    def mounted(self, tmp_path: Path) -> Iterator[Path]:
        path = tmp_path / "disk"
        path.mkdir()
        sealwax.save(path / "old", SMALL)
        mount("--bind", str(path), str(path))
        mount("-o", "remount,ro,bind", str(path))
        try:
            yield path
        finally:
            unmount(path)

    @pytest.mark.parametrize("where", ["c", "new/c"])
    def test_it_is_told(self, mounted, where):
        with pytest.raises(StorageError, match="read-only: save somewhere else") as caught:
            sealwax.save(mounted / where, SMALL)
        assert caught.value.errno == errno.EROFS
        assert caught.value.path.startswith(str(mounted))
        assert os.listdir(mounted) == ["old"]

    def test_what_is_there_can_be_loaded_and_not_overwritten(self, mounted):
        np.testing.assert_array_equal(sealwax.load(mounted / "old")["w"], SMALL["w"])
        with pytest.raises(StorageError, match="read-only"):
            sealwax.save(mounted / "old", SMALL, overwrite=True)


class TestVanished:
    @pytest.mark.parametrize(
        "kind", [e.MakeDirectory, e.WriteBatch, e.WriteFiles, e.SyncTree, e.Rename]
    )
    def test_the_directory_above_goes_while_a_save_is_under_way(self, tmp_path, kind):
        path = tmp_path / "run" / "c"
        path.parent.mkdir()

        def vanish(effect: e.Effect) -> bool:
            # At once, since other steps put something there at the same time.
            if isinstance(effect, kind) and path.parent.exists():
                path.parent.rename(tmp_path / "gone")
            return False

        with inject(vanish), pytest.raises(StorageError, match="call it again") as caught:
            sealwax.save(path, SMALL)
        assert caught.value.errno == errno.ENOENT
        assert not path.parent.exists()
        sealwax.save(path, SMALL)
        assert os.listdir(path.parent) == ["c"]


# ---------------------------------------------------------------- in a process of its own


UNPRIVILEGED = """
import os, tempfile, sealwax
with tempfile.TemporaryDirectory() as warm:  # imports all that is imported late
    sealwax.save(warm + "/c", {"step": 1})
    sealwax.load(warm + "/c")
    sealwax.metadata(warm + "/c")
    sealwax.save_async(warm + "/d", {"step": 1}).result()
if os.geteuid() == 0:  # whom no permission binds
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""


def child(code: str, *arguments: object, first: str = "") -> str:
    """Runs a program that has little time to end; what it prints."""
    paths = os.pathsep.join([str(ROOT / "lib"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", first + textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", "HOME": "/"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_limit_on_the_size_of_files(tmp_path):
    said = child(
        """
        import errno, os, resource, sys
        import numpy as np, sealwax
        path, tree = sys.argv[1] + "/c", {"w": np.random.default_rng(0).normal(size=100_000)}
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
        try:
            sealwax.save(path, tree)
        except sealwax.errors.StorageError as error:
            print(errno.errorcode[error.errno], error.leaf, os.listdir(sys.argv[1]), error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sealwax.save(path, tree)
        print(sealwax.load(path)["w"].shape)
        """,
        tmp_path,
    )
    failure, success = said.splitlines()
    assert failure.startswith("EFBIG w [] Could not write leaf 'w'")
    assert "raise the limit" in failure
    assert success == "(100000,)"


def test_a_directory_that_is_not_writable_is_told_and_the_interpreter_exits_at_once():
    """Orbax's takes five minutes to exit; a process of its own has one here."""
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o555)
        said = child(
            """
            import errno, os, sys
            import numpy as np, sealwax
            for verb in sealwax.save, lambda *args: sealwax.save_async(*args).result():
                try:
                    verb(sys.argv[1] + "/run/c", {"w": np.ones(3)})
                except OSError as error:
                    print(errno.errorcode[error.errno], error)
            """,
            base,
            first=UNPRIVILEGED,
        )
        assert os.listdir(base) == []
    lines = said.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"EACCES Could not make directory {base}/run: Permission denied")
        assert "Check the permissions" in line


def test_an_item_that_cannot_be_read_is_told():
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)
        sealwax.save(f"{base}/c", {"w": np.ones(3)})
        os.chmod(f"{base}/c/state", 0)
        try:
            said = child(
                """
                import errno, sys
                for verb in sealwax.load, sealwax.metadata:
                    try:
                        verb(sys.argv[1])
                    except OSError as error:
                        print(errno.errorcode[error.errno], error)
                """,
                f"{base}/c",
                first=UNPRIVILEGED,
            )
        finally:
            os.chmod(f"{base}/c/state", 0o755)
    assert len(said.splitlines()) == 2
    for line in said.splitlines():
        assert line.startswith(f"EACCES Could not list {base}/c/state: Permission denied")
        assert "Check the permissions" in line
