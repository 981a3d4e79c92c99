"""Deciding, for each leaf of a template, what is to be read for it.

Containers match by what they look like from outside: tuples and lists alike, namedtuples,
dataclasses and other nodes as dicts, keys as text. Empty containers and ``None`` stand for one
another. ``...`` in a template stands for any leaf or subtree that is not to be read.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from msgspec import Struct
from returns.result import Failure, Result, Success

from sealwax.errors import Difference, SealwaxError
from sealwax.trees.build import Grown, Twig, grow
from sealwax.trees.flatten import Flat, Leaf, flatten
from sealwax.trees.keys import KeyKind
from sealwax.trees.records import Entry
from sealwax.trees.registry import TreeDef, treedef
from sealwax.trees.report import LOAD, Gap, Sides, difference
from sealwax.trees.structure import (
    Branch,
    EmptyKind,
    Mark,
    NodeOf,
    Plain,
    PyTree,
    Structure,
    child_texts,
    count_leaves,
    empty_kind,
    is_sequence,
)


class Wanted(Struct, frozen=True):
    """A leaf to be read.

    Attributes:
      entry: What is stored.
      template: The template's leaf, which says how to restore it.
      name: Name of the leaf in the store.
    """

    entry: Entry
    template: object
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """A leaf for which nothing is read: the placeholder, or a stored empty container."""

    value: object


Source: TypeAlias = Wanted | Kept


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """A template that fits.

    Attributes:
      treedef: JAX's definition of the template.
      sources: Where each of the template's leaves comes from, in JAX's order.
      skipped: Names of stored leaves that are not read.
    """

    treedef: TreeDef
    sources: tuple[Source, ...]
    skipped: tuple[str, ...]

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """The leaves to be read, in JAX's order."""
        return tuple([source for source in self.sources if isinstance(source, Wanted)])

    def fill(self, values: Sequence[object]) -> PyTree:
        """Puts ``values``, one for each of ``wanted``, into a tree like the template."""
        rest = iter(values)
        leaves = [each.value if isinstance(each, Kept) else next(rest) for each in self.sources]
        return self.treedef.unflatten(leaves)


def match(
    template: PyTree,
    stored: Sequence[Entry],
    *,
    partial: bool = False,
    check: Callable[[Sequence[Wanted]], list[Difference]] | None = None,
    sides: Sides = LOAD,
    hint: str | None = None,
) -> Result[Matching, SealwaxError]:
    """Matches ``template`` against what is stored.

    Args:
      template: A tree whose leaves say what to restore: arrays, abstract arrays, scalars, types,
        or ``...`` for what is to be skipped.
      stored: Entries of the checkpoint.
      partial: Whether stored leaves that the template does not have are skipped. What the
        template has and the checkpoint does not is an error all the same.
      check: Tells how leaves do not fit. It is asked only where the trees do not fit, so that
        one error has all there is to say.
      sides: What the two are called.
      hint: What to do where they do not fit; by default what helps a load.

    Returns:
      What to read for each leaf; a ``TreeMismatchError`` that lists every difference.
    """
    flat = flatten(template)
    if isinstance(flat, Failure):
        return flat
    sources = _one_by_one(flat.unwrap().leaves, stored)
    if sources is not None:
        return Success(_matching(template, sources, stored))
    grown = grow(stored)
    if isinstance(grown, Failure):
        return grown
    walk = _Walk(flat.unwrap(), stored)
    walk.visit(flat.unwrap().structure, grown.unwrap(), ())
    if walk.missing or walk.different or (walk.unexpected and not partial):
        unused = [gap.name for gap in walk.unexpected] if partial else []
        surplus = [] if partial else walk.unexpected
        wanted = [source for source in walk.sources if isinstance(source, Wanted)]
        different = walk.different + (check(wanted) if check is not None else [])
        return Failure(
            difference(walk.missing, surplus, different, near=unused, sides=sides, hint=hint)
        )
    return Success(_matching(template, walk.sources, stored))


