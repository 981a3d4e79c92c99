"""Saving and loading several checkpointables: the laws, the handlers, the failures."""

from __future__ import annotations

import asyncio
import errno
import inspect
import json
import logging
import os
import sys
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sealwax as ocp
from sealwax import effects as e
from sealwax import errors
from sealwax.effect_handlers import inject, record
from sealwax.layouts import manifest
from tests.gates import eventually, names, our_threads
from tests.points import Counter, Point, PointHandler

TREE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "step": 7}
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


def context(*handlers: type, **named: type) -> ocp.Context:
    registry = ocp.handlers.local_registry()
    for handler in handlers:
        registry.add(handler)
    for name, handler in named.items():
        registry.add(handler, checkpointable_name=name)
    ctx = ocp.Context()
    ctx.checkpointables.registry = registry
    return ctx


POINTS = context(PointHandler, config=ocp.handlers.JsonHandler)


def mixed() -> dict[str, Any]:
    return {
        "params": TREE,
        "ema": {"w": np.ones(3)},
        "config": {"lr": 0.1, "betas": (0.9, 0.99)},
        "point": Point(3, 4),
        "loop": Counter(5),
    }


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_equal(found[name], value)


class TestLaws:
    """What holds for any trees under any names."""

    @settings(
        max_examples=30,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        items=st.dictionaries(
            st.text("abc.-~ é", min_size=1, max_size=4).filter(lambda n: n not in (".", "..")),
            st.dictionaries(
                st.text("xy", min_size=1),
                st.integers() | st.text("z") | st.just(np.arange(3)) | st.none(),
                max_size=3,
            ),
            min_size=1,
            max_size=4,
        ),
        data=st.data(),
    )
    def test_any_part_of_what_was_saved_comes_back(self, tmp_path_factory, items, data) -> None:
        path = tmp_path_factory.mktemp("laws") / "ckpt"
        ocp.save_checkpointables(path, items)
        same(ocp.load_checkpointables(path), items)
        chosen = data.draw(st.sets(st.sampled_from(sorted(items)), min_size=1))
        with record() as trace:
            part = ocp.load_checkpointables(path, dict.fromkeys(chosen))
        same(part, {name: items[name] for name in part})
        assert part.keys() == chosen
        read = [effect.path for effect in trace.effects if isinstance(effect, e.ReadFile)]
        read += [effect.directory for effect in trace.effects if isinstance(effect, e.ReadBatch)]
        for name in items.keys() - chosen:
            assert not any(p.startswith(f"{path}/{name}/") for p in read)

    def test_every_file_is_vouched_for(self, path: Path) -> None:
        ocp.save_checkpointables(path, mixed(), context=POINTS)
        root = manifest.decode((path / "_SEALWAX").read_bytes(), manifest.Checkpoint, "")
        vouched = {"_SEALWAX", *root.digests}
        for item in ("params", "ema"):
            data = (path / item / "_SEALWAX").read_bytes()
            own = manifest.decode(data, manifest.Item, "")
            vouched |= {f"{item}/{name}" for name in (*own.digests, *own.files)}
        files = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
        assert files == vouched

    def test_all_is_synced_before_the_one_seal(self, path: Path) -> None:
        with record() as trace:
            ocp.save_checkpointables(path, mixed(), context=POINTS)
        seals = [n for n, effect in enumerate(trace.effects) if isinstance(effect, e.Rename)]
        assert len(seals) == 1
        digests = [n for n, x in enumerate(trace.effects) if isinstance(x, e.DigestTree) and x.sync]
        assert len(digests) == 2
        assert max(digests) < seals[0]

    def test_items_move_side_by_side(self, path: Path) -> None:
        plan = ocp.plan_save_checkpointables(path, {"a": TREE, "b": TREE})
        steps = {
            item: [s.number for s in plan.steps if s.item == item and s.item is not None]
            for item in ("a", "b")
        }
        assert steps["a"]
        for step in plan.steps:
            if step.item == "b":
                assert not step.needs & set(steps["a"])
        assert plan.names == ("a/step", "a/w", "b/step", "b/w")
        assert plan.bytes == 2 * (24 + 8)


