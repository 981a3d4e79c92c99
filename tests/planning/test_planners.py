"""What handlers that plan may say, and which protocol a class is taken to follow."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from returns.result import Failure, Success

from sealwax import effects as e
from sealwax import handlers
from sealwax.checkpointables.protocols import plans
from sealwax.checkpointables.registry import Registry
from sealwax.context import Context
from sealwax.effects import Entry, Plan
from sealwax.errors import InvalidCheckpointableError, InvalidHandlerError
from sealwax.layouts.detect import Found
from sealwax.layouts.manifest import digest
from sealwax.layouts.orbax import Facts
from sealwax.planning.capture import capture_items
from sealwax.planning.file_names import directories, file_names_problem
from sealwax.planning.load_items import plan_item
from sealwax.planning.load_steps import LoadRequest
from sealwax.planning.planners import loading_by, metadata_by, planner_of
from sealwax.planning.requests import SaveRequest
from sealwax.planning.save import plan_save
from sealwax.planning.stock import handler_for, take_stock
from tests.planned import PlannedPoint, PointAsTree
from tests.planning.requests import FREE, PATH, ROOT
from tests.points import Counter, Point, PointHandler

DEFAULTS = Context().options
REQUEST = LoadRequest(path="/c", options=DEFAULTS)
NAMES = st.lists(
    st.lists(st.sampled_from(["a", "b", "..", ".", "", "x.txt", "_SEALWAX"]), max_size=3).map(
        "/".join
    )
    | st.text(max_size=4),
    max_size=4,
)


def planned(handler: type, value: object, *, background: bool = False) -> Plan:
    registry = Registry().with_handler(handler, checkpointable_name="p")
    captured = capture_items({"p": value}, DEFAULTS, registry).unwrap()
    items = tuple(c.item for c in captured)
    request = SaveRequest(
        path=PATH, items=items, options=DEFAULTS, named=True, background=background
    )
    return plan_save(request, FREE).unwrap()


def refused(handler: type, value: object = None) -> Any:
    registry = Registry().with_handler(handler, checkpointable_name="p")
    return capture_items({"p": value or Point(1, 2)}, DEFAULTS, registry).failure()


def stored(*listed: str, digests: Any = None, observed: Any = None) -> handlers.StoredItem:
    return handlers.StoredItem(
        name="p", directory="/c/p", listed=listed, typestring=None, digests=digests or {},
        options=DEFAULTS, observed=observed,
    )  # fmt: skip


def answering(**answers: Any) -> type:
    """A planner whose methods give these answers, or raise them."""

    def method(answer: Any) -> Any:
        def give(self: Any, *args: Any) -> Any:
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return give

    return type("Odd", (PlannedPoint,), {name: method(each) for name, each in answers.items()})


class Raising(Mapping[str, bytes]):
    """A mapping that fails when it is looked into."""

    def __getitem__(self, key: str) -> bytes:
        raise LookupError("lazy")

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


def released() -> memoryview:
    view = memoryview(b"gone")
    view.release()
    return view


class TestNamesOfFiles:
    @given(NAMES)
    def test_what_is_allowed_stays_below_the_item_and_has_one_meaning(self, listed) -> None:
        if file_names_problem(listed) is not None:
            return
        for name in listed:
            assert posixpath.normpath(posixpath.join("/c/p", name)) == f"/c/p/{name}"
            assert name.encode()
        assert not {*listed} & {*directories(listed)}

    @pytest.mark.parametrize(
        "name",
        ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".", "a\0b", "_SEALWAX", "\ud800",
         "x" * 256, 3],
    )  # fmt: skip
    def test_what_could_lead_elsewhere_is_refused(self, name) -> None:
        assert isinstance(file_names_problem([name]), InvalidHandlerError)
        failure = refused(answering(plan_save=handlers.Files({name: b""})))
        assert isinstance(failure, InvalidHandlerError)
        assert failure.item == "p"
        odd = answering(plan_load=handlers.FromFiles([name], bytes))()
        assert isinstance(loading_by(odd, stored(), None, REQUEST).failure(), InvalidHandlerError)

    def test_a_name_is_a_file_or_a_directory(self) -> None:
        assert "file and a directory" in str(file_names_problem(["a/b", "a"]))

    def test_directories_come_after_those_above_them(self) -> None:
        listed = directories(["a/b/c/x", "a/y", "d/z", "top"])
        assert listed == ("a", "a/b", "a/b/c", "d")


class TestPlansOfSaves:
    @pytest.mark.parametrize("background", [False, True])
    def test_files_are_written_synced_and_sealed(self, background) -> None:
        plan = planned(PlannedPoint, Point(1, 2), background=background)
        own = [step for step in plan.steps if step.item == "p"]
        written = {s.effect.path: s.effect for s in own if isinstance(s.effect, e.WriteFile)}
        assert written.keys() == {f"{ROOT}/p/x.txt", f"{ROOT}/p/deep/y.txt"}
        assert all(effect.sync for effect in written.values())
        made = [s.effect.path for s in own if isinstance(s.effect, e.MakeDirectory)]
        assert made == [f"{ROOT}/p", f"{ROOT}/p/deep"]
        (synced,) = (s for s in plan.steps if isinstance(s.effect, e.SyncTree))
        assert synced.effect.path == ROOT
        assert synced.needs >= {step.number for step in own}
        assert not any(isinstance(s.effect, e.BeginSave | e.DigestTree) for s in own)
        assert plan.seal is not None
        assert plan.steps[plan.seal].needs >= {step.number for step in own}

    def test_nobody_waits_for_what_was_captured(self) -> None:
        plan = planned(PlannedPoint, Point(1, 2), background=True)
        assert not any(step.staging for step in plan.steps)

    def test_a_plan_holds_no_data_that_is_made_later(self) -> None:
        (captured,) = capture_items(
            {"p": Point(1, 2)}, DEFAULTS, Registry().with_handler(PlannedPoint)
        ).unwrap()
        assert captured.item.files == {"x.txt": b"1", "deep/y.txt": None}
        assert captured.source["deep/y.txt"]() == b"2"

    def test_bytes_are_counted(self) -> None:
        big = answering(plan_save=handlers.Files({"a": bytes(1000), "b": bytearray(24)}))
        assert planned(big, Point(1, 2)).bytes == 1024

    def test_a_buffer_is_taken_as_it_was(self) -> None:
        buffer = bytearray(b"before")
        odd = answering(plan_save=handlers.Files({"a": buffer, "b": memoryview(buffer)}))
        (captured,) = capture_items(
            {"p": Point(1, 2)}, DEFAULTS, Registry().with_handler(odd)
        ).unwrap()
        buffer[:] = b"after!"
        assert captured.item.files == {"a": b"before", "b": b"before"}

    def test_a_result_may_carry_it(self) -> None:
        files = handlers.Files({"x.txt": b"1"})
        assert planned(answering(plan_save=Success(files)), Point(1, 2)).bytes == 1
        error = InvalidCheckpointableError("Points must not be negative")
        failure = refused(answering(plan_save=Failure(error)))
        assert failure is error
        assert failure.item == "p"


class TestPlansOfLoads:
    def steps(self, handler: Any, item: handlers.StoredItem) -> list[e.Effect]:
        loading = loading_by(handler, item, None, REQUEST).unwrap()
        plan = plan_item("load", "/c/p", DEFAULTS, loading)
        return [step.effect for step in plan.steps]

    def test_files_are_read_side_by_side_and_decoded(self) -> None:
        *reads, decode = self.steps(PlannedPoint(), stored("x.txt", "deep"))
        assert reads == [e.ReadFile(path="/c/p/x.txt"), e.ReadFile(path="/c/p/deep/y.txt")]
        assert isinstance(decode, e.Derive)
        assert decode.function(b"3", b"4") == Point(3, 4)

    def test_each_is_held_against_its_digest(self) -> None:
        item = stored("x.txt", digests={"x.txt": digest(b"3"), "deep/y.txt": digest(b"4")})
        *_, decode = self.steps(PlannedPoint(), item)
        assert decode.function(b"3", b"4") == Point(3, 4)
        for contents in ((b"3", b"5"), (b"33", b"4"), (None, b"4")):
            with pytest.raises(OSError, match=r"sealed with|missing"):
                decode.function(*contents)
        with pytest.raises(OSError, match="found 1 bytes with CRC-32C"):
            decode.function(b"3", b"5")

    def test_metadata_is_nothing_unless_it_is_told(self) -> None:
        for handler, told in ((PlannedPoint(), "a point"), (handlers.JsonHandler(), None)):
            loading = metadata_by(handler, stored(), REQUEST).unwrap()
            (step,) = plan_item("metadata", "/c/p", DEFAULTS, loading).steps
            assert step.effect.function() == told

    def test_what_is_loaded_may_become_something_else(self) -> None:
        twice = handlers.FromFiles(["x.txt"], int).map(lambda x: 2 * x).map(str)
        *_, first, second, third = self.steps(answering(plan_load=twice)(), stored("x.txt"))
        assert third.function(second.function(first.function(b"21"))) == "42"


class TestFaults:
    @pytest.mark.parametrize(
        ("answers", "said"),
        [
            ({"plan_save": ValueError("boom")}, "plan_save: ValueError: boom"),
            ({"plan_save": None}, "sealwax.handlers.Files"),
            ({"plan_save": b"bytes"}, "sealwax.handlers.Files"),
            ({"plan_save": handlers.Files("text")}, "a dict by name"),  # type: ignore[arg-type]
            ({"plan_save": handlers.Files({"a": "text"})}, "content of a"),  # type: ignore[dict-item]
            ({"plan_save": handlers.Files({"a": 3})}, "content of a"),  # type: ignore[dict-item]
            ({"plan_save": handlers.Files}, "an answer such as"),
            ({"plan_save": Failure("no")}, "a failed Result of one of sealwax.errors, found"),
            ({"plan_save": Failure(ValueError("no"))}, "an object of type ValueError"),
            ({"plan_save": handlers.Files(Raising())}, "the files that it plans: LookupError"),
            ({"plan_save": handlers.Files({"a": released()})}, "content of a: ValueError"),
            ({"plan_save": asyncio.CancelledError()}, "plan_save: CancelledError"),
        ],
    )
    def test_of_saves_name_the_item_and_the_handler(self, answers, said) -> None:
        failure = refused(answering(**answers))
        assert isinstance(failure, InvalidHandlerError)
        assert failure.item == "p"
        assert "Odd" in str(failure)
        assert said in str(failure)

    @pytest.mark.parametrize(
        "answer",
        [
            ValueError("boom"),
            None,
            {"x": 1},
            handlers.Known,
            handlers.FromFiles(None, int),  # type: ignore[arg-type]
            handlers.FromFiles(3, int),  # type: ignore[arg-type]
        ],
    )
    def test_of_loads_name_the_item_and_the_handler(self, answer) -> None:
        odd = answering(plan_load=answer, plan_metadata=answer)()
        for outcome in (
            loading_by(odd, stored(), None, REQUEST), metadata_by(odd, stored(), REQUEST)
        ):  # fmt: skip
            failure = outcome.failure()
            assert isinstance(failure, InvalidHandlerError)
            assert (failure.item, "Odd" in str(failure)) == ("p", True)

    def test_of_coroutines_where_a_plain_function_belongs(self) -> None:
        async def plan_save(self: Any, checkpointable: Any, item: Any) -> Any:
            return handlers.Files({})

        failure = refused(type("Odd", (PlannedPoint,), {"plan_save": plan_save}))
        assert isinstance(failure, InvalidHandlerError)
        assert "without async" in str(failure)

    def test_the_cause_is_kept(self) -> None:
        cause = ValueError("boom")
        assert refused(answering(plan_save=cause)).__cause__ is cause


class TestProtocols:
    def test_a_class_is_planned_with_if_it_plans(self) -> None:
        assert plans(PlannedPoint)
        assert plans(PointAsTree)
        assert all(plans(kind) for kind, _ in handlers.global_registry().get_all_entries())
        assert not plans(PointHandler)
        assert not plans(Counter)

    @pytest.mark.parametrize("method", ["save", "load", "metadata"])
    def test_one_that_overrides_what_is_called_is_called(self, method) -> None:
        called = type("Called", (handlers.JsonHandler,), {method: lambda *_: None})
        assert not plans(called)
        assert planner_of(called()).handler.__class__ is called
        again = type("Again", (called,), {"plan_save": lambda *_: None})
        assert plans(again)

    @pytest.mark.parametrize("missing", ["plan_save", "plan_load", "is_handleable"])
    def test_a_class_that_is_not_complete_is_refused(self, missing) -> None:
        methods = {"plan_save", "plan_load", "is_handleable"} - {missing}
        part = type("Part", (handlers.PlanningHandler,), dict.fromkeys(methods, lambda *_: None))
        with pytest.raises(InvalidHandlerError, match=f"PlanningHandler.*without {missing}"):
            Registry().with_handler(part)

    def test_no_class_needs_to_be_derived(self) -> None:
        class Plain:
            def is_handleable(self, checkpointable: Any) -> bool:
                return True

            def is_abstract_handleable(self, abstract: Any) -> bool | None:
                return None

            def plan_save(self, checkpointable: Any, item: Any) -> Any:
                return handlers.Files({"a": b"1"})

            def plan_load(self, item: Any, abstract: Any) -> Any:
                return handlers.FromFiles(["a"], int)

        assert planned(Plain, 3).bytes == 1
        assert metadata_by(Plain(), stored(), REQUEST).unwrap().name == "p"  # type: ignore[arg-type]

    def test_one_that_does_not_recognize_an_item_leaves_it_to_its_record(self) -> None:
        never = answering(recognizes=False)
        registry = Registry().with_handler(PlannedPoint).with_handler(never)
        recorded = f"{PlannedPoint.__module__}.{PlannedPoint.__qualname__}"
        there = Found(path="/c", entry=Entry.DIRECTORY, items={"p": ("x.txt",)})
        item = take_stock(there, Facts(item_handlers={"p": recorded}), None).item("p", DEFAULTS)
        assert type(handler_for(registry, item, None).unwrap()) is PlannedPoint

    def test_one_that_does_not_recognize_what_it_recorded_is_not_to_be_registered_again(
        self,
    ) -> None:
        never = answering(recognizes=False)
        recorded = f"{never.__module__}.{never.__qualname__}"
        there = Found(path="/c", entry=Entry.DIRECTORY, items={"p": ("x.txt",)})
        item = take_stock(there, Facts(item_handlers={"p": recorded}), None).item("p", DEFAULTS)
        failure = handler_for(Registry().with_handler(never), item, None).failure()
        assert "Odd.recognizes" in str(failure)
        assert "Register" not in str(failure)
