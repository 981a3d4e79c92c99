"""``dry_run``: nothing happens, the operation ends, and the report is what would have happened."""

from __future__ import annotations

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sealwax
from sealwax import effects as e
from sealwax.context import Context
from sealwax.effect_handlers import dry_run, inject, record
from sealwax.errors import CheckpointExistsError, CheckpointNotFoundError
from tests.crash.states import LAYOUTS, context, state

RAW = Context().at.array.saving.use_compression.set(False)


def contents(root: Path) -> dict[str, bytes | None]:
    """Everything below a directory, to the last byte."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in root.rglob("*")}


def sizes(root: Path) -> dict[str, int]:
    return {str(p): p.stat().st_size for p in root.rglob("*") if p.is_file()}


def exact(name: str) -> bool:
    """Whether the size of a file does not depend on checksums and times."""
    return name.endswith(("0", "manifest.ocdbt", "zarr.json", "_strings.json", "_METADATA"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("overwrite", [False, True], ids=["fresh", "overwrite"])
@pytest.mark.parametrize("verb", ["save", "save_async"])
class TestSave:
    def test_nothing_changes_and_the_report_has_the_files_of_the_real_save(
        self, tmp_path, layout, overwrite, verb
    ):
        path = tmp_path / "new" / "c"
        how = context(layout).replace({"array.saving.use_compression": False})
        if overwrite:
            sealwax.save(path, state(1))
        before = contents(tmp_path)

        def save() -> None:
            done = getattr(sealwax, verb)(path, state(2), overwrite=overwrite, context=how)
            if verb == "save_async":
                done.result()

        with dry_run() as dry:
            save()
        assert contents(tmp_path) == before
        report = dry.report
        save()
        real = sizes(path)
        assert report.files.keys() == real.keys()
        different = {k for k in real if report.files[k] != real[k]}
        assert not any(exact(name) for name in different)
        assert report.removed == ((str(path),) if overwrite else ())

    def test_the_effects_are_those_of_the_plan(self, tmp_path, layout, overwrite, verb):
        path = tmp_path / "c"
        if overwrite:
            sealwax.save(path, state(1))
        how = {"overwrite": overwrite, "context": context(layout)}
        plan = sealwax.plan_save(path, state(2), **how)
        with dry_run() as dry:
            sealwax.save(path, state(2), **how)
        looking = sum(isinstance(step.effect, e.Now) for step in plan.steps)
        assert len(dry.report.effects) == plan.effects - looking
        assert dry.report.bytes >= plan.bytes


class TestWhatItAnswers:
    @settings(max_examples=20)
    @given(
        shape=st.lists(st.integers(0, 7), max_size=3).map(tuple),
        chunk=st.integers(4, 64),
        layout=st.sampled_from(sorted(LAYOUTS)),
    )
    def test_any_array_goes_through(self, tmp_path_factory, shape, chunk, layout):
        how = context(layout).replace({"array.saving.storage_options.chunk_byte_size": chunk})
        path = tmp_path_factory.mktemp("dry") / "c"
        with dry_run() as dry:
            sealwax.save(path, {"w": np.zeros(shape, np.int32)}, context=how)
        assert dry.report.bytes >= int(np.prod(shape)) * 4
        assert list(path.parent.iterdir()) == []

    def test_no_data_is_brought_to_the_host(self, tmp_path):
        with record() as trace, dry_run() as dry:
            sealwax.save(tmp_path / "c", {"w": jnp.zeros(100_000)})
        assert not {"Stage", "Probe"} & set(trace.kinds())
        assert "Stage" in {type(effect).__name__ for effect in dry.report.effects}

    def test_what_stands_in_the_way_is_seen(self, tmp_path):
        sealwax.save(tmp_path / "c", {"step": 1})
        with dry_run(), pytest.raises(CheckpointExistsError):
            sealwax.save(tmp_path / "c", {"step": 2})

    def test_a_load_loads(self, tmp_path):
        sealwax.save(tmp_path / "c", {"step": 1, "w": np.arange(3)})
        with dry_run() as dry:
            assert sealwax.load(tmp_path / "c")["w"].tolist() == [0, 1, 2]
            with pytest.raises(CheckpointNotFoundError):
                sealwax.load(tmp_path / "d")
        assert dry.report.effects == ()
        assert dry.report.files == {}

    def test_nothing_of_the_users_is_called(self, tmp_path):
        called = []
        how = Context().at.asynchronous.post_finalization_callback.set(lambda: called.append(1))
        with dry_run() as dry:
            sealwax.save(tmp_path / "c", {"step": 1}, context=how)
        assert called == []
        assert "call post_finalization_callback" in str(dry.report)


class Noted(sealwax.handlers.CheckpointableHandler):
    """A user's handler, which writes files of its own."""

    def is_handleable(self, checkpointable):
        return isinstance(checkpointable, Noted)

    def is_abstract_handleable(self, abstract_checkpointable):
        return None

    async def save(self, directory, checkpointable):
        raise AssertionError("nothing is asked of it")

    async def load(self, directory, abstract_checkpointable=None):
        raise AssertionError("nothing is asked of it")

    async def metadata(self, directory):
        raise AssertionError("nothing is asked of it")


