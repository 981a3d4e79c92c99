"""Several trees into one."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_never, cast

from sealwax.errors import Difference, TreeMismatchError
from sealwax.trees.nodes import Level, Opener
from sealwax.trees.registry import IsLeaf, remake
from sealwax.trees.report import section
from sealwax.trees.structure import Container, DictOf, Form, NodeOf, Plain, PyTree


def merge(*trees: PyTree, overwrite: bool = False, is_leaf: IsLeaf | None = None) -> PyTree:
    """Merges trees, from left to right.

    Mappings are merged by key, sequences of one length item by item, and namedtuples,
    dataclasses and other nodes of one class field by field. ``None`` gives way to anything in a
    field, which cannot be left out, and everywhere if ``overwrite`` is set.

    Args:
      *trees: What to merge.
      overwrite: Whether a later leaf replaces an earlier one, and a later container one of
        another kind. Sequences must be of one length all the same.
      is_leaf: Tells what is not to be looked into, as in ``jax.tree.map``.

    Returns:
      A new tree; ``{}`` if there are none. Leaves are those of ``trees``, not copies.

    Raises:
      TreeMismatchError: Two trees have a leaf in common, containers of different kinds, or
        sequences of different lengths at one path. All such paths are named.

    >>> merge({"a": 1, "b": {"c": 2}}, {"b": {"d": 3}})
    {'a': 1, 'b': {'c': 2, 'd': 3}}
    >>> merge({"a": 1}, {"a": 2}, overwrite=True)
    {'a': 2}
    """
    if not trees:
        return {}
    join = _Join(overwrite=overwrite, is_leaf=is_leaf)
    merged = trees[0]
    for tree in trees[1:]:
        merged = join.merge(merged, tree, ())
    if join.common or join.different:
        raise _conflict(join.common, join.different)
    return merged


class _Join:
    __slots__ = ("_is_leaf", "_open", "_overwrite", "common", "different")

    def __init__(self, *, overwrite: bool, is_leaf: IsLeaf | None) -> None:
        self._overwrite = overwrite
        self._is_leaf = is_leaf
        self._open = Opener()
        self.common: list[str] = []
        self.different: list[Difference] = []

    def merge(self, old: Any, new: Any, path: tuple[str, ...], *, field: bool = False) -> Any:
        if (old is None or new is None) and (self._overwrite or field):
            return old if new is None else new
        left, right = self._level(old), self._level(new)
        if left is None and right is None:
            if not self._overwrite:
                self.common.append(".".join(path))
            return new
        if left is None or right is None or not self._alike(left[0], right[0], old, new):
            return self._clash(old, new, path)
        if _by_key(left, right, old, new):
            return self._mappings(
                cast("Mapping[Any, Any]", old), cast("Mapping[Any, Any]", new), path
            )
        return self._items(left, right, new, path)

    def _level(self, value: Any) -> Level | None:
        if value is None or (self._is_leaf is not None and self._is_leaf(value)):
            return None
        return self._open(value)

    def _alike(self, left: Container, right: Container, old: object, new: object) -> bool:
        if type(old) is type(new):
            return True
        if not self._overwrite:
            return False
        sequences = (Plain.LIST, Plain.TUPLE)
        mappings = isinstance(old, Mapping) and isinstance(new, Mapping)
        return mappings or (left in sequences and right in sequences)

    def _clash(self, old: object, new: object, path: tuple[str, ...]) -> Any:
        if not self._overwrite:
            self._note(path, type(old).__name__, type(new).__name__)
        return new

    def _note(self, path: tuple[str, ...], expected: str, found: str) -> None:
        self.different.append(Difference(name=".".join(path), expected=expected, found=found))

    def _mappings(
        self, old: Mapping[Any, Any], new: Mapping[Any, Any], path: tuple[str, ...]
    ) -> Any:
        merged = dict(old)
        for key, value in new.items():
            where = (*path, str(key))
            merged[key] = self.merge(old[key], value, where) if key in old else value
        if isinstance(new, collections.defaultdict):
            return collections.defaultdict(new.default_factory, merged)
        return merged if type(new) is dict else cast("Callable[..., Any]", type(new))(merged)

    def _items(self, left: Level, right: Level, new: Any, path: tuple[str, ...]) -> Any:
        keys, earlier, later = right[1], left[2], right[2]
        if left[1] != keys:
            self._note(path, f"{len(earlier)} items", f"{len(later)} items")
            return new
        form = right[0].form if isinstance(right[0], NodeOf) else Form.MAPPING
        field = form is not Form.MAPPING or dataclasses.is_dataclass(new)
        merged = [
            self.merge(a, b, (*path, key.text), field=field)
            for key, a, b in zip(keys, earlier, later, strict=True)
        ]
        return _remake(right[0], new, merged)


def _by_key(left: Level, right: Level, old: object, new: object) -> bool:
    if isinstance(right[0], NodeOf) and type(old) is type(new) and left[1] == right[1]:
        # Fields, even of classes that are mappings too, go back through JAX's registry.
        return False
    return isinstance(old, Mapping) and isinstance(new, Mapping)


def _remake(container: Container, like: Any, children: list[Any]) -> Any:
    match container:
        case Plain.LIST:
            return children
        case Plain.TUPLE:
            return tuple(children)
        case Plain.NONE:
            return None
        case DictOf(keys=keys):
            return dict(zip(keys, children, strict=True))
        case NodeOf():
            return remake(like, children)
        case _:
            assert_never(container)


def _conflict(common: Sequence[str], different: Sequence[Difference]) -> TreeMismatchError:
    parts = [f"{len(common)} in common"] if common else []
    parts += [f"{len(different)} of different kinds"] if different else []
    lengths = any(each.expected.endswith(" items") for each in different)
    lines = [
        *section("in more than one of the trees:", [name or "the root" for name in common]),
        *section(
            "of different kinds:",
            [f"{d.name or 'the root'}: first {d.expected}, then {d.found}" for d in different],
        ),
    ]
    return TreeMismatchError(
        f"the trees cannot be merged: {', '.join(parts)}",
        different=tuple(different),
        lines=tuple(lines),
        hint="Sequences can be merged if they are of one length."
        if lengths
        else "Pass overwrite=True to let later trees win.",
    )
