"""From a tree to named leaves and the structure that held them."""

from __future__ import annotations

import dataclasses

from msgspec import Struct
from returns.result import Failure, Result, Success

from sealwax.errors import NameCollisionError, SealwaxError, UnsupportedLeafError
from sealwax.trees import registry
from sealwax.trees.keys import Path
from sealwax.trees.nodes import Opener
from sealwax.trees.structure import LEAF, Branch, EmptyKind, PyTree, Structure, empty_kind

DEEPEST = 256
"""Containers in one another. What describes a tree on disk has several calls for each of them, and
what can be saved has to be loaded, from wherever that is called."""


class Leaf(Struct, frozen=True):
    """A leaf, or an empty container.

    Attributes:
      path: Keys from the root to the leaf.
      name: Name on disk: the texts of the keys, joined by dots.
      value: The leaf itself, or an ``EmptyKind`` where there is an empty container or ``None``.
    """

    path: Path
    name: str
    value: object


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """A tree as its leaves, in JAX's order, and its structure."""

    leaves: tuple[Leaf, ...]
    structure: Structure


def forget(flat: Flat) -> Flat:
    """The same without the leaves' values, so that whoever keeps it does not keep them alive."""
    leaves = tuple(
        [
            leaf if isinstance(leaf.value, EmptyKind) else Leaf(leaf.path, leaf.name, None)
            for leaf in flat.leaves
        ]
    )
    return dataclasses.replace(flat, leaves=leaves)


def flatten(tree: PyTree) -> Result[Flat, SealwaxError]:
    """Names every leaf of ``tree``, empty containers and ``None`` among them.

    Args:
      tree: Any pytree; its leaves may be anything.

    Returns:
      The leaves and the structure. A ``NameCollisionError`` where two leaves have one name on
      disk, an ``UnsupportedLeafError`` where a container holds itself, its keys have no order, or
      it lies too deep.

    >>> [leaf.name for leaf in flatten({"w": 1, "opt": (2, None)}).unwrap().leaves]
    ['opt.0', 'opt.1', 'w']
    """
    walk = _Walk()
    try:
        structure = walk.visit(tree, (), "")
    except UnsupportedLeafError as error:
        return Failure(error)
    except RecursionError:
        return Failure(_too_deep())
    leaves = tuple(walk.leaves)
    # TensorStore takes "a" and "a/" for the same place.
    if len({leaf.name.removesuffix("/") for leaf in leaves}) < len(leaves):
        return Failure(_collision(tree, leaves))
    return Success(Flat(leaves=leaves, structure=structure))


class _Walk:
    __slots__ = ("_above", "_open", "leaves")

    def __init__(self) -> None:
        self.leaves: list[Leaf] = []
        self._open = Opener()
        self._above: set[int] = set()

    def visit(self, value: object, path: Path, name: str) -> Structure:
        try:
            level = self._open(value)
        except UnsupportedLeafError as error:
            raise error.located(leaf=name) from error.__cause__
        if level is None:
            self.leaves.append(Leaf(path, name, value))
            return LEAF
        if len(path) >= DEEPEST:
            raise _too_deep()
        container, keys, children = level
        if not children:
            self.leaves.append(Leaf(path, name, empty_kind(container)))
            return Branch(container, ())
        mark = id(value)
        if mark in self._above:
            raise _cycle(name)
        self._above.add(mark)
        prefix = f"{name}." if path else ""
        known, leaves = self._open.leaf_types, self.leaves
        inner: list[Structure] = []
        for key, child in zip(keys, children, strict=True):
            # Most children are leaves, and a call for each would take longer than the rest.
            if type(child) in known:
                leaves.append(Leaf((*path, key), prefix + key.text, child))
                inner.append(LEAF)
            else:
                inner.append(self.visit(child, (*path, key), prefix + key.text))
        self._above.discard(mark)
        return Branch(container, tuple(inner))


def _cycle(name: str) -> UnsupportedLeafError:
    return UnsupportedLeafError(
        "a container holds itself",
        leaf=name,
        expected="a tree, in which every container has one place",
        hint="Remove the reference that leads back to a container further up.",
    )


def _too_deep() -> UnsupportedLeafError:
    return UnsupportedLeafError(
        "the tree is nested more deeply than Python can follow",
        expected=f"at most {DEEPEST} containers in one another",
        hint="Keep long chains in a list instead of nesting each link in the one before.",
    )


def _collision(tree: PyTree, leaves: tuple[Leaf, ...]) -> NameCollisionError:
    seen: dict[str, int] = {}
    for index, leaf in enumerate(leaves):
        first = seen.setdefault(leaf.name.removesuffix("/"), index)
        if first != index:
            break
    else:
        raise AssertionError("no two names are the same")
    paths = [registry.key_string(path) for path in key_paths(tree)]
    return NameCollisionError(
        f"two leaves would be stored under one name: tree{paths[first]} and tree{paths[index]}",
        leaf=leaf.name,
        hint="Rename one of the keys: names on disk are the keys joined by dots.",
    )


def key_paths(tree: PyTree) -> list[tuple[object, ...]]:
    """JAX's key entries of every leaf that ``flatten`` names, in the same order.

    >>> key_paths({"w": [1]})
    [(DictKey(key='w'), SequenceKey(idx=0))]
    """
    opened = Opener()

    def is_leaf(value: object) -> bool:
        level = opened(value)
        return level is None or not level[2]

    return [path for path, _ in registry.leaves_with_path(tree, is_leaf)]