def _one_by_one(leaves: Sequence[Leaf], stored: Sequence[Entry]) -> list[Source] | None:
    """The sources where both have the same paths in the same order, as they mostly have."""
    if [leaf.path for leaf in leaves] != [entry.path for entry in stored]:
        return None
    sources: list[Source] = []
    for leaf, entry in zip(leaves, stored, strict=True):
        value, empty = leaf.value, entry.empty is not None
        if value is ...:
            sources.append(Kept(...))
        elif isinstance(value, EmptyKind) is not empty:
            return None
        elif not empty:
            sources.append(Wanted(entry, value, leaf.name))
    return sources


def _matching(template: PyTree, sources: list[Source], stored: Sequence[Entry]) -> Matching:
    return Matching(
        treedef=treedef(template), sources=tuple(sources), skipped=_not_read(sources, stored)
    )


def _not_read(sources: list[Source], stored: Sequence[Entry]) -> tuple[str, ...]:
    read = {id(source.entry) for source in sources if isinstance(source, Wanted)}
    if len(read) == len(stored):
        return ()
    return tuple([e.name for e in stored if e.empty is None and id(e) not in read])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """In what two trees differ, before their leaves are looked at.

    Attributes:
      pairs: Leaves that both have: the name, the first's, and the position of the second's.
      missing: What only the first has.
      unexpected: What only the second has.
      different: Where one has a container and the other something else.
    """

    pairs: tuple[tuple[str, object, int], ...]
    missing: tuple[Gap, ...]
    unexpected: tuple[Gap, ...]
    different: tuple[Difference, ...]


def compare(
    first: PyTree, second: Sequence[Entry], anything: Collection[int] = ()
) -> Result[Comparison, SealwaxError]:
    """Compares a tree with the entries of another.

    Args:
      first: The one tree.
      second: The leaves and empty containers of the other.
      anything: Positions in ``second`` that stand for any leaf or subtree, as ``...`` does.
    """
    flat, grown = flatten(first), grow(second)
    if isinstance(flat, Failure):
        return flat
    if isinstance(grown, Failure):
        return grown
    walk = _Walk(flat.unwrap(), second, anything)
    walk.visit(flat.unwrap().structure, grown.unwrap(), ())
    position = {id(entry): number for number, entry in enumerate(second)}
    return Success(
        Comparison(
            pairs=tuple(
                [
                    (source.name, source.template, position[id(source.entry)])
                    for source in walk.sources
                    if isinstance(source, Wanted)
                ]
            ),
            missing=tuple(walk.missing),
            unexpected=tuple(walk.unexpected),
            different=tuple(walk.different),
        )
    )