class TestSaving:
    def test_several_kinds_in_one_checkpoint(self, path: Path) -> None:
        ocp.save_checkpointables(path, mixed(), custom_metadata={"run": 1}, context=POINTS)
        wanted = dict.fromkeys(mixed()) | {"loop": Counter()}
        loaded = ocp.load_checkpointables(path, wanted, context=POINTS)
        assert loaded.pop("loop").value == 5
        same(loaded, {name: value for name, value in mixed().items() if name != "loop"})
        assert ocp.checkpointables_metadata(path, context=POINTS).custom_metadata == {"run": 1}
        np.testing.assert_equal(ocp.load(path), mixed()["ema"])
        np.testing.assert_equal(ocp.load(path, checkpointable_name="params"), TREE)

    def test_it_returns_when_the_blocking_parts_are_done(self, path: Path) -> None:
        loop, w = Counter(1), np.zeros(4)
        released = threading.Event()

        class Slow(PointHandler):
            async def _write(self, directory: Any, x: int, y: int) -> None:
                await asyncio.to_thread(released.wait)
                await super()._write(directory, x, y)

        point = Point(1, 2)
        items = {"loop": loop, "state": {"w": w}, "point": point}
        response = ocp.save_checkpointables_async(path, items, context=context(Slow))
        loop.value, point.x, w[:] = 2, 2, 2
        assert not response.done()
        released.set()
        response.result()
        found = ocp.load_checkpointables(
            path, {"loop": Counter(), "state": None, "point": Point(0, 0)}, context=POINTS
        )
        assert found["loop"].value == 1
        assert found["point"] == Point(1, 2)
        np.testing.assert_array_equal(found["state"]["w"], np.zeros(4))

    def test_a_handler_that_blocks_delays_only_itself(self, path: Path) -> None:
        written = threading.Event()

        class Blocking(PointHandler):
            async def save(self, directory: Any, checkpointable: Point) -> Awaitable[None]:
                assert written.wait(60)
                return await super().save(directory, checkpointable)

        class Watch(ocp.effect_handlers.Handler):
            async def perform(self, effect: Any, forward: Any) -> Any:
                answer = await forward(effect)
                if isinstance(effect, e.WriteBatch):
                    written.set()
                return answer

        with Watch():
            ocp.save_checkpointables(
                path, {"point": Point(1, 2), "state": TREE}, context=context(Blocking)
            )
        found = ocp.load_checkpointables(path, {"point": Point(0, 0)}, context=POINTS)
        assert found == {"point": Point(1, 2)}

    def test_no_thread_stays(self, path: Path) -> None:
        ocp.save_checkpointables(path, mixed(), context=POINTS)
        eventually(lambda: not our_threads())

    def test_a_handler_finds_the_settings_of_its_operation(self, path: Path) -> None:
        seen = []

        class Curious(PointHandler):
            async def save(self, directory: Any, checkpointable: Point) -> Awaitable[None]:
                seen.append(ocp.get_context().memory.write_concurrent_bytes)
                return await super().save(directory, checkpointable)

            async def _write(self, directory: Any, x: int, y: int) -> None:
                seen.append(ocp.get_context().memory.write_concurrent_bytes)
                await super()._write(directory, x, y)

        ctx = context(Curious)
        ctx.memory.write_concurrent_bytes = 12345
        ocp.save_checkpointables(path, {"point": Point(1, 2)}, context=ctx)
        assert seen == [12345, 12345]

    def test_overwriting_takes_the_place_of_all_items_at_once(self, path: Path) -> None:
        ocp.save_checkpointables(path, {"a": TREE, "b": TREE})
        ocp.save_checkpointables(path, {"c": {"x": 1}}, overwrite=True)
        assert ocp.load_checkpointables(path) == {"c": {"x": 1}}
        with pytest.raises(errors.CheckpointExistsError):
            ocp.save_checkpointables(path, {"d": TREE})


