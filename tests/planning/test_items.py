"""Plans of several items, and what is told of a checkpoint's items before any is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax import effects as e
from sealwax import handlers
from sealwax.checkpointables.registry import Registry
from sealwax.checkpointables.typestrings import JSON, PYTREE
from sealwax.context import Context
from sealwax.effects import Entry, Plan
from sealwax.errors import CheckpointableNotFoundError, HandlerError, InvalidPathError, NoEntryError
from sealwax.layouts.detect import Found
from sealwax.layouts.manifest import Checkpoint, digest
from sealwax.layouts.orbax import Facts
from sealwax.planning.capture import capture_items
from sealwax.planning.requests import SaveRequest
from sealwax.planning.save import plan_save
from sealwax.planning.stock import choose, handler_for, take_stock
from tests.planning.requests import FREE, PATH, ROOT, TREES
from tests.points import Counter, Point, PointHandler

DEFAULTS = Context().options
ITEMS = st.dictionaries(
    st.sampled_from(["a", "b", "state", "config", "point", "loop"]), TREES, min_size=1
).map(
    lambda items: {
        name: Point(1, 2) if name == "point" else Counter(1) if name == "loop" else value
        for name, value in items.items()
        if value is not None or name in ("point", "loop")
    }
)


def registry() -> Registry:
    made = handlers.global_registry().snapshot.with_handler(PointHandler)
    return made.with_handler(handlers.JsonHandler, checkpointable_name="settings")


def planned(items: dict[str, Any], **parts: Any) -> Plan:
    captured = capture_items(items, DEFAULTS, registry()).unwrap()
    request = SaveRequest(
        path=PATH, items=tuple(c.item for c in captured), options=DEFAULTS, named=True, **parts
    )
    return plan_save(request, FREE).unwrap()


class TestSaves:
    @given(ITEMS.filter(bool), st.booleans())
    def test_there_is_one_seal_and_it_waits_for_everything(self, items, background) -> None:
        plan = planned(items, background=background)
        (seal,) = [s for s in plan.steps if isinstance(s.effect, e.Rename | e.Exchange)]
        assert plan.seal == seal.number
        assert seal.needs == frozenset(range(seal.number))
        assert plan.title == (
            "save_checkpointables_async" if background else "save_checkpointables"
        )

    @given(ITEMS.filter(bool))
    def test_items_wait_for_nothing_of_each_other(self, items) -> None:
        plan = planned(items)
        for step in plan.steps:
            for need in step.needs if step.item is not None else ():
                assert plan.steps[need].item in (step.item, None)
        for name in items:
            own = [s for s in plan.steps if s.item == name]
            inside = f"{ROOT}/{name}"
            made = [s.effect.path for s in own if isinstance(s.effect, e.MakeDirectory)]
            assert made[0] == inside
            for step in own:
                path = getattr(step.effect, "path", None) or getattr(step.effect, "directory", None)
                assert path is None or f"{path}/".startswith(f"{inside}/")

    @given(ITEMS.filter(bool))
    def test_all_that_is_written_is_synced_where_it_lies(self, items) -> None:
        plan = planned(items)
        synced = [s for s in plan.steps if isinstance(s.effect, e.SyncTree)]
        (last,) = synced
        summed = [s.effect.path for s in plan.steps if isinstance(s.effect, e.DigestTree)]
        for step in plan.steps:
            match step.effect:
                case (
                    e.WriteFile(path=path, sync=sync)
                    | e.WriteBatch(path=path, sync=sync)
                    | e.WriteFiles(directory=path, sync=sync)
                ):
                    assert sync
                    assert f"{path}/".startswith(f"{last.effect.path}/")
                    assert step.number in last.needs
                case e.MakeDirectory(path=path, parents=False):
                    assert f"{path}/".startswith(f"{last.effect.path}/")
                    assert step.number in last.needs
                case e.BeginSave(path=path) | e.FinishSave(path=path):
                    assert path in summed
                case _:
                    pass

    @given(ITEMS.filter(bool))
    def test_the_caller_waits_for_what_it_might_change(self, items) -> None:
        waited = {type(s.effect) for s in planned(items, background=True).steps if s.staging}
        assert waited <= {e.Stage, e.BeginSave}
        assert (e.BeginSave in waited) is not items.keys().isdisjoint({"point", "loop"})
        assert not any(step.staging for step in planned(items).steps)

    def test_the_same_items_make_the_same_plan(self) -> None:
        items = {"a": {"w": np.ones(3)}, "settings": {"lr": 1}, "point": Point(1, 2)}
        captured = capture_items(items, DEFAULTS, registry()).unwrap()
        request = SaveRequest(
            path=PATH, items=tuple(c.item for c in captured), options=DEFAULTS, named=True
        )
        assert plan_save(request, FREE).unwrap() == plan_save(request, FREE).unwrap()

    def test_what_is_captured_is_what_was_passed(self) -> None:
        config = {"lr": 1}
        (captured,) = capture_items({"settings": config}, DEFAULTS, registry()).unwrap()
        config["lr"] = 2
        assert captured.item.files["data.json"] == b'{"lr": 1}'

    def test_names_of_the_library_are_for_the_library(self) -> None:
        metrics = {"metrics": {"loss": 1.0}}
        assert isinstance(capture_items(metrics, DEFAULTS, registry()).failure(), InvalidPathError)
        reserved = frozenset({"metrics"})
        (captured,) = capture_items(metrics, DEFAULTS, registry(), reserved=reserved).unwrap()
        assert captured.item.files.keys() == {"metrics", "metadata"}


def found(*, recorded: Any = None, sealed: Checkpoint | None = None, **items: Any) -> Any:
    names = ("_CHECKPOINT_METADATA", *sorted(items))
    there = Found(path="/c", entry=Entry.DIRECTORY, names=names, items=items)
    return take_stock(there, Facts(item_handlers=recorded), sealed)


TREE = ("_METADATA", "d", "manifest.ocdbt")


class TestStock:
    def test_all_are_those_recorded_in_their_order_then_what_can_be_read(self) -> None:
        stock = found(
            recorded={"z": JSON[0], "a": PYTREE[0]}, z=("data.json",), a=TREE, other=TREE,
            settings=(), stray=("x",), metrics=("metrics",),
        )  # fmt: skip
        items, strays = choose(stock, None, bound=["settings"]).unwrap()
        assert items == ("z", "a", "other", "settings")
        assert strays == ("stray",)

    @pytest.mark.parametrize("recorded", [None, "some.Handler", {}, {"a": 3}])
    def test_without_a_record_files_tell(self, recorded) -> None:
        stock = found(recorded=recorded, a=TREE, b=("data.json",), c=("x",))
        assert choose(stock, None).unwrap() == (("a", "b"), ("c",))

    def test_what_was_named_must_be_there(self) -> None:
        stock = found(recorded={"a": PYTREE[0], "lost": PYTREE[0]}, a=TREE)
        assert choose(stock, ["a"]).unwrap() == (("a",), ())
        for wanted in (["b"], ["lost"], None):
            assert isinstance(choose(stock, wanted).failure(), CheckpointableNotFoundError)
        assert isinstance(choose(stock, ["metrics"]).failure(), InvalidPathError)
        assert isinstance(choose(stock, [3]).failure(), InvalidPathError)

    def test_digests_are_those_of_the_item(self) -> None:
        sealed = Checkpoint(
            writer="", settings={}, digests={"a/x": digest(b"1"), "ab/x": digest(b"2")}
        )
        item = found(sealed=sealed, a=("x",), ab=("x",)).item("a", DEFAULTS)
        assert item.digests == {"x": digest(b"1")}
        assert item.directory == "/c/a"


class TestHandlers:
    def handler(self, stock: Any, name: str, abstract: Any = None) -> Any:
        return handler_for(registry(), stock.item(name, DEFAULTS), abstract)

    def test_json_is_never_read_as_a_tree(self) -> None:
        stock = found(recorded={"a": JSON[0], "b": "lost.Handler"}, a=("data.json",),
                      b=("data.json",), c=("metadata", "data.json"))  # fmt: skip
        assert isinstance(self.handler(stock, "b").failure(), NoEntryError)
        for name in "ac":
            for abstract in (None, {"lr": 0}):
                found_for = self.handler(stock, name, abstract).unwrap()
                assert isinstance(found_for, handlers.JsonHandler)

    def test_a_tree_whose_handler_is_not_known_is_read_as_one(self) -> None:
        stock = found(recorded={"a": "lost.Handler"}, a=TREE)
        assert isinstance(self.handler(stock, "a").unwrap(), handlers.PyTreeHandler)

    def test_what_nobody_can_load_names_who_saved_it(self) -> None:
        stock = found(recorded={"a": "lost.Handler"}, a=("x",), b=())
        failure = self.handler(stock, "a").failure()
        assert isinstance(failure, NoEntryError)
        assert "lost.Handler" in str(failure)
        assert isinstance(self.handler(stock, "b").failure(), HandlerError)
