"""In what two trees differ, as a value: their leaves by shape and dtype, not by content."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from returns.result import Failure, Result, Success

from sealwax.errors import Difference, InternalError, SealwaxError
from sealwax.trees.flatten import flatten
from sealwax.trees.match import Comparison, compare
from sealwax.trees.records import Entry
from sealwax.trees.report import Sides, counted, leaves_of, listed
from sealwax.trees.structure import EmptyKind, PyTree

_SIDES = Sides(first="the first", second="the second", headline="the trees differ")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """In what two trees differ; false where they do not.

    Attributes:
      missing: Names of leaves that the first tree has and the second has not.
      unexpected: Names of leaves that the second has and the first has not.
      different: Places at which both have something, but not of one kind, shape and dtype.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    different: tuple[Difference, ...]
    lines: tuple[str, ...] = dataclasses.field(default=(), repr=False, compare=False)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.different)

    def __str__(self) -> str:
        return "\n".join(self.lines) if self else "no differences"


def differences(first: PyTree, second: PyTree) -> Result[Differences, SealwaxError]:
    """Compares two trees, of leaves, of metadata, or of what stands for leaves in a template.

    >>> print(differences({"w": 1, "b": 2}, {"w": 1.0}).unwrap())
    the trees differ: 1 missing, 1 different
      missing (in the first, not in the second):
        b
      different:
        w: the first has int, the second float
    """
    flat = flatten(second)
    if isinstance(flat, Failure):
        return flat
    leaves = flat.unwrap().leaves
    entries = [Entry(leaf.path, _value_type(leaf.value)) for leaf in leaves]
    anything = frozenset([number for number, leaf in enumerate(leaves) if leaf.value is ...])
    match compare(first, entries, anything):
        case Success(comparison):
            return Success(_differences(comparison, [leaf.value for leaf in leaves]))
        case Failure(error):
            return Failure(error)
        case _:
            raise InternalError("A result is neither a success nor a failure")


def _value_type(leaf: object) -> str:
    return leaf.value if isinstance(leaf, EmptyKind) else kind_of(leaf)


def _differences(found: Comparison, leaves: list[object]) -> Differences:
    different = [
        Difference(name=name, expected=kind_of(leaf), found=kind_of(leaves[number]))
        for name, leaf, number in found.pairs
        if not alike(leaf, leaves[number])
    ]
    different = sorted([*found.different, *different], key=lambda each: each.name)
    lists = (found.missing, found.unexpected, different)
    lines = (f"{_SIDES.headline}: {counted(*lists)}", *listed(*lists, _SIDES, {}))
    return Differences(
        missing=leaves_of(found.missing),
        unexpected=leaves_of(found.unexpected),
        different=tuple(different),
        lines=lines,
    )


def kind_of(leaf: Any) -> str:
    """What a leaf is: dtype and shape of an array, the type of anything else.

    >>> import numpy as np
    >>> kind_of(np.zeros((2, 3))), kind_of(7), kind_of(float)
    ('float64[2, 3]', 'int', 'float')
    """
    if isinstance(leaf, type):
        return leaf.__name__.rpartition(".")[2]
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return f"{leaf.dtype}[{', '.join(map(str, leaf.shape))}]"
    return cast("type[object]", type(leaf)).__name__


def alike(first: Any, second: Any) -> bool:
    """Whether two leaves are of one kind; a class of arrays is like any array."""
    arrays = [kind_of(leaf) in _ARRAY_TYPES for leaf in (first, second)]
    if any(arrays):
        return all(
            is_type or hasattr(leaf, "shape")
            for is_type, leaf in zip(arrays, (first, second), strict=True)
        )
    return kind_of(first) == kind_of(second)


_ARRAY_TYPES = frozenset({"ndarray", "Array", "ArrayImpl", "ShapeDtypeStruct"})
