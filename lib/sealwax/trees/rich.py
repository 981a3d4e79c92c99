"""Orbax's ``value_metadata_tree``: the tree itself, with tuples and named tuples told apart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

from msgspec.structs import replace

from sealwax.trees.records import Entry
from sealwax.trees.structure import (
    LEAF,
    Branch,
    Container,
    DictOf,
    Form,
    Mark,
    NodeOf,
    Plain,
    Structure,
    child_texts,
    is_sequence,
)

_EMPTY_NAMEDTUPLE = "NamedTuple"
_TAG = "category"


def value_tree(structure: Structure, entries: Sequence[Entry]) -> object | None:
    """The tree as plain data; ``None`` where a dict has the key that Orbax tells nodes by.

    Args:
      structure: The tree's containers.
      entries: What is recorded of each leaf, in order.

    >>> value_tree(Branch(Plain.TUPLE, ()), [Entry((), "Tuple", True)])["data"]["value_type"]
    'Tuple'
    """
    return None if _is_ambiguous(structure) else _encode(structure, iter(entries))


def name_empty_namedtuples(structure: Structure, entries: Sequence[Entry]) -> list[Entry]:
    """The entries, with the type that rich metadata has for empty named tuples."""
    return [
        replace(entry, value_type=_EMPTY_NAMEDTUPLE) if is_empty else entry
        for entry, is_empty in zip(entries, _empty_namedtuples(structure), strict=True)
    ]


def _empty_namedtuples(structure: Structure) -> Iterator[bool]:
    if isinstance(structure, Mark) or not structure.children:
        yield isinstance(structure, Branch) and _is_namedtuple(structure)
        return
    for child in structure.children:
        yield from _empty_namedtuples(child)


def _is_namedtuple(branch: Branch) -> bool:
    return isinstance(branch.container, NodeOf) and branch.container.form is Form.NAMEDTUPLE


def _is_ambiguous(structure: Structure) -> bool:
    if isinstance(structure, Mark):
        return False
    named = not is_sequence(structure.container) and not _is_namedtuple(structure)
    tagged = named and _TAG in child_texts(structure)
    return tagged or any(map(_is_ambiguous, structure.children))


def _encode(structure: Structure, entries: Iterator[Entry]) -> object:
    if isinstance(structure, Mark) or not structure.children:
        return _leaf(next(entries))
    children = [_encode(child, entries) for child in structure.children]
    container = structure.container
    if container is Plain.TUPLE:
        return {_TAG: "custom", "clazz": "tuple", "entries": children}
    if container is Plain.LIST:
        return children
    named = zip(child_texts(structure), children, strict=True)
    if isinstance(container, NodeOf) and container.form is Form.NAMEDTUPLE:
        return {
            _TAG: "namedtuple",
            "module": container.module,
            # Orbax makes a class of this name, for which that of a function around it is no part.
            "clazz": container.name.rpartition("<locals>.")[2],
            "entries": [{"key": key, "value": child} for key, child in named],
        }
    return dict(named)


def _leaf(entry: Entry) -> object:
    data: dict[str, object] = {
        "value_type": entry.value_type,
        "skip_deserialize": entry.skip_deserialize,
    }
    if entry.write_shape is not None:
        data["write_shape"] = list(entry.write_shape)
    return {_TAG: "custom", "clazz": "ValueMetadataEntry", "data": data}


def read_value_tree(text: object) -> Structure | None:
    """The tree that Orbax recorded; ``None`` where it recorded none that can be understood.

    >>> read_value_tree('[{"category": "custom", "clazz": "ValueMetadataEntry", "data": {}}]')
    Branch(container=<Plain.LIST: 'list'>, children=(<Mark.LEAF: 0>,))
    """
    try:
        return _decode(json.loads(text)) if isinstance(text, str) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _decode(data: Any) -> Structure:
    if isinstance(data, list):
        return Branch(Plain.LIST, tuple(map(_decode, cast("list[object]", data))))
    match data.get(_TAG), data.get("clazz"):
        case "custom", "ValueMetadataEntry":
            return _decode_leaf(data["data"])
        case "custom", "tuple":
            return Branch(Plain.TUPLE, tuple(map(_decode, data["entries"])))
        case "namedtuple", str(name):
            keys = tuple(entry["key"] for entry in data["entries"])
            children = tuple(_decode(entry["value"]) for entry in data["entries"])
            return Branch(_named(data["module"], name, keys), children)
        case None, None:
            return Branch(DictOf(keys=tuple(data)), tuple(map(_decode, data.values())))
        case other:
            raise ValueError(other)


def _decode_leaf(data: Any) -> Structure:
    if data.get("value_type") == _EMPTY_NAMEDTUPLE:
        return Branch(_named("", "EmptyNamedTuple", ()), ())
    container = _EMPTY.get(data.get("value_type"))
    return LEAF if container is None else Branch(container, ())


def _named(module: str, name: str, keys: tuple[str, ...]) -> NodeOf:
    return NodeOf(module=module, name=name, keys=keys, form=Form.NAMEDTUPLE)


_EMPTY: dict[str, Container] = {
    "None": Plain.NONE,
    "Dict": DictOf(keys=()),
    "List": Plain.LIST,
    "Tuple": Plain.TUPLE,
}
