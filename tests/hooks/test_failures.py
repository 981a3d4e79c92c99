"""What fails while a program runs is told: to `wait`, to the program, at exit; with the step."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import sealwax
from sealwax import effects
from sealwax.effect_handlers import inject
from sealwax.errors import CheckpointExistsError, StorageError
from sealwax.hooks import Saver
from tests.hooks.states import put

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def alone() -> Any:
    return jnp.zeros(8)


def spread() -> Any:
    return put(jnp.zeros(8), "x")


KINDS = pytest.mark.parametrize("make", [alone, spread])
Make = Callable[[], Any]


def scan(saver: Saver, last: int) -> Any:
    def body(state: Any, number: Any) -> tuple[Any, None]:
        saver(state, step=number)
        return state + 1 + state.mean(), None

    return jax.jit(lambda state: jax.lax.scan(body, state, jnp.arange(last))[0])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestStop:
    """The program stops at the next step that is due, on all devices alike."""

    @KINDS
    def test_the_program_names_the_step(self, make: Make, tmp_path: Path) -> None:
        with inject(effects.WriteBatch, nth=1, error=FULL):
            saver = Saver(tmp_path, make())
        with pytest.raises(jax.errors.JaxRuntimeError, match="The save of step 1 failed"):
            jax.block_until_ready(scan(saver, 50)(make()))
        with pytest.raises(StorageError, match="No space left on device") as failure:
            saver.wait()
        assert str(failure.value.path).startswith(str(tmp_path / "1."))
        assert "It was step 1 that" in failure.value.__notes__[0]

    @KINDS
    def test_programs_can_be_started_again(self, make: Make, tmp_path: Path) -> None:
        with inject(effects.WriteBatch, nth=0, error=FULL):
            saver = Saver(tmp_path, make())
        program = scan(saver, 5)
        with pytest.raises(StorageError), saver:
            jax.block_until_ready(program(make()))
        saver.to(tmp_path / "again")
        with saver:
            program(make())
        assert saver.steps() == (0, 1, 2, 3, 4)
        saver.wait()

    def test_outside_of_programs(self, tmp_path: Path) -> None:
        with inject(effects.WriteBatch, nth=0, error=FULL):
            saver = Saver(tmp_path, alone())
        # Each waits for the one before it.
        saver(alone(), step=0)
        saver(alone(), step=1)
        with pytest.raises(sealwax.errors.HookError, match="The save of step 0 failed"):
            saver(alone(), step=2)
        with pytest.raises(StorageError):
            saver.wait()


class TestContinue:
    """With ``on_error="continue"`` the program goes on, and so do its saves."""

    @KINDS
    def test_the_others_are_saved(self, make: Make, tmp_path: Path) -> None:
        with inject(effects.WriteBatch, nth=1, error=FULL):
            saver = Saver(tmp_path, make(), on_error="continue")
        jax.block_until_ready(scan(saver, 4)(make()))
        with pytest.raises(StorageError, match="It was step 1 that"):
            saver.wait()
        assert saver.steps() == (0, 2, 3)
        saver.wait()

    def test_all_failures_are_told(self, tmp_path: Path) -> None:
        for name in ("0", "2"):
            sealwax.save(tmp_path / name, {"x": 1})
        saver = Saver(tmp_path, alone(), on_error="continue", in_flight=9)
        jax.block_until_ready(scan(saver, 4)(alone()))
        with pytest.raises(CheckpointExistsError) as failure:
            saver.wait()
        notes = failure.value.__notes__
        assert failure.value.path == str(tmp_path / "0")
        assert any(str(tmp_path / "2") in note for note in notes)

    def test_an_error_of_the_block_comes_first(self, tmp_path: Path) -> None:
        sealwax.save(tmp_path / "0", {"x": 1})

        def use(saver: Saver) -> None:
            with saver:
                scan(saver, 1)(alone())
                raise KeyError("of the block")

        with pytest.raises(KeyError) as failure:
            use(Saver(tmp_path, alone(), on_error="continue"))
        assert "A save from inside a program failed too" in failure.value.__notes__[0]


def test_overwriting_is_asked_for(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "0", {"x": 1})
    with Saver(tmp_path, alone(), overwrite=True) as saver:
        scan(saver, 1)(alone())
    assert sealwax.load(tmp_path / "0").shape == (8,)


def test_a_name_that_no_step_has(tmp_path: Path) -> None:
    saver = Saver(tmp_path, alone(), on_error="continue")
    jax.jit(lambda: saver(alone(), step=-1))()
    with pytest.raises(ValueError, match="negative|-1") as failure:
        saver.wait()
    assert "It was step -1" in failure.value.__notes__[0]


class TestExit:
    """An exit waits for what programs still save, and reports what failed."""

    def run(self, folder: Path, end: str) -> subprocess.CompletedProcess[str]:
        program = f"""
            import jax, jax.numpy as jnp, sealwax
            sealwax.runtime.exits._wait._silence = 600.0  # however slow the machine is
            saver = sealwax.hooks.Saver({str(folder)!r}, jnp.zeros(1000), on_error="continue")

            def body(x, n):
                saver(x, step=n)
                return (x @ jnp.ones((1000, 1000))) / 1000 + 1, None

            jax.jit(lambda x: jax.lax.scan(body, x, jnp.arange(20)))(jnp.zeros(1000))
            {end}
        """
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            env=os.environ | {"PYTHONPATH": "lib", "XLA_FLAGS": ""},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def test_all_is_saved(self, tmp_path: Path) -> None:
        done = self.run(tmp_path / "run", "")
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(int(path.name) for path in (tmp_path / "run").iterdir()) == list(range(20))

    def test_a_failure_that_nobody_asked_for(self, tmp_path: Path) -> None:
        sealwax.save(tmp_path / "7", {"x": 1})
        done = self.run(tmp_path, "")
        assert done.returncode == 74
        assert f"saving from a compiled program to {str(tmp_path)!r} failed" in done.stderr
        assert "It was step 7 that" in done.stderr
        assert len(list(tmp_path.iterdir())) == 20