class TestNames:
    @pytest.mark.parametrize(
        "name",
        ["", "metrics", "AUTO", "_CHECKPOINT_DELETION", "a/b", "..", "../x", "\ud800",
         "_CHECKPOINT_METADATA", "orbax.checkpoint", "commit_success.txt", "_SEALWAX", 1, None],
    )  # fmt: skip
    def test_what_would_not_be_a_directory_of_its_own_is_refused(self, path, name) -> None:
        with pytest.raises(errors.InvalidPathError):
            ocp.save_checkpointables(path, {"fine": TREE, name: TREE})
        assert names(path.parent) == []

    @pytest.mark.parametrize("nothing", [{}, [TREE], None, TREE["w"]])
    def test_something_must_be_named(self, path: Path, nothing: Any) -> None:
        with pytest.raises(errors.InvalidCheckpointableError, match="dict of at least one"):
            ocp.save_checkpointables(path, nothing)

    def test_all_that_is_wrong_is_told_at_once(self, path: Path) -> None:
        bad = {"x/y": TREE, "obj": object(), "none": None, "leaf": {"a": object()}}
        with pytest.raises(errors.InvalidPathError, match="'x/y'") as caught:
            ocp.save_checkpointables(path, bad)
        notes = "\n".join(caught.value.__notes__)
        assert "'obj'" in notes
        assert "'none'" in notes
        assert "'leaf'" in notes

    def test_custom_metadata_is_checked_first(self, path: Path) -> None:
        with pytest.raises(errors.InvalidMetadataError, match=r"custom_metadata\['a'\]"):
            ocp.save_checkpointables(path, {"s": TREE}, custom_metadata={"a": np.float32(1)})
        assert names(path.parent) == []


