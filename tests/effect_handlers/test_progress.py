"""``progress``: what is shown on a terminal, in a log, and to a callback."""

from __future__ import annotations

import io
import logging
import re

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax
from sealwax import effects as e
from sealwax.effect_handlers import Status, inject, progress
from sealwax.effect_handlers.clock import VirtualClock
from sealwax.runtime.meter import Progress, State
from tests.gates import gate

TREE = {"w": np.arange(100_000, dtype=np.float64), "step": 1}


SECONDS = st.just(0.0) | st.floats(1e-3, 1e6)


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and what is left on it."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        lines, row = [""], 0
        for part in re.split(r"(\n|\r|\x1b\[A|\x1b\[2K)", self.getvalue()):
            if part == "\n":
                row += 1
                lines += [""] if row == len(lines) else []
            elif part == "\x1b[A":
                row -= 1
            elif part == "\x1b[2K":
                lines[row] = ""
            elif part != "\r":
                lines[row] += part
        return [line for line in lines if line]


class Ticking(VirtualClock):
    """A clock on which every look takes a second."""

    def now(self) -> float:
        self._now += 1.0
        return self._now


def full() -> OSError:
    return OSError(28, "No space left on device")


class TestStatus:
    @given(st.integers(0, 1000), st.integers(1, 1000), SECONDS, st.sampled_from(State))
    def test_its_numbers_are_what_they_say(self, done, total, seconds, state):
        now = Progress(bytes_done=min(done, total), bytes_total=total)
        status = Status(title="save", path="/c", state=state, progress=now, seconds=seconds)
        assert status.bytes_per_second * seconds == pytest.approx(now.bytes_done if seconds else 0)
        left = status.seconds_left
        assert (left is None) == (now.bytes_done == 0)
        if left is not None and seconds:
            assert (seconds + left) * now.fraction == pytest.approx(seconds)
        assert str(status).startswith("save /c: ")
        assert "\n" not in str(status)

    def test_in_words(self):
        now = Progress(bytes_done=3 << 20, bytes_total=12 << 20)
        status = Status(title="save", path="/c", state=State.RUNNING, progress=now, seconds=30)
        assert str(status) == "save /c:  25%, 3.0 MiB of 12.0 MiB, 102.4 KiB/s, 1:30 left"


class TestTerminal:
    def test_a_line_is_left_of_what_is_done(self, tmp_path):
        with progress(stream := Terminal(), every=0):
            sealwax.save(tmp_path / "c", TREE)
            sealwax.load(tmp_path / "c")
        saved, loaded = stream.screen()
        assert saved.startswith(f"save {tmp_path / 'c'}"[:79])
        assert loaded.startswith(f"load {tmp_path / 'c'}"[:79])
        assert "[####" in stream.getvalue()

    def test_nothing_is_left_of_what_failed(self, tmp_path):
        broken = inject(e.Rename, error=full())
        with progress(stream := Terminal(), every=0), broken, pytest.raises(OSError, match="space"):
            sealwax.save(tmp_path / "c", TREE)
        assert "[####" in stream.getvalue()
        assert stream.screen() == []

    def test_nothing_is_left_of_what_was_cancelled(self, tmp_path):
        async def cancelled() -> None:
            with gate(e.WriteBatch) as held:
                async with anyio.create_task_group() as group:
                    group.start_soon(sealwax.aio.save, tmp_path / "c", TREE)
                    await held.reached()
                    group.cancel_scope.cancel()

        with progress(stream := Terminal(), every=0):
            anyio.run(cancelled)
        assert "[....." in stream.getvalue()
        assert stream.screen() == []

    def test_two_at_once_have_a_bar_each(self, tmp_path):
        most = 0

        class Looked(Terminal):
            def flush(self) -> None:
                nonlocal most
                most = max(most, sum(line.startswith("[") for line in self.screen()))

        async def both() -> None:
            async with anyio.create_task_group() as group:
                for name in "ab":
                    group.start_soon(sealwax.aio.save, tmp_path / name, TREE)

        with progress(stream := Looked(), every=0), gate(e.Rename, parties=2) as seal:
            seal.arrived.call(seal.open)
            anyio.run(both)
        assert most == 2
        assert len(stream.screen()) == 2

    def test_no_line_is_longer_than_the_terminal(self, tmp_path, monkeypatch):
        monkeypatch.setenv("COLUMNS", "40")
        with progress(stream := Terminal(), every=0):
            sealwax.save(tmp_path / ("c" * 100), TREE)
        assert {len(line) for line in stream.screen()} == {39}

    def test_it_is_not_drawn_more_often_than_asked(self, tmp_path):
        with progress(stream := Terminal(), every=3600):
            sealwax.save(tmp_path / "c", TREE)
        assert "[" not in stream.getvalue().replace("\x1b[", "")


class TestLog:
    def test_a_line_at_the_end_and_no_control_characters(self, tmp_path):
        with progress(stream := io.StringIO()):
            sealwax.save(tmp_path / "c", TREE)
        (line,) = stream.getvalue().splitlines()
        assert line.startswith(f"save {tmp_path / 'c'}: 781.")
        assert "\x1b" not in line

    def test_lines_now_and_then(self, tmp_path):
        with progress(stream := io.StringIO(), every=5, clock=Ticking()):
            sealwax.save(tmp_path / "c", TREE)
        lines = stream.getvalue().splitlines()
        assert 2 <= len(lines) < 20
        assert all("%" in line for line in lines[:-1])

    def test_a_failure_is_told(self, tmp_path):
        broken = inject(e.Rename, error=full())
        with progress(stream := io.StringIO()), broken, pytest.raises(OSError, match="space"):
            sealwax.save(tmp_path / "c", TREE)
        assert "failed" in stream.getvalue()

    def test_a_broken_stream_breaks_nothing(self, tmp_path):
        stream = io.StringIO()
        with progress(stream):
            stream.close()
            sealwax.save(tmp_path / "c", TREE)
        assert sealwax.load(tmp_path / "c")["step"] == 1

    def test_without_a_standard_error_nothing_is_written(self, tmp_path, monkeypatch):
        monkeypatch.setattr("sys.stderr", None)
        with progress():
            sealwax.save(tmp_path / "c", TREE)


class TestCallback:
    def test_it_sees_every_step_and_the_end(self, tmp_path, capsys):
        seen: list[Status] = []
        with progress(callback=seen.append):
            response = sealwax.save_async(tmp_path / "c", TREE)
        response.result()
        assert [status.state for status in seen[-2:]] == [State.RUNNING, State.DONE]
        done = [status.progress.bytes_done for status in seen]
        assert done == sorted(done)
        assert done[-1] == seen[-1].progress.bytes_total == sealwax.plan_save("x", TREE).bytes
        assert {(status.title, status.path) for status in seen} == {
            ("save_async", str(tmp_path / "c"))
        }
        assert capsys.readouterr() == ("", "")

    def test_its_failure_is_logged_and_harms_nothing(self, tmp_path, caplog):
        with progress(callback=lambda status: 1 / 0), caplog.at_level(logging.ERROR):
            sealwax.save(tmp_path / "c", TREE)
        assert "A progress callback failed" in caplog.text
        assert sealwax.load(tmp_path / "c")["step"] == 1

    def test_operations_are_forgotten_when_they_end(self, tmp_path):
        with progress(callback=print) as handler:
            sealwax.save(tmp_path / "c", TREE)
        assert handler._started == {}
