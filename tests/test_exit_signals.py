"""What hangs at exit, and what is interrupted: all of it ends, and is told of."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import numpy as np
import pytest

import sealwax as ocp
from tests.gates import names
from tests.scripts import FAILED, holds, interrupt, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


UNTIL_TOLD = """
            exits = ocp.runtime.exits
            exits._wait._silence = 0.2
            tell = exits._print

            def told(lines):
                tell(lines)
                writing.open()

            exits._print = told
            with (writing := Gate(e.WriteBatch)):
                ocp.save_async(PATH, STATE, context=ctx)
                writing.arrived.wait()
            """
"""A save that goes on as soon as the exit has said that it waits for it."""


class TestWhatHangs:
    """An exit says what it waits for, and does not wait for ever."""

    def test_it_says_what_it_waits_for(self, path: Path) -> None:
        status, _, err = run(
            """
            ctx = ocp.Context()
            ctx.asynchronous.timeout_secs = 350
            """
            + UNTIL_TOLD,
            path,
        )
        assert status == 0
        first = err.splitlines()[0]
        assert re.search(
            r"^sealwax: waiting at exit for the save_async to '\S+', for 3\d\d s at most "
            r"\(\d+ of \d+ effects done; under way: write 2 leaves to \S+ and sync\)\.$",
            first,
        )
        assert holds(path)

    def test_without_a_deadline_it_says_that_there_is_none(self, path: Path) -> None:
        status, _, err = run(
            """
            ctx = ocp.Context()
            ctx.asynchronous.timeout_secs = None
            """
            + UNTIL_TOLD,
            path,
        )
        assert status == 0
        assert "it has no deadline" in err
        assert holds(path)

    @pytest.mark.parametrize("kind", ["WriteBatch", "Call"])
    def test_what_does_not_even_end_at_its_deadline_is_left_alone(
        self, path: Path, kind: str
    ) -> None:
        """A thread that a file system holds, or a callback, cannot be broken off."""
        status, out, err = run(
            f"""
            from sealwax.effect_handlers import Handler
            from tests.clocks import put_forward
            import anyio.from_thread, anyio.to_thread
            class Hang(Handler):
                async def perform(self, effect, forward):
                    if isinstance(effect, e.{kind}):
                        await anyio.to_thread.run_sync(self.hang)
                    return await forward(effect)
                def hang(self):
                    anyio.from_thread.run_sync(put_forward, 1000)
                    time.sleep(1e6)
            ctx = ocp.Context()
            ctx.asynchronous.timeout_secs = 100
            ctx.asynchronous.post_finalization_callback = print
            with Hang():
                ocp.save_async(PATH, STATE, context=ctx)
            """,
            path,
        )
        assert (status, out) == (FAILED, ["registered before sealwax"])
        (line,) = err.splitlines()
        assert line.startswith(
            f"sealwax: the save_async to {str(path)!r} did not end within 100 s, nor when it was "
            "told to, and is left alone at exit ("
        )
        what = "write 2 leaves" if kind == "WriteBatch" else "call post_finalization_callback"
        assert f"under way: {what}" in line
        if kind == "Call":
            assert holds(path)
        else:
            assert not ocp.is_orbax_checkpoint(path)
            ocp.save(path, {"w": np.arange(1000), "step": 1})
            assert holds(path)


class TestSignals:
    """What Ctrl-C and SIGTERM do."""

    def test_ctrl_c_gives_up_a_blocking_save(self, path: Path) -> None:
        status, _, err = interrupt(
            """
            with gate(e.WriteBatch) as writing:
                writing.arrived.call(lambda: print("saving", flush=True))
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
                with gate(e.Stage) as staging:
                    staging.arrived.call(lambda: print("staging", flush=True))
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
            with Gate(e.WriteBatch):
                ocp.save_async(PATH, STATE)
            def tell():
                while not threading._SHUTTING_DOWN:
                    time.sleep(0.01)
                print("exiting", flush=True)
            threading.Thread(target=tell).start()
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
            with gate(e.WriteFiles) as writing:
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

    def test_ctrl_c_in_result_gives_up_the_waiting_and_not_the_save(self, path: Path) -> None:
        status, out, err = interrupt(
            """
            with gate(e.WriteBatch) as writing:
                response = ocp.save_async(PATH, STATE)
                threading.Timer(0.5, print, ["waiting"], {"flush": True}).start()
                response.result()
            """,
            path,
            signal.SIGINT,
        )
        assert status in (-signal.SIGINT, 130, 1)
        assert out == ["waiting", "registered before sealwax"]
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert holds(path)

    @pytest.mark.parametrize("where", ["pending", "waiting"])
    def test_sigterm_that_the_program_turns_into_an_exit_lets_it_finish(
        self, path: Path, where: str
    ) -> None:
        status, out, err = interrupt(
            f"""
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(5))
            with gate(e.WriteBatch) as writing:
                response = ocp.save_async(PATH, STATE)
                threading.Timer(0.5, print, ["saving"], {{"flush": True}}).start()
                response.result() if {where == "waiting"} else time.sleep(60)
            """,
            path,
            signal.SIGTERM,
        )
        assert (status, out, err) == (5, ["saving", "registered before sealwax"], "")
        assert holds(path)

    def test_os_exit_loses_what_is_pending_and_the_next_save_cleans_up(self, path: Path) -> None:
        """``os._exit`` is for leaving at once: nothing of Python's, or of ours, runs any more."""
        status, out, err = run(
            """
            with gate(e.WriteFiles) as writing:
                ocp.save_async(PATH, STATE)
                writing.arrived.wait()
                os._exit(6)
            """,
            path,
        )
        assert (status, out, err) == (6, [], "")
        assert len(names(path.parent)) == 1
        assert not ocp.is_orbax_checkpoint(path)
        ocp.save(path, {"w": np.arange(1000), "step": 1})
        assert holds(path)
