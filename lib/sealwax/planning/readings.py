"""What a handler's ``plan_load`` gives: values that say what is read, and what becomes of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

from returns.result import Failure, Result, Success

from sealwax.effects import ReadFile, RunLoad, RunMetadata
from sealwax.errors import SealwaxError
from sealwax.options import Options
from sealwax.planning.builder import Builder, result
from sealwax.planning.contents import Contents
from sealwax.planning.file_names import file_names_problem
from sealwax.planning.handler_faults import guarded, nonsense
from sealwax.planning.handler_items import StoredItem
from sealwax.planning.load import choose
from sealwax.planning.load_items import Loading, keep
from sealwax.planning.load_steps import LoadRequest, add_load
from sealwax.planning.stored_files import add_check, check_file
from sealwax.trees.structure import PyTree

T = TypeVar("T")
U = TypeVar("U")
T_co = TypeVar("T_co", covariant=True)


class Reading(Protocol[T_co]):
    """How a checkpointable is read, and what becomes of what was read."""

    def loading(
        self, item: StoredItem, request: LoadRequest, by: str
    ) -> Result[Loading, SealwaxError]:
        """The steps of it.

        Args:
          item: What is read.
          request: How the load was called.
          by: The handler that planned it, for errors.
        """
        ...

    def map(self, function: Callable[[Any], U]) -> Reading[U]:
        """The same reading, with what a pure function makes of its result."""
        ...


class _Mappable:
    """What every reading has in common."""

    __slots__ = ()

    def map(self, function: Callable[[Any], U]) -> Reading[U]:
        """The same reading, with what a pure function makes of its result."""
        reading: Any = self
        return _Mapped(reading, function)


@dataclasses.dataclass(frozen=True, slots=True)
class _Mapped(_Mappable, Generic[T]):
    before: Reading[Any]
    function: Callable[[Any], T]

    def loading(
        self, item: StoredItem, request: LoadRequest, by: str
    ) -> Result[Loading, SealwaxError]:
        """The steps of what is before, and one more."""
        made = guarded(by, "what it makes of what was loaded", self.function)

        def then(loading: Loading) -> Loading:
            def add(build: Builder) -> int:
                before = result(loading.add(build))
                return build.derive("the checkpointable", made, before, brief=False)

            return dataclasses.replace(loading, add=add)

        return self.before.loading(item, request, by).map(then)


@dataclasses.dataclass(frozen=True, slots=True)
class FromFiles(_Mappable, Generic[T]):
    """Files that are read side by side, each checked, and then decoded.

    Attributes:
      names: Their names, as paths below the item's directory.
      decode: A pure function that makes the checkpointable of their contents, in that order.

    >>> FromFiles(["words.txt"], lambda data: data.decode().split()).names
    ['words.txt']
    """

    names: Sequence[str]
    decode: Callable[..., T]

    def loading(
        self, item: StoredItem, request: LoadRequest, by: str
    ) -> Result[Loading, SealwaxError]:
        """The steps that read, check and decode."""
        given: Any = self.names
        if not isinstance(given, Iterable):
            return Failure(nonsense(by, "the files that it reads", "a list of their names", given))
        listed = guarded(by, "the files that it reads", list[Any])
        files = [given] if isinstance(given, str) else listed(cast("Any", given))
        problem = file_names_problem(files)
        if problem is not None:
            return Failure(problem)
        decode = guarded(by, "decoding what was loaded", self.decode)

        def checked(*contents: bytes | None) -> T:
            pairs = zip(files, contents, strict=True)
            return decode(*[check_file(item, name, data) for name, data in pairs])

        def add(build: Builder) -> int:
            reads = [
                build.add(ReadFile(path=item.path(name)), reads=item.digests.get(name, (0,))[0])
                for name in files
            ]
            return build.derive("the checkpointable", checked, *map(result, reads), brief=False)

        return Success(Loading(name=item.name, add=add))


@dataclasses.dataclass(frozen=True, slots=True)
class Known(_Mappable, Generic[T]):
    """What is known without reading anything more.

    Attributes:
      value: The checkpointable, or its metadata.
    """

    value: T

    def loading(
        self, item: StoredItem, request: LoadRequest, by: str
    ) -> Result[Loading, SealwaxError]:
        """One step that gives the value."""
        return Success(keep(item.name, self.value))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FromTree(_Mappable):
    """A tree, of which a template says what is read.

    Attributes:
      contents: What the item holds.
      template: The template, or ``None`` for all of it.
      options: The settings by which it is read.
    """

    contents: Contents
    template: PyTree
    options: Options

    def loading(
        self, item: StoredItem, request: LoadRequest, by: str
    ) -> Result[Loading, SealwaxError]:
        """The steps that read, check and place the arrays."""
        own = dataclasses.replace(request, options=self.options, template=self.template)

        def planned(chosen: Any) -> Loading:
            add = functools.partial(add_load, request=own, contents=self.contents, chosen=chosen)
            return Loading(name=item.name, leaves=chosen.names, add=add)

        return choose(own, self.contents).map(planned)


@dataclasses.dataclass(frozen=True, slots=True)
class ByCall(_Mappable):
    """What a handler of Orbax's protocol gives, which sees files only when they are as they were.

    Attributes:
      handler: The handler.
      abstract: What was passed for the item.
    """

    handler: Any
    abstract: object

    def loading(
        self, item: StoredItem, request: LoadRequest, by: str
    ) -> Result[Loading, SealwaxError]:
        """The steps that check every file, and then call the handler."""

        def add(build: Builder) -> int:
            effect = RunLoad(
                path=item.directory,
                handler=self.handler,
                abstract=self.abstract,
                path_class=item.options.file.path_class,
            )
            return build.add(effect, after=add_check(build, item))

        return Success(Loading(name=item.name, add=add))


@dataclasses.dataclass(frozen=True, slots=True)
class ToldByCall(_Mappable):
    """What a handler of Orbax's protocol tells of an item.

    Attributes:
      handler: The handler.
    """

    handler: Any

    def loading(
        self, item: StoredItem, request: LoadRequest, by: str
    ) -> Result[Loading, SealwaxError]:
        """The step that asks the handler."""
        path_class = item.options.file.path_class
        effect = RunMetadata(path=item.directory, handler=self.handler, path_class=path_class)
        return Success(Loading(name=item.name, add=lambda build: build.add(effect)))
