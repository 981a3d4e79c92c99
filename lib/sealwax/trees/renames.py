"""Leaves under other names, and what is left of a structure when some of its leaves are taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from sealwax.trees.keys import Key, KeyKind, Path
from sealwax.trees.structure import (
    Branch,
    Container,
    DictOf,
    Mark,
    NodeOf,
    Plain,
    Structure,
    is_sequence,
)


def moved(path: Path, name: str) -> Path:
    """The path of a leaf under another name; keys that stay keep what they index.

    >>> old = (Key("layers", KeyKind.MAPPING), Key("0", KeyKind.SEQUENCE))
    >>> [key.text for key in moved(old, "encoder.0")]
    ['encoder', '0']
    """
    texts = [key.text for key in path]
    head = 0
    while head < len(path) and _starts(name, ".".join(texts[: head + 1])):
        head += 1
    rest = name[len(".".join(texts[:head])) :].removeprefix(".") if head else name
    tail = next((n for n in range(head, len(path)) if _ends(rest, ".".join(texts[n:]))), len(path))
    if head == len(path) and not rest:
        return path
    between = rest.removesuffix(".".join(texts[tail:])).removesuffix(".")
    kinds = [Key(part, _kind(part)) for part in between.split(".")] if between else []
    return (*path[:head], *kinds, *path[tail:])


def _starts(name: str, start: str) -> bool:
    return name == start or name.startswith(f"{start}.")


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _kind(text: str) -> KeyKind:
    return KeyKind.SEQUENCE if text.isdecimal() else KeyKind.MAPPING


def settle(paths: Sequence[Path]) -> list[Path]:
    """The same paths, where a container is a list only if it has all items from the first on."""
    children: dict[tuple[str, ...], dict[str, KeyKind]] = {}
    for path in paths:
        above: tuple[str, ...] = ()
        for key in path:
            known = children.setdefault(above, {})
            known[key.text] = min(key.kind, known.get(key.text, key.kind))
            above = (*above, key.text)
    lists = {
        above
        for above, inner in children.items()
        if KeyKind.SEQUENCE in inner.values()
        and inner.keys() == {str(index) for index in range(len(inner))}
    }
    return [_as_settled(path, lists) for path in paths]


def _as_settled(path: Path, lists: set[tuple[str, ...]]) -> Path:
    texts = tuple([key.text for key in path])
    kinds = [
        KeyKind.SEQUENCE if texts[:depth] in lists else KeyKind.MAPPING
        for depth in range(len(path))
    ]
    same = all(key.kind is kind for key, kind in zip(path, kinds, strict=True))
    return path if same else tuple(map(Key, texts, kinds))


def prune(structure: Structure, kept: Sequence[bool]) -> Structure | None:
    """What is left of a structure; a list or tuple without all of its items becomes a dict.

    Args:
      structure: The whole.
      kept: For each leaf and empty container whether it stays.

    >>> from sealwax.trees.structure import LEAF
    >>> prune(Branch(Plain.LIST, (LEAF, LEAF)), [False, True])
    Branch(container=DictOf(keys=(1,), ordered=False), children=(<Mark.LEAF: 0>,))
    """
    return _prune(structure, iter(kept))


def _prune(structure: Structure, kept: Iterator[bool]) -> Structure | None:
    if isinstance(structure, Mark) or not structure.children:
        return structure if next(kept) else None
    children = [_prune(child, kept) for child in structure.children]
    stay = [number for number, child in enumerate(children) if child is not None]
    inner = tuple([child for child in children if child is not None])
    if not stay:
        return None
    if len(stay) == len(children):
        return Branch(structure.container, inner)
    return Branch(_some_of(structure.container, stay), inner)


def _some_of(container: Container, stay: Sequence[int]) -> Container:
    if isinstance(container, Plain) or is_sequence(container):
        return DictOf(keys=tuple(stay))
    keys = tuple([container.keys[number] for number in stay])
    if isinstance(container, NodeOf):
        return dataclasses.replace(container, keys=keys)
    return DictOf(keys=keys, ordered=container.ordered)