class _Walk:
    """Goes through the template's structure and the stored tree side by side."""

    __slots__ = ("_anything", "_leaves", "_stored", "different", "missing", "sources", "unexpected")

    def __init__(self, flat: Flat, stored: Sequence[Entry], anything: Collection[int] = ()) -> None:
        self._leaves = iter(flat.leaves)
        self._stored = stored
        self._anything = anything
        self.sources: list[Source] = []
        self.missing: list[Gap] = []
        self.unexpected: list[Gap] = []
        self.different: list[Difference] = []

    def visit(self, wanted: Structure, found: Grown, path: tuple[str, ...]) -> None:
        if isinstance(found, int) and found in self._anything:
            self._consume(wanted)
        elif isinstance(wanted, Mark):
            self._leaf(next(self._leaves), found)
        elif not wanted.children:
            self._empty(next(self._leaves), wanted, found, path)
        elif isinstance(found, int):
            self._instead_of_container(wanted, found, path)
        elif _comparable(wanted, found):
            self._children(wanted, found.children, path)
        else:
            self._differ(wanted, found, path)

    def _leaf(self, leaf: Leaf, found: Grown) -> None:
        if leaf.value is ...:
            self.sources.append(Kept(...))
        elif isinstance(found, Twig) or self._stored[found].empty is not None:
            self._note(leaf.name, f"a leaf ({_kind(leaf.value)})", found)
        else:
            self.sources.append(Wanted(self._stored[found], leaf.value, leaf.name))

    def _empty(self, leaf: Leaf, wanted: Branch, found: Grown, path: tuple[str, ...]) -> None:
        if isinstance(found, Twig):
            # An empty dict merely asks for none of the keys.
            if leaf.value is EmptyKind.DICT and found.kind is KeyKind.MAPPING:
                self._children(wanted, found.children, path)
                return
        elif self._stored[found].empty is not None:
            return
        self._note(leaf.name, _describe(wanted), found)

    def _instead_of_container(self, wanted: Branch, found: int, path: tuple[str, ...]) -> None:
        if self._stored[found].empty is EmptyKind.DICT and not is_sequence(wanted.container):
            self._children(wanted, {}, path)
        else:
            self._differ(wanted, found, path)

    def _children(self, wanted: Branch, found: dict[str, Grown], path: tuple[str, ...]) -> None:
        texts = child_texts(wanted)
        for text, child in zip(texts, wanted.children, strict=True):
            below, where = found.get(text), (*path, text)
            if below is None:
                self.missing.append(Gap(".".join(where), self._consume(child)))
            else:
                self.visit(child, below, where)
        known = set(texts)
        for text, below in found.items():
            if text not in known:
                name = ".".join((*path, text))
                self.unexpected.append(Gap(name, tuple(self._names(below))))

    def _differ(self, wanted: Branch, found: Grown, path: tuple[str, ...]) -> None:
        self._consume(wanted)
        self._note(".".join(path), _describe(wanted), found)

    def _note(self, name: str, expected: str, found: Grown) -> None:
        stored = _describe_stored(found, self._stored)
        self.different.append(Difference(name=name, expected=expected, found=stored))

    def _consume(self, structure: Structure) -> tuple[str, ...]:
        passed = itertools.islice(self._leaves, count_leaves(structure))
        return tuple([leaf.name for leaf in passed])

    def _names(self, found: Grown) -> list[str]:
        if isinstance(found, int):
            return [self._stored[found].name]
        return [name for child in found.children.values() for name in self._names(child)]


def _comparable(wanted: Branch, found: Twig) -> bool:
    if found.kind is KeyKind.MAPPING:
        return not is_sequence(wanted.container)
    return is_sequence(wanted.container) and len(wanted.children) == len(found.children)


def _kind(leaf: object) -> str:
    return leaf.__name__ if isinstance(leaf, type) else type(leaf).__name__


def _describe(wanted: Branch) -> str:
    if not wanted.children:
        return "None" if wanted.container is Plain.NONE else _EMPTY[empty_kind(wanted.container)]
    if is_sequence(wanted.container):
        kind = "tuple" if wanted.container is Plain.TUPLE else "list"
        return f"a {kind} of {len(wanted.children)}"
    kind = wanted.container.name if isinstance(wanted.container, NodeOf) else "dict"
    return f"a {kind} with {_listed(child_texts(wanted))}"


def _describe_stored(found: Grown, stored: Sequence[Entry]) -> str:
    if isinstance(found, Twig):
        if found.kind is KeyKind.SEQUENCE:
            return f"a list of {len(found.children)}"
        return f"a dict with {_listed(list(found.children))}"
    entry = stored[found]
    return f"a leaf ({entry.value_type})" if entry.empty is None else _EMPTY[entry.empty]


def _listed(keys: list[str]) -> str:
    shown = ", ".join([repr(key) for key in keys[:3]])
    noun = "key" if len(keys) == 1 else "keys"
    return f"{noun} {shown}" + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


_EMPTY = {
    EmptyKind.NONE: "nothing",
    EmptyKind.DICT: "an empty dict",
    EmptyKind.LIST: "an empty list",
    EmptyKind.TUPLE: "an empty tuple",
}
