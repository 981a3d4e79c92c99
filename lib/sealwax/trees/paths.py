"""The paths of a structure's leaves."""

from __future__ import annotations

from sealwax.trees.keys import Key, KeyKind, Path
from sealwax.trees.structure import Branch, Mark, Structure, child_texts, is_sequence


def paths(structure: Structure) -> list[Path]:
    """The path of every leaf and empty container, in order.

    >>> from sealwax.trees.structure import LEAF, Branch, Plain
    >>> [path[0].text for path in paths(Branch(Plain.LIST, (LEAF, LEAF)))]
    ['0', '1']
    """
    found: list[Path] = []
    _visit(structure, (), found)
    return found


def _visit(structure: Structure, path: Path, found: list[Path]) -> None:
    if isinstance(structure, Mark) or not structure.children:
        found.append(path)
        return
    kind = KeyKind.SEQUENCE if _indexed(structure) else KeyKind.MAPPING
    for text, child in zip(child_texts(structure), structure.children, strict=True):
        _visit(child, (*path, Key(text, kind)), found)


def _indexed(branch: Branch) -> bool:
    return is_sequence(branch.container)
