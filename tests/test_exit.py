"""How a process ends with saves pending: they are finished, or reported, and never just lost.

Each test runs a script of its own, with every warning an error, and looks at its exit status, at
what it wrote, and at what it left on disk.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import sealwax as ocp
from tests.gates import names

ROOT = Path(__file__).parent.parent
FAILED = 74

HEADER = """
import atexit, errno, logging, os, signal, sys, threading, time
atexit.register(print, "registered before sealwax")
import numpy as np
import sealwax as ocp
from sealwax import effects as e
from sealwax.effect_handlers import inject
from tests.gates import gate

PATH = sys.argv[1]
STATE = {"w": np.arange(1000), "step": 1}
FULL = OSError(errno.ENOSPC, "No space left on device")

"""


def launch(script: str, path: Path) -> subprocess.Popen[str]:
    """Starts a script that has the names of ``HEADER``, with its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HEADER + textwrap.dedent(script), str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "lib"), str(ROOT)))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script: str, path: Path) -> tuple[int, list[str], str]:
    """Runs a script to its end: its exit status, lines of output, and what it complained of."""
    process = launch(script, path)
    out, err = process.communicate(timeout=60)
    return process.returncode, out.splitlines(), err


def interrupt(script: str, path: Path, number: int) -> tuple[int, list[str], str]:
    """Runs a script and sends it a signal as soon as it has written a line."""
    process = launch(script, path)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, [first.strip(), *out.splitlines()], err


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


def holds(path: Path, step: int = 1) -> bool:
    """Whether the whole of ``STATE`` is there, and nothing beside it."""
    loaded = ocp.load(path)
    np.testing.assert_array_equal(loaded["w"], np.arange(1000))
    return loaded["step"] == step and names(path.parent) == [path.name]


class TestPendingSavesAreFinished:
    """However a script ends, its saves are finished first."""

    def test_at_the_end_of_the_script(self, path: Path) -> None:
        status, out, err = run(
            """
            big = np.arange(25_000_000)  # 200 MB
            with inject(e.WriteBatch, delay=0.3):
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
            with inject(e.WriteBatch, delay=0.3):
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
                with inject(e.WriteBatch, delay=0.3):
                    ocp.save_async(PATH, STATE)
                sys.exit(3)
            deep()
            """,
            path,
        )
        assert (status, out, err) == (3, ["registered before sealwax"], "")
        assert holds(path)

    @pytest.mark.parametrize("loop", ["asyncio", "trio"])
    def test_after_the_end_of_an_event_loop(self, path: Path, loop: str) -> None:
        status, out, err = run(
            f"""
            import {loop}
            async def main():
                with inject(e.WriteBatch, delay=0.3):
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
                time.sleep(0.5)
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
            ctx = ocp.Context()
            ctx.asynchronous.timeout_secs = 0.5
            with inject(e.WriteBatch, delay=1e6):
                ocp.save_async(PATH, STATE, context=ctx)
            """,
            path,
        )
        assert status == FAILED
        assert "OperationTimeoutError: The save_async took longer than 0.5 s" in err
        assert "write 2 leaves" in err
        assert names(path.parent) == []


class TestSignals:
    """What Ctrl-C and SIGTERM do."""

    def test_ctrl_c_gives_up_a_blocking_save(self, path: Path) -> None:
        status, _, err = interrupt(
            """
            with inject(e.WriteBatch, delay=1e6):
                threading.Timer(0.5, print, ["saving"], {"flush": True}).start()
                ocp.save(PATH, STATE)
            """,
            path,
            signal.SIGINT,
        )
        assert status in (-signal.SIGINT, 130, 1)
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert names(path.parent) == []

    def test_ctrl_c_gives_up_the_staging_of_an_async_save(self, path: Path) -> None:
        status, out, err = interrupt(
            """
            try:
                with inject(e.Stage, delay=1e6):
                    threading.Timer(0.5, print, ["staging"], {"flush": True}).start()
                    ocp.save_async(PATH, STATE)
            except KeyboardInterrupt:
                print(os.listdir(os.path.dirname(PATH)))
            """,
            path,
            signal.SIGINT,
        )
        assert (status, err) == (0, "")
        assert out == ["staging", "[]", "registered before sealwax"]

    def test_ctrl_c_at_exit_gives_up_a_pending_save_and_says_so(self, path: Path) -> None:
        status, out, err = interrupt(
            """
            with gate(e.WriteBatch) as writing:
                writing.open = lambda: None
                ocp.save_async(PATH, STATE)
            threading.Timer(0.5, print, ["exiting"], {"flush": True}).start()
            """,
            path,
            signal.SIGINT,
        )
        assert status == FAILED
        assert f"the save_async to {str(path)!r} was interrupted at exit, and given up." in err
        assert out == ["exiting", "registered before sealwax"]
        assert names(path.parent) == []

    def test_sigterm_leaves_what_the_next_save_there_removes(self, path: Path) -> None:
        status, _, err = interrupt(
            """
            with gate(e.WriteFile) as writing:
                ocp.save_async(PATH, STATE)
                writing.arrived.wait()
                print("saving", flush=True)
                time.sleep(60)
            """,
            path,
            signal.SIGTERM,
        )
        assert (status, err) == (-signal.SIGTERM, "")
        (left,) = names(path.parent)
        assert left.startswith("ckpt.orbax-checkpoint-tmp-sealwax-")
        assert not ocp.is_orbax_checkpoint(path.parent / left)
        ocp.save(path, {"w": np.arange(1000), "step": 1})
        assert holds(path)


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
