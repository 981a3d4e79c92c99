"""JAX's registry of containers, imported when a tree is met that may need it, and typed."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, cast

IsLeaf: TypeAlias = Callable[[Any], bool]
Found: TypeAlias = list[tuple[tuple[object, ...], object]]
"""Leaves, each with JAX's key entries."""


class TreeDef(Protocol):
    """What this package uses of JAX's ``PyTreeDef``."""

    def unflatten(self, leaves: Sequence[object], /) -> Any:
        """Makes a tree of ``leaves``."""
        ...


def leaves_with_path(tree: object, is_leaf: IsLeaf | None = None) -> Found:
    """Flattens ``tree`` as JAX does."""
    return _jax().tree_flatten_with_path(tree, is_leaf=is_leaf)[0]


def treedef(tree: object) -> TreeDef:
    """Gives JAX's definition of ``tree``."""
    return _jax().tree_structure(tree)


def children(value: object) -> Found:
    """Opens one container; a leaf comes back alone, with no key entry."""
    return leaves_with_path(value, _only_below())


def remake(like: object, inner: Sequence[object]) -> Any:
    """Makes another container of the class of ``like``, which JAX must know."""
    return _jax().tree_structure(like, is_leaf=_only_below()).unflatten(inner)


def key_string(path: tuple[object, ...]) -> str:
    """Writes a path as one would in Python, such as ``['params'][0].bias``."""
    return _jax().keystr(path)


def are_fields(entries: Sequence[object]) -> bool:
    """Says whether JAX reaches all of a container's children by attribute."""
    return {*map(type, entries)} <= {_jax().GetAttrKey}


def are_indices(entries: Sequence[object]) -> bool:
    """Says whether JAX reaches all of a container's children by index."""
    jax = _jax()
    return {*map(type, entries)} <= {jax.SequenceKey, jax.FlattenedIndexKey}


def _only_below() -> IsLeaf:
    # JAX asks about a container first; whatever it asks about next is a child.
    asked = itertools.count()
    return lambda _: next(asked) > 0


@functools.cache
def _jax() -> Any:
    from jax import tree_util

    return cast("Any", tree_util)
