"""How a process ends with saves pending: they are finished, or reported, and never just lost.

Each test runs a script of its own, with every warning an error, and looks at its exit status, at
what it wrote, and at what it left on disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import sealwax as ocp
from tests.gates import names
from tests.scripts import FAILED, HEADER, ROOT, holds, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


class TestPendingSavesAreFinished:
    """However a script ends, its saves are finished first."""

    def test_at_the_end_of_the_script(self, path: Path) -> None:
        status, out, err = run(
            """
            big = np.arange(25_000_000)  # 200 MB
            with UntilExit(e.WriteBatch):
                response = ocp.save_async(PATH, {"big": big, "step": 1})
            big[:] = 0
            assert not response.done()
            """,
            path,
        )
        assert (status, out, err) == (0, ["registered before sealwax"], "")
        np.testing.assert_array_equal(ocp.load(path)["big"], np.arange(25_000_000))
        assert names(path.parent) == ["ckpt"]

    def test_after_an_exception(self, path: Path) -> None:
        status, _, err = run(
            """
            with UntilExit(e.WriteBatch):
                ocp.save_async(PATH, STATE)
            raise LookupError("the script's own")
            """,
            path,
        )
        assert status == 1
        assert err.startswith("Traceback")
        assert err.endswith("LookupError: the script's own\n")
        assert holds(path)

    def test_after_sys_exit(self, path: Path) -> None:
        status, out, err = run(
            """
            def deep():
                with UntilExit(e.WriteBatch):
                    ocp.save_async(PATH, STATE)
                sys.exit(3)
            deep()
            """,
            path,
        )
        assert (status, out, err) == (3, ["registered before sealwax"], "")
        assert holds(path)

    def test_when_the_last_garbage_is_collected(self, path: Path) -> None:
        """No thread can be started then: in Python 3.11 that would wait for ever."""
        status, out, err = run(
            """
            class Trainer:
                def __init__(self):
                    self.itself = self

                def __del__(self, save=ocp.save, path=PATH, state=STATE):
                    save(path, state)

            import gc
            gc.set_threshold(0)  # nothing before the interpreter itself collects it
            Trainer()
            """,
            path,
        )
        assert (status, out, err) == (0, ["registered before sealwax"], "")
        assert holds(path)

    @pytest.mark.parametrize("number", [0, 3])
    def test_after_sys_exit_in_another_thread(self, path: Path, number: int) -> None:
        """Which ends that thread only; the script goes on, and has a status of its own."""
        status, out, err = run(
            f"""
            def work():
                with UntilExit(e.WriteBatch):
                    ocp.save_async(PATH, STATE)
                sys.exit(7)
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            print("goes on")
            sys.exit({number})
            """,
            path,
        )
        assert (status, out, err) == (number, ["goes on", "registered before sealwax"], "")
        assert holds(path)

    @pytest.mark.parametrize("daemon", [False, True], ids=["thread", "daemon"])
    def test_those_of_threads_that_the_script_does_not_wait_for(
        self, path: Path, daemon: bool
    ) -> None:
        """Also a blocking one, though Python does not wait for the daemon that waits for it.

        What a daemon would begin after that, Python may stop at any line.
        """
        status, out, err = run(
            f"""
            def work():
                with late:
                    ocp.save(PATH + "1", STATE)
                    if not {daemon}:
                        ocp.save_async(PATH + "2", STATE)
            late = inject(e.WriteBatch, delay=1)
            threading.Thread(target=work, daemon={daemon}).start()
            while not late.hits:
                time.sleep(0.01)
            """,
            path,
        )
        assert (status, out, err) == (0, ["registered before sealwax"], "")
        assert ocp.load(f"{path}1")["step"] == 1
        if not daemon:
            assert ocp.load(f"{path}2")["step"] == 1

    def test_when_the_script_is_a_module_whose_cells_run_in_a_loop(self, path: Path) -> None:
        """As in a notebook: the loop outlives the cells, and ends with the process."""
        (path.parent / "cells.py").write_text(
            HEADER
            + textwrap.dedent(
                """
                import asyncio
                async def cell(number, kind):
                    with UntilExit(kind):
                        return ocp.save_async(PATH, STATE | {"step": number}, overwrite=True)
                async def look(response):
                    await response
                loop = asyncio.new_event_loop()
                asyncio.set_event_loop(loop)
                loop.run_until_complete(look(loop.run_until_complete(cell(2, ()))))
                loop.run_until_complete(cell(1, e.WriteBatch))
                loop.close()
                """
            )
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "cells", str(path)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "lib"), str(ROOT)))},
            cwd=path.parent,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert ocp.load(path)["step"] == 1

    @pytest.mark.parametrize("loop", ["asyncio", "trio"])
    def test_after_the_end_of_an_event_loop(self, path: Path, loop: str) -> None:
        status, out, err = run(
            f"""
            import {loop}
            async def main():
                with UntilExit(e.WriteBatch):
                    await ocp.aio.save_async(PATH + "1", STATE)
                    ocp.save_async(PATH + "2", STATE)
            {loop}.run(main{"()" if loop == "asyncio" else ""})
            """,
            path,
        )
        assert (status, out, err) == (0, ["registered before sealwax"], "")
        assert names(path.parent) == ["ckpt1", "ckpt2"]
        for number in "12":
            assert ocp.load(path.parent / f"ckpt{number}")["step"] == 1

    def test_saves_work_in_exit_functions(self, path: Path) -> None:
        """Where Python starts no thread any more, they are done before the call returns."""
        status, out, err = run(
            """
            @atexit.register
            def late():
                ocp.save(PATH, STATE)
                response = ocp.save_async(PATH, STATE | {"step": 2}, overwrite=True)
                print(response.done(), ocp.load(PATH)["step"])
            """,
            path,
        )
        assert (status, out, err) == (0, ["True 2", "registered before sealwax"], "")
        assert holds(path, step=2)


class TestFailuresAreReported:
    """A failure that nobody asked for is printed, and the exit status is not zero."""

    def test_and_everything_else_goes_on_as_ever(self, path: Path) -> None:
        status, out, err = run(
            """
            atexit.register(print, "registered after sealwax")
            logging.basicConfig(format="logged %(message)s")

            def work():
                while not threading._SHUTTING_DOWN:
                    time.sleep(0.01)
                print("the thread is done")
                logging.error("by the thread")

            threading.Thread(target=work).start()
            with inject(e.WriteBatch, error=FULL):
                ocp.save_async(PATH, STATE)
            atexit.register(logging.error, "at exit")
            print("without a newline", end="|")
            """,
            path,
        )
        assert status == FAILED
        assert out == [
            "without a newline|the thread is done",
            "registered after sealwax",
            "registered before sealwax",
        ]
        first, then, who, what, note = err.splitlines()
        assert (first, then) == ("logged by the thread", "logged at exit")
        failed = (
            f"sealwax: the save_async to {str(path)!r} failed, and nobody asked for its result:"
        )
        assert who == failed
        assert what.startswith("sealwax.errors.StorageError: Could not write 2 leaves to ")
        assert "No space left on device" in what
        assert note == "The step holds 2 leaves, from 'step' to 'w'."
        assert names(path.parent) == []

    def test_also_after_sys_exit_and_of_each_save(self, path: Path) -> None:
        status, _, err = run(
            """
            with inject(e.WriteBatch, error=FULL):
                ocp.save_async(PATH + "1", STATE)
                ocp.save_async(PATH + "2", STATE)
            ocp.save_async(PATH + "3", STATE)
            sys.exit(0)
            """,
            path,
        )
        assert status == FAILED
        assert err.count("nobody asked for its result") == 2
        assert names(path.parent) == ["ckpt3"]

    def test_also_when_there_is_nowhere_to_print(self, path: Path) -> None:
        status, _, err = run(
            """
            with inject(e.WriteBatch, error=FULL):
                ocp.save_async(PATH, STATE)
            sys.stderr = None
            """,
            path,
        )
        assert (status, err) == (FAILED, "")

    def test_also_of_a_save_in_an_exit_function(self, path: Path) -> None:
        status, _, err = run(
            """
            atexit.unregister(ocp.runtime.exits._at_exit)
            @atexit.register
            def late():
                with inject(e.WriteBatch, error=FULL):
                    ocp.save_async(PATH, STATE)
            atexit.register(ocp.runtime.exits._at_exit)  # runs first
            """,
            path,
        )
        assert status == FAILED
        assert "No space left" in err

    def test_not_those_that_were_asked_for_or_cancelled(self, path: Path) -> None:
        status, _, err = run(
            """
            with inject(e.WriteBatch, error=FULL):
                asked = ocp.save_async(PATH, STATE)
                told = ocp.save_async(PATH, STATE)
            told.on_complete(print, on_error=lambda error: print("told", type(error).__name__))
            try:
                asked.result()
            except ocp.errors.StorageError:
                print("asked")
            with gate(e.WriteBatch) as writing:
                cancelled = ocp.save_async(PATH, STATE)
                cancelled.cancel()
                while not cancelled.done():
                    time.sleep(0.01)
            """,
            path,
        )
        assert (status, err) == (0, "")
        assert names(path.parent) == []

    def test_a_save_that_hangs_ends_at_its_deadline_which_says_why(self, path: Path) -> None:
        status, _, err = run(
            """
            from tests.clocks import Late
            ocp.runtime.exits._GRACE = 1e6
            ctx = ocp.Context()
            ctx.asynchronous.timeout_secs = 100
            with Late(e.WriteBatch, seconds=100):
                ocp.save_async(PATH, STATE, context=ctx)
            """,
            path,
        )
        assert status == FAILED
        assert "OperationTimeoutError: The save_async took longer than 100 s" in err
        assert "write 2 leaves" in err
        assert names(path.parent) == []


def test_a_handler_may_still_use_threads_when_python_goes_down(path: Path) -> None:
    script = """
        import asyncio
        from tests.points import Point, PointHandler

        class Late(PointHandler):
            async def _write(self, directory, x, y):
                while not threading._SHUTTING_DOWN:
                    await asyncio.sleep(0.01)
                await asyncio.gather(*[asyncio.to_thread(time.sleep, 0) for _ in range(5)])
                await super()._write(directory, x, y)

        ctx = ocp.Context()
        ctx.checkpointables.registry = ocp.handlers.local_registry().add(Late)
        ocp.save_checkpointables_async(PATH, {"point": Point(1, 2), "state": STATE}, context=ctx)
        print("at the end")
    """
    status, out, err = run(script, path)
    assert (status, err) == (0, "")
    assert out[0] == "at the end"
    assert (path / "point" / "deep" / "y.txt").read_text() == "2"
    assert holds(path)
    assert names(path.parent) == ["ckpt"]
