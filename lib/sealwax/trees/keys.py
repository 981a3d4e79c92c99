"""Key paths: how a leaf is reached, and what it is called on disk."""

from __future__ import annotations

import enum
from typing import TypeAlias

from msgspec import Struct


class KeyKind(enum.IntEnum):
    """What a key indexes; the numbers are those of Orbax's ``key_type``."""

    SEQUENCE = 1
    MAPPING = 2


class Key(Struct, frozen=True, gc=False, rename={"text": "key", "kind": "key_type"}):
    """One step of a key path; in JSON it is what Orbax records of one.

    Attributes:
      text: The index, field name or dict key, as text.
      kind: Whether ``text`` is an index into a sequence or a key of a mapping.
    """

    # A struct, as all that there is one of for each leaf: a frozen dataclass takes ten times as
    # long to make, and a named tuple three times.
    text: str
    kind: KeyKind


Path: TypeAlias = tuple[Key, ...]


def name(path: Path) -> str:
    """Names the leaf at ``path`` as Orbax does.

    Nothing is escaped, so that two paths may share a name; ``flatten`` refuses such trees.

    >>> name((Key("params", KeyKind.MAPPING), Key("0", KeyKind.SEQUENCE)))
    'params.0'
    """
    return ".".join([key.text for key in path])


def entry_key(path: Path) -> str:
    """Gives the key of the leaf's entry in ``_METADATA``.

    >>> entry_key((Key("params", KeyKind.MAPPING), Key("0", KeyKind.SEQUENCE)))
    "('params', '0')"
    """
    return str(tuple([key.text for key in path]))


def from_texts(texts: tuple[str, ...], kind: KeyKind) -> Path:
    """Makes one key of each text."""
    return tuple([Key(text, kind) for text in texts])


def raw_key(entry: object) -> object:
    """Takes the field name, dict key or index out of one of JAX's key entries.

    Key entries of a user's own class count as what they carry under the name that JAX's use,
    and as their text otherwise.
    """
    for attribute in ("name", "key", "idx"):
        if hasattr(entry, attribute):
            return getattr(entry, attribute)
    return str(entry)