class TestOtherVerbs:
    def test_deleting(self, tmp_path):
        sealwax.save(tmp_path / "c", {"step": 1})
        before = contents(tmp_path)
        with dry_run() as dry:
            assert sealwax.delete(tmp_path / "c")
        assert contents(tmp_path) == before
        assert dry.report.removed == (str(tmp_path / "c"),)
        assert dry.report.bytes == 0

    def test_overwriting_what_is_not_there_removes_nothing(self, tmp_path):
        with dry_run() as dry:
            sealwax.save(tmp_path / "c", {"step": 1}, overwrite=True)
        assert dry.report.removed == ()
        assert f"{tmp_path}/c/state/_METADATA" in dry.report.files

    def test_several_checkpointables_and_a_handler_of_the_users(self, tmp_path):
        registry = sealwax.handlers.local_registry().add(Noted)
        how = Context().at.checkpointables.registry.set(registry)
        with dry_run() as dry:
            sealwax.save_checkpointables(
                tmp_path / "c", {"a": {"w": np.ones(3)}, "mine": Noted()}, context=how
            )
        assert os.listdir(tmp_path) == []
        assert f"{tmp_path}/c/a/d/00000000" in dry.report.files


class TestReport:
    def test_it_adds_up_over_operations(self, tmp_path):
        with dry_run() as dry:
            for step in range(3):
                sealwax.save(tmp_path / f"step_{step}", {"w": np.zeros(1000)}, context=RAW)
        names = {Path(name).relative_to(tmp_path).parts[0] for name in dry.report.files}
        assert names == {"step_0", "step_1", "step_2"}
        assert dry.report.bytes > 24_000

    def test_what_would_have_failed_leaves_no_files(self, tmp_path):
        broken = inject(e.Rename, error=OSError(5, "bad"))
        with dry_run() as dry, broken, pytest.raises(OSError, match="bad"):
            sealwax.save(tmp_path / "c", {"step": 1})
        assert dry.report.files == {}
        assert dry.report.removed == ()

    def test_leftovers_of_others_would_be_removed(self, tmp_path):
        broken = inject((e.RemoveTree, e.Rename), error=lambda _: OSError(5, "bad"))
        with broken, pytest.raises(OSError, match="seal"):
            sealwax.save(tmp_path / "c", {"step": 1})
        (left,) = tmp_path.iterdir()
        with dry_run() as dry:
            sealwax.save(tmp_path / "c", {"step": 1})
        assert dry.report.removed == (str(left),)
        assert left.exists()

    def test_it_prints_as_a_table(self, tmp_path):
        sealwax.save(tmp_path / "c", {"step": 1})
        with dry_run() as dry:
            sealwax.save(tmp_path / "c", {"w": np.zeros(1000)}, overwrite=True, context=RAW)
        head, _, *rows = str(dry.report).splitlines()
        assert head.startswith("dry run, nothing was done: ")
        assert rows[-1].split() == [str(tmp_path / "c"), "replaced"]
        assert [f"{tmp_path}/c/state/d/00000000", "7.8", "KiB"] in [row.split() for row in rows]

    def test_a_long_one_is_cut(self, tmp_path):
        with dry_run() as dry:
            sealwax.save(
                tmp_path / "c", {f"w{n}": n * 1.0 for n in range(100)}, context=context("files")
            )
        assert "more files" in str(dry.report)
        assert len(str(dry.report).splitlines()) == 43
