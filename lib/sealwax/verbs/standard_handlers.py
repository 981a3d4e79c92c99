"""The standard handlers of items that are a few files: JSON, protocol buffers, stateful objects.

An operation of sealwax plans what they do (``__kind__``). Their own methods are for whoever calls
them directly, such as a handler of a user's that keeps part of its state in one of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

from sealwax.checkpointables import json_codec, proto_codec
from sealwax.checkpointables import typestrings as names_of
from sealwax.checkpointables.kinds import JsonKind, Kind, ProtoKind, StatefulKind
from sealwax.checkpointables.protocols import CheckpointableHandler, StatefulCheckpointable
from sealwax.context import resolve
from sealwax.effects import Plan, ReadFile, SyncDirectory, WriteFile
from sealwax.errors import CheckpointNotFoundError, InvalidCheckpointableError, SealwaxError
from sealwax.options import Options
from sealwax.planning import names
from sealwax.planning.builder import Builder
from sealwax.planning.pipeline import raised
from sealwax.runtime.handling import called
from sealwax.runtime.operation import Operation, looking, raise_unavailable
from sealwax.verbs.paths import absolute


def path_of(directory: Any) -> str:
    """The path of a directory that may not be there yet."""
    return absolute(directory.path if hasattr(directory, "await_creation") else directory)


async def created(directory: Any) -> str:
    """The path of a directory, once it is there."""
    wait = getattr(directory, "await_creation", None)
    return absolute(directory if wait is None else await wait())


class JsonHandler(CheckpointableHandler[Any, None]):
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

    def __kind__(self) -> Kind:
        return JsonKind(filename=self._filename)

    async def save(self, directory: Any, checkpointable: Any) -> Awaitable[None]:
        """Encodes the data, and returns what writes it."""
        options = _options("save")
        name = names.base(path_of(directory))
        encoded = raised(json_codec.encode(checkpointable, name))
        return _write(directory, json_codec.files(encoded, self._filename), options)

    async def load(self, directory: Any, abstract_checkpointable: None = None) -> Awaitable[Any]:
        """Returns what reads the data."""
        return self._load(absolute(directory), _options("load"))

    async def _load(self, path: str, options: Options) -> Any:
        wanted = json_codec.searched(self._filename)
        found = await _read(path, (*wanted, json_codec.NOTES), options)
        name = next((name for name in wanted if name in found), None)
        if name is None:
            raise CheckpointNotFoundError(
                "There is no JSON to load", path=path, expected=f"one of {', '.join(wanted)}"
            )
        where = names.join(path, name)
        return raised(json_codec.decode(found[name], found.get(json_codec.NOTES), path=where))

    async def metadata(self, directory: Any) -> None:
        """Nothing: JSON is loaded as quickly as it would be described."""

    def is_handleable(self, checkpointable: Any) -> bool:
        """Whether it is plain data."""
        return json_codec.encode(checkpointable).value_or(None) is not None

    def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool | None:
        """Nothing describes JSON, so that this says neither yes nor no."""
        return None


class MetricsHandler(JsonHandler):
    """Saves the metrics of a step as JSON, in a file called ``metrics``."""

    __typestrings__ = names_of.METRICS

    def __init__(self) -> None:
        super().__init__("metrics")

    def __kind__(self) -> Kind:
        return JsonKind(filename="metrics")


class ProtoHandler(CheckpointableHandler[Any, Any]):
    """Saves a protocol buffer as text. Its class, or a message of it, is its abstract form.

    Args:
      filename: Name of the file.
    """

    __typestrings__ = names_of.PROTO

    def __init__(self, filename: str = proto_codec.FILE) -> None:
        self._filename = filename

    def __kind__(self) -> Kind:
        return ProtoKind(filename=self._filename)

    async def save(self, directory: Any, checkpointable: Any) -> Awaitable[None]:
        """Encodes the message, and returns what writes it."""
        options = _options("save")
        data = raised(proto_codec.encode(checkpointable, names.base(path_of(directory))))
        return _write(directory, {self._filename: data}, options)

    async def load(self, directory: Any, abstract_checkpointable: Any = None) -> Awaitable[Any]:
        """Returns what reads the message."""
        path = absolute(directory)
        problem = proto_codec.abstract_problem(abstract_checkpointable, names.base(path), path)
        if problem is not None:
            raise problem
        return self._load(path, abstract_checkpointable, _options("load"))

    async def _load(self, path: str, abstract: Any, options: Options) -> Any:
        found = await _read(path, (self._filename,), options)
        where = names.join(path, self._filename)
        if self._filename not in found:
            raise CheckpointNotFoundError("There is no protocol buffer to load", path=where)
        name = names.base(path)
        return raised(proto_codec.decode(found[self._filename], abstract, name, path=where))

    async def metadata(self, directory: Any) -> None:
        """Nothing: the file does not say of which class the message is."""

    def is_handleable(self, checkpointable: Any) -> bool:
        """Whether it is a message."""
        return proto_codec.is_message(checkpointable)

    def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool | None:
        """Whether it is a class of messages, or a message."""
        return proto_codec.is_abstract_message(abstract_checkpointable)


class StatefulCheckpointableHandler(CheckpointableHandler[Any, Any]):
    """Lets objects save and load themselves: those with the methods ``save`` and ``load``."""

    __typestrings__ = names_of.STATEFUL

    def __kind__(self) -> Kind:
        return StatefulKind()

    async def save(self, directory: Any, checkpointable: Any) -> Awaitable[None]:
        """Calls the object's own method."""
        return await called(checkpointable, "save", directory)

    async def load(self, directory: Any, abstract_checkpointable: Any = None) -> Awaitable[Any]:
        """Calls the object's own method, and gives the object back."""
        if abstract_checkpointable is None or isinstance(abstract_checkpointable, type):
            raise needs_instance(names.base(absolute(directory)), abstract_checkpointable)
        rest = await called(abstract_checkpointable, "load", directory)
        return _then(rest, abstract_checkpointable)

    async def metadata(self, directory: Any) -> None:
        """Nothing: only the object knows what it wrote."""

    def is_handleable(self, checkpointable: Any) -> bool:
        """Whether it has the methods of ``StatefulCheckpointable``."""
        return isinstance(checkpointable, StatefulCheckpointable)

    def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool | None:
        """Whether it has the methods of ``StatefulCheckpointable``."""
        return isinstance(abstract_checkpointable, StatefulCheckpointable)


