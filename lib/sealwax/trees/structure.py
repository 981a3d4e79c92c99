"""What a tree's containers were, so that it can be rebuilt without a template.

A structure is the tree with its leaves taken out. Leaves are referred to by position: the n-th
leaf of a structure belongs to the n-th of the leaves that were flattened with it. An empty
container, and ``None``, is a branch without children and takes up one position too.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import keyword
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, assert_never

from returns.result import Failure, Result, Success

from sealwax.errors import CorruptionError

PyTree: TypeAlias = Any


class EmptyKind(enum.Enum):
    """What stands for a container without children; the values are Orbax's ``value_type``."""

    NONE = "None"
    DICT = "Dict"
    LIST = "List"
    TUPLE = "Tuple"

    def make(self) -> PyTree:
        """Gives a new empty container of this kind."""
        match self:
            case EmptyKind.NONE:
                return None
            case EmptyKind.DICT:
                return {}
            case EmptyKind.LIST:
                return []
            case EmptyKind.TUPLE:
                return ()
            case _:
                assert_never(self)


class Plain(enum.Enum):
    """Containers of which nothing but the kind needs to be known."""

    NONE = "none"
    LIST = "list"
    TUPLE = "tuple"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DictOf:
    """A dict with these keys, in the order of its children.

    Attributes:
      keys: The keys themselves, of any type.
      ordered: Whether it is an ``OrderedDict``.
    """

    keys: tuple[object, ...]
    ordered: bool = False


class Form(enum.Enum):
    """What a registered class looks like from outside."""

    NAMEDTUPLE = "namedtuple"
    FIELDS = "fields"
    MAPPING = "mapping"
    ITEMS = "items"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NodeOf:
    """An instance of a class that JAX flattens: a namedtuple, dataclass, module or the like.

    Attributes:
      module: Module of the class. It is a note for people and is never imported.
      name: Qualified name of the class.
      keys: Field names, keys or indices, in the order of the children.
      form: What the class looks like.
    """

    module: str
    name: str
    keys: tuple[object, ...]
    form: Form


Container: TypeAlias = Plain | DictOf | NodeOf


class Mark(enum.Enum):
    """The place of a leaf."""

    LEAF = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Branch:
    """A container and the structures of its children; empty where there are none."""

    container: Container
    children: tuple[Structure, ...]


Structure: TypeAlias = Branch | Mark
LEAF = Mark.LEAF


def empty_kind(container: Container) -> EmptyKind:
    """Says what Orbax records for such a container when it has no children."""
    match container:
        case Plain.NONE:
            return EmptyKind.NONE
        case Plain.LIST:
            return EmptyKind.LIST
        case Plain.TUPLE:
            return EmptyKind.TUPLE
        case DictOf():
            return EmptyKind.DICT
        case NodeOf():
            return EmptyKind.DICT if container.form is Form.MAPPING else EmptyKind.NONE
        case _:
            assert_never(container)


def is_sequence(container: Container) -> bool:
    """Says whether children are reached by index."""
    if isinstance(container, NodeOf):
        return container.form is Form.ITEMS
    return container is Plain.LIST or container is Plain.TUPLE


def child_texts(branch: Branch) -> list[str]:
    """Gives the last part of each child's name."""
    if isinstance(branch.container, Plain):
        return [str(index) for index in range(len(branch.children))]
    return [str(key) for key in branch.container.keys]


def count_leaves(structure: Structure) -> int:
    """Counts the leaves, an empty container being one."""
    if isinstance(structure, Mark) or not structure.children:
        return 1
    return sum([count_leaves(child) for child in structure.children])


def rebuild(
    structure: Structure, leaves: Sequence[object], *, namedtuples: bool = False
) -> Result[PyTree, CorruptionError]:
    """Puts leaves back where they were.

    Dicts get their typed keys and tuples stay tuples. No class is imported on the word of a
    file, so namedtuples, dataclasses and other nodes become dicts by field name, those that are
    reached by index lists, and empty ones ``None``. What stands at the position of an empty
    container is not looked at.

    Args:
      structure: The containers.
      leaves: What to put into them.
      namedtuples: Whether named tuples become such again, of a new class with the old name.

    >>> pair = Branch(Plain.TUPLE, (LEAF, Branch(DictOf(keys=(7,)), (LEAF,))))
    >>> rebuild(pair, ["a", "b"]).unwrap()
    ('a', {7: 'b'})
    """
    expected = count_leaves(structure)
    if expected != len(leaves):
        return Failure(
            CorruptionError(
                "the recorded structure does not fit the recorded leaves",
                expected=f"{expected} leaves",
                found=str(len(leaves)),
                hint="Pass a template, so that the recorded structure is not needed.",
            )
        )
    return Success(_rebuild(structure, iter(leaves), namedtuples))


def _rebuild(structure: Structure, leaves: Iterator[object], namedtuples: bool) -> PyTree:
    if isinstance(structure, Mark):
        return next(leaves)
    if not structure.children:
        next(leaves)
    children = [_rebuild(child, leaves, namedtuples) for child in structure.children]
    match structure.container:
        case Plain.LIST:
            return children
        case Plain.TUPLE:
            return tuple(children)
        case DictOf(keys=keys, ordered=ordered):
            pairs = zip(keys, children, strict=True)
            return collections.OrderedDict(pairs) if ordered else dict(pairs)
        case NodeOf(form=Form.NAMEDTUPLE, name=name, keys=keys) if namedtuples:
            return _namedtuple(name, tuple(map(str, keys)))(*children)
        case NodeOf(form=Form.ITEMS) if children:
            return children
        case NodeOf(keys=keys) if children:
            return dict(zip(keys, children, strict=True))
        case Plain.NONE | NodeOf():
            return empty_kind(structure.container).make()
        case _:
            assert_never(structure.container)


@functools.lru_cache(maxsize=512)
def _namedtuple(name: str, fields: tuple[str, ...]) -> type[Any]:
    plain = name.rpartition(".")[2]
    usable = plain.isidentifier() and not keyword.iskeyword(plain)
    # A class whose fields are known only now has no types that a checker could follow.
    make: Any = collections.namedtuple
    return make(plain if usable else "NamedTuple", fields, rename=True)
