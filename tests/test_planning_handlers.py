"""Handlers that plan, in whole operations: what is captured, checked, injected, refused."""

from __future__ import annotations

import asyncio
import functools
import threading
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sealwax as ocp
from sealwax import effects as e
from sealwax import errors
from sealwax.effect_handlers import memory, record
from sealwax.testing import corruptions, fail_at_every_effect
from tests.gates import gate, names
from tests.planned import PlannedPoint, PointAsTree, ShardedPoint
from tests.points import Point, PointHandler

POINTS = [PlannedPoint, PointAsTree, ShardedPoint]
EACH = pytest.mark.parametrize("handler", POINTS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


def context(handler: type) -> ocp.Context:
    ctx = ocp.Context()
    ctx.checkpointables.registry = ocp.handlers.local_registry().add(
        handler, checkpointable_name="p"
    )
    return ctx


def save(path: Any, handler: type, *, number: int = 3, **how: Any) -> None:
    items = {"p": Point(number, 4), "state": {"w": np.full(3, number)}}
    ocp.save_checkpointables(path, items, context=context(handler), **how)


def load(path: Any, handler: type) -> Point:
    return ocp.load_checkpointables(path, {"p": None}, context=context(handler))["p"]


def outcome(path: Any, handler: type) -> Any:
    """What a load gives, or the class of the error for what is damaged."""
    try:
        return load(path, handler)
    except errors.CorruptionError:
        return errors.CorruptionError


class Odd(PlannedPoint):
    """Plans what the class attributes say."""

    contents: Any = b"1"
    decode: Any = staticmethod(lambda x: Point(int(x), 0))

    def plan_save(self, checkpointable: Point, item: Any) -> Any:
        return ocp.handlers.Files({"x.txt": self.contents})

    def plan_load(self, item: Any, abstract_checkpointable: Any) -> Any:
        return ocp.handlers.FromFiles(["x.txt"], self.decode)


class TestLaws:
    @EACH
    @settings(max_examples=10)
    @given(x=st.integers(), y=st.integers())
    def test_what_was_saved_comes_back(self, handler, x, y) -> None:
        ctx = context(handler)
        with memory():
            ocp.save_checkpointables("/c", {"p": Point(x % 2**31, y)}, context=ctx)
            assert ocp.load_checkpointables("/c", context=ctx) == {"p": Point(x % 2**31, y)}

    @EACH
    def test_no_changed_bit_is_taken_for_the_point(self, path, handler) -> None:
        save(path, handler)
        assert ocp.verify(path).ok
        for corruption in corruptions(path / "p", per_file=6):
            assert not ocp.verify(path).ok, corruption
            found = outcome(path, handler)
            # Of a tree's files a load reads only what it needs.
            right = Point(3, 4) if handler is PointAsTree else errors.CorruptionError
            assert found in (errors.CorruptionError, right), corruption

    @EACH
    def test_an_error_at_any_effect_leaves_the_old_or_the_new(self, tmp_path, handler) -> None:
        save(tmp_path / "start" / "c", handler, number=1)

        def run(directory: Path) -> None:
            save(directory / "c", handler, number=2, overwrite=True)

        stops = 0
        for stop in fail_at_every_effect(run, tmp_path / "runs", start=tmp_path / "start"):
            stops += 1
            assert load(stop.directory / "c", handler) in (Point(1, 4), Point(2, 4)), stop
            assert isinstance(stop.error, OSError)
        assert stops > 30

    @EACH
    def test_what_is_sealed_survives_a_loss_of_power(self, handler) -> None:
        with memory() as files:
            save("/runs/c", handler)
            for how in files.crash_states():
                with files.crash(how):
                    assert load("/runs/c", handler) == Point(3, 4)


class TestCapturing:
    def test_a_plan_is_there_before_anything_is_written(self, path) -> None:
        items = {"p": Point(3, 4)}
        plan = ocp.plan_save_checkpointables(path, items, context=context(PlannedPoint))
        assert names(path.parent) == []
        assert "write [tmp]/p/deep/y.txt and sync" in str(plan)
        assert "derive the content of deep/y.txt" in str(plan)
        save(path, PlannedPoint)
        plan = ocp.plan_load_checkpointables(path, {"p": None}, context=context(PlannedPoint))
        assert f"read {path}/p/x.txt" in str(plan)
        assert plan.bytes == 2

    def test_later_changes_do_not_reach_the_file(self, path) -> None:
        point = Point(3, 4)
        with gate(e.WriteFile) as gated:
            response = ocp.save_checkpointables_async(
                path, {"p": point}, context=context(PlannedPoint)
            )
            point.x = point.y = 9
            gated.open()
            response.result()
        assert load(path, PlannedPoint) == Point(3, 4)

    def test_content_is_made_when_the_caller_has_gone_on(self, path) -> None:
        going, threads = threading.Event(), []

        class Slow(Odd):
            @staticmethod
            def contents() -> bytes:
                threads.append(threading.current_thread())
                assert going.wait(60)
                return b"7"

        response = ocp.save_checkpointables_async(path, {"p": Point(1, 2)}, context=context(Slow))
        assert not response.done()
        going.set()
        response.result()
        assert load(path, Slow) == Point(7, 0)
        assert threads
        assert threading.current_thread() not in threads

    def test_what_takes_long_keeps_nobody_else_waiting(self, path) -> None:
        written = threading.Event()

        class Slow(Odd):
            @staticmethod
            def contents() -> bytes:
                assert written.wait(60)
                return b"7"

        class Watch(ocp.effect_handlers.Handler):
            async def perform(self, effect: Any, forward: Any) -> Any:
                answer = await forward(effect)
                if isinstance(effect, e.WriteBatch):
                    written.set()
                return answer

        with Watch():
            save(path, Slow)
        assert load(path, Slow) == Point(7, 0)

    def test_arrays_in_a_tree_are_staged(self, path) -> None:
        array = np.zeros(4)

        class Array(PointAsTree):
            def plan_save(self, checkpointable: Any, item: Any) -> Any:
                return ocp.handlers.PyTreeHandler().plan_save({"x": array, "y": 5}, item)

        plan = ocp.plan_save_checkpointables(path, {"p": Point(1, 2)}, context=context(Array))
        assert plan.names == ("p/x", "p/y")
        response = ocp.save_checkpointables_async(path, {"p": Point(1, 2)}, context=context(Array))
        array[:] = 1
        response.result()
        assert load(path, Array) == Point(0, 5)

    def test_nothing_is_done_by_a_handler_itself(self, path) -> None:
        with record() as trace:
            save(path, PlannedPoint)
            assert load(path, PlannedPoint) == Point(3, 4)
        assert not {"BeginSave", "FinishSave", "RunLoad", "DigestTree"} & set(trace.kinds())
        written = [x for x in trace.effects if isinstance(x, e.WriteFile) and "/p/" in x.path]
        assert sorted(x.content for x in written) == [b"3", b"4"]


class TestLooking:
    def test_what_is_seen_decides_what_is_read(self, path) -> None:
        save(path, ShardedPoint)
        assert names(path / "p") == ["header.json", "part-0.txt", "part-1.txt"]
        about = ocp.checkpointables_metadata(path, context=context(ShardedPoint)).metadata
        assert about["p"] == {"files": ["part-0.txt", "part-1.txt"]}
        assert about["state"]["w"].shape == (3,)

    @pytest.mark.parametrize(
        ("effect", "said"),
        [
            (e.ReadFile(path="/etc/passwd"), "in the checkpointable's directory"),
            (e.WriteFile(path="/x", content=b""), "only look"),
            ("text", "only look"),
        ],
    )
    def test_it_is_there_and_nowhere_else(self, path, effect, said) -> None:
        class Curious(PlannedPoint):
            async def observe(self, item: Any, look: Any) -> Any:
                return await look(effect)

        save(path, PlannedPoint)
        with pytest.raises(errors.InvalidHandlerError, match=said) as caught:
            load(path, Curious)
        assert caught.value.item == "p"

    @pytest.mark.parametrize("file", ["../state/_METADATA", "/etc/passwd", ""])
    def test_no_name_leads_out(self, path, file) -> None:
        class Curious(PlannedPoint):
            async def observe(self, item: Any, look: Any) -> Any:
                return await look(e.ReadFile(path=item.path(file)))

        class Raw(PlannedPoint):
            async def observe(self, item: Any, look: Any) -> Any:
                return await look(e.ReadFile(path=f"{item.directory}/{file}/../x"))

        save(path, PlannedPoint)
        for handler in (Curious, Raw):
            with pytest.raises(errors.InvalidHandlerError):
                load(path, handler)

    @pytest.mark.parametrize("kind", [e.ListTree, e.ListDirectory])
    @pytest.mark.parametrize("lost", ["x.txt", "deep/y.txt"])
    def test_no_list_hides_that_a_file_is_lost(self, path, kind, lost) -> None:
        class Lists(PlannedPoint):
            async def observe(self, item: Any, look: Any) -> Any:
                return [
                    await look(kind(path=item.directory)),
                    await look(kind(path=item.path("deep"))),
                ]

            def plan_load(self, item: Any, abstract_checkpointable: Any) -> Any:
                return ocp.handlers.Known(Point(0, 0))

        save(path, PlannedPoint)
        assert load(path, Lists) == Point(0, 0)
        (path / "p" / lost).unlink()
        with pytest.raises(errors.CorruptionError, match="missing") as caught:
            load(path, Lists)
        assert str(caught.value.path).endswith(lost)

    def test_who_lets_the_trees_handler_plan_is_told_to_let_it_look_too(self, path) -> None:
        class Blind(PointAsTree):
            async def observe(self, item: Any, look: Any) -> Any:
                return None

        save(path, Blind)
        with pytest.raises(
            errors.InvalidHandlerError, match=r"PyTreeHandler\(\)\.observe"
        ) as caught:
            load(path, Blind)
        assert caught.value.item == "p"

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_in_any_event_loop(self, path, backend) -> None:
        save(path, ShardedPoint)
        load = functools.partial(
            ocp.aio.load_checkpointables, path, {"p": None}, context=context(ShardedPoint)
        )
        assert anyio.run(load, backend=backend) == {"p": Point(3, 4)}


class TestFaults:
    @pytest.mark.parametrize("contents", [lambda: 1 / 0, lambda: "text", lambda: None])
    def test_of_content_made_later(self, path, contents) -> None:
        handler = type("Broken", (Odd,), {"contents": staticmethod(contents)})
        with pytest.raises(errors.InvalidHandlerError, match=r"Broken.*x\.txt") as caught:
            save(path, handler)
        assert caught.value.item == "p"
        assert names(path.parent) == []

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_what_cancels_a_task_is_an_error_and_no_reason_to_wait_for_ever(
        self, path, backend
    ) -> None:
        def cancelled() -> bytes:
            raise asyncio.CancelledError

        handler = type("Broken", (Odd,), {"contents": staticmethod(cancelled)})
        call = functools.partial(
            ocp.aio.save_checkpointables, path, {"p": Point(3, 4)}, context=context(handler)
        )
        with pytest.raises(errors.InvalidHandlerError, match="Broken.*CancelledError"):
            anyio.run(call, backend=backend)
        assert names(path.parent) == []

    def test_of_decoding_that_is_a_coroutine(self, path) -> None:
        async def decode(x: bytes) -> Point:
            return Point(int(x), 0)

        save(path, Odd)
        with pytest.raises(errors.InvalidHandlerError, match="Broken.*without async"):
            load(path, type("Broken", (Odd,), {"decode": staticmethod(decode)}))

    def test_of_decoding(self, path) -> None:
        save(path, Odd)

        class Broken(Odd):
            decode = staticmethod(lambda x: 1 / 0)

        with pytest.raises(errors.InvalidHandlerError, match="Broken.*decoding") as caught:
            load(path, Broken)
        assert caught.value.item == "p"
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def test_of_looking(self, path) -> None:
        class Broken(PlannedPoint):
            async def observe(self, item: Any, look: Any) -> Any:
                raise ValueError("own words")

        save(path, PlannedPoint)
        with pytest.raises(errors.InvalidHandlerError, match="own words") as caught:
            load(path, Broken)
        assert caught.value.item == "p"

    def test_of_calling_the_wrong_handler_name_the_file_that_it_looked_for(self, path) -> None:
        class Wrong(PointHandler):
            async def load(self, directory: Any, abstract_checkpointable: Any = None) -> Any:
                async def read() -> str:
                    return (directory / "nowhere.txt").read_text()

                return read()

        save(path, PlannedPoint)
        with pytest.raises(FileNotFoundError, match=r"nowhere\.txt.*the one that saved"):
            load(path, Wrong)

    def test_a_handler_may_refuse(self, path) -> None:
        class Positive(PlannedPoint):
            def plan_save(self, checkpointable: Point, item: Any) -> Any:
                raise errors.InvalidCheckpointableError("A point must be positive")

        with pytest.raises(errors.InvalidCheckpointableError, match="positive") as caught:
            save(path, Positive)
        assert (caught.value.item, caught.value.path) == ("p", str(path))
        assert names(path.parent) == []
