"""Child processes with saves of their own, or of their parent's: how they end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sealwax as ocp
from tests.gates import names
from tests.scripts import FAILED, HEADER, ROOT, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


MULTIPROCESSING = """
import multiprocessing as mp
import warnings
warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # by JAX

def child(path, how):
    fail = inject(e.WriteBatch, error=FULL if how == "fails" else None, delay=0.3)
    with fail:
        ocp.save_async(path, STATE)
    if how == "raises":
        raise LookupError("the child's own")
    if how == "exits":
        sys.exit(3)

if __name__ == "__main__":
    context = mp.get_context(METHOD)
    hows = ["ends", "fails", "raises", "exits"]
    children = [context.Process(target=child, args=(PATH + how, how)) for how in hows]
    with inject(e.WriteBatch, delay=2):
        pending = ocp.save_async(PATH, STATE)
    for each in children:
        each.start()
    for each in children:
        each.join()
    print([each.exitcode for each in children])
"""


class TestChildrenOfMultiprocessing:
    """They run no exit functions, and finish their saves and report them all the same."""

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_each_ends_as_a_script_would(self, path: Path, method: str) -> None:
        script = path.parent / "script.py"
        script.write_text(HEADER + f"METHOD = {method!r}\n" + MULTIPROCESSING)
        done = subprocess.run(
            [sys.executable, str(script), str(path)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "lib"), str(ROOT)))},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert f"[0, {FAILED}, 1, 3]" in done.stdout
        assert done.stderr.count("nobody asked for its result") == 1
        assert f"sealwax: the save_async to {str(path) + 'fails'!r} failed" in done.stderr
        assert done.stderr.count("LookupError: the child's own") == 1
        assert names(path.parent) == ["ckpt", "ckptends", "ckptexits", "ckptraises", "script.py"]
        for how in ("", "ends", "exits", "raises"):
            assert ocp.load(f"{path}{how}")["step"] == 1


class TestFork:
    """A forked process has nothing to do with its parent's saves, and can save itself."""

    def test_a_child_leaves_the_parents_saves_alone_and_can_save(self, path: Path) -> None:
        status, out, err = run(
            """
            import warnings
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # by JAX
            with inject(e.WriteBatch, error=FULL):
                failed = ocp.save_async(PATH + "0", STATE)
            while not failed.done():
                time.sleep(0.01)
            with gate(e.WriteBatch) as writing:
                pending = ocp.save_async(PATH + "1", STATE)
                child = os.fork()
                if not child:
                    try:
                        pending.result()
                    except ocp.errors.OperationCancelledError as error:
                        print(error, flush=True)
                    writing.open()
                    ocp.save(PATH + "2", STATE)
                    ocp.save_async(PATH + "3", STATE)
                    sys.exit(0)
                _, wait_status = os.waitpid(child, 0)
                print(os.waitstatus_to_exitcode(wait_status))
            print(pending.result())
            try:
                failed.result()
            except ocp.errors.StorageError:
                print("the parent knows")
            """,
            path,
        )
        assert (status, err) == (0, "")
        assert "does not go on in this process, which was forked" in out[0]
        assert out[1:] == [
            "registered before sealwax",
            "0",
            "None",
            "the parent knows",
            "registered before sealwax",
        ]
        assert names(path.parent) == ["ckpt1", "ckpt2", "ckpt3"]
        assert all(ocp.load(f"{path}{number}")["step"] == 1 for number in (1, 2, 3))

    def test_a_child_reports_its_own_failures_and_only_those(self, path: Path) -> None:
        status, out, err = run(
            """
            import warnings
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # by JAX
            child = os.fork()
            with inject(e.WriteBatch, error=None if child else FULL, delay=0.1):
                ocp.save_async(PATH + ("parent" if child else "child"), STATE)
            if child:
                _, wait_status = os.waitpid(child, 0)
                print(os.waitstatus_to_exitcode(wait_status))
            """,
            path,
        )
        assert status == 0
        assert "74" in out
        assert err.count("nobody asked for its result") == 1
        assert names(path.parent) == ["ckptparent"]
