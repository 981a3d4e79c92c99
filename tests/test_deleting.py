"""Deleting checkpoints and items of them: what goes, what stays, and what is refused."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import sealwax as ocp
from sealwax import effects as e
from sealwax import errors
from sealwax.effect_handlers import inject, record
from tests.interop.several import MAKERS, TREES, by_sealwax, holds, loads

STATE = {"a": np.arange(3)}
BROKEN = OSError(errno.EIO, "input/output error")


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    ocp.save(tmp_path / "ckpt", STATE)
    return tmp_path / "ckpt"


@pytest.fixture(params=MAKERS)
def several(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return MAKERS[request.param](tmp_path / "ckpt")


def begun(path: Path, item: str = "opt", **changes: Any) -> None:
    """Leaves a checkpoint as a deletion does that was interrupted after its record."""
    metadata = json.loads((path / "_CHECKPOINT_METADATA").read_bytes())
    handlers = {k: v for k, v in metadata["item_handlers"].items() if k != item}
    fields = {
        "checkpointable_name": item,
        "destination": None,
        "operation_id": "ab" * 16,
        "original_metadata": metadata,
        "updated_metadata": metadata | {"item_handlers": handlers},
    }
    (path / "_CHECKPOINT_DELETION").write_text(json.dumps(fields | changes))


def snapshot(root: Path) -> dict[str, Any]:
    return {
        str(x.relative_to(root)): os.readlink(x)
        if x.is_symlink()
        else x.is_file() and x.read_bytes()
        for x in root.rglob("*")
    }


class TestWholeCheckpoints:
    def test_it_is_gone(self, ckpt: Path) -> None:
        assert ocp.delete(ckpt) is True
        assert os.listdir(ckpt.parent) == []

    def test_a_missing_one(self, ckpt: Path) -> None:
        with pytest.raises(FileNotFoundError, match="Did you mean 'ckpt'") as caught:
            ocp.delete(ckpt.with_name("ckp"))
        assert isinstance(caught.value, errors.CheckpointNotFoundError)
        assert ocp.delete(ckpt.with_name("ckp"), missing_ok=True) is False
        assert ocp.delete(ckpt.parent / "no" / "where", missing_ok=True) is False

    @pytest.mark.parametrize("flag", [1, None, "yes", np.bool_(True)], ids=repr)
    def test_missing_ok_is_a_bool(self, ckpt: Path, flag: Any) -> None:
        with pytest.raises(TypeError, match="missing_ok"):
            ocp.delete(ckpt, missing_ok=flag)
        assert ckpt.exists()

    def test_an_empty_directory(self, tmp_path: Path) -> None:
        (tmp_path / "x").mkdir()
        assert ocp.delete(tmp_path / "x") is True
        assert os.listdir(tmp_path) == []

    def test_what_has_lost_its_metadata_but_not_its_marker(self, ckpt: Path) -> None:
        (ckpt / "_CHECKPOINT_METADATA").unlink()
        assert ocp.delete(ckpt)

    def test_one_with_an_unfinished_or_unreadable_deletion_inside(self, several: Path) -> None:
        begun(several)
        twin = Path(shutil.copytree(several, several.with_name("twin")))
        (twin / "_CHECKPOINT_DELETION").write_text("{")
        assert ocp.delete(several)
        assert ocp.delete(twin)

    REFUSED: ClassVar[dict[str, tuple[type[Exception], str]]] = {
        "file": (NotADirectoryError, "A file is at the path"),
        "link": (ValueError, "symbolic link is at the path"),
        "other": (ValueError, "not a checkpoint.*'notes.txt'"),
        "run": (ValueError, "holds 2 checkpoints.*Delete one of them"),
        "x.orbax-checkpoint-tmp": (ValueError, "not finished"),
        "run/1/state": (ValueError, r"Delete '.*/run/1' with checkpointable_name='state'"),
        "run/1/empty": (ValueError, "inside a checkpoint"),
        "run/1/state/d": (ValueError, "not a checkpoint"),
        "bare": (ValueError, "Nothing in this directory says that it is a checkpoint"),
    }

    @pytest.mark.parametrize("name", REFUSED)
    def test_what_is_not_a_checkpoint_stays(self, tmp_path: Path, name: str) -> None:
        for step in ("1", "2"):
            ocp.save(tmp_path / "run" / step, STATE)
        (tmp_path / "run" / "1" / "empty").mkdir()
        (tmp_path / "link").symlink_to("run/1")
        (tmp_path / "file").write_text("precious")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "notes.txt").write_text("precious")
        (tmp_path / "x.orbax-checkpoint-tmp").mkdir()
        shutil.copytree(tmp_path / "run" / "1" / "state", tmp_path / "bare" / "a")
        before = snapshot(tmp_path)
        kind, message = self.REFUSED[name]
        with pytest.raises(kind, match=message) as caught:
            ocp.delete(tmp_path / name)
        assert isinstance(caught.value, errors.SealwaxError)
        assert snapshot(tmp_path) == before

    @pytest.mark.parametrize("path", ["/", ".", "..", "x/..", "x/.", "./", ""])
    def test_paths_that_name_nothing(self, ckpt: Path, path: str, monkeypatch: Any) -> None:
        monkeypatch.chdir(ckpt)
        with pytest.raises(ValueError, match=r"[Pp]ath|root"):
            ocp.delete(path)
        assert ckpt.exists()

    def test_a_link_with_a_slash_is_still_a_link(self, ckpt: Path) -> None:
        ckpt.with_name("link").symlink_to(ckpt)
        with pytest.raises(ValueError, match="symbolic link"):
            ocp.delete(f"{ckpt}/../link/")
        assert ocp.load(ckpt)["a"].tolist() == [0, 1, 2]

    def test_a_link_above_leads_where_it_leads(self, ckpt: Path) -> None:
        (ckpt.parent / "up").symlink_to(ckpt.parent, target_is_directory=True)
        with pytest.raises(ValueError, match="inside a checkpoint"):
            ocp.delete(ckpt.parent / "up" / "ckpt" / "state")
        assert ocp.delete(ckpt.parent / "up" / "ckpt")
        assert not ckpt.exists()

    def test_links_inside_are_not_followed(self, ckpt: Path) -> None:
        outside = ckpt.parent / "outside"
        outside.mkdir()
        (outside / "precious").write_text("x")
        (ckpt / "state" / "deep").symlink_to(outside)
        (ckpt / "top").symlink_to(outside)
        with pytest.raises(errors.InvalidLayoutError, match="'top'"):
            ocp.delete(ckpt)
        (ckpt / "top").unlink()
        assert ocp.delete(ckpt)
        assert (outside / "precious").read_text() == "x"

    @pytest.mark.parametrize("name", ["notes.txt", "plots/loss.png", "second/_CHECKPOINT_METADATA"])
    def test_what_somebody_else_put_there_stays_and_is_named(
        self, several: Path, name: str
    ) -> None:
        (several / name).parent.mkdir(exist_ok=True)
        (several / name).write_text("precious")
        before = snapshot(several)
        with pytest.raises(errors.InvalidLayoutError, match=f"Found '{name.split('/')[0]}'"):
            ocp.delete(several)
        assert snapshot(several) == before
        shutil.rmtree(several / "plots", ignore_errors=True)

    def test_litter_is_nobodys(self, ckpt: Path) -> None:
        (ckpt / ".DS_Store").write_bytes(b"\0")
        assert ocp.delete(ckpt)

    def test_what_an_interrupted_one_left_is_removed_by_the_next(self, ckpt: Path) -> None:
        with inject(e.RemoveTree, error=BROKEN), pytest.raises(errors.StorageError):
            ocp.delete(ckpt)
        assert not ckpt.exists()
        assert len(os.listdir(ckpt.parent)) == 1
        assert ocp.delete(ckpt) is True
        assert os.listdir(ckpt.parent) == []
        with pytest.raises(FileNotFoundError):
            ocp.delete(ckpt)

    def test_what_an_interrupted_one_left_is_removed_by_the_next_save(self, ckpt: Path) -> None:
        with inject(e.RemoveTree, error=BROKEN), pytest.raises(errors.StorageError):
            ocp.delete(ckpt)
        ocp.save(ckpt, STATE)
        assert os.listdir(ckpt.parent) == ["ckpt"]

    def test_somebody_else_was_quicker(self, ckpt: Path) -> None:
        class Race(ocp.effect_handlers.Handler):
            async def perform(self, effect: Any, forward: Any) -> Any:
                if isinstance(effect, e.Rename):
                    shutil.rmtree(ckpt, ignore_errors=True)
                return await forward(effect)

        with Race(), pytest.raises(errors.CheckpointNotFoundError):
            ocp.delete(ckpt)

    def test_without_permission(self, ckpt: Path) -> None:
        refused = PermissionError(errno.EACCES, "Permission denied", str(ckpt))
        with inject(e.Rename, error=refused), pytest.raises(OSError, match="denied") as caught:
            ocp.delete(ckpt)
        assert caught.value.errno == errno.EACCES
        assert "Check the permissions" in str(caught.value)
        assert ocp.load(ckpt)["a"].tolist() == [0, 1, 2]

    def test_safetensors_is_not_a_layout_of_ours(self, ckpt: Path) -> None:
        context = ocp.Context().at.checkpoint_layout.set("safetensors")
        with pytest.raises(errors.OptionUnavailableError, match="layout"):
            ocp.delete(ckpt, context=context)


class TestOneItem:
    def test_it_is_gone_and_the_others_are_as_they_were(self, several: Path) -> None:
        assert ocp.delete(several, checkpointable_name="opt") is True
        assert os.listdir(several.parent) == ["ckpt"]
        holds(several, "state", "extra")

    def test_custom_metadata_stays(self, tmp_path: Path) -> None:
        by_sealwax(tmp_path / "ckpt")
        ocp.delete(tmp_path / "ckpt", checkpointable_name="opt")
        assert ocp.metadata(tmp_path / "ckpt").custom_metadata == {"run": 7}

    def test_all_but_the_last(self, several: Path) -> None:
        ocp.delete(several, checkpointable_name="opt")
        ocp.delete(several, checkpointable_name="state")
        with pytest.raises(ValueError, match="last checkpointable.*whole checkpoint"):
            ocp.delete(several, checkpointable_name="extra")
        holds(several, "extra")

    NAMES: ClassVar[dict[str, str]] = {
        "empty": "",
        "dot": ".",
        "dots": "..",
        "path": "a/b",
        "backslash": "a\\b",
        "null": "a\0b",
        "metrics": "metrics",
        "auto": "AUTO",
        "record": "_CHECKPOINT_DELETION",
        "metadata": "_CHECKPOINT_METADATA",
    }

    @pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
    def test_names_that_no_item_has(self, several: Path, name: str) -> None:
        before = snapshot(several)
        with pytest.raises(ValueError, match="name"):
            ocp.delete(several, checkpointable_name=name)
        assert snapshot(several) == before

    def test_a_name_that_is_no_string(self, several: Path) -> None:
        with pytest.raises(TypeError, match="not a string"):
            ocp.delete(several, checkpointable_name=1)  # pyright: ignore[reportArgumentType]

    def test_an_item_that_is_not_there(self, several: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no checkpointable 'zz'.*'opt'"):
            ocp.delete(several, checkpointable_name="zz")
        assert ocp.delete(several, checkpointable_name="zz", missing_ok=True) is False
        holds(several, *TREES)

    def test_a_checkpoint_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            ocp.delete(tmp_path / "x", checkpointable_name="a")
        assert not ocp.delete(tmp_path / "x", checkpointable_name="a", missing_ok=True)

    def test_a_directory_that_is_no_item_stays(self, several: Path) -> None:
        (several / "notes").mkdir()
        with pytest.raises(FileNotFoundError, match="but a directory of that name"):
            ocp.delete(several, checkpointable_name="notes", missing_ok=True)
        assert (several / "notes").is_dir()

    def test_a_link_in_place_of_an_item_stays(self, several: Path) -> None:
        (several / "opt").rename(several.parent / "moved")
        (several / "opt").symlink_to(several.parent / "moved")
        with pytest.raises(errors.InvalidLayoutError, match="symbolic link"):
            ocp.delete(several, checkpointable_name="opt")
        assert (several.parent / "moved" / "d").is_dir()

    def test_a_flat_checkpoint_has_none(self, ckpt: Path) -> None:
        flat = ckpt.parent / "flat"
        shutil.copytree(ckpt / "state", flat)
        metadata = json.loads((ckpt / "_CHECKPOINT_METADATA").read_bytes())
        text = json.dumps(metadata | {"item_handlers": "Tree"})
        (flat / "_CHECKPOINT_METADATA").write_text(text)
        with pytest.raises(errors.InvalidLayoutError, match="whole checkpoint"):
            ocp.delete(flat, checkpointable_name="state")
        assert ocp.delete(flat)

    def test_files_of_others_do_not_matter(self, several: Path) -> None:
        (several / "notes.txt").write_text("precious")
        ocp.delete(several, checkpointable_name="opt")
        holds(several, "state", "extra")
        assert (several / "notes.txt").read_text() == "precious"


class TestWhileOneIsUnfinished:
    def test_its_item_does_not_count_and_the_log_says_so(self, several: Path, caplog: Any) -> None:
        begun(several, "state")
        with caplog.at_level(logging.WARNING, "sealwax"):
            assert ocp.load(several).keys() in ({"mu"}, {"n"})
            assert ocp.metadata(several).metadata.keys() in ({"mu"}, {"n"})
        assert "'state'" in caplog.text
        assert "being deleted" in caplog.text

    def test_asking_for_it_is_an_error(self, several: Path) -> None:
        begun(several)
        for ask in (ocp.load, ocp.metadata):
            with pytest.raises(errors.DeletionInProgressError, match="Finish it") as caught:
                ask(several, checkpointable_name="opt")
            assert isinstance(caught.value, RuntimeError)

    def test_the_others_load(self, several: Path) -> None:
        begun(several)
        loads(several, "state", "extra")

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_nothing_is_saved_there(self, several: Path, overwrite: bool) -> None:
        begun(several)
        before = snapshot(several)
        with pytest.raises(errors.DeletionInProgressError, match="Repeat that deletion"):
            ocp.save(several, STATE, overwrite=overwrite)
        assert snapshot(several) == before

    def test_it_is_still_a_checkpoint(self, several: Path) -> None:
        begun(several)
        assert ocp.is_orbax_checkpoint(several)

    def test_another_deletion_waits(self, several: Path) -> None:
        begun(several)
        with pytest.raises(errors.DeletionRecoveryError, match="another checkpointable, 'opt'"):
            ocp.delete(several, checkpointable_name="extra")
        assert ocp.delete(several, checkpointable_name="opt")
        assert ocp.delete(several, checkpointable_name="extra")
        holds(several, "state")

    def test_repeating_it_finishes_it(self, several: Path) -> None:
        begun(several)
        (several / "opt" / "_METADATA").unlink()
        assert ocp.delete(several, checkpointable_name="opt") is True
        holds(several, "state", "extra")

    def test_repeating_it_finishes_it_though_the_item_is_gone(self, several: Path) -> None:
        begun(several)
        shutil.rmtree(several / "opt")
        assert ocp.delete(several, checkpointable_name="opt", missing_ok=True) is True
        holds(several, "state", "extra")

    @pytest.mark.parametrize("changes", [{"operation_id": "x"}, {"updated_metadata": {}}], ids=str)
    def test_a_record_that_cannot_be_true(self, several: Path, changes: dict[str, Any]) -> None:
        begun(several, **changes)
        for attempt in (
            lambda: ocp.load(several),
            lambda: ocp.load(several, checkpointable_name="state"),
            lambda: ocp.metadata(several),
            lambda: ocp.delete(several, checkpointable_name="opt"),
        ):
            with pytest.raises(errors.DeletionRecoveryError, match="Delete the whole checkpoint"):
                attempt()
        assert ocp.delete(several)


class TestKeeping:
    """Instead of being removed, what is deleted may be moved."""

    STAMP = r"\d{8}-\d{6}-\d{6}"

    def test_todelete_subdir_moves_a_checkpoint(self, ckpt: Path) -> None:
        context = ocp.Context().at.deletion.todelete_subdir.set("trash/old")
        (ckpt / "notes.txt").write_text("moves along")
        assert ocp.delete(ckpt, context=context) is True
        assert not ckpt.exists()
        (kept,) = (ckpt.parent / "trash" / "old").iterdir()
        assert re.fullmatch(f"ckpt-{self.STAMP}", kept.name)
        assert ocp.load(kept)["a"].tolist() == [0, 1, 2]
        assert (kept / "notes.txt").exists()
        kept.rename(ckpt)
        assert ocp.load(ckpt)["a"].tolist() == [0, 1, 2]

    def test_todelete_subdir_keeps_each_of_several_of_one_name(self, tmp_path: Path) -> None:
        context = ocp.Context().at.deletion.todelete_subdir.set("trash")
        for number in range(3):
            ocp.save(tmp_path / "ckpt", {"n": number})
            ocp.delete(tmp_path / "ckpt", context=context)
        kept = sorted((tmp_path / "trash").iterdir())
        assert [ocp.load(path)["n"] for path in kept] == [0, 1, 2]

    def test_todelete_subdir_moves_an_item(self, several: Path) -> None:
        context = ocp.Context().at.deletion.todelete_subdir.set("trash")
        assert ocp.delete(several, checkpointable_name="opt", context=context)
        holds(several, "state", "extra")
        (kept,) = (several.parent / "trash").iterdir()
        assert re.fullmatch(f"ckpt-{self.STAMP}", kept.name)
        loads(kept, "opt")

    def test_todelete_full_path_counts_from_the_directory_of_the_checkpoint(
        self, ckpt: Path
    ) -> None:
        path = {"deletion.gcs_deletion_options.todelete_full_path": "trash/all"}
        assert ocp.delete(ckpt, context=ocp.Context().replace(path))
        (kept,) = (ckpt.parent / "trash" / "all").iterdir()
        assert ocp.load(kept)["a"].tolist() == [0, 1, 2]

    def test_todelete_subdir_is_relative_and_stays_below(self) -> None:
        for wrong in ("/a", "../a", "a/../..", "", "gs://a"):
            with pytest.raises(errors.OptionValueError, match="relative"):
                ocp.Context().at.deletion.todelete_subdir.set(wrong)

    def test_what_is_in_the_way_is_told_and_nothing_happens(self, ckpt: Path) -> None:
        (ckpt.parent / "trash").write_text("a file")
        context = ocp.Context().at.deletion.todelete_subdir.set("trash")
        with pytest.raises(errors.StorageError, match="trash"):
            ocp.delete(ckpt, context=context)
        assert ocp.load(ckpt)["a"].tolist() == [0, 1, 2]

    def test_an_interrupted_move_of_an_item_is_finished_as_a_move(self, several: Path) -> None:
        context = ocp.Context().at.deletion.todelete_subdir.set("trash")
        failing = inject(
            lambda x: isinstance(x, e.Rename) and x.source.endswith("/opt"),
            error=BROKEN,
        )
        with failing, pytest.raises(errors.StorageError):
            ocp.delete(several, checkpointable_name="opt", context=context)
        assert ocp.delete(several, checkpointable_name="opt")
        (kept,) = (several.parent / "trash").iterdir()
        loads(kept, "opt")
        holds(several, "state", "extra")


class TestInTheBackground:
    def test_it_no_longer_counts_when_the_call_returns(self, ckpt: Path) -> None:
        with inject(e.RemoveTree, delay=0.2):
            response = ocp.delete_async(ckpt)
            assert not ckpt.exists()
            ocp.save(ckpt, {"b": 1})
        assert response.result() is True
        assert ocp.load(ckpt) == {"b": 1}

    def test_an_item_no_longer_counts_when_the_call_returns(self, several: Path) -> None:
        with inject(lambda x: isinstance(x, e.Rename) and x.source.endswith("/opt"), delay=0.2):
            response = ocp.delete_async(several, checkpointable_name="opt")
            with pytest.raises((errors.DeletionInProgressError, ValueError)):
                ocp.load(several, checkpointable_name="opt")
        assert response.result() is True
        holds(several, "state", "extra")

    def test_what_is_refused_is_refused_at_once(self, ckpt: Path) -> None:
        with pytest.raises(FileNotFoundError):
            ocp.delete_async(ckpt.with_name("x"))
        with pytest.raises(ValueError, match="checkpointable_name='state'"):
            ocp.delete_async(ckpt / "state")
        assert ocp.delete_async(ckpt.with_name("x"), missing_ok=True).result() is False

    def test_a_failure_later_is_told_by_the_response(self, ckpt: Path) -> None:
        with inject(e.RemoveTree, error=BROKEN):
            response = ocp.delete_async(ckpt)
        with pytest.raises(errors.StorageError, match="input/output"):
            response.result()

    async def test_as_coroutines(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            await ocp.aio.save(tmp_path / name, STATE)
        assert await ocp.aio.delete(tmp_path / "a") is True
        assert await (await ocp.aio.delete_async(tmp_path / "b")) is True
        assert await ocp.aio.delete(tmp_path / "a", missing_ok=True) is False
        assert os.listdir(tmp_path) == []


class TestPlans:
    def test_a_plan_does_nothing(self, several: Path) -> None:
        before = snapshot(several.parent)
        for item in (None, "opt"):
            with record() as trace:
                plan = ocp.plan_delete(several, checkpointable_name=item)
            assert plan.effects > 2
            assert not {"Rename", "RemoveTree", "WriteFile", "WriteFiles"} & set(trace.kinds())
        assert snapshot(several.parent) == before

    def test_the_context_in_force_is_the_one_of_the_call(self, ckpt: Path) -> None:
        with ocp.Context().at.file.durability.set("atomic"):
            assert "SyncDirectory" not in {
                type(step.effect).__name__ for step in ocp.plan_delete(ckpt).steps
            }
