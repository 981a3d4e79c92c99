"""The standard handlers of items that are a few files: JSON, protocol buffers, stateful objects."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from returns.result import Result

from sealwax.checkpointables import json_codec, proto_codec
from sealwax.checkpointables import typestrings as names_of
from sealwax.checkpointables.protocols import StatefulCheckpointable
from sealwax.errors import CheckpointNotFoundError, InvalidCheckpointableError, SealwaxError
from sealwax.planning import names
from sealwax.planning.handler_items import NewItem, StoredItem
from sealwax.planning.pipeline import raised
from sealwax.planning.planners import ByProtocol
from sealwax.planning.readings import FromFiles, Reading
from sealwax.planning.writings import Files, Writing
from sealwax.runtime.handling import called
from sealwax.verbs.paths import absolute
from sealwax.verbs.planned_handler import PlannedHandler


class JsonHandler(PlannedHandler[Any, None]):
    """Saves plain data as JSON, also with tuples, keys of any plain type and NumPy numbers.

    It is asked before the tree's handler for nothing: register it for a name to have JSON there.

    Args:
      filename: Name of the file; ``data.json`` where there is none. What Orbax would look for
        without being told is written beside it.

    >>> import sealwax as ocp
    >>> registry = ocp.handlers.local_registry()
    >>> registry = registry.add(ocp.handlers.JsonHandler, checkpointable_name="config")
    """

    __typestrings__ = names_of.JSON

    def __init__(self, filename: str | None = None) -> None:
        self._filename = filename

    def is_handleable(self, checkpointable: Any) -> bool:
        """Whether it is plain data."""
        return json_codec.encode(checkpointable).value_or(None) is not None

    def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool | None:
        """Nothing describes JSON, so that this says neither yes nor no."""
        return None

    def plan_save(self, checkpointable: Any, item: NewItem) -> Result[Writing, SealwaxError]:
        """The file, that for older readers, and notes on what JSON has no form for."""

        def planned(encoded: json_codec.Encoded) -> Writing:
            return Files(json_codec.files(encoded, self._filename))

        return json_codec.encode(checkpointable, item.name).map(planned)

    def plan_load(self, item: StoredItem, abstract_checkpointable: None = None) -> Reading[Any]:
        """The first of the files that may hold it, and the notes."""
        searched = json_codec.searched(self._filename)
        file = next((name for name in searched if item.has(name)), None)
        if file is None:
            raise CheckpointNotFoundError(
                f"The checkpointable {item.name!r} has no JSON to load",
                path=item.directory,
                expected=f"one of {', '.join(searched)}",
                found=", ".join(map(repr, item.listed[:5])) or "an empty directory",
            )

        def decode(data: bytes, notes: bytes | None = None) -> object:
            return raised(json_codec.decode(data, notes, path=names.join(item.directory, file)))

        notes = [json_codec.NOTES] if item.has(json_codec.NOTES) else []
        return FromFiles([file, *notes], decode)


class MetricsHandler(JsonHandler):
    """Saves the metrics of a step as JSON, in a file called ``metrics``."""

    __typestrings__ = names_of.METRICS

    def __init__(self) -> None:
        super().__init__("metrics")


class ProtoHandler(PlannedHandler[Any, Any]):
    """Saves a protocol buffer as text. Its class, or a message of it, is its abstract form.

    Args:
      filename: Name of the file.
    """

    __typestrings__ = names_of.PROTO

    def __init__(self, filename: str = proto_codec.FILE) -> None:
        self._filename = filename

    async def load(self, directory: Any, abstract_checkpointable: Any = None) -> Awaitable[Any]:
        """Returns what reads the message."""
        path = absolute(directory)
        problem = proto_codec.abstract_problem(abstract_checkpointable, names.base(path), path)
        if problem is not None:
            raise problem
        return await super().load(directory, abstract_checkpointable)

    def is_handleable(self, checkpointable: Any) -> bool:
        """Whether it is a message."""
        return proto_codec.is_message(checkpointable)

    def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool | None:
        """Whether it is a class of messages, or a message."""
        return proto_codec.is_abstract_message(abstract_checkpointable)

    def plan_save(self, checkpointable: Any, item: NewItem) -> Result[Writing, SealwaxError]:
        """The text of the message."""

        def planned(text: bytes) -> Writing:
            return Files({self._filename: text})

        return proto_codec.encode(checkpointable, item.name).map(planned)

    def plan_load(self, item: StoredItem, abstract_checkpointable: Any = None) -> Reading[Any]:
        """The text, as the message that is wanted."""
        path = names.join(item.directory, self._filename)
        problem = proto_codec.abstract_problem(abstract_checkpointable, item.name, path)
        if problem is not None:
            raise problem
        if not item.has(self._filename):
            raise CheckpointNotFoundError(
                f"The checkpointable {item.name!r} has no protocol buffer to load", path=path
            )

        def decode(data: bytes) -> object:
            return raised(proto_codec.decode(data, abstract_checkpointable, item.name, path=path))

        return FromFiles([self._filename], decode)


class StatefulCheckpointableHandler(PlannedHandler[Any, Any]):
    """Lets objects save and load themselves: those with the methods ``save`` and ``load``."""

    __typestrings__ = names_of.STATEFUL

    async def save(self, directory: Any, checkpointable: Any) -> Awaitable[None]:
        """Calls the object's own method."""
        return await called(checkpointable, "save", directory)

    async def load(self, directory: Any, abstract_checkpointable: Any = None) -> Awaitable[Any]:
        """Calls the object's own method, and gives the object back."""
        problem = _no_instance(names.base(absolute(directory)), abstract_checkpointable)
        if problem is not None:
            raise problem
        rest = await called(abstract_checkpointable, "load", directory)
        return _then(rest, abstract_checkpointable)

    def is_handleable(self, checkpointable: Any) -> bool:
        """Whether it has the methods of ``StatefulCheckpointable``."""
        return isinstance(checkpointable, StatefulCheckpointable)

    def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool | None:
        """Whether it has the methods of ``StatefulCheckpointable``."""
        return isinstance(abstract_checkpointable, StatefulCheckpointable)

    def plan_save(self, checkpointable: Any, item: NewItem) -> Writing:
        """A call of the object's own method."""
        return ByProtocol(self).plan_save(checkpointable, item)

    def plan_load(self, item: StoredItem, abstract_checkpointable: Any = None) -> Reading[Any]:
        """A check of its files, and a call of the object's own method."""
        problem = _no_instance(item.name, abstract_checkpointable)
        if problem is not None:
            raise problem
        return ByProtocol(self).plan_load(item, abstract_checkpointable)


def _no_instance(name: str, found: object) -> SealwaxError | None:
    """The error for an object that is to load itself, where there is no object."""
    if found is not None and not isinstance(found, type):
        return None
    return InvalidCheckpointableError(
        f"Checkpointable {name!r} loads itself, which takes an object to load into",
        expected="an instance as its abstract form",
        found="none" if found is None else f"the class {found.__qualname__}",
        hint=f"Pass a fresh one: load_checkpointables(path, {{{name!r}: Iterator(...)}}). Leave "
        "the name out of that dict to load the others alone.",
    )


async def _then(rest: Awaitable[None], value: Any) -> Any:
    await rest
    return value
