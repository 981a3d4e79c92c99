"""The ten promises of the README, one class each: the short form of what other tests go through.

Where the whole of a promise is tried out elsewhere, over every effect or every bit, its class says
where.
"""

from __future__ import annotations

import contextlib
import errno
import pathlib
import re
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sealwax
from sealwax import effects as e
from sealwax.effect_handlers import inject, memory, record, retry
from sealwax.testing import corrupt, fail_at_every_effect
from tests.crash.power import explore
from tests.crash.states import same, state
from tests.crash.test_states import SCENARIOS

ROOT = pathlib.Path(__file__).parents[1]
EIO = OSError(errno.EIO, "Input/output error")


def promised() -> dict[int, str]:
    """The promises of the README: their numbers, and the classes that it names."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## Promises") : text.index("Not promised")]
    entries = re.split(r"^(\d+)\. ", section, flags=re.MULTILINE)[1:]
    return {
        int(number): re.findall(r"`(Test\w+)`", entry)[0]
        for number, entry in zip(entries[::2], entries[1::2], strict=True)
    }


def test_every_promise_names_the_class_that_holds_it():
    named = promised()
    assert sorted(named) == list(range(1, 11))
    assert all(isinstance(globals().get(name), type) for name in named.values())
    classes = {name for name in globals() if name.startswith("Test")}
    assert classes == set(named.values())


class TestAtomicVisibility:
    """P1; at every effect and error in ``tests/crash/test_every_errno.py``."""

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_a_path_holds_the_old_the_new_or_nothing(self, tmp_path, moment):
        path = tmp_path / "c"
        sealwax.save(path, state(1))
        for kind in (e.MakeDirectory, e.WriteBatch, e.WriteFiles, e.SyncTree, e.Exchange):
            with (
                inject(kind, error=EIO, moment=moment),
                pytest.raises(OSError, match="Input/output error"),
            ):
                sealwax.save(path, state(2), overwrite=True)
            found = sealwax.load(path)
            assert same(found, state(1)) or same(found, state(2))

    def test_no_reader_takes_an_unfinished_checkpoint_for_one(self, tmp_path):
        seen, sealed = [], []

        def look(effect):
            if isinstance(effect, e.Rename):
                sealed.append(effect)
            if not sealed:
                # In a thread of its own, which has no handlers: not this one either.
                here = list(tmp_path.iterdir())
                with ThreadPoolExecutor(1) as thread:
                    seen.extend(thread.map(sealwax.is_orbax_checkpoint, here))
            return False

        with inject(look):
            sealwax.save(tmp_path / "c", {"w": np.arange(3)})
        assert seen
        assert not any(seen)
        assert sealwax.is_orbax_checkpoint(tmp_path / "c")


class TestDurableOnReturn:
    """P2; over 10,000 states after a loss of power in ``tests/crash/test_states.py``."""

    def test_what_has_returned_survives_any_loss_of_power(self):
        with memory({"run": {}}) as fs:
            sealwax.save("/run/c", state(1))
        crashes = list(fs.crash_states())
        assert crashes
        for crash in crashes:
            with fs.crash(crash):
                assert same(sealwax.load("/run/c"), state(1))

    def test_everything_is_synced_before_the_seal_and_the_parent_after(self, tmp_path):
        with record() as trace:
            sealwax.save(tmp_path / "c", state(1))
        kinds = trace.kinds()
        seal = kinds.index("Rename")
        assert all(
            effect.sync
            for effect in trace.effects
            if isinstance(effect, e.WriteFiles | e.WriteBatch)
        )
        assert kinds[seal - 1 :] == ["SyncTree", "Rename", "SyncDirectory"]
        assert trace.effects[-1].path == str(tmp_path)


class TestOldUntilNew:
    """P3; in every state of ``tests/crash/test_states.py``."""

    def test_the_old_checkpoint_is_there_until_the_new_one_is_durable(self):
        assert explore("overwrite", SCENARIOS["overwrite"], limit=50).broken == []

    def test_nothing_is_removed_before_the_seal_is_synced(self, tmp_path):
        sealwax.save(tmp_path / "c", state(1))
        with record() as trace:
            sealwax.save(tmp_path / "c", state(2), overwrite=True)
        kinds = trace.kinds()
        assert kinds.index("Exchange") < kinds.index("RemoveTree")
        assert "SyncDirectory" in kinds[kinds.index("Exchange") : kinds.index("RemoveTree")]


class TestVerified:
    """P4; for every bit of every file in ``tests/crash/test_every_bit.py``."""

    def test_a_flipped_bit_of_data_names_leaf_and_file(self, tmp_path):
        sealwax.save(tmp_path / "c", {"w": np.random.default_rng(0).normal(size=1000)})
        file = tmp_path / "c" / "state" / "d" / "00000000"
        corrupt(file, bit=8 * 1234)
        with pytest.raises(sealwax.errors.CorruptionError) as caught:
            sealwax.load(tmp_path / "c")
        assert caught.value.leaf == "w"
        assert str(file) in str(caught.value)
        (problem,) = sealwax.verify(tmp_path / "c").problems
        assert (problem.item, problem.leaf, problem.file) == ("state", "w", "state/d/00000000")

    def test_verify_reads_every_file(self, tmp_path):
        sealwax.save(tmp_path / "c", state(1))
        assert sealwax.verify(tmp_path / "c").ok
        files = sorted(p for p in (tmp_path / "c").rglob("*") if p.is_file() and p.stat().st_size)
        for file in files:
            whole = file.read_bytes()
            corrupt(file, bit=8 * (len(whole) // 2))
            assert not sealwax.verify(tmp_path / "c").ok, file
            file.write_bytes(whole)
        assert len(files) > 8


class TestNoSilentChange:
    """P5; for every kind of leaf in ``tests/interop/test_leaves.py``."""

    def test_what_is_loaded_is_what_was_saved(self, tmp_path):
        made = {
            "key": jax.random.key(3),
            "half": jnp.arange(3, dtype=jnp.bfloat16),
            "wide": np.arange(3, dtype=np.float64),
            "nest": [(1, 2.5), {"none": None, "text": "ü"}],
            "one": np.float32(0.1),
        }
        sealwax.save(tmp_path / "c", made)
        found = sealwax.load(tmp_path / "c")
        assert jax.tree.structure(found) == jax.tree.structure(made)
        for new, old in zip(jax.tree.leaves(found), jax.tree.leaves(made), strict=True):
            assert type(new) is type(old)
            assert getattr(new, "dtype", None) == getattr(old, "dtype", None)
            assert np.array_equal(
                *(
                    jax.random.key_data(x) if x is made["key"] or x is found["key"] else x
                    for x in (new, old)
                )
            )

    def test_another_shape_or_a_lossy_type_is_refused(self, tmp_path):
        sealwax.save(tmp_path / "c", {"w": np.arange(4.0)})
        for wanted in (np.zeros(5), np.zeros(4, np.int32)):
            with pytest.raises(sealwax.errors.SealwaxError, match="'w'"):
                sealwax.load(tmp_path / "c", {"w": wanted})


class TestLoudFailure:
    """P6; with every errno in ``tests/crash/test_every_errno.py``."""

    def test_every_effect_that_fails_is_an_oserror_that_leaves_nothing(self, tmp_path):
        def run(directory):
            sealwax.save(directory / "c", {"w": np.arange(3), "name": "x"})

        failures = 0
        for failed in fail_at_every_effect(run, tmp_path, error=OSError(errno.ENOSPC, "full")):
            failures += 1
            assert isinstance(failed.error, OSError)
            assert failed.error.errno == errno.ENOSPC
        assert failures > 20

    def test_the_next_save_works(self, tmp_path):
        with inject(e.WriteBatch, error=EIO), pytest.raises(OSError, match="Input/output"):
            sealwax.save_async(tmp_path / "c", state(1)).result()
        assert list(tmp_path.iterdir()) == []
        sealwax.save(tmp_path / "c", state(2))
        assert same(sealwax.load(tmp_path / "c"), state(2))


class TestAFailedSyncIsFinal:
    """P7; which effects may be tried again: ``tests/effects/test_nature.py``."""

    def test_what_could_not_be_synced_is_never_tried_again(self, tmp_path):
        with (
            record() as trace,
            inject(e.SyncTree, error=EIO),
            retry(times=3),
            pytest.raises(OSError, match="Input/output error"),
        ):
            sealwax.save(tmp_path / "c", state(1))
        assert "Rename" not in trace.kinds()
        assert list(tmp_path.iterdir()) == []

    def test_the_next_try_starts_in_a_new_place(self, tmp_path):
        places = []
        for error in (EIO, None):
            with (
                contextlib.suppress(OSError),
                record() as trace,
                inject(e.SyncTree, error=error),
            ):
                sealwax.save(tmp_path / "c", state(1))
            places.append(next(x.path for x in trace.effects if isinstance(x, e.MakeDirectory)))
        assert places[0] != places[1]


class TestForeignDataIsSafe:
    """P8; also in every state of ``tests/crash/test_states.py``."""

    @pytest.mark.parametrize(
        "name", ["c.orbax-checkpoint-tmp", "c.orbax-checkpoint-tmp-sealwax-12", "notes"]
    )
    def test_what_sealwax_did_not_write_is_never_cleaned_up(self, tmp_path, name):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
        sealwax.save(tmp_path / "c", state(1))
        sealwax.save(tmp_path / "c", state(2), overwrite=True)
        sealwax.delete(tmp_path / "c")
        assert (tmp_path / name / "mine").read_text() == "mine"

    def test_what_is_no_checkpoint_is_neither_replaced_nor_deleted(self, tmp_path):
        (tmp_path / "c").mkdir()
        (tmp_path / "c" / "thesis.tex").write_text("mine")
        with pytest.raises(sealwax.errors.CheckpointExistsError):
            sealwax.save(tmp_path / "c", state(1), overwrite=True)
        with pytest.raises(sealwax.errors.InvalidLayoutError):
            sealwax.delete(tmp_path / "c")
        assert (tmp_path / "c" / "thesis.tex").read_text() == "mine"


class TestReadableForEver:
    """P9; every release's golden checkpoints: ``tests/golden``."""

    def test_the_first_format_is_still_read_and_still_verified(self):
        golden = sorted((ROOT / "tests" / "golden").glob("v*"))
        assert golden
        for path in golden:
            # In the first one this file was changed: it told where the checkpoint had been made.
            damaged = {problem.file for problem in sealwax.verify(path).problems}
            assert damaged == ({"commit_success.txt"} if path.name == "v1" else set())

    def test_a_later_format_is_refused_in_one_sentence(self, tmp_path):
        from sealwax.layouts import manifest

        sealwax.save(tmp_path / "c", {"step": 1})
        file = tmp_path / "c" / "state" / manifest.NAME
        item = manifest.decode(file.read_bytes(), manifest.Item, "")
        later = manifest.encode(
            manifest.Item(**{n: getattr(item, n) for n in item.__struct_fields__} | {"format": 99})
        )
        file.write_bytes(later)
        (tmp_path / "c" / manifest.NAME).unlink()
        with pytest.raises(sealwax.errors.InvalidLayoutError, match="99"):
            sealwax.load(tmp_path / "c")


