"""Trees: comparing and merging them, and the types that stand for them."""

from __future__ import annotations

import os
from typing import Any, TypeAlias, TypeVar, cast

from sealwax.arrays.abstract import AbstractArray, AbstractScalar, AbstractShardedArray
from sealwax.context import Context
from sealwax.options import Options
from sealwax.runtime.observe import raised
from sealwax.trees.differences import Differences, differences
from sealwax.trees.merge import merge
from sealwax.trees.structure import PyTree
from sealwax.verbs.checkpoint_metadata import (
    ArrayMetadata,
    CheckpointMetadata,
    NumpyMetadata,
    StorageMetadata,
)
from sealwax.verbs.handles import ArrayHandle
from sealwax.verbs.inspecting import metadata
from sealwax.verbs.opening import Node, abstract

__all__ = [
    "AbstractLeaf",
    "ArrayMetadata",
    "Differences",
    "JsonType",
    "Leaf",
    "NumpyMetadata",
    "PyTree",
    "PyTreeKey",
    "PyTreeKeyPath",
    "PyTreeMetadata",
    "PyTreeOf",
    "StorageMetadata",
    "diff",
    "merge",
]


def __dir__() -> list[str]:
    return __all__


_T = TypeVar("_T")

PyTreeOf: TypeAlias = Any | _T
"""A tree with leaves of one type: ``PyTreeOf[jax.Array]``."""

PyTreeMetadata: TypeAlias = Any
"""A tree of what is known of each leaf, as ``metadata`` has it."""

Leaf: TypeAlias = Any
"""What a tree can hold: arrays of JAX and NumPy, scalars, strings, bytes."""

AbstractLeaf: TypeAlias = "AbstractArray | AbstractShardedArray | AbstractScalar | str"
"""What can stand for a leaf in a template."""

PyTreeKey: TypeAlias = Any
"""One step to a leaf, as ``jax.tree_util`` has it."""

PyTreeKeyPath: TypeAlias = tuple[PyTreeKey, ...]
"""All steps to a leaf."""

JsonType: TypeAlias = "dict[str, JsonType] | list[JsonType] | str | int | float | bool | None"
"""What JSON can hold."""


def diff(first: object, second: object, *, context: Context | Options | None = None) -> Differences:
    """Tells in what two trees differ: which leaves each has, of which kind, shape and dtype.

    Args:
      first: A state, a template, what ``metadata`` or ``open`` gave, or the path of a checkpoint.
      second: Another one, of the same kind or not.
      context: Settings to use instead of the current ones, for looking at checkpoints.

    Returns:
      What is missing in the second, what is unexpected in it, and what is different; it prints
      as three lists, and is false where there is nothing to tell.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"w": np.zeros((2, 3)), "step": 1})
    >>> print(ocp.tree.diff({"w": np.zeros((2, 4)), "b": np.zeros(4)}, path))
    the trees differ: 1 missing, 1 unexpected, 1 different
      missing (in the first, not in the second):
        b
      unexpected (in the second, not in the first):
        step
      different:
        w: the first has float64[2, 4], the second float64[2, 3]
    """
    return raised(differences(_as_tree(first, context), _as_tree(second, context)))


def _as_tree(value: Any, context: Context | Options | None) -> PyTree:
    if isinstance(value, (str, os.PathLike)):
        return metadata(cast("object", value), context=context).metadata
    if isinstance(value, CheckpointMetadata):
        return cast("CheckpointMetadata[Any]", value).metadata
    return abstract(value) if isinstance(value, (Node, ArrayHandle)) else value