def needs_instance(name: str, found: object) -> SealwaxError:
    """The error for an object that is to load itself, where there is no object."""
    return InvalidCheckpointableError(
        f"Checkpointable {name!r} loads itself, which takes an object to load into",
        expected="an instance as its abstract form",
        found="none" if found is None else f"the class {getattr(found, '__qualname__', found)}",
        hint=f"Pass a fresh one: load_checkpointables(path, {{{name!r}: Iterator(...)}}). Leave "
        "the name out of that dict to load the others alone.",
    )


async def _then(rest: Awaitable[None], value: Any) -> Any:
    await rest
    return value


def _options(operation: Any) -> Options:
    options = resolve(None)
    raise_unavailable(options, operation)
    return options


async def _write(directory: Any, files: Mapping[str, bytes], options: Options) -> None:
    path = await created(directory)
    durable = options.file.durability == "durable"
    build = Builder()
    for name, content in files.items():
        build.add(WriteFile(path=names.join(path, name), content=content, sync=durable))
    if durable:
        build.add(SyncDirectory(path=path), after=range(len(build.steps)))
    operation = Operation(title="save", path=path, options=options)
    async with operation.performing() as perform:
        plan = Plan(title="save", path=path, steps=tuple(build.steps))
        await operation.execute(plan, perform)


async def _read(path: str, wanted: Iterable[str], options: Options) -> dict[str, bytes]:
    """The content of those of these files that are there."""
    operation = Operation(title="load", path=path, options=options)
    async with operation.performing() as perform:
        found = [
            (name, await looking(perform, ReadFile(path=names.join(path, name)))) for name in wanted
        ]
    return {name: data for name, data in found if data is not None}