class TestLoading:
    def test_dots_stand_for_what_is_not_loaded(self, path: Path) -> None:
        ocp.save_checkpointables(path, {"a": TREE, "b": {"x": 1}})
        with record() as trace:
            found = ocp.load_checkpointables(path, {"a": ..., "b": {"x": 0}})
        assert found == {"a": ..., "b": {"x": 1}}
        assert not any(getattr(x, "directory", "").endswith("/a") for x in trace.effects)

    def test_templates_are_per_item(self, path: Path) -> None:
        import jax

        ocp.save_checkpointables(path, {"a": TREE, "b": TREE})
        template = {"w": jax.ShapeDtypeStruct((2, 3), np.float32), "step": 0}
        found = ocp.load_checkpointables(path, {"a": template, "b": None})
        assert isinstance(found["a"]["w"], jax.Array)
        assert isinstance(found["b"]["w"], np.ndarray)
        wrong = {"w": np.zeros((4, 4), np.float32), "step": 0}
        with pytest.raises(errors.LeafMismatchError, match="checkpointable 'b'") as caught:
            ocp.load_checkpointables(path, {"b": wrong, "a": wrong})
        assert "checkpointable 'a'" in caught.value.__notes__[0]

    def test_metadata_is_a_template(self, path: Path) -> None:
        ocp.save_checkpointables(path, {"a": TREE, "config": {"lr": 1}}, context=POINTS)
        found = ocp.checkpointables_metadata(path, context=POINTS)
        assert found.metadata["config"] is None
        assert found.metadata["a"]["w"].shape == (2, 3)
        same(
            ocp.load_checkpointables(path, found, context=POINTS), {"a": TREE, "config": {"lr": 1}}
        )

    def test_what_is_not_there_is_told_with_what_is(self, path: Path) -> None:
        ocp.save_checkpointables(path, {"params": TREE})
        with pytest.raises(KeyError, match="Did you mean 'params'") as caught:
            ocp.load_checkpointables(path, {"param": None})
        assert isinstance(caught.value, errors.InvalidLayoutError)
        with pytest.raises(errors.CheckpointNotFoundError):
            ocp.load_checkpointables(path.parent / "other")
        with pytest.raises(errors.InvalidCheckpointableError, match="is not a dict"):
            ocp.load_checkpointables(path, [TREE])

    @pytest.mark.parametrize("name", ["metrics", "AUTO", "", "../ckpt"])
    def test_reserved_names_cannot_be_loaded(self, path: Path, name: str) -> None:
        ocp.save_checkpointables(path, {"params": TREE})
        with pytest.raises(errors.InvalidPathError):
            ocp.load_checkpointables(path, {name: None})

    def test_a_stray_directory_is_passed_over_with_a_word(self, path, caplog) -> None:
        ocp.save_checkpointables(path, {"params": TREE, "config": {"a": 1}}, context=POINTS)
        (path / "tensorboard").mkdir()
        (path / "tensorboard" / "events").write_text("x")
        (path / ".ipynb_checkpoints").mkdir()
        with caplog.at_level(logging.WARNING, "sealwax"):
            found = ocp.load_checkpointables(path)
        assert found.keys() == {"params", "config"}
        assert "tensorboard" in caplog.text
        assert ".ipynb_checkpoints" in caplog.text
        assert ocp.checkpointables_metadata(path).metadata.keys() == {"params", "config"}
        with pytest.raises(errors.NoEntryError, match="tensorboard"):
            ocp.load_checkpointables(path, {"tensorboard": None})

    def test_a_checkpoint_of_one_tree_says_how_to_load_it(self, path: Path) -> None:
        ocp.save(path, TREE)
        (path / "state").rename(path.parent / "flat")
        with pytest.raises(errors.SealwaxError, match=r"load\(path\)"):
            ocp.load_checkpointables(path.parent / "flat")

    def test_what_needs_an_object_says_so_and_names_it(self, path: Path) -> None:
        ocp.save_checkpointables(path, {"loop": Counter(5), "params": TREE})
        with pytest.raises(errors.InvalidCheckpointableError, match="'loop' loads itself"):
            ocp.load_checkpointables(path)
        assert ocp.load_checkpointables(path, {"params": None})["params"]["step"] == 7
        assert ocp.load_checkpointables(path, {"loop": Counter()})["loop"].value == 5

    def test_a_lost_item_is_told(self, path: Path) -> None:
        ocp.save_checkpointables(path, {"a": {"x": 1}, "b": {"x": 2}})
        os.rename(path / "a", path.parent / "a")
        with pytest.raises(errors.CheckpointableNotFoundError, match="'a'.*was saved with one"):
            ocp.load_checkpointables(path)
        assert ocp.load_checkpointables(path, {"b": None}) == {"b": {"x": 2}}


