"""One container at a time: its kind, its keys and its children, in JAX's order."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from sealwax.errors import UnsupportedLeafError
from sealwax.trees import registry
from sealwax.trees.keys import Key, KeyKind, Path, from_texts, raw_key
from sealwax.trees.structure import Container, DictOf, Form, NodeOf, Plain

Level: TypeAlias = tuple[Container, Path, Sequence[object]]
"""A container, one key for each child, and the children."""

_NOTHING: Level = (Plain.NONE, (), ())
_SCALARS = (int, float, bool, complex, str, bytes, type, type(...))


class Opener:
    """Takes containers apart, one level at a time, exactly as JAX's registry does.

    What it learns about classes holds as long as none is registered: use one per traversal.

    Attributes:
      leaf_types: Classes that are known to be leaves.
    """

    __slots__ = ("_dicts", "_indices", "_nodes", "leaf_types")

    def __init__(self) -> None:
        self.leaf_types: set[type] = set(_SCALARS)
        self._indices: list[Key] = []
        self._dicts: dict[tuple[object, ...], tuple[DictOf, Path]] = {}
        self._nodes: dict[tuple[type, tuple[object, ...]], tuple[NodeOf, Path]] = {}

    def __call__(self, value: Any) -> Level | None:
        """Opens ``value``, or returns ``None`` where it is a leaf.

        Raises:
          UnsupportedLeafError: It is a dict whose keys have no order.
        """
        kind = cast("type[object]", type(value))
        if kind in self.leaf_types:
            return None
        # Copies, made in one step: what can be changed may be, by another thread, at any moment.
        if kind is dict or kind is collections.defaultdict:
            items = dict(cast("dict[object, object]", value))
            container, path = self._dict(items)
            return container, path, [items[key] for key in container.keys]
        if kind is list:
            inner = tuple(cast("list[object]", value))
            return Plain.LIST, self._items(len(inner)), inner
        if kind is tuple:
            return Plain.TUPLE, self._items(len(value)), value
        if value is None:
            return _NOTHING
        if kind is collections.OrderedDict:
            ordered = dict(cast("dict[object, object]", value))
            keys = tuple(ordered)
            texts = tuple([str(key) for key in keys])
            container = DictOf(keys=keys, ordered=True)
            return container, from_texts(texts, KeyKind.MAPPING), tuple(ordered.values())
        return self._registered(value)

    def _items(self, count: int) -> Path:
        known = self._indices
        while len(known) < count:
            known.append(Key(str(len(known)), KeyKind.SEQUENCE))
        return tuple(known[:count])

    def _dict(self, value: dict[object, object]) -> tuple[DictOf, Path]:
        raw = tuple(value)
        # Other keys may be equal without being alike: 1, 1.0 and True.
        shared = set(map(type, raw)) == {str}
        if shared and (found := self._dicts.get(raw)) is not None:
            return found
        try:
            keys = tuple(sorted(cast("tuple[str, ...]", raw)))
        except TypeError as error:
            raise _unordered(raw) from error
        texts = tuple([str(key) for key in keys])
        made = DictOf(keys=keys), from_texts(texts, KeyKind.MAPPING)
        if shared:
            self._dicts[raw] = made
        return made

    def _registered(self, value: object) -> Level | None:
        kind: type[object] = type(value)
        found = registry.children(value)
        if found and not found[0][0]:
            self.leaf_types.add(kind)
            return None
        entries = [path[0] for path, _ in found]
        keys = tuple([raw_key(entry) for entry in entries])
        inner = [child for _, child in found]
        if not registry.are_fields(entries):
            return *_describe(value, keys, indexed=registry.are_indices(entries)), inner
        if (kind, keys) not in self._nodes:
            self._nodes[kind, keys] = _describe(value, keys, indexed=False)
        return *self._nodes[kind, keys], inner


def _describe(value: object, keys: tuple[object, ...], *, indexed: bool) -> tuple[NodeOf, Path]:
    kind = type(value)
    # Indices with gaps, or beside names, could not be rebuilt as a list: they count as names.
    if keys and indexed and keys == tuple(range(len(keys))):
        form = Form.ITEMS
    elif isinstance(value, tuple) and keys == getattr(kind, "_fields", None):
        form = Form.NAMEDTUPLE
    else:
        form = Form.MAPPING if isinstance(value, Mapping) else Form.FIELDS
    texts = tuple([str(key) for key in keys])
    node = NodeOf(module=kind.__module__, name=kind.__qualname__, keys=keys, form=form)
    return node, from_texts(texts, KeyKind.SEQUENCE if form is Form.ITEMS else KeyKind.MAPPING)


def _unordered(keys: tuple[object, ...]) -> UnsupportedLeafError:
    kinds = sorted({type(key).__name__ for key in keys})
    return UnsupportedLeafError(
        "a dict has keys that cannot be put in order, which JAX does not accept either",
        expected="keys of one type that can be compared",
        found=f"keys of type {', '.join(kinds)}",
        hint="Use strings, or numbers, for all keys of the dict.",
    )
