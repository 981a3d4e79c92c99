"""The standard handlers, called directly through the protocol that they share with Orbax's."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from google.protobuf import wrappers_pb2

import sealwax as ocp
from sealwax.errors import (
    CheckpointNotFoundError,
    InvalidCheckpointableError,
    LeafMismatchError,
    UnsupportedLeafError,
)
from sealwax.handlers import JsonHandler, ProtoHandler, PyTreeHandler
from sealwax.verbs.standard_handlers import MetricsHandler, StatefulCheckpointableHandler
from tests.opinionated import Iterator

pytestmark = pytest.mark.anyio


class Later:
    """A directory that is made only when somebody waits for it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __truediv__(self, other: Any) -> Later:
        return Later(self.path / other)

    async def await_creation(self) -> Path:
        self.path.mkdir(parents=True)
        return self.path


async def save(handler: Any, directory: Any, value: Any) -> None:
    await (await handler.save(directory, value))


async def load(handler: Any, directory: Path, abstract: Any = None) -> Any:
    return await (await handler.load(directory, abstract))


class TestJson:
    async def test_it_comes_back(self, tmp_path: Path) -> None:
        value = {"lr": (1e-3, [2]), 3: np.float32(0.1)}
        await save(JsonHandler(), Later(tmp_path / "config"), value)
        assert await load(JsonHandler(), tmp_path / "config") == value
        assert await JsonHandler().metadata(tmp_path / "config") is None

    async def test_it_is_encoded_before_save_returns(self, tmp_path: Path) -> None:
        value = [1, 2]
        rest = await JsonHandler().save(Later(tmp_path / "config"), value)
        value.clear()
        assert not (tmp_path / "config").exists()
        await rest
        assert await load(JsonHandler(), tmp_path / "config") == [1, 2]

    async def test_a_file_of_another_name(self, tmp_path: Path) -> None:
        await save(JsonHandler("mine.json"), Later(tmp_path / "config"), [1])
        assert sorted(os.listdir(tmp_path / "config")) == ["metadata", "mine.json"]
        assert await load(JsonHandler("mine.json"), tmp_path / "config") == [1]
        assert await load(JsonHandler(), tmp_path / "config") == [1]

    async def test_metrics_are_json(self, tmp_path: Path) -> None:
        await save(MetricsHandler(), Later(tmp_path / "metrics"), {"loss": 2.0})
        assert (tmp_path / "metrics" / "metrics").read_text() == '{"loss": 2.0}'
        assert await load(MetricsHandler(), tmp_path / "metrics") == {"loss": 2.0}

    async def test_errors_name_the_item(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidCheckpointableError, match=r"config\['a'\]"):
            await JsonHandler().save(Later(tmp_path / "config"), {"a": {1}})
        with pytest.raises(CheckpointNotFoundError, match=r"data\.json, metadata"):
            await load(JsonHandler(), tmp_path)

    async def test_what_it_says_it_can_handle(self) -> None:
        assert JsonHandler().is_handleable({"a": (1, None)})
        assert not JsonHandler().is_handleable({"a": jnp.ones(1)})
        assert JsonHandler().is_abstract_handleable({"a": 1}) is None


class TestProto:
    async def test_it_comes_back(self, tmp_path: Path) -> None:
        message = wrappers_pb2.StringValue(value="é")
        await save(ProtoHandler(), Later(tmp_path / "p"), message)
        assert await load(ProtoHandler(), tmp_path / "p", wrappers_pb2.StringValue) == message
        assert await load(ProtoHandler(), tmp_path / "p", wrappers_pb2.StringValue()) == message

    async def test_errors_name_the_item(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidCheckpointableError, match="'p'.*class of the message"):
            await ProtoHandler().load(tmp_path / "p")
        with pytest.raises(CheckpointNotFoundError, match=r"proto\.pbtxt"):
            await load(ProtoHandler(), tmp_path, wrappers_pb2.StringValue)