class TestHandlers:
    def test_without_its_handler_an_item_cannot_be_loaded_and_says_which(self, path) -> None:
        ocp.save_checkpointables(path, {"point": Point(1, 2), "params": TREE}, context=POINTS)
        with pytest.raises(errors.NoEntryError, match="Register PointHandler"):
            ocp.load_checkpointables(path)
        assert ocp.load_checkpointables(path, {"params": None})["params"]["step"] == 7
        assert ocp.checkpointables_metadata(path).metadata["point"] is None
        assert ocp.checkpointables_metadata(path, context=POINTS).metadata["point"] == "a point"

    @pytest.mark.parametrize("file", ["x.txt", "deep/y.txt"])
    @pytest.mark.parametrize("damage", ["change", "cut", "lengthen", "remove"])
    def test_a_handler_never_sees_what_was_changed(self, path, file, damage) -> None:
        called = []

        class Watchful(PointHandler):
            async def load(self, directory: Any, abstract: Any = None) -> Awaitable[Point]:
                called.append(directory)
                return await super().load(directory, abstract)

        ctx = context(point=Watchful)
        ocp.save_checkpointables(path, {"point": Point(1, 2)}, context=ctx)
        target = path / "point" / file
        match damage:
            case "change":
                target.write_text("9")
            case "cut":
                target.write_text("")
            case "lengthen":
                target.write_text(target.read_text() + "0")
            case "remove":
                target.unlink()
        with pytest.raises(errors.CorruptionError, match="'point'") as caught:
            ocp.load_checkpointables(path, context=ctx)
        assert caught.value.path == str(target)
        assert called == []
        never = ctx.at.array.loading.verify.set("never")
        if damage in ("change", "lengthen"):
            ocp.load_checkpointables(path, context=never)
            assert called == [path / "point"]

    def test_json_is_checked_too(self, path: Path) -> None:
        ocp.save_checkpointables(path, {"config": {"lr": 1}}, context=POINTS)
        assert json.loads((path / "config" / "metadata").read_text()) == {"lr": 1}
        (path / "config" / "data.json").write_text('{"lr": 2}')
        with pytest.raises(errors.CorruptionError, match="sealed with"):
            ocp.load_checkpointables(path)

    def test_what_no_checksum_covers_is_refused(self, path: Path) -> None:
        class Linking(PointHandler):
            async def _write(self, directory: Any, x: int, y: int) -> None:
                await super()._write(directory, x, y)
                (directory.path / "link").symlink_to("x.txt")

        with pytest.raises(errors.InvalidHandlerError, match="symbolic link"):
            ocp.save_checkpointables(path, {"point": Point(1, 2)}, context=context(Linking))
        assert names(path.parent) == []

    def test_a_handler_cannot_lead_the_checkpoint_elsewhere(self, path: Path) -> None:
        class Moving(PointHandler):
            async def _write(self, directory: Any, x: int, y: int) -> None:
                directory.path.rename(path.with_name("elsewhere"))
                directory.path.symlink_to(path.with_name("elsewhere"))

        with pytest.raises(errors.InvalidHandlerError, match="symbolic link"):
            ocp.save_checkpointables(path, {"point": Point(1, 2)}, context=context(Moving))
        assert names(path.parent) == ["elsewhere"]

    @pytest.mark.skipif(sys.platform == "darwin", reason="names are Unicode there")
    def test_a_file_whose_name_is_no_text_is_refused(self, path: Path) -> None:
        class Bytes(PointHandler):
            async def _write(self, directory: Any, x: int, y: int) -> None:
                (directory.path / os.fsdecode(b"\xff")).touch()

        with pytest.raises(errors.InvalidHandlerError, match="UTF-8"):
            ocp.save_checkpointables(path, {"point": Point(1, 2)}, context=context(Bytes))
        assert names(path.parent) == []

    @pytest.mark.parametrize("shape", ["plain", "nothing"])
    def test_a_save_that_is_no_coroutine_function_is_told(self, path, shape) -> None:
        class Plain(PointHandler):
            def save(self, directory: Any, checkpointable: Point) -> Any:
                return None

        class Nothing(PointHandler):
            async def save(self, directory: Any, checkpointable: Point) -> Any:
                return None

        handler = Plain if shape == "plain" else Nothing
        with pytest.raises(errors.InvalidHandlerError, match="async def save") as caught:
            ocp.save_checkpointables(path, {"p": Point(1, 2)}, context=context(handler))
        assert caught.value.item == "p"
        assert names(path.parent) == []

    def test_a_class_derived_from_a_standard_handler_is_called(self, path: Path) -> None:
        class Upper(ocp.handlers.JsonHandler):
            async def load(self, directory: Any, abstract: Any = None) -> Awaitable[Any]:
                rest = await super().load(directory, abstract)

                async def read() -> Any:
                    return (await rest)["text"].upper()

                return read()

        ctx = context(note=Upper)
        ocp.save_checkpointables(path, {"note": {"text": "hi"}}, context=ctx)
        assert ocp.load_checkpointables(path, context=ctx) == {"note": "HI"}

    def test_a_handler_may_be_made_of_standard_ones(self, path: Path) -> None:
        class Pair(PointHandler):
            inner = ocp.handlers.PyTreeHandler()

            async def save(self, directory: Any, checkpointable: Point) -> Awaitable[None]:
                tree = {"x": np.full(3, checkpointable.x), "y": checkpointable.y}
                return await self.inner.save(directory, tree)

            async def load(self, directory: Any, abstract: Any = None) -> Awaitable[Point]:
                rest = await self.inner.load(directory)

                async def read() -> Point:
                    tree = await rest
                    return Point(int(tree["x"][0]), tree["y"])

                return read()

        ctx = context(p=Pair)
        ocp.save_checkpointables(path, {"p": Point(8, 9)}, context=ctx)
        assert ocp.load_checkpointables(path, context=ctx) == {"p": Point(8, 9)}


