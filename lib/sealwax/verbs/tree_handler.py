"""The standard handler of pytrees."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, cast

import numpy as np

from sealwax.arrays.leafkinds import classify
from sealwax.checkpointables import typestrings as names_of
from sealwax.checkpointables.kinds import Kind, TreeKind
from sealwax.checkpointables.protocols import CheckpointableHandler
from sealwax.context import Context, resolve
from sealwax.effects import (
    Derive,
    Entry,
    ListDirectory,
    MakeDirectory,
    Now,
    Plan,
    Stage,
    Step,
    Token,
)
from sealwax.errors import SealwaxError, UnsupportedLeafError
from sealwax.layouts.detect import Found
from sealwax.leaf_handlers import LeafHandlers
from sealwax.options import Options
from sealwax.planning import names
from sealwax.planning.builder import Builder, result
from sealwax.planning.capture import Captured, capture_tree
from sealwax.planning.items import Place
from sealwax.planning.load import LoadRequest, plan_load
from sealwax.planning.pipeline import raised
from sealwax.runtime import garbage
from sealwax.runtime.observe import Contents, Perform, read_contents
from sealwax.runtime.operation import Operation, looking, raise_unavailable
from sealwax.trees.flatten import flatten
from sealwax.trees.structure import EmptyKind, PyTree
from sealwax.verbs.checkpoint_metadata import CheckpointMetadata, tree_metadata
from sealwax.verbs.loading import request_for
from sealwax.verbs.paths import absolute
from sealwax.verbs.standard_handlers import created, path_of


class PyTreeHandler(CheckpointableHandler[Any, Any]):
    """Saves pytrees, as ``save`` does.

    Args:
      context: Settings to use instead of those of the operation.

    >>> import sealwax as ocp
    >>> ocp.handlers.PyTreeHandler().is_handleable({"w": 1.0})
    True
    """

    __typestrings__ = names_of.PYTREE

    def __init__(self, *, context: Context | Options | None = None) -> None:
        self._context = context

    def __kind__(self) -> Kind:
        return TreeKind(options=None if self._context is None else resolve(self._context))

    @property
    def _leaf_handlers(self) -> LeafHandlers:
        return resolve(self._context).pytree.leaf_handlers

    async def save(self, directory: Any, checkpointable: PyTree) -> Awaitable[None]:
        """Brings the tree to the host, and returns what writes it."""
        saving = _Saving(path_of(directory), checkpointable, resolve(self._context))
        return saving.write(directory, await saving.stage())

    async def load(
        self, directory: Any, abstract_checkpointable: PyTree | None = None
    ) -> Awaitable[PyTree]:
        """Returns what reads the tree, as a template asks."""
        options, template = resolve(self._context), abstract_checkpointable
        raise_unavailable(options, "load")
        if isinstance(template, CheckpointMetadata):
            template = cast("CheckpointMetadata[Any]", template).metadata
        return _load(request_for(absolute(directory), options, template))

    async def metadata(self, directory: Any) -> PyTree:
        """The tree with shapes, dtypes and shardings for arrays."""
        options = resolve(self._context)
        operation = Operation(title="metadata", path=absolute(directory), options=options)
        async with operation.performing() as perform:
            return tree_metadata(await _contents(operation, perform), options.pytree)

    def is_handleable(self, checkpointable: Any) -> bool:
        """Whether every leaf is one that can be stored."""
        return _refusal(checkpointable, self._leaf_handlers) is None

    def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool | None:
        """Whether every leaf is one that a template may have."""
        return _abstract_refusal(abstract_checkpointable, self._leaf_handlers) is None

    def validate_leaves_handleable(self, checkpointable: PyTree) -> None:
        """Raises the error for the first leaf that cannot be stored."""
        _raise(_refusal(checkpointable, self._leaf_handlers))

    def validate_abstract_leaves_handleable(self, abstract_checkpointable: PyTree) -> None:
        """Raises the error for the first leaf that no template may have."""
        _raise(_abstract_refusal(abstract_checkpointable, self._leaf_handlers))


def _raise(error: SealwaxError | None) -> None:
    if error is not None:
        raise error


def _refusal(tree: object, handlers: LeafHandlers) -> SealwaxError | None:
    flat = flatten(tree)
    failed = flat.swap().value_or(None)
    if failed is not None:
        return failed
    for leaf in flat.unwrap().leaves:
        known = isinstance(leaf.value, EmptyKind) or handlers.find(type(leaf.value)) is not None
        refused = None if known else classify(leaf.value).swap()
        error = None if refused is None else refused.value_or(None)
        if error is not None:
            return error.located(leaf=leaf.name)
    return None


def _abstract_refusal(tree: object, handlers: LeafHandlers) -> SealwaxError | None:
    flat = flatten(tree)
    failed = flat.swap().value_or(None)
    if failed is not None:
        return failed
    for leaf in flat.unwrap().leaves:
        if not _may_ask(leaf.value) and not any(h.accepts(leaf.value) for h in handlers.handlers):
            return UnsupportedLeafError(
                "A template cannot have a leaf of this type",
                leaf=leaf.name,
                expected="an array, a jax.ShapeDtypeStruct, a scalar, a string, or a type of these",
                found=_name_of(leaf.value),
            )
    return None


def _may_ask(leaf: object) -> bool:
    import jax

    scalars = (bool, int, float, complex, str, bytes, np.generic)
    if isinstance(leaf, type):
        return issubclass(leaf, (*scalars, np.ndarray, jax.Array, jax.ShapeDtypeStruct))
    described = hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    return described or leaf is ... or isinstance(leaf, (*scalars, EmptyKind))


def _name_of(leaf: object) -> str:
    return leaf.__qualname__ if isinstance(leaf, type) else type(leaf).__qualname__


async def _load(request: LoadRequest) -> PyTree:
    operation = Operation(title="load", path=request.path, options=request.options)
    async with operation.performing() as perform:
        contents = await _contents(operation, perform)
        with garbage.paused():
            plan: Plan = raised(plan_load(request, contents))
        return await operation.execute(plan, perform)


async def _contents(operation: Operation, perform: Perform) -> Contents:
    """What a directory holds that is an item, whatever the directory around it is."""
    path = operation.path
    listed: Sequence[str] = await looking(perform, ListDirectory(path=path))
    item = names.base(path)
    around = Found(path=names.parent(path), entry=Entry.DIRECTORY, items={item: tuple(listed)})
    return await read_contents(perform, around, item, rich=operation.rich)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Made(Place):
    """A directory that is there already, for which somebody else cares."""

    def make(self, build: Builder, inner: Iterable[str] = ()) -> tuple[int, ...]:
        return tuple(build.add(MakeDirectory(path=self.path(name))) for name in inner)


class _Saving:
    """One save into the directory of a handler: planned once, and done in two parts."""

    def __init__(self, path: str, tree: PyTree, options: Options) -> None:
        raise_unavailable(options, "save")
        self._operation = Operation(title="save", path=path, options=options)
        with garbage.paused():
            captured: Captured = raised(capture_tree(names.base(path), tree, options))
        self._item = captured.item
        raised(self._item.refuse(path, options))
        self._source: object = captured.source

    async def stage(self) -> Plan:
        """Brings the data to the host; returns the plan of the rest."""
        operation = self._operation
        async with operation.performing() as perform:
            plan = self._plan(await perform(Token()), await perform(Now()))
            sources: Any = {self._item.name: self._source}
            self._source = None
            staged = await operation.execute(_staging(plan), perform, sources=sources)
        return _after(plan, staged)

    async def write(self, directory: Any, plan: Plan) -> None:
        """Writes what was staged, once the directory is there."""
        await created(directory)
        async with self._operation.performing() as perform:
            await self._operation.execute(plan, perform)

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
        for effect in item.plan(build.within(None, item.leaves), place).before_seal:
            build.add(effect)
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
