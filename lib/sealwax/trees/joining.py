"""Structures put together of several, each of which adds leaves that the others do not have."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, cast

from returns.result import Failure, Result, Success

from sealwax.errors import PartialSaveReplacementError
from sealwax.trees.structure import (
    LEAF,
    Branch,
    Container,
    DictOf,
    Mark,
    NodeOf,
    Plain,
    Structure,
    child_texts,
    count_leaves,
    is_sequence,
)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Atom(Generic[T]):
    """What nothing can be added to: a leaf, ``None``, or the parts of one leaf."""

    structure: Structure
    values: tuple[T, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Inner(Generic[T]):
    """A container, to which keys can be added; ``values`` has one of an empty container."""

    container: Container
    children: tuple[Node[T], ...]
    values: tuple[T, ...] = ()


Node: TypeAlias = "Atom[T] | Inner[T]"


def filled(structure: Structure, values: Sequence[T], whole: Sequence[tuple[int, int]]) -> Node[T]:
    """A structure with a value for each of its leaves.

    Args:
      structure: The containers.
      values: The values, in order.
      whole: For each leaf that is stored as a small tree, the number of its first value and how
        many keys lead to it; in order.
    """
    return _Filler(values, frozenset(whole)).fill(structure, 0)


class _Filler(Generic[T]):
    __slots__ = ("_taken", "_values", "_whole")

    def __init__(self, values: Sequence[T], whole: frozenset[tuple[int, int]]) -> None:
        self._values = values
        self._whole = whole
        self._taken = 0

    def fill(self, structure: Structure, depth: int) -> Node[T]:
        start = self._taken
        if (start, depth) in self._whole:
            self._taken += count_leaves(structure)
            return Atom(structure, tuple(self._values[start : self._taken]))
        if isinstance(structure, Mark) or not structure.children:
            self._taken += 1
            value = (self._values[start],)
            if isinstance(structure, Mark) or structure.container is Plain.NONE:
                return Atom(structure, value)
            return Inner(structure.container, (), value)
        children = [self.fill(child, depth + 1) for child in structure.children]
        return Inner(structure.container, tuple(children))


def _values(node: Node[T]) -> Iterator[T]:
    yield from node.values
    if isinstance(node, Inner):
        for child in node.children:
            yield from _values(child)


def _structure(node: Node[T]) -> Structure:
    if isinstance(node, Atom):
        return node.structure
    return Branch(node.container, tuple([_structure(child) for child in node.children]))


def joined(
    nodes: Sequence[Node[T]],
) -> Result[tuple[Structure, tuple[T, ...]], PartialSaveReplacementError]:
    """Puts structures together.

    Dicts are joined by key, sequences by index, other containers of one class by field. An empty
    container takes up whatever one of its kind adds.

    Returns:
      The containers, and the values of all leaves in their order; a
      ``PartialSaveReplacementError`` for the first place at which two have something.

    >>> one = filled(Branch(DictOf(keys=("a",)), (LEAF,)), ["x"], ())
    >>> two = filled(Branch(DictOf(keys=("b",)), (LEAF,)), ["y"], ())
    >>> joined([two, one]).unwrap()[1]
    ('x', 'y')
    """
    first, *others = nodes
    try:
        for other in others:
            first = _join(first, other, ())
    except PartialSaveReplacementError as error:
        return Failure(error)
    return Success((_structure(first), tuple(_values(first))))


def _join(old: Node[T], new: Node[T], path: tuple[str, ...]) -> Node[T]:
    if isinstance(old, Atom) or isinstance(new, Atom):
        raise _taken(path, _word(old), _word(new))
    if not _alike(old.container, new.container):
        raise _taken(path, _word(old), _word(new))
    if not (old.children and new.children):
        return old if old.children or not new.children else new
    children: dict[str, tuple[object, Node[T]]] = {}
    for node in (old, new):
        keys = _keys(node)
        for text, key, child in zip(_texts(node), keys, node.children, strict=True):
            if text not in children:
                children[text] = key, child
                continue
            known, other = children[text]
            if (type(known), known) != (type(key), key):
                raise _taken((*path, text), f"key {known!r}", f"key {key!r}")
            children[text] = key, _join(other, child, (*path, text))
    return _remade(old.container, list(children.values()), path)


def _texts(node: Inner[T]) -> list[str]:
    return child_texts(Branch(node.container, (LEAF,) * len(node.children)))


def _keys(node: Inner[T]) -> Sequence[object]:
    if isinstance(node.container, Plain):
        return range(len(node.children))
    return node.container.keys


def _alike(old: Container, new: Container) -> bool:
    if isinstance(old, NodeOf) and isinstance(new, NodeOf):
        return (old.module, old.name, old.form) == (new.module, new.name, new.form)
    if isinstance(old, DictOf) and isinstance(new, DictOf):
        return old.ordered == new.ordered
    return old is new


def _remade(
    container: Container, children: list[tuple[object, Node[T]]], path: tuple[str, ...]
) -> Inner[T]:
    if isinstance(container, Plain):
        return Inner(container, tuple([child for _, child in children]))
    if isinstance(container, DictOf) and not container.ordered:
        try:
            children = sorted(children, key=lambda each: cast("Any", each[0]))
        except TypeError as error:
            raise PartialSaveReplacementError(
                "The keys of a dict would have no order with those of an earlier part",
                leaf=".".join(path) or None,
                expected="keys that can be compared, as JAX needs them",
                found=", ".join(repr(key) for key, _ in children[:5]),
            ) from error
    keys = tuple([key for key, _ in children])
    return Inner(dataclasses.replace(container, keys=keys), tuple([child for _, child in children]))


def _word(node: Node[T]) -> str:
    if isinstance(node, Atom):
        return "a leaf" if isinstance(node.structure, Mark) else "None"
    if isinstance(node.container, Plain):
        return f"a {node.container.value}"
    if isinstance(node.container, DictOf):
        return "an OrderedDict" if node.container.ordered else "a dict"
    return f"a {node.container.name}" + (" of items" if is_sequence(node.container) else "")


def _taken(path: tuple[str, ...], old: str, new: str) -> PartialSaveReplacementError:
    return PartialSaveReplacementError(
        "An earlier part of the checkpoint has something at this place already",
        leaf=".".join(path),
        expected="a key that no part has",
        found=f"{old} there, {new} here",
        hint="Parts add keys and replace none: leave this one out, or save the whole again.",
    )
