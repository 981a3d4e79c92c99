"""From stored entries back to nested containers, without a template."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

from returns.result import Result, safe

from sealwax.errors import CorruptionError
from sealwax.trees.keys import KeyKind
from sealwax.trees.records import Entry
from sealwax.trees.structure import PyTree


@dataclasses.dataclass(frozen=True, slots=True)
class Twig:
    """A stored container.

    Attributes:
      kind: Whether it is a list or a dict.
      children: What it holds by key: sorted, and by index where it is a list.
    """

    kind: KeyKind
    children: dict[str, Twig | int]


Grown: TypeAlias = Twig | int
"""A stored container, or the position of an entry."""


@safe(exceptions=(CorruptionError,))
def grow(entries: Sequence[Entry]) -> Grown:
    """Arranges entries by their paths.

    Returns:
      The tree of positions in ``entries``; a ``CorruptionError`` where a list has gaps, or a
      container is a list to some entries and a dict to others.
    """
    if len(entries) == 1 and not entries[0].path:
        return 0
    root = Twig(entries[0].path[0].kind if entries and entries[0].path else KeyKind.MAPPING, {})
    made: list[tuple[str, Twig]] = [("", root)]
    for position, entry in enumerate(entries):
        if not entry.path:
            raise _contradiction("", "a leaf and a container")
        _insert(root, position, entry, made)
    for where, twig in made:
        _put_in_order(where, twig)
    return root


def _insert(root: Twig, position: int, entry: Entry, made: list[tuple[str, Twig]]) -> None:
    path, here = entry.path, root
    for depth, key in enumerate(path):
        if here.kind is not key.kind:
            raise _contradiction(_name(entry, depth), "a list and a dict")
        if depth == len(path) - 1:
            if key.text in here.children:
                raise _contradiction(entry.name, "a leaf and something else")
            here.children[key.text] = position
            return
        below = here.children.get(key.text)
        if below is None:
            below = here.children[key.text] = Twig(path[depth + 1].kind, {})
            made.append((_name(entry, depth + 1), below))
        if isinstance(below, int):
            raise _contradiction(_name(entry, depth + 1), "a leaf and a container")
        here = below


def _put_in_order(where: str, twig: Twig) -> None:
    children = twig.children
    if twig.kind is KeyKind.MAPPING:
        order = sorted(children)
    else:
        order = [str(index) for index in range(len(children))]
        missing = next((index for index in order if index not in children), None)
        if missing is not None:
            raise CorruptionError(
                "a stored list has gaps",
                leaf=where,
                expected=f"an item at index {missing}",
                found=f"{len(children)} items with other indices",
            )
    ordered = {key: children[key] for key in order}
    children.clear()
    children.update(ordered)


def build(entries: Sequence[Entry], values: Sequence[object]) -> Result[PyTree, CorruptionError]:
    """Nests ``values`` as their entries say, in dicts and lists.

    What is recorded does not tell tuples from lists, nor dataclasses from dicts, and has all
    keys as text. A value given for an empty container is not looked at.

    Args:
      entries: Entries, as from ``from_entries``.
      values: One value for each entry.
    """
    return grow(entries).map(lambda grown: _fill(grown, entries, values))


def _fill(grown: Grown, entries: Sequence[Entry], values: Sequence[object]) -> PyTree:
    if isinstance(grown, int):
        empty = entries[grown].empty
        return values[grown] if empty is None else empty.make()
    if grown.kind is KeyKind.SEQUENCE:
        return [_fill(child, entries, values) for child in grown.children.values()]
    return {key: _fill(child, entries, values) for key, child in grown.children.items()}


def _name(entry: Entry, depth: int) -> str:
    return ".".join([key.text for key in entry.path[:depth]])


def _contradiction(where: str, both: str) -> CorruptionError:
    return CorruptionError(
        "the entries of the metadata contradict one another",
        leaf=where,
        expected="one kind of node",
        found=both,
    )