class TestExitSafety:
    """P10; every way to exit in ``tests/test_exit.py``."""

    def run(self, tmp_path, code):
        quiet = "import sealwax; sealwax.runtime.exits._wait._silence = 600.0\n"
        return subprocess.run(
            [sys.executable, "-c", quiet + textwrap.dedent(code), str(tmp_path / "c")],
            capture_output=True,
            text=True,
            timeout=100,
        )

    def test_a_save_that_still_runs_is_finished(self, tmp_path):
        done = self.run(
            tmp_path,
            """
            import sys, numpy, sealwax
            sealwax.save_async(sys.argv[1], {"w": numpy.arange(5)})
            """,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert sealwax.load(tmp_path / "c")["w"].tolist() == [0, 1, 2, 3, 4]

    def test_one_that_failed_unseen_makes_the_exit_status_nonzero(self, tmp_path):
        done = self.run(
            tmp_path,
            """
            import sys, numpy, sealwax
            with sealwax.effect_handlers.inject(sealwax.effects.Rename, error=OSError(5, "bad")):
                sealwax.save_async(sys.argv[1], {"w": numpy.arange(5)})
            """,
        )
        assert done.returncode == 74
        assert "nobody asked for its result" in done.stderr
        assert not (tmp_path / "c").exists()
