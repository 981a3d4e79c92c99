"""Leaves that leaf handlers take apart: how they are recorded, and how they come together again.

``group`` makes one ``StoredLeaf`` of the rows of such a leaf, so that templates, selections and
metadata see a leaf. When it is read, ``targets_of`` gives the targets of its parts in its place,
and ``join`` makes the leaf of their values.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from msgspec.structs import replace
from returns.result import Failure, Result, Success

from sealwax.checkpointables import json_codec
from sealwax.errors import (
    CorruptionError,
    LeafError,
    LeafMismatchError,
    SealwaxError,
    UnregisteredLeafError,
    UnsupportedLeafError,
)
from sealwax.layouts.manifest import Composite
from sealwax.leaf_handlers import LeafHandler, LeafHandlers
from sealwax.options import PyTreeOptions
from sealwax.planning import targets
from sealwax.planning.contents import Contents, Parts, StoredLeaf
from sealwax.planning.pipeline import raised
from sealwax.planning.targets import Rules, Target
from sealwax.trees.expansion import Handled, fold
from sealwax.trees.flatten import Flat, flatten
from sealwax.trees.match import Wanted, match
from sealwax.trees.records import Entry
from sealwax.trees.structure import Branch, PyTree, Structure, child_texts, rebuild

Assemble: TypeAlias = Callable[[Sequence[object]], Result[PyTree, SealwaxError]]


def record(flat: Flat, handled: Sequence[Handled]) -> tuple[Composite, ...]:
    """What the manifest keeps of the leaves that were taken apart.

    Raises:
      UnsupportedLeafError: A handler gave data that JSON cannot hold.
    """
    return tuple([_record(flat, each) for each in handled])


def _record(flat: Flat, handled: Handled) -> Composite:
    where = flat.leaves[handled.first].path[: handled.depth]
    leaf = ".".join([key.text for key in where])
    made = Composite(handled.first, handled.size, handled.depth, handled.type_name)
    if handled.data is None:
        return made
    match json_codec.encode(handled.data, "data"):
        case Success((data, notes)):
            text = None if notes is None else notes.decode()
            return Composite(*_fields(made), data.decode(), text)
        case Failure(error):
            raise UnsupportedLeafError(
                f"The leaf handler for {handled.type_name} gave data that is not plain: "
                f"{error.what}",
                leaf=leaf,
                expected=error.expected,
                found=error.found,
                hint="Put arrays among the leaves, which come first in what to_leaves returns.",
            ) from error
        case _:
            raise AssertionError("a result is neither a success nor a failure")


def _fields(made: Composite) -> tuple[int, int, int, str]:
    return made.first, made.count, made.depth, made.type_name


def group(
    contents: Contents, options: PyTreeOptions, template: PyTree = None, *, lenient: bool = False
) -> Result[Contents, SealwaxError]:
    """Makes one leaf of the rows of each that was taken apart.

    Args:
      contents: What a checkpoint holds, row by row.
      options: The leaf handlers, and what is to be done where one is missing.
      template: Where it has a container, the parts are asked for and stay what they are.
      lenient: Whether what has no handler stays what it is.

    Returns:
      The leaves; an error where what is recorded does not fit the tree.
    """
    if not contents.composites or contents.structure is None:
        return Success(contents)
    handlers = options.leaf_handlers
    keep = lenient or options.loading.unregistered_leaves == "parts"
    asked = _containers(template)
    composites = [
        each
        for each in contents.composites
        if not (keep and handlers.named(each.type_name) is None)
        if _place(contents, each) not in asked
    ]
    folded = fold(contents.structure, [Handled(*_fields(each)) for each in composites])
    if isinstance(folded, Failure):
        return folded.alt(lambda error: error.located(path=contents.directory))
    outer, inner = folded.unwrap()
    try:
        leaves = _grouped(contents.leaves, composites, inner, handlers)
        return Success(
            dataclasses.replace(contents, leaves=tuple(leaves), structure=outer, composites=())
        )
    except SealwaxError as error:
        return Failure(error.located(path=contents.directory))


def _grouped(
    leaves: Sequence[StoredLeaf],
    composites: Sequence[Composite],
    inner: Sequence[Structure],
    handlers: LeafHandlers,
) -> Iterator[StoredLeaf]:
    at = 0
    for each, structure in zip(composites, inner, strict=True):
        yield from leaves[at : each.first]
        at = each.first + each.count
        yield _composite(each, structure, leaves[each.first : at], handlers)
    yield from leaves[at:]


def _composite(
    each: Composite, structure: Structure, leaves: Sequence[StoredLeaf], handlers: LeafHandlers
) -> StoredLeaf:
    first = leaves[0].entry
    handler = handlers.named(each.type_name)
    notes = None if each.notes is None else each.notes.encode()
    data = None if each.data is None else raised(json_codec.decode(each.data.encode(), notes))
    below = tuple(
        replace(leaf, entry=replace(leaf.entry, path=leaf.entry.path[each.depth :]))
        for leaf in leaves
    )
    return StoredLeaf(
        entry=Entry(first.path[: each.depth], each.type_name),
        kind=leaves[0].kind,
        damage=_unregistered(each.type_name) if handler is None else None,
        parts=Parts(
            type_name=each.type_name,
            handler=handler,
            data=data,
            structure=structure,
            leaves=below,
        ),
    )


def _unregistered(type_name: str) -> UnregisteredLeafError:
    short = type_name.rpartition(".")[2]
    return UnregisteredLeafError(
        f"The leaf is of type {type_name}, for which no leaf handler is registered",
        hint=f"Register it: ctx.pytree.leaf_handlers = ctx.pytree.leaf_handlers.with_handler("
        f"LeafHandler({short}, ...)). Its parts can be loaded as they are with "
        'ctx.pytree.loading.unregistered_leaves = "parts".',
    )


def _place(contents: Contents, each: Composite) -> tuple[str, ...]:
    path = contents.leaves[each.first].entry.path[: each.depth]
    return tuple([key.text for key in path])


def _containers(template: PyTree) -> frozenset[tuple[str, ...]]:
    """Where a template has containers that are not empty."""
    if template is None:
        return frozenset()
    found: set[tuple[str, ...]] = set()

    def visit(structure: Structure, path: tuple[str, ...]) -> None:
        if isinstance(structure, Branch) and structure.children:
            found.add(path)
            for text, child in zip(child_texts(structure), structure.children, strict=True):
                visit(child, (*path, text))

    flat = flatten(template).value_or(None)
    if flat is not None:
        visit(flat.structure, ())
    return frozenset(found)


def targets_of(leaf: StoredLeaf, wanted: Any, rules: Rules) -> list[Target]:
    """The targets of the parts of a leaf that a template asks for.

    Raises:
      LeafError: A leaf of the template stands for another type.
    """
    if leaf.damage is not None:
        raise leaf.damage
    parts, handler = _whole(leaf)
    if not handler.accepts(wanted):
        raise LeafMismatchError(
            "What is stored does not fit the template",
            expected=wanted.__name__ if isinstance(wanted, type) else type(wanted).__name__,
            found=f"a leaf of type {parts.type_name}",
            hint="Put such a leaf, or its type, into the template, or ... to skip it.",
        )
    template = None if handler.template is None else _called(handler, "template", wanted)
    if template is None:
        return as_saved(leaf, x64=rules.x64)
    by_entry = {id(part.entry): part for part in parts.leaves}
    matching = raised(match(template, [part.entry for part in parts.leaves]))
    asked: dict[int, Wanted] = {id(each.entry): each for each in matching.wanted}
    return [
        targets.target(by_entry[key], asked[key].template, rules)
        if key in asked
        else targets.as_saved(by_entry[key], x64=rules.x64)
        for key in by_entry
    ]


def as_saved(
    leaf: StoredLeaf, devices: tuple[Any, ...] | None = None, *, x64: bool = False
) -> list[Target]:
    """The targets of the parts of a leaf that is restored as it was saved."""
    if leaf.damage is not None:
        raise leaf.damage
    return [targets.as_saved(part, devices, x64=x64) for part in _whole(leaf)[0].leaves]


def join(leaf: StoredLeaf, values: Sequence[object]) -> object:
    """The leaf, of the values of its parts.

    Raises:
      LeafError: Its handler failed.
    """
    parts, handler = _whole(leaf)
    tree = raised(rebuild(parts.structure, values))
    return _called(handler, "from_leaves", tree, parts.data, leaf=leaf.entry.name)


def joining(leaves: Sequence[StoredLeaf], assemble: Assemble) -> Assemble:
    """What makes a tree of the values of parts, where ``assemble`` does of those of leaves."""
    if all(leaf.parts is None for leaf in leaves):
        return assemble
    return functools.partial(_assemble, leaves, assemble)


def _assemble(
    leaves: Sequence[StoredLeaf], assemble: Assemble, values: Sequence[object]
) -> Result[PyTree, SealwaxError]:
    rest = iter(values)
    try:
        joined = [
            next(rest)
            if leaf.parts is None
            else join(leaf, list(itertools.islice(rest, len(leaf.parts.leaves))))
            for leaf in leaves
        ]
    except SealwaxError as error:
        return Failure(error)
    return assemble(joined)


def described(leaf: StoredLeaf, parts: Sequence[object]) -> object:
    """What stands for the leaf in metadata, and in a template; ``parts`` is that of its parts."""
    known, handler = _whole(leaf)
    if handler.describe is None:
        return handler.type
    tree = raised(rebuild(known.structure, parts))
    return _called(handler, "describe", tree, known.data, leaf=leaf.entry.name)


def _whole(leaf: StoredLeaf) -> tuple[Parts, LeafHandler]:
    if leaf.parts is None or leaf.parts.handler is None:
        raise AssertionError("this leaf was not taken apart")
    return leaf.parts, leaf.parts.handler


def _called(handler: LeafHandler, function: str, *args: Any, leaf: str | None = None) -> Any:
    try:
        return getattr(handler, function)(*args)
    except (LeafError, CorruptionError) as error:
        raise error.located(leaf=leaf) from error.__cause__
    except Exception as error:
        raise LeafMismatchError(
            f"The leaf handler for {handler.name} failed in {function}: "
            f"{type(error).__name__}: {error}",
            leaf=leaf,
            hint="The handler has to accept what earlier versions of it have written.",
        ) from error