def test_the_registry_of_a_context_chooses_the_handlers(path: Path) -> None:
    ocp.save_checkpointables(path / "a", {"config": {"a": 1}}, context=POINTS)
    ocp.save_checkpointables(path / "b", {"config": {"a": 1}})
    assert names(path / "a" / "config") == ["data.json", "metadata"]
    assert "_METADATA" in names(path / "b" / "config")
    registry = ocp.handlers.local_registry()
    ctx = ocp.Context()
    ctx.checkpointables.registry = registry
    with pytest.raises(errors.NoEntryError):
        ocp.save_checkpointables(path / "c", {"p": Point(1, 2)}, context=ctx)
    registry.add(PointHandler)
    ocp.save_checkpointables(path / "c", {"p": Point(1, 2)}, context=ctx)
    assert ocp.load_checkpointables(path / "c", context=ctx) == {"p": Point(1, 2)}


class TestFailures:
    """One item that fails: nothing is left, the item is named, the others are notes."""

    class Failing(PointHandler):
        async def _write(self, directory: Any, x: int, y: int) -> None:
            await super()._write(directory, x, y)
            raise ValueError("the handler's own words")

    class Full(PointHandler):
        async def _write(self, directory: Any, x: int, y: int) -> None:
            raise FULL

    class Early(PointHandler):
        async def save(self, directory: Any, checkpointable: Point) -> Awaitable[None]:
            raise ValueError("the handler's own words")

    def test_a_handlers_own_error_comes_as_it_is_with_its_place(self, path: Path) -> None:
        for handler in (self.Failing, self.Early):
            with pytest.raises(ValueError, match="the handler's own words") as caught:
                ocp.save_checkpointables(
                    path, {"p": Point(1, 2), "s": TREE}, context=context(handler)
                )
            assert str(caught.value) == "the handler's own words"
            (note,) = caught.value.__notes__
            assert "checkpointable 'p'" in note
            assert names(path.parent) == []

    def test_an_error_of_the_system_is_a_storage_error(self, path: Path) -> None:
        with pytest.raises(errors.StorageError, match="No space left") as caught:
            ocp.save_checkpointables(path, {"p": Point(1, 2)}, context=context(self.Full))
        assert (caught.value.errno, caught.value.item) == (errno.ENOSPC, "p")
        assert names(path.parent) == []

    def test_the_blocking_part_fails_in_the_call_the_rest_in_the_result(self, path) -> None:
        with pytest.raises(ValueError, match="own words"):
            ocp.save_checkpointables_async(path, {"p": Point(1, 2)}, context=context(self.Early))
        response = ocp.save_checkpointables_async(
            path, {"p": Point(1, 2)}, context=context(self.Failing)
        )
        with pytest.raises(ValueError, match="own words"):
            response.result()
        assert names(path.parent) == []

    @pytest.mark.parametrize(
        "kind", [e.Stage, e.WriteBatch, e.WriteFile, e.WriteFiles, e.DigestTree, e.Rename]
    )
    def test_any_failing_effect_leaves_nothing(self, path: Path, kind: type) -> None:
        with inject(kind, error=FULL), pytest.raises(errors.StorageError, match="No space"):
            ocp.save_checkpointables(path, mixed(), context=POINTS)
        assert names(path.parent) == []

    def test_leaf_item_and_path_are_named(self, path: Path) -> None:
        def second(effect: Any) -> bool:
            return isinstance(effect, e.WriteBatch) and "/b/" in effect.path

        with inject(second, error=FULL), pytest.raises(errors.StorageError) as caught:
            ocp.save_checkpointables(path, {"a": TREE, "b": {"only": np.ones(3)}})
        error = caught.value
        assert (error.item, error.leaf) == ("b", "only")
        assert "/b/d/" in error.path
        assert "checkpointable 'b', leaf 'only'" in str(error)

    def test_a_save_that_is_cancelled_ends_its_handlers(self, path: Path) -> None:
        state = {"begun": threading.Event(), "ended": []}

        class Waiting(PointHandler):
            async def _write(self, directory: Any, x: int, y: int) -> None:
                state["begun"].set()
                try:
                    await asyncio.sleep(600)
                finally:
                    # Whoever cancels waits for what a handler has to clear up.
                    await asyncio.to_thread(state["ended"].append, directory.path.exists())

        response = ocp.save_checkpointables_async(
            path, {"p": Point(1, 2)}, context=context(Waiting)
        )
        assert state["begun"].wait(60)
        response.cancel()
        with pytest.raises(errors.OperationCancelledError):
            response.result()
        assert state["ended"] == [True]
        assert names(path.parent) == []
        eventually(lambda: not our_threads())

    def test_what_was_begun_and_never_finished_is_dropped_in_silence(self, path: Path) -> None:
        with inject(e.FinishSave, error=FULL), pytest.raises(errors.StorageError):
            ocp.save_checkpointables(path, {"p": Point(1, 2)}, context=POINTS)
        eventually(lambda: not our_threads())


