"""Wrong uses of handlers and registries, as section 10 of the list of misuses has them: all clear.

The number in each test's name is that of its row.
"""

from __future__ import annotations

import pytest
from google.protobuf import wrappers_pb2

import sealwax as ocp
from sealwax.errors import AlreadyExistsError, HandlerError, InvalidHandlerError
from sealwax.handlers import JsonHandler, global_registry, local_registry, register_handler
from tests.opinionated import opinionated


class Iterator:
    """Saves and loads itself."""

    def __init__(self, at: int = 0) -> None:
        self.at = at

    async def save(self, directory):
        async def write():
            path = await directory.await_creation()
            (path / "at").write_text(str(self.at))

        return write()

    async def load(self, directory):
        async def read():
            self.at = int((directory / "at").read_text())

        return read()


@pytest.fixture
def saved(tmp_path):
    items = {
        "state": {"w": 1},
        "schedule": wrappers_pb2.StringValue(value="cosine"),
        "data": Iterator(7),
    }
    ocp.save_checkpointables(tmp_path / "ckpt", items)
    return tmp_path / "ckpt"


def test_163_a_proto_without_its_class(saved) -> None:
    with pytest.raises(HandlerError) as caught:
        ocp.load_checkpointables(saved, {"state": None, "schedule": None})
    for part in ("'schedule'", "class of the message", "Leave the name"):
        assert part in str(caught.value)
    loaded = ocp.load_checkpointables(saved, {"schedule": wrappers_pb2.StringValue, "state": None})
    assert loaded["schedule"].value == "cosine"
    assert ocp.load_checkpointables(saved, {"state": None}) == {"state": {"w": 1}}


def test_164_an_object_that_loads_itself_without_the_object(saved) -> None:
    with pytest.raises(HandlerError) as caught:
        ocp.load_checkpointables(saved, {"data": None})
    for part in ("'data'", "an instance"):
        assert part in str(caught.value)
    assert ocp.load_checkpointables(saved, {"data": Iterator()})["data"].at == 7


def test_166_a_save_that_is_no_coroutine_function(tmp_path) -> None:
    class Wrong(Iterator):
        def save(self, directory):
            return None

    with pytest.raises(InvalidHandlerError, match="async def save") as caught:
        ocp.save_checkpointables(tmp_path / "ckpt", {"data": Wrong()})
    assert "Wrong" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_167_a_constructor_that_needs_arguments(tmp_path) -> None:
    class Needy(JsonHandler):
        def __init__(self, root):
            super().__init__()

    registry = local_registry()
    with pytest.raises(InvalidHandlerError, match="Needy .* root"):
        registry.add(Needy)
    ctx = ocp.Context()
    ctx.checkpointables.registry = registry
    ocp.save_checkpointables(tmp_path / "ckpt", {"a": {"w": 1}}, context=ctx)


def test_169_registered_twice() -> None:
    mine = opinionated("Mine")
    with pytest.raises(AlreadyExistsError, match="Mine is registered already"):
        local_registry().add(mine).add(mine)


def test_170_an_instance() -> None:
    with pytest.raises(InvalidHandlerError, match="without parentheses"):
        register_handler(JsonHandler())  # type: ignore[type-var]


def test_172_a_local_registry_of_the_global_one() -> None:
    assert local_registry(global_registry()).snapshot == global_registry().snapshot


def test_173_a_registry_that_does_not_know_the_handler_any_more(tmp_path) -> None:
    class Words(JsonHandler):
        def is_handleable(self, checkpointable):
            return isinstance(checkpointable, frozenset)

        async def save(self, directory, checkpointable):
            return await super().save(directory, sorted(checkpointable))

    ctx = ocp.Context()
    ctx.checkpointables.registry = local_registry().add(Words)
    ocp.save_checkpointables(tmp_path / "ckpt", {"f": frozenset("ab")}, context=ctx)
    assert ocp.load_checkpointables(tmp_path / "ckpt", context=ctx) == {"f": ["a", "b"]}
    with pytest.raises(KeyError) as caught:
        ocp.load_checkpointables(tmp_path / "ckpt")
    for part in ("'f'", "Words", "local_registry().add("):
        assert part in str(caught.value)
    assert "_METADATA" not in str(caught.value)
