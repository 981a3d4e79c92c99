"""``sealwax.testing``: runs are stopped where it says, and files damaged as it says."""

from __future__ import annotations

import errno
import functools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax
from sealwax.effect_handlers import record
from sealwax.errors import OptionValueError, RunFailedError
from sealwax.testing import (
    Corruption,
    corrupt,
    corruptions,
    fail_at_every_effect,
    kill_at,
    kill_at_every_effect,
)
from tests.crash import runs
from tests.crash.states import context, state, step_at

ROOT = Path(__file__).parents[1]


def count(run, directory: Path) -> int:
    directory.mkdir()
    with record() as trace:
        run(directory)
    return len(trace.effects)


def broken(directory: Path) -> None:
    raise RuntimeError("broken by itself")


def endless(directory: Path) -> None:
    while True:
        sealwax.save(directory / "c", {"step": 1}, overwrite=True, context=context("database"))


class TestFailing:
    def test_each_effect_fails_once_before_and_once_after(self, tmp_path):
        stops = list(fail_at_every_effect(runs.save, tmp_path / "runs"))
        effects = count(runs.save, tmp_path / "count")
        assert [(stop.number, stop.moment) for stop in stops] == [
            (number, moment) for number in range(effects) for moment in ("before", "after")
        ]
        assert {stop.error.errno for stop in stops} == {errno.ENOSPC}
        assert stops[0].effect.startswith("look at ")
        assert {"Look", "WriteBatch", "Rename"} <= {stop.kind for stop in stops}

    def test_a_write_also_fails_in_the_middle_of_it(self, tmp_path):
        torn, kinds = set(), set()
        for stop in fail_at_every_effect(
            runs.save, tmp_path, moments=("before", "during", "after")
        ):
            kinds.add(stop.kind)
            torn |= {stop.kind} if stop.moment == "during" else set()
        assert torn == {kind for kind in kinds if kind.startswith("Write")}

    def test_every_run_has_a_directory_of_its_own_which_is_removed(self, tmp_path):
        seen = set()
        for stop in fail_at_every_effect(runs.save, tmp_path / "runs"):
            assert os.listdir(tmp_path / "runs") == [stop.directory.name]
            seen.add(stop.directory)
        assert len(seen) > 30
        assert os.listdir(tmp_path / "runs") == []

    def test_runs_start_from_a_copy(self, tmp_path):
        sealwax.save(tmp_path / "start" / "c", state(1))
        run = functools.partial(runs.save, overwrite=True)
        found = [
            step_at(stop.directory / "c")
            for stop in fail_at_every_effect(run, tmp_path / "runs", start=tmp_path / "start")
        ]
        assert set(found) == {1, 2}
        assert step_at(tmp_path / "start" / "c") == 1

    def test_what_a_run_makes_of_its_error_is_told(self, tmp_path):
        def run(directory: Path) -> None:
            try:
                runs.save(directory)
            except OSError:
                raise ValueError("mine") from None

        assert {str(s.error) for s in fail_at_every_effect(run, tmp_path)} == {"mine"}

    def test_a_run_that_goes_on_after_its_error_has_none(self, tmp_path):
        def run(directory: Path) -> None:
            for name in "ab":
                try:
                    sealwax.save(directory / name, {"step": 1})
                except OSError:
                    continue

        stops = list(fail_at_every_effect(run, tmp_path, moments=("before",)))
        assert {stop.error for stop in stops} == {None}
        assert len(stops) > 30

    def test_a_run_that_fails_by_itself_fails(self, tmp_path):
        with pytest.raises(RuntimeError, match="broken by itself"):
            list(fail_at_every_effect(broken, tmp_path))

    def test_other_errors(self, tmp_path):
        error = ConnectionResetError(errno.ECONNRESET, "gone")
        stops = fail_at_every_effect(runs.save, tmp_path, error=error, moments=("after",))
        assert {stop.error.errno for stop in stops} == {errno.ECONNRESET}