@pytest.mark.usefixtures("anyio_backend")
class TestCoroutines:
    """``sealwax.aio`` under asyncio and trio, with handlers written for asyncio."""

    async def test_they_do_what_the_plain_verbs_do(self, path: Path) -> None:
        await ocp.aio.save_checkpointables(path, mixed(), context=POINTS)
        response = await ocp.aio.save_checkpointables_async(
            path, mixed() | {"point": Point(5, 6)}, overwrite=True, context=POINTS
        )
        await response
        wanted = {"point": None, "loop": Counter()}
        found = await ocp.aio.load_checkpointables(path, wanted, context=POINTS)
        assert found["point"] == Point(5, 6)
        assert found["loop"].value == 5
        told = await ocp.aio.checkpointables_metadata(path, context=POINTS)
        assert told.metadata["point"] == "a point"

    async def test_cancelling_leaves_nothing(self, path: Path) -> None:
        begun = threading.Event()

        class Waiting(PointHandler):
            async def _write(self, directory: Any, x: int, y: int) -> None:
                begun.set()
                await asyncio.sleep(600)

        async with anyio.create_task_group() as group:

            async def save() -> None:
                await ocp.aio.save_checkpointables(
                    path, {"p": Point(1, 2)}, context=context(Waiting)
                )

            group.start_soon(save)
            await anyio.to_thread.run_sync(begun.wait, 30)
            group.cancel_scope.cancel()
        assert names(path.parent) == []


def test_loads_in_the_background(path: Path) -> None:
    ocp.save_checkpointables(path, mixed(), context=POINTS)
    response = ocp.load_checkpointables_async(path, {"point": None}, context=POINTS)
    assert response.result() == {"point": Point(3, 4)}


def test_signatures_are_those_of_orbax_with_our_own_behind() -> None:
    import orbax.checkpoint.experimental.v1 as orbax

    for name in (
        "save_checkpointables",
        "save_checkpointables_async",
        "load_checkpointables",
        "load_checkpointables_async",
        "checkpointables_metadata",
    ):
        theirs = inspect.signature(getattr(orbax, name)).parameters
        ours = inspect.signature(getattr(ocp, name)).parameters
        own = [p for n, p in ours.items() if n not in theirs]
        assert [n for n in ours if n in theirs] == list(theirs)
        assert all((p.default, p.kind) == (theirs[n].default, theirs[n].kind)
                   for n, p in ours.items() if n in theirs)  # fmt: skip
        assert {p.name for p in own} <= {"context", "until"}
        assert all(p.kind is p.KEYWORD_ONLY for p in own)
