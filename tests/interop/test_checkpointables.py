"""Several checkpointables, in both directions, with Orbax v1 and with what v0 reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as v0
import pytest
from google.protobuf import struct_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from orbax.checkpoint import v1 as orbax

import sealwax
from tests.points import Counter, Point, PointHandler

TREE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "inner": {"step": 7}}
CONFIG = {"lr": 0.1, "layers": [1, 2], "name": "x", "nothing": None}
LIBRARIES = pytest.mark.parametrize(
    ("writer", "reader"),
    [(sealwax, orbax), (orbax, sealwax), (sealwax, sealwax)],
    ids=["ours to Orbax", "Orbax to ours", "ours to ours"],
)


def context(library: Any, **named: Any) -> Any:
    """A context of either library in which points and JSON have handlers."""
    registry = library.handlers.local_registry()
    registry.add(PointHandler)
    registry.add(library.handlers.JsonHandler, checkpointable_name="config")
    for name, handler in named.items():
        registry.add(handler, checkpointable_name=name)
    ctx = library.Context()
    ctx.checkpointables.registry = registry
    return ctx


def message() -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update({"a": 1.5, "b": ["x", True]})
    return made


def everything() -> dict[str, Any]:
    return {
        "params": TREE,
        "ema": {"w": np.ones(3)},
        "config": CONFIG,
        "proto": message(),
        "loop": Counter(5),
        "point": Point(3, 4),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


@LIBRARIES
def test_every_kind_of_checkpointable(path, writer, reader) -> None:
    with context(writer):
        writer.save_checkpointables(path, everything(), custom_metadata={"run": 3})
    wanted = dict.fromkeys(everything()) | {"proto": struct_pb2.Struct, "loop": Counter()}
    with context(reader):
        found = reader.load_checkpointables(path, wanted)
        about = reader.checkpointables_metadata(path)
    assert found.pop("loop").value == 5
    wanted = {name: value for name, value in everything().items() if name != "loop"}
    assert found.keys() == wanted.keys()
    np.testing.assert_equal(found, wanted)
    assert about.custom_metadata == {"run": 3}
    assert about.metadata.keys() == everything().keys()
    assert about.metadata["params"]["w"].shape == (2, 3)
    assert about.metadata["point"] == "a point"


@LIBRARIES
def test_only_what_is_named_is_loaded(path, writer, reader) -> None:
    with context(writer):
        writer.save_checkpointables(path, everything())
    with context(reader):
        found = reader.load_checkpointables(path, {"point": None, "ema": None})
    np.testing.assert_equal(found, {"point": Point(3, 4), "ema": {"w": np.ones(3)}})


@LIBRARIES
def test_without_a_selection_all_trees_and_json_are_loaded(path, writer, reader) -> None:
    items = {"params": TREE, "config": CONFIG}
    with context(writer):
        writer.save_checkpointables(path, items)
    with context(reader):
        np.testing.assert_equal(reader.load_checkpointables(path), items)


@LIBRARIES
def test_a_typestring_alone_finds_the_handler(path, writer, reader) -> None:
    with context(writer):
        writer.save_checkpointables(path, {"config": CONFIG, "params": TREE})
    assert reader.load_checkpointables(path)["config"] == CONFIG
    np.testing.assert_equal(reader.load(path), TREE)


@settings(max_examples=15)
@given(
    items=st.dictionaries(
        st.text("abc_-.", min_size=1, max_size=3).filter(lambda name: name.strip(".")),
        st.dictionaries(
            st.text("xyz", min_size=1, max_size=2),
            st.integers(-5, 5) | st.just(np.arange(4.0)) | st.text("ä", min_size=1, max_size=2),
            min_size=1,
            max_size=3,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_trees_under_any_names_in_both_directions(fresh: Callable[[], Path], items) -> None:
    for writer, reader in ((sealwax, orbax), (orbax, sealwax)):
        path = fresh()
        writer.save_checkpointables(path, items)
        np.testing.assert_equal(reader.load_checkpointables(path), items)


class TestV0:
    """The composite handler of v0, and what it wrote."""

    def test_it_reads_ours_without_being_told_what_they_are(self, path: Path) -> None:
        items = {"state": TREE, "config": CONFIG}
        with context(sealwax):
            sealwax.save_checkpointables(path, items)
        with v0.Checkpointer(v0.CompositeCheckpointHandler()) as checkpointer:
            found = checkpointer.restore(path)
        np.testing.assert_equal(dict(found.items()), items)

    def test_it_reads_ours_by_its_own_arguments(self, path: Path) -> None:
        with context(sealwax):
            sealwax.save_checkpointables(path, {"state": TREE, "config": CONFIG})
        args = v0.args.Composite(state=v0.args.PyTreeRestore(), config=v0.args.JsonRestore())
        with v0.Checkpointer(v0.CompositeCheckpointHandler()) as checkpointer:
            found = checkpointer.restore(path, args)
        np.testing.assert_equal(dict(found.items()), {"state": TREE, "config": CONFIG})

    def test_ours_reads_what_it_wrote(self, path: Path) -> None:
        args = v0.args.Composite(
            params=v0.args.PyTreeSave(TREE),
            standard=v0.args.StandardSave({"w": np.ones(3)}),
            config=v0.args.JsonSave(CONFIG),
            proto=v0.args.ProtoSave(message()),
        )
        with v0.Checkpointer(v0.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(path, args)
        wanted = dict.fromkeys(("params", "standard", "config")) | {"proto": struct_pb2.Struct}
        found = sealwax.load_checkpointables(path, wanted)
        np.testing.assert_equal(found["params"], TREE)
        np.testing.assert_equal(found["standard"], {"w": np.ones(3)})
        assert found["config"] == CONFIG
        assert found["proto"] == message()

    def test_a_step_of_a_training_loop_without_its_metrics(self, tmp_path: Path) -> None:
        with orbax.training.Checkpointer(tmp_path) as checkpointer:
            checkpointer.save_checkpointables(3, {"state": TREE}, metrics={"loss": 1.0})
        found = sealwax.load_checkpointables(tmp_path / "3")
        np.testing.assert_equal(found, {"state": TREE})
        assert sealwax.checkpointables_metadata(tmp_path / "3").metadata.keys() == {"state"}


def test_a_stray_directory_in_one_of_orbax_is_passed_over(path: Path) -> None:
    with context(orbax):
        orbax.save_checkpointables(path, {"params": TREE, "config": CONFIG})
    (path / "stray").mkdir()
    (path / "stray" / "x").write_text("x")
    found = sealwax.load_checkpointables(path)
    np.testing.assert_equal(found, {"params": TREE, "config": CONFIG})


def test_a_registry_of_orbax_serves_us_too(path: Path) -> None:
    """With Orbax's own handlers in it, which are called through the protocol like any other."""
    ctx = sealwax.Context()
    ctx.checkpointables.registry = orbax.handlers.local_registry().add(PointHandler)
    items = {"p": Point(1, 2), "params": TREE}
    sealwax.save_checkpointables(path, items, context=ctx)
    np.testing.assert_equal(sealwax.load_checkpointables(path, context=ctx), items)
    with context(sealwax):
        np.testing.assert_equal(sealwax.load_checkpointables(path), items)
    with context(orbax):
        np.testing.assert_equal(orbax.load_checkpointables(path), items)