@pytest.mark.slow
class TestKilling:
    @pytest.mark.parametrize("run", [runs.save, runs.save_async], ids=lambda run: run.__name__)
    def test_each_effect_is_the_last_once(self, tmp_path, run):
        effects = count(run, tmp_path / "count")
        found = []
        for stop in kill_at_every_effect(run, tmp_path / "runs", moments=("before",)):
            assert stop.error is None
            found.append((stop.number, step_at(stop.directory / "c")))
        assert [number for number, _ in found] == list(range(effects))
        assert [step for _, step in found] == [None] * (effects - 1) + [2]

    def test_in_the_middle_of_a_write(self, tmp_path):
        for name in "count", "run":
            (tmp_path / name).mkdir()
        with record() as trace:
            runs.save(tmp_path / "count")
        number = trace.kinds().index("WriteBatch")
        stop = kill_at(runs.save, tmp_path / "run", number, moment="during")
        assert stop.kind == "WriteBatch"
        (half,) = (tmp_path / "run").rglob("00000000")
        assert half.stat().st_size == state(2)["compressible"].nbytes // 2
        runs.save(tmp_path / "run")
        assert step_at(tmp_path / "run" / "c") == 2

    def test_a_run_that_fails_by_itself_is_told_with_what_it_said(self, tmp_path):
        with pytest.raises(RunFailedError, match="broken by itself"):
            kill_at(broken, tmp_path, 0)

    def test_a_run_that_ends_before_it_is_told(self, tmp_path):
        with pytest.raises(RunFailedError, match="before it could be killed"):
            kill_at(runs.save, tmp_path, 1000)

    def test_a_run_that_does_not_end_is_told_and_ended(self, tmp_path):
        with pytest.raises(RunFailedError, match="within 2 s"):
            kill_at(endless, tmp_path, 10**9, timeout=2.0)

    def test_a_run_that_cannot_be_imported_is_told(self, tmp_path, monkeypatch):
        monkeypatch.setattr(broken, "__module__", "not_there")
        monkeypatch.setitem(sys.modules, "not_there", sys.modules[__name__])
        with pytest.raises(RunFailedError, match="No module named 'not_there'"):
            kill_at(broken, tmp_path, 0)

    def test_a_function_of_a_script(self, tmp_path):
        script = tmp_path / "script.py"
        script.write_text(
            textwrap.dedent(
                """
                import sys
                from pathlib import Path
                import sealwax

                def train(directory):
                    sealwax.save(directory / "c", {"step": 1})

                if __name__ == "__main__":
                    for stop in sealwax.testing.kill_at_every_effect(train, Path(sys.argv[1])):
                        print(stop.kind, (stop.directory / "c").exists())
                """
            )
        )
        done = subprocess.run(
            [sys.executable, script, tmp_path / "runs"],
            env={**os.environ, "PYTHONPATH": str(ROOT / "lib"), "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        lines = done.stdout.splitlines()
        assert lines[0] == "Look False"
        assert lines[-1] == "SyncDirectory True"


class TestDamage:
    @given(st.binary(min_size=1, max_size=20), st.data())
    def test_one_bit(self, tmp_path_factory, data, draw):
        file = tmp_path_factory.mktemp("damage") / "file"
        file.write_bytes(data)
        bit = draw.draw(st.integers(-8 * len(data), 8 * len(data) - 1))
        corrupt(file, bit=bit)
        changed = int.from_bytes(file.read_bytes(), "little") ^ int.from_bytes(data, "little")
        assert changed == 1 << bit % (8 * len(data))
        corrupt(file, bit=bit)
        assert file.read_bytes() == data

    @given(st.binary(min_size=1, max_size=20), st.data())
    def test_a_cut(self, tmp_path_factory, data, draw):
        file = tmp_path_factory.mktemp("damage") / "file"
        file.write_bytes(data)
        cut = draw.draw(st.integers(-len(data), len(data) - 1))
        corrupt(file, cut=cut)
        assert file.read_bytes() == data[:cut]

    @pytest.mark.parametrize("wrong", [{}, {"bit": 1, "cut": 1}, {"bit": 24}, {"cut": -4}])
    def test_what_cannot_be_done_is_refused_and_not_done(self, tmp_path, wrong):
        (tmp_path / "file").write_bytes(b"abc")
        with pytest.raises(OptionValueError):
            corrupt(tmp_path / "file", **wrong)
        assert (tmp_path / "file").read_bytes() == b"abc"

    @given(st.dictionaries(st.sampled_from("abc"), st.binary(max_size=30), min_size=1))
    def test_each_damage_is_one_and_is_mended(self, tmp_path_factory, contents):
        directory = tmp_path_factory.mktemp("damage")
        for name, data in contents.items():
            (directory / name).write_bytes(data)

        def found() -> dict[str, bytes]:
            return {path.name: path.read_bytes() for path in directory.iterdir()}

        seen: set[Corruption] = set()
        for corruption in corruptions(directory, per_file=4):
            now = found()
            seen.add(corruption)
            name = corruption.file.name
            if corruption.what != "all zeros" or any(contents[name]):
                assert now.get(name) != contents[name], corruption
            assert {k: v for k, v in now.items() if k != name} == {
                k: v for k, v in contents.items() if k != name
            }
        assert found() == contents
        assert {each.file.name for each in seen if each.what == "missing"} == contents.keys()

    def test_a_seed_says_which(self, tmp_path):
        (tmp_path / "file").write_bytes(np.arange(1000).tobytes())

        def which(seed: int) -> list[str]:
            return [each.what for each in corruptions(tmp_path, seed=seed)]

        assert which(1) == which(1) != which(2)
