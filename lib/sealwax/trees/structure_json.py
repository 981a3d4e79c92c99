"""Structures as plain data.

``{"version": 1, "containers": [...], "tree": ...}``: each kind of container, with its keys, is
listed once; the tree is ``0`` for a leaf and ``[number of the container, *children]`` otherwise.
Layers that look alike therefore share one record of their keys.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, cast

from returns.result import safe

from sealwax.errors import CorruptionError
from sealwax.trees.plain import excerpt, items, members
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
)

VERSION = 1
_DECODERS: dict[str, Callable[[str], object]] = {
    "int": int,
    "float": float,
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "text": str,
}
# Beyond this, readers that hold JSON numbers as doubles would round a key.
_EXACT = 2**53
_NODES = tuple(form.value for form in Form)


def to_json(structure: Structure) -> dict[str, object]:
    """Gives plain data from which ``from_json`` makes the structure again.

    Keys of types that JSON cannot hold (other than bytes and tuples) come back as their text.

    >>> to_json(Branch(DictOf(keys=("a", 1.5)), (LEAF, Branch(Plain.LIST, ()))))["tree"]
    [0, 0, [1]]
    """
    table = _Table()
    tree = table.encode(structure)
    return {"version": VERSION, "containers": table.records, "tree": tree}


class _Table:
    """Numbers containers in the order in which they are met."""

    __slots__ = ("_by_identity", "_by_text", "records")

    def __init__(self) -> None:
        self.records: list[object] = []
        self._by_identity: dict[int, int] = {}
        self._by_text: dict[str, int] = {}

    def encode(self, structure: Structure) -> object:
        if isinstance(structure, Mark):
            return 0
        number = self._by_identity.get(id(structure.container))
        if number is None:
            number = self._number(structure.container)
        return [number, *[self.encode(child) for child in structure.children]]

    def _number(self, container: Container) -> int:
        record = _encode_container(container)
        # As text, because 1, 1.0 and True are equal as Python values.
        number = self._by_text.setdefault(json.dumps(record), len(self.records))
        if number == len(self.records):
            self.records.append(record)
        self._by_identity[id(container)] = number
        return number


def _encode_container(container: Container) -> dict[str, object]:
    if isinstance(container, Plain):
        return {"kind": container.value}
    keys = [_encode_key(key) for key in container.keys]
    if isinstance(container, DictOf):
        return {"kind": "ordered" if container.ordered else "dict", "keys": keys}
    kind, module, name = container.form.value, container.module, container.name
    return {"kind": kind, "module": module, "name": name, "keys": keys}


def _encode_key(key: object) -> object:
    # Exact types: a subclass, such as an enum's member, is known by its text alone.
    kind = type(key)
    if kind is str or kind is bool or key is None:
        return key
    if kind is int:
        return key if abs(cast(int, key)) <= _EXACT else {"int": str(key)}
    if kind is float:
        return {"float": repr(key)}
    if kind is bytes:
        return {"bytes": base64.b64encode(cast(bytes, key)).decode("ascii")}
    if kind is tuple:
        return {"tuple": [_encode_key(part) for part in cast("tuple[object, ...]", key)]}
    return {"text": str(key)}


@safe(exceptions=(CorruptionError,))
def from_json(data: object) -> Structure:
    """Makes the structure that ``to_json`` gave ``data`` for.

    Returns:
      The structure, or a ``CorruptionError`` that says what is wrong with ``data``.
    """
    record = members(data)
    if record.get("version") != VERSION:
        raise _wrong(f"version {VERSION}", record.get("version"))
    containers = items(record.get("containers"))
    if containers is None:
        raise _wrong("a list of containers", data)
    return _decode(record.get("tree"), [_decode_container(each) for each in containers])


def _decode(tree: object, containers: list[Container]) -> Structure:
    if type(tree) is int and tree == 0:
        return LEAF
    parts = items(tree)
    if not parts:
        raise _wrong("0 or a list", tree)
    number, *children = parts
    if type(number) is not int or not 0 <= number < len(containers):
        raise _wrong(f"the number of one of {len(containers)} containers", number)
    container = containers[number]
    match container:
        case Plain.NONE if children:
            raise _wrong("no children of None", len(children))
        case DictOf(keys=keys) | NodeOf(keys=keys) if len(keys) != len(children):
            raise _wrong(f"{len(keys)} children", len(children))
        case _:
            return Branch(container, tuple([_decode(child, containers) for child in children]))


def _decode_container(data: object) -> Container:
    record = members(data)
    kind, keys = record.get("kind"), items(record.get("keys"))
    if kind in ("none", "list", "tuple"):
        return Plain(kind)
    if keys is None:
        raise _wrong("the record of a container", data)
    typed = tuple([_decode_key(key) for key in keys])
    module, name = record.get("module"), record.get("name")
    if kind in ("dict", "ordered"):
        if kind == "dict" and not _have_an_order(typed):
            raise _wrong("keys that can be put in order", keys)
        return DictOf(keys=typed, ordered=kind == "ordered")
    if kind in _NODES and isinstance(module, str) and isinstance(name, str):
        return NodeOf(module=module, name=name, keys=typed, form=Form(kind))
    raise _wrong("the record of a container", data)


def _have_an_order(keys: tuple[Any, ...]) -> bool:
    try:
        sorted(keys)
    except TypeError:
        return False
    return True


def _decode_key(data: object) -> object:
    if data is None or isinstance(data, (str, bool, int)):
        return data
    record = members(data)
    kind, content = next(iter(record.items())) if len(record) == 1 else (None, None)
    parts = items(content)
    if kind == "tuple" and parts is not None:
        return tuple([_decode_key(part) for part in parts])
    decode = _DECODERS.get(kind or "")
    if decode is None or not isinstance(content, str):
        raise _wrong("a key", data)
    try:
        return decode(content)
    except ValueError as error:
        raise _wrong("a key", data) from error


def _wrong(expected: str, found: object) -> CorruptionError:
    return CorruptionError(
        "the record of the tree's structure is damaged",
        expected=expected,
        found=excerpt(found),
        hint="Pass a template, so that the recorded structure is not needed.",
    )
