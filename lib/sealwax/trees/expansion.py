"""Leaves of types that handlers know: taken apart before a save, one leaf each after a load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from returns.result import Failure, Result, Success

from sealwax.errors import (
    CorruptionError,
    LeafError,
    NameCollisionError,
    SealwaxError,
    UnsupportedLeafError,
)
from sealwax.leaf_handlers import LeafHandler, LeafHandlers
from sealwax.trees.flatten import Flat, Leaf, flatten, key_paths
from sealwax.trees.structure import LEAF, Branch, Mark, Structure, count_leaves


class Handled(NamedTuple):
    """A leaf that was taken apart, or is to be put together again.

    Attributes:
      first: The position of the first leaf of its small tree.
      size: How many there are.
      depth: How many keys lead to it.
      type_name: What its handler calls the type.
      data: The plain data beside the small tree.
    """

    first: int
    size: int
    depth: int
    type_name: str
    data: Any = None


class Expanded(NamedTuple):
    """A tree of standard leaves, and which of them are parts of others."""

    flat: Flat
    handled: tuple[Handled, ...]
    key_paths: Sequence[tuple[object, ...]]


def expand(
    flat: Flat, handlers: LeafHandlers, paths: Sequence[tuple[object, ...]] = ()
) -> Result[Expanded, SealwaxError]:
    """Takes apart the leaves for which there are handlers.

    Args:
      flat: A tree.
      handlers: The leaf handlers.
      paths: JAX's key path of every leaf, if those of the parts are asked for.

    Returns:
      The tree of their parts; an error where a handler fails, or gives no tree.
    """
    # A tree has many leaves, and few types of them.
    kinds = {type(leaf.value) for leaf in flat.leaves}
    known = {kind: found for kind in kinds if (found := handlers.find(kind)) is not None}
    if not known:
        return Success(Expanded(flat, (), paths))
    work = _Work(handlers, known, flat.leaves, paths)
    try:
        structure = work.visit(flat.structure)
    except SealwaxError as error:
        return Failure(error)
    clash = _clash(work.leaves)
    if clash is not None:
        return Failure(clash)
    made = Flat(leaves=tuple(work.leaves), structure=structure)
    return Success(Expanded(made, tuple(work.handled), work.paths))


class _Work:
    __slots__ = ("_given", "_handlers", "_known", "_paths", "handled", "leaves", "paths")

    def __init__(
        self,
        handlers: LeafHandlers,
        known: dict[type, LeafHandler],
        leaves: Sequence[Leaf],
        paths: Sequence[tuple[object, ...]],
    ) -> None:
        self._handlers = handlers
        self._known = known
        self._given = iter(leaves)
        self._paths = iter(paths)
        self.leaves: list[Leaf] = []
        self.handled: list[Handled] = []
        self.paths: list[tuple[object, ...]] = []

    def visit(self, structure: Structure) -> Structure:
        if isinstance(structure, Branch) and structure.children:
            return Branch(structure.container, tuple([self.visit(c) for c in structure.children]))
        leaf, path = next(self._given), next(self._paths, None)
        handler = self._known.get(type(leaf.value)) if isinstance(structure, Mark) else None
        if handler is not None:
            return self._expand(handler, leaf, path)
        self.leaves.append(leaf)
        if path is not None:
            self.paths.append(path)
        return structure

    def _expand(
        self, handler: LeafHandler, leaf: Leaf, path: tuple[object, ...] | None
    ) -> Structure:
        tree, data = _taken_apart(handler, leaf)
        inner = flatten(tree)
        if isinstance(inner, Failure):
            raise inner.failure().located(leaf=leaf.name)
        flat = inner.unwrap()
        for part in flat.leaves:
            if self._handlers.find(type(part.value)) is not None:
                raise _handled_within(handler, _below(leaf, part))
        handled = Handled(len(self.leaves), len(flat.leaves), len(leaf.path), handler.name, data)
        self.handled.append(handled)
        self.leaves += [_below(leaf, part) for part in flat.leaves]
        if path is not None:
            self.paths += [(*path, *below) for below in key_paths(tree)]
        return flat.structure


def _below(leaf: Leaf, part: Leaf) -> Leaf:
    name = f"{leaf.name}.{part.name}" if leaf.path and part.path else leaf.name or part.name
    return Leaf((*leaf.path, *part.path), name, part.value)


def _handled_within(handler: LeafHandler, leaf: Leaf) -> UnsupportedLeafError:
    kind = type(leaf.value).__qualname__
    return UnsupportedLeafError(
        f"The leaf handler for {handler.name} gave a leaf that takes a leaf handler itself",
        leaf=leaf.name,
        expected="a tree of standard leaves",
        found=f"an object of type {kind}",
        hint=f"Take the {kind} apart in to_leaves too, and put it together in from_leaves.",
    )


def _taken_apart(handler: LeafHandler, leaf: Leaf) -> tuple[Any, Any]:
    try:
        tree, data = handler.to_leaves(leaf.value)
    except LeafError as error:
        raise error.located(leaf=leaf.name) from error.__cause__
    except Exception as error:
        raise UnsupportedLeafError(
            f"The leaf handler for {handler.name} failed: {type(error).__name__}: {error}",
            leaf=leaf.name,
            expected="a pair: a tree of standard leaves, and plain data or None",
            found=f"a leaf of type {type(leaf.value).__qualname__}",
        ) from error
    return tree, data


def _clash(leaves: Sequence[Leaf]) -> NameCollisionError | None:
    seen: set[str] = set()
    for leaf in leaves:
        name = leaf.name.removesuffix("/")
        if name in seen:
            return NameCollisionError(
                "A part of a leaf would be stored under the name of another leaf",
                leaf=leaf.name,
                hint="Rename one of the keys: names on disk are the keys joined by dots.",
            )
        seen.add(name)
    return None


class Folded(NamedTuple):
    """A structure with leaves in the place of some subtrees, and those, in order."""

    outer: Structure
    inner: tuple[Structure, ...]


def fold(structure: Structure, handled: Sequence[Handled]) -> Result[Folded, CorruptionError]:
    """Puts leaves that were taken apart back in their places.

    Args:
      structure: That of the tree of parts.
      handled: Where there are such leaves, in order.

    >>> from sealwax.trees.structure import LEAF, DictOf
    >>> pair = Branch(DictOf(keys=("a", "b")), (LEAF, LEAF))
    >>> fold(pair, [Handled(0, 2, 0, "Pair")]).unwrap().outer
    <Mark.LEAF: 0>
    """
    work = _Fold(handled)
    outer = work.visit(structure, 0)
    if len(work.inner) != len(handled):
        return Failure(
            CorruptionError(
                "The record of leaves that were taken apart does not fit the tree",
                expected=f"{len(handled)} of them",
                found=str(len(work.inner)),
                hint='Set ctx.pytree.loading.unregistered_leaves = "parts" and '
                "ctx.pytree.leaf_handlers = LeafHandlers() to load their parts.",
            )
        )
    return Success(Folded(outer, tuple(work.inner)))


class _Fold:
    __slots__ = ("_at", "_rest", "inner")

    def __init__(self, handled: Sequence[Handled]) -> None:
        self._rest = list(reversed(handled))
        self._at = 0
        self.inner: list[Structure] = []

    def visit(self, structure: Structure, depth: int) -> Structure:
        due = self._rest[-1] if self._rest else None
        if due is not None and (due.first, due.depth) == (self._at, depth):
            count = count_leaves(structure)
            if count == due.size:
                self._rest.pop()
                self._at += count
                self.inner.append(structure)
                return LEAF
        if isinstance(structure, Branch) and structure.children:
            children = [self.visit(child, depth + 1) for child in structure.children]
            return Branch(structure.container, tuple(children))
        self._at += 1
        return structure