class TestTrees:
    async def test_they_come_back(self, tmp_path: Path) -> None:
        tree = {"w": jnp.arange(6.0).reshape(2, 3), "n": (1, b"x", None), "s": "text"}
        await save(PyTreeHandler(), Later(tmp_path / "tree"), tree)
        loaded = await load(PyTreeHandler(), tmp_path / "tree")
        assert loaded["n"] == (1, b"x", None)
        assert loaded["w"].tolist() == tree["w"].tolist()
        abstract = {"w": np.ndarray, "n": ..., "s": str}
        loaded = await load(PyTreeHandler(), tmp_path / "tree", abstract)
        assert isinstance(loaded["w"], np.ndarray)

    async def test_metadata_is_a_template(self, tmp_path: Path) -> None:
        await save(PyTreeHandler(), Later(tmp_path / "tree"), {"w": np.ones((2, 3))})
        found = await PyTreeHandler().metadata(tmp_path / "tree")
        assert found["w"].shape == (2, 3)
        assert (await load(PyTreeHandler(), tmp_path / "tree", found))["w"].sum() == 6

    async def test_what_its_caller_does_later_alters_nothing(self, tmp_path: Path) -> None:
        tree = {"numpy": np.ones(100_000), "jax": jnp.ones((300, 300))}
        rest = await PyTreeHandler().save(Later(tmp_path / "tree"), tree)
        assert not (tmp_path / "tree").exists()
        tree["numpy"][:] = 0
        tree["jax"].delete()
        await rest
        loaded = await load(PyTreeHandler(), tmp_path / "tree")
        assert loaded["numpy"].all()
        assert loaded["jax"].all()

    async def test_its_own_settings_win(self, tmp_path: Path) -> None:
        ctx = ocp.Context()
        ctx.array.saving.use_ocdbt = False
        await save(PyTreeHandler(context=ctx), Later(tmp_path / "a"), {"w": np.ones(3)})
        await save(PyTreeHandler(), Later(tmp_path / "b"), {"w": np.ones(3)})
        assert (tmp_path / "a" / "w" / "zarr.json").exists()
        assert (tmp_path / "b" / "manifest.ocdbt").exists()

    async def test_the_current_settings_are_those_of_the_call(self, tmp_path: Path) -> None:
        ctx = ocp.Context()
        ctx.array.saving.use_ocdbt = False
        with ctx:
            rest = await PyTreeHandler().save(Later(tmp_path / "a"), {"w": np.ones(3)})
        await rest
        assert (tmp_path / "a" / "w" / "zarr.json").exists()

    async def test_errors_name_the_leaf(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedLeafError) as refused:
            await PyTreeHandler().save(Later(tmp_path / "tree"), {"a": [object()]})
        assert refused.value.leaf == "a.0"
        await save(PyTreeHandler(), Later(tmp_path / "tree"), {"w": np.ones(3)})
        with pytest.raises(LeafMismatchError) as misfit:
            await load(PyTreeHandler(), tmp_path / "tree", {"w": np.ones(4)})
        assert misfit.value.leaf == "w"

    async def test_what_it_says_it_can_handle(self) -> None:
        handler = PyTreeHandler()
        for tree in ({"a": 1}, jnp.ones(2), None, [], {"r": np.random.default_rng()}):
            assert handler.is_handleable(tree)
        assert not handler.is_handleable({"a": {1, 2}})
        with pytest.raises(UnsupportedLeafError, match="'a'"):
            handler.validate_leaves_handleable({"a": {1, 2}})
        abstract = {"a": jax.ShapeDtypeStruct((2,), int), "b": np.ndarray, "c": ..., "d": 1}
        assert handler.is_abstract_handleable(abstract)
        for other in (wrappers_pb2.StringValue, {"a": object()}, [Iterator]):
            assert not handler.is_abstract_handleable(other)
            with pytest.raises(UnsupportedLeafError):
                handler.validate_abstract_leaves_handleable(other)


class TestObjectsThatSaveThemselves:
    async def test_they_are_called_and_given_back(self, tmp_path: Path) -> None:
        calls: list[Any] = []

        class Counter:
            async def save(self, directory):
                calls.append(directory)
                return self.rest()

            async def load(self, directory):
                calls.append(directory)
                return self.rest()

            async def rest(self):
                calls.append("rest")

        counter, handler = Counter(), StatefulCheckpointableHandler()
        await save(handler, tmp_path, counter)
        assert await load(handler, tmp_path, counter) is counter
        assert calls == [tmp_path, "rest", tmp_path, "rest"]

    @pytest.mark.parametrize(("found", "said"), [(None, "none"), (Iterator, "the class Iterator")])
    async def test_an_object_is_needed(self, tmp_path: Path, found: Any, said: str) -> None:
        with pytest.raises(InvalidCheckpointableError, match=said):
            await StatefulCheckpointableHandler().load(tmp_path / "it", found)


async def test_constructors_take_what_those_of_orbax_take() -> None:
    assert str(inspect.signature(JsonHandler)) == "(filename: 'str | None' = None) -> 'None'"
    assert inspect.signature(ProtoHandler).parameters["filename"].default == "proto.pbtxt"
    assert inspect.signature(PyTreeHandler).parameters["context"].default is None
