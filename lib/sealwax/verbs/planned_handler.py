"""What makes a handler of Orbax's protocol of one that plans: the base of the standard ones.

Operations of sealwax plan with a handler and call none of these methods. They are for whoever
calls it directly, such as a handler of a user's that keeps part of its state in a standard one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from returns.result import Result

from sealwax.checkpointables.protocols import CheckpointableHandler
from sealwax.context import resolve
from sealwax.effects import (
    SOURCES,
    Derive,
    ListDirectory,
    MakeDirectory,
    Now,
    Plan,
    Stage,
    Step,
    Token,
)
from sealwax.effects.plan import uses
from sealwax.errors import SealwaxError
from sealwax.options import Options
from sealwax.planning import names
from sealwax.planning.builder import Builder, result
from sealwax.planning.handler_items import NewItem, StoredItem
from sealwax.planning.items import Place
from sealwax.planning.load_items import Loading, plan_item
from sealwax.planning.load_steps import LoadRequest
from sealwax.planning.pipeline import raised
from sealwax.planning.planners import PlanningHandler, capture_by, loading_by, metadata_by
from sealwax.runtime import garbage
from sealwax.runtime.observe_item import observed
from sealwax.runtime.operation import Operation, looking, raise_unavailable
from sealwax.verbs.loading import request_for
from sealwax.verbs.paths import absolute

T = TypeVar("T")
AbstractT = TypeVar("AbstractT")


def path_of(directory: Any) -> str:
    """The path of a directory that may not be there yet."""
    return absolute(directory.path if hasattr(directory, "await_creation") else directory)


class PlannedHandler(PlanningHandler[T, AbstractT], CheckpointableHandler[T, AbstractT]):
    """A handler that plans, with the methods of Orbax's protocol."""

    def _settings(self) -> Options:
        return resolve(None)

    async def save(self, directory: Any, checkpointable: T) -> Awaitable[None]:
        """Captures the object and brings its data to the host; returns what writes it."""
        saving = _Saving(self, path_of(directory), checkpointable, self._settings())
        return saving.write(directory, await saving.stage())

    async def load(self, directory: Any, abstract_checkpointable: Any = None) -> Awaitable[T]:
        """Returns what reads the object."""
        options = self._settings()
        raise_unavailable(options, "load")
        load = functools.partial(_load, abstract_checkpointable)
        return _read(self, "load", request_for(absolute(directory), options, None), load)

    async def metadata(self, directory: Any) -> Any:
        """Describes the object, as far as it can be told without loading it."""
        request = LoadRequest(path=absolute(directory), options=self._settings())
        return await _read(self, "metadata", request, metadata_by)


def _load(
    abstract: object, handler: PlanningHandler[Any, Any], item: StoredItem, request: LoadRequest
) -> Result[Loading, SealwaxError]:
    return loading_by(handler, item, abstract, request)


async def _read(
    handler: PlanningHandler[Any, Any],
    title: str,
    request: LoadRequest,
    planner: Callable[..., Result[Loading, SealwaxError]],
) -> Any:
    """Reads a directory that is an item, whatever the directory around it is."""
    path, options = request.path, request.options
    operation = Operation(title=title, path=path, options=options)
    async with operation.performing() as perform:
        listed: Sequence[str] = await looking(perform, ListDirectory(path=path))
        item = StoredItem(
            name=names.base(path),
            directory=path,
            listed=tuple(listed),
            typestring=None,
            digests={},
            options=options,
        )
        item = await observed(handler, item, perform)
        with garbage.paused():
            loading: Loading = raised(planner(handler, item, request))
            plan = plan_item(title, path, options, loading)
        return await operation.execute(plan, perform)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Made(Place):
    """A directory that is there already, for which somebody else cares."""

    def make(self, build: Builder, inner: Iterable[str] = ()) -> tuple[int, ...]:
        made: dict[str, int] = {}
        for name in sorted(inner):
            above = made.get(names.parent(name))
            after = () if above is None else (above,)
            made[name] = build.add(MakeDirectory(path=self.path(name)), after=after)
        return tuple(made.values())


class _Saving:
    """One save into the directory of a handler: planned once, and done in two parts."""

    def __init__(
        self, handler: PlanningHandler[Any, Any], path: str, value: object, options: Options
    ) -> None:
        raise_unavailable(options, "save")
        self._operation = Operation(title="save", path=path, options=options)
        with garbage.paused():
            captured = capture_by(handler, value, NewItem(name=names.base(path), options=options))
        self._item = captured.item
        raised(self._item.refuse(path, options))
        self._source: object = captured.source

    async def stage(self) -> Plan:
        """Brings the data to the host; returns the plan of the rest."""
        operation = self._operation
        async with operation.performing() as perform:
            plan = self._plan(await perform(Token()), await perform(Now()))
            staged = await operation.execute(_staging(plan), perform, sources=self._sources)
        rest = _after(plan, staged)
        if not any(SOURCES in uses(step.effect) for step in rest.steps):
            self._source = None
        return rest

    async def write(self, directory: Any, plan: Plan) -> None:
        """Writes what was staged, once the directory is there."""
        wait = getattr(directory, "await_creation", None)
        if wait is not None:
            await wait()
        async with self._operation.performing() as perform:
            await self._operation.execute(plan, perform, sources=self._sources)

    @property
    def _sources(self) -> dict[str, Any]:
        return {self._item.name: self._source}

    def _plan(self, token: str, now: int) -> Plan:
        operation, item, build = self._operation, self._item, Builder()
        place = _Made(
            item=item.name,
            directory=operation.path,
            above=0,
            token=token,
            now=now,
            options=operation.options,
            background=True,
        )
        item.plan(build.within(None, item.leaves), place)
        steps = tuple(build.steps)
        return Plan(title="save", path=operation.path, steps=steps, names=item.leaves)


def _stages(plan: Plan) -> tuple[Step, ...]:
    return tuple(step for step in plan.steps if isinstance(step.effect, Stage))


def _staging(plan: Plan) -> Plan:
    """The part of a plan that brings data to the host; its result is that data, by step."""
    found = _stages(plan)
    steps = tuple([dataclasses.replace(step, number=n) for n, step in enumerate(found)])
    gather = Derive(
        name="staged data",
        function=functools.partial(_by_number, [step.number for step in found]),
        inputs=tuple([result(step.number) for step in steps]),
    )
    last = Step(number=len(steps), effect=gather)
    return dataclasses.replace(plan, steps=(*steps, last), result=last.number)


def _by_number(numbers: Sequence[int], *found: object) -> dict[int, object]:
    return dict(zip(numbers, found, strict=True))


def _after(plan: Plan, staged: dict[int, object]) -> Plan:
    """The rest of a plan, which hands on the data and does not keep it."""

    def given(step: Step) -> Step:
        taken = functools.partial(staged.pop, step.number)
        effect = Derive(name="staged data", function=taken, inputs=())
        return dataclasses.replace(step, effect=effect, holds=0, staging=False)

    waiting = frozenset(step.number for step in _stages(plan))
    steps = tuple([given(step) if step.number in waiting else step for step in plan.steps])
    return dataclasses.replace(plan, steps=steps)
