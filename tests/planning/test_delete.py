"""What a plan of a deletion is, for every site: nothing is looked at and nothing is done."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from returns.result import Success

from sealwax.context import Context
from sealwax.effects import (
    Entry,
    MakeDirectory,
    Plan,
    RemoveFile,
    RemoveTree,
    Rename,
    Replace,
    SyncDirectory,
    WriteFile,
)
from sealwax.errors import DeletionRecoveryError, InvalidLayoutError, SealwaxError
from sealwax.layouts import deletion
from sealwax.layouts.detect import Found
from sealwax.layouts.strangers import known, strangers
from sealwax.planning.delete import DeleteRequest, DeleteSite, plan_delete
from sealwax.planning.delete_item import plan_delete_item
from sealwax.planning.names import leftovers, temporary

PATH, BESIDE = "/runs/a/7", "/runs/a"
TOKEN, OTHER = "0123456789abcdef" * 2, "f" * 32
NOW = 1_769_903_999_000_042_000
ITEMS = ("state", "opt", "extra")
METADATA: dict[str, Any] = {"item_handlers": dict.fromkeys(ITEMS, "Tree"), "metrics": {}}
TREE = ("_METADATA", "d", "manifest.ocdbt")


def request(item: str | None = None, missing_ok: bool = False, **changes: Any) -> DeleteRequest:
    options = Context().replace(changes).options if changes else Context().options
    return DeleteRequest(path=PATH, item=item, missing_ok=missing_ok, options=options)


def site(record: deletion.Record | None = None, **parts: Any) -> DeleteSite:
    top = ("_CHECKPOINT_METADATA", "commit_success.txt", "orbax.checkpoint")
    found = Found(
        path=PATH,
        entry=Entry.DIRECTORY,
        names=(*top, *ITEMS),
        items=dict.fromkeys(ITEMS, TREE),
        above=parts.pop("above", ("7",)),
        deletion=None if record is None else Success(record),
    )
    whole: dict[str, Any] = {
        "entries": dict.fromkeys(ITEMS, Entry.DIRECTORY),
        "inside": found.items,
        "target": Entry.DIRECTORY,
        "metadata": json.dumps(METADATA).encode(),
        "token": TOKEN,
        "now": NOW,
    }
    return DeleteSite(found=found, **whole | parts)


def effects(plan: Plan, *but: type) -> list[Any]:
    return [step.effect for step in plan.steps[:-1] if not isinstance(step.effect, but)]


DURABLE = st.sampled_from(["durable", "atomic"])
KEPT = st.none() | st.sampled_from(["trash", "a/b"])
SIBLINGS = st.sets(
    st.sampled_from(["7", "70", temporary("7", OTHER), temporary("8", OTHER), "7.orbax-x"])
)


@st.composite
def plans(draw: st.DrawFn) -> tuple[DeleteRequest, DeleteSite, Plan]:
    item = draw(st.none() | st.sampled_from(ITEMS))
    asked = request(
        item, **{"file.durability": draw(DURABLE), "deletion.todelete_subdir": draw(KEPT)}
    )
    begun = None
    if item is not None and draw(st.booleans()):
        begun = deletion.begin(METADATA, item, OTHER, draw(st.sampled_from([None, "trash/x"])))
    there = draw(st.sampled_from([None, Entry.DIRECTORY])) if begun else Entry.DIRECTORY
    where = site(begun, target=there, above=tuple(draw(SIBLINGS)))
    made = plan_delete_item(asked, where, item) if item else plan_delete(asked, where)
    return asked, where, made.unwrap()


class TestEveryPlan:
    @given(plans())
    def test_nothing_but_what_was_renamed_or_is_ours_is_removed(self, made: Any) -> None:
        _, where, plan = made
        moved = {x.target for x in effects(plan) if isinstance(x, Rename)}
        ours = {f"{BESIDE}/{name}" for name in leftovers(PATH, where.found.above)}
        for effect in effects(plan):
            match effect:
                case RemoveTree(path=path, abandoned=abandoned):
                    left = path == temporary(PATH, OTHER)
                    assert path in ours if abandoned else path in moved or left
                case RemoveFile(path=path):
                    assert path == f"{PATH}/_CHECKPOINT_DELETION" or temporary("", "")[:9] in path

    @given(plans())
    def test_steps_follow_one_another(self, made: Any) -> None:
        plan = made[2]
        for step in plan.steps[1:-1]:
            assert step.needs == {step.number - 1}

    @given(plans())
    def test_syncs_are_there_or_none(self, made: Any) -> None:
        asked, _, plan = made
        synced = [x for x in effects(plan) if isinstance(x, SyncDirectory) or getattr(x, "sync", 0)]
        assert bool(synced) == asked.durable

    @given(plans())
    def test_what_is_kept_is_never_removed(self, made: Any) -> None:
        asked, where, plan = made
        begun = where.found.deletion
        kept = asked.kept_in if begun is None else begun.unwrap().destination
        trees = [x for x in effects(plan) if isinstance(x, RemoveTree) and not x.abandoned]
        assert len(trees) == (kept is None and where.target is not None)

    @given(plans())
    def test_the_table_names_what_would_be_renamed(self, made: Any) -> None:
        plan = made[2]
        for rename in (x for x in effects(plan) if isinstance(x, Rename)):
            assert f"rename {rename.source} to {rename.target}" in str(plan)


class TestWhole:
    def test_it_leaves_with_one_rename_that_is_durable_before_anything_is_removed(self) -> None:
        aside = temporary(PATH, TOKEN)
        plan = plan_delete(request(), site()).unwrap()
        assert effects(plan) == [
            Rename(source=PATH, target=aside),
            SyncDirectory(path=BESIDE),
            RemoveTree(path=aside),
        ]
        assert plan.seal == 0

    def test_it_is_moved_under_the_time_where_that_is_asked_for(self) -> None:
        plan = plan_delete(request(**{"deletion.todelete_subdir": "old/./b"}), site()).unwrap()
        target = "/runs/a/old/b/7-20260131-235959-000042"
        assert effects(plan) == [
            MakeDirectory(path="/runs/a/old", parents=True),
            MakeDirectory(path="/runs/a/old/b", parents=True),
            SyncDirectory(path="/runs/a/old"),
            SyncDirectory(path="/runs/a"),
            Rename(source=PATH, target=target),
            SyncDirectory(path="/runs/a/old/b"),
            SyncDirectory(path="/runs/a"),
        ]

    def test_where_nothing_is_leftovers_of_an_interrupted_one_are_removed(self) -> None:
        nothing = site(above=(temporary("7", OTHER),))
        found = dataclasses.replace(nothing.found, entry=None, names=(), items={})
        plan = plan_delete(request(), dataclasses.replace(nothing, found=found)).unwrap()
        assert effects(plan) == [RemoveTree(path=temporary(PATH, OTHER), abandoned=True)]

    @pytest.mark.parametrize("missing_ok", [True, False])
    def test_where_nothing_is_and_was(self, missing_ok: bool) -> None:
        nothing = dataclasses.replace(site(), found=Found(path=PATH, entry=None))
        made = plan_delete(request(missing_ok=missing_ok), nothing)
        if missing_ok:
            assert effects(made.unwrap()) == []
        else:
            assert isinstance(made.failure(), FileNotFoundError)


class TestOneItem:
    def test_the_record_comes_first_and_goes_last(self) -> None:
        plan = plan_delete_item(request("opt"), site(), "opt").unwrap()
        published, metadata = f"{PATH}/_CHECKPOINT_DELETION", f"{PATH}/_CHECKPOINT_METADATA"
        aside = temporary(PATH, TOKEN)
        record = deletion.begin(METADATA, "opt", TOKEN, None)
        assert effects(plan, SyncDirectory) == [
            WriteFile(path=temporary(published, TOKEN), content=deletion.encode(record)),
            Rename(source=temporary(published, TOKEN), target=published),
            Rename(source=f"{PATH}/opt", target=aside),
            WriteFile(
                path=temporary(metadata, TOKEN), content=deletion.encode_metadata(record.updated)
            ),
            Replace(source=temporary(metadata, TOKEN), target=metadata),
            RemoveFile(path=published),
            RemoveTree(path=aside),
        ]
        assert plan.seal == 1
        assert plan.undo == (RemoveFile(path=temporary(published, TOKEN)),)

    def test_each_change_is_durable_before_the_next_depends_on_it(self) -> None:
        plan = plan_delete_item(request("opt"), site(), "opt").unwrap()
        kinds = [type(x).__name__ for x in effects(plan)]
        assert kinds == [
            *("WriteFile", "Rename", "SyncDirectory"),
            *("Rename", "SyncDirectory", "SyncDirectory"),
            *("WriteFile", "Replace", "SyncDirectory"),
            *("RemoveFile", "SyncDirectory", "RemoveTree"),
        ]

    def test_finishing_does_only_what_is_left(self) -> None:
        record = deletion.begin(METADATA, "opt", OTHER, None)
        done = json.dumps(record.updated).encode()
        plan = plan_delete_item(
            request("opt"), site(record, target=None, metadata=done), "opt"
        ).unwrap()
        published = f"{PATH}/_CHECKPOINT_DELETION"
        assert effects(plan, SyncDirectory) == [RemoveFile(path=published)]

    @pytest.mark.parametrize("place", ["gs://b/x", "/etc/x", "../x", "a/../../x", ""])
    def test_a_record_cannot_move_anything_elsewhere(self, place: str) -> None:
        record = deletion.begin(METADATA, "opt", OTHER, place)
        made = plan_delete_item(request("opt"), site(record), "opt")
        assert isinstance(made.failure(), DeletionRecoveryError)

    def test_an_unfinished_one_of_another_item_comes_first(self) -> None:
        record = deletion.begin(METADATA, "opt", OTHER, None)
        made = plan_delete_item(request("state"), site(record), "state")
        assert isinstance(made.failure(), DeletionRecoveryError)


_NAMES = st.sampled_from(ITEMS)


class TestRecords:
    @given(_NAMES, st.none() | st.just("trash/x"))
    def test_what_is_written_is_read(self, item: str, destination: str | None) -> None:
        record = deletion.begin(METADATA, item, TOKEN, destination)
        for metadata in (record.original, record.updated):
            found = deletion.read(
                deletion.encode(record), json.dumps(metadata).encode(), "/x"
            ).unwrap()
            assert found == record

    @pytest.mark.parametrize(
        "change",
        [
            {"operation_id": "x"},
            {"operation_id": TOKEN.upper()},
            {"operation_id": None},
            {"checkpointable_name": "../x"},
            {"checkpointable_name": "zz"},
            {"checkpointable_name": 1},
            {"destination": 3},
            {"original_metadata": []},
            {"original_metadata": METADATA | {"metrics": 1}},
            {"updated_metadata": {}},
            {"updated_metadata": METADATA},
        ],
        ids=str,
    )
    def test_what_no_deletion_can_have_left_is_refused(self, change: dict[str, Any]) -> None:
        fields = json.loads(deletion.encode(deletion.begin(METADATA, "opt", TOKEN, None)))
        data = json.dumps(fields | change).encode()
        found = deletion.read(data, json.dumps(METADATA).encode(), "/x/_CHECKPOINT_DELETION")
        assert isinstance(found.failure(), DeletionRecoveryError)
        assert isinstance(found.failure(), SealwaxError)

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"null"])
    def test_what_is_no_record_is_refused(self, data: bytes) -> None:
        found = deletion.read(data, json.dumps(METADATA).encode(), "/x")
        assert isinstance(found.failure(), DeletionRecoveryError)

    def test_a_record_of_other_metadata_is_refused(self) -> None:
        data = deletion.encode(deletion.begin(METADATA, "opt", TOKEN, None))
        for metadata in (None, b"{}", b"x"):
            assert deletion.read(data, metadata, "/x").failure()


class TestStrangers:
    @pytest.mark.parametrize(
        ("name", "inside", "listed"),
        [
            ("state", ("anything",), True),
            ("old", ("_METADATA",), True),
            ("old", ("commit_success.txt",), True),
            ("empty", (), True),
            ("cfg", ("metadata",), False),
            ("w", (".zarray", "0"), False),
        ],
    )
    def test_items_are_none(self, name: str, inside: tuple[str, ...], listed: bool) -> None:
        handlers = METADATA["item_handlers"] if listed else "Tree"
        assert list(strangers({name: Entry.DIRECTORY}, {name: inside}, handlers)) == []

    @pytest.mark.parametrize(
        ("name", "entry", "inside"),
        [
            ("notes.txt", Entry.FILE, ()),
            ("state", Entry.SYMLINK, ()),
            ("plots", Entry.DIRECTORY, ("a.png",)),
            ("cfg", Entry.DIRECTORY, ("metadata",)),
            ("nested", Entry.DIRECTORY, ("_CHECKPOINT_METADATA", "state", "_METADATA")),
        ],
    )
    def test_what_is_somebodys(self, name: str, entry: Entry, inside: tuple[str, ...]) -> None:
        found = strangers({name: entry}, {name: inside}, METADATA["item_handlers"])
        assert list(found) == [name]

    def test_files_of_a_tree_are_known_only_where_there_is_one(self) -> None:
        for name in ("_sharding", "d", "ocdbt.process_0"):
            assert (known(name, flat=True), known(name, flat=False)) == (True, False)
        assert known(".DS_Store", flat=False)
        assert not known("README.md", flat=True)

    def test_they_are_named_and_stay_unless_the_checkpoint_is_only_moved(self) -> None:
        where = site()
        entries = {**where.entries, "thesis.tex": Entry.FILE}
        where = dataclasses.replace(where, entries=entries)
        refused = plan_delete(request(), where).failure()
        assert isinstance(refused, InvalidLayoutError)
        assert "'thesis.tex'" in str(refused)
        moving = plan_delete(request(**{"deletion.todelete_subdir": "trash"}), where).unwrap()
        assert not any(isinstance(x, RemoveTree) for x in effects(moving))
