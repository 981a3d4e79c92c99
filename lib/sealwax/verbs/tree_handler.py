"""The standard handler of pytrees."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import numpy as np

from sealwax.arrays.leafkinds import classify
from sealwax.checkpointables import typestrings as names_of
from sealwax.context import Context, resolve
from sealwax.errors import InvalidHandlerError, SealwaxError, UnsupportedLeafError
from sealwax.layouts import manifest
from sealwax.leaf_handlers import LeafHandlers
from sealwax.options import Options
from sealwax.planning.contents import Contents
from sealwax.planning.handler_items import NewItem, StoredItem
from sealwax.planning.planners import Observe
from sealwax.planning.readings import FromTree, Known, Reading
from sealwax.planning.writings import Tree, Writing
from sealwax.runtime.observe import Perform, read_tree
from sealwax.trees.flatten import flatten
from sealwax.trees.structure import EmptyKind, PyTree
from sealwax.verbs.checkpoint_metadata import CheckpointMetadata, tree_metadata
from sealwax.verbs.planned_handler import PlannedHandler


class PyTreeHandler(PlannedHandler[Any, Any]):
    """Saves pytrees, as ``save`` does.

    Args:
      context: Settings to use instead of those of the operation.

    >>> import sealwax as ocp
    >>> ocp.handlers.PyTreeHandler().is_handleable({"w": 1.0})
    True
    """

    __typestrings__ = names_of.PYTREE

    def __init__(self, *, context: Context | Options | None = None) -> None:
        self._context = context

    def _settings(self) -> Options:
        return resolve(self._context)

    def _merged(self, options: Options) -> Options:
        """The settings of an operation, with those for trees that the handler brings along."""
        if self._context is None:
            return options
        own = self._settings()
        return dataclasses.replace(options, array=own.array, pytree=own.pytree)

    @property
    def _leaf_handlers(self) -> LeafHandlers:
        return self._settings().pytree.leaf_handlers

    def is_handleable(self, checkpointable: Any) -> bool:
        """Whether every leaf is one that can be stored."""
        return _refusal(checkpointable, self._leaf_handlers) is None

    def is_abstract_handleable(self, abstract_checkpointable: Any) -> bool | None:
        """Whether every leaf is one that a template may have."""
        return _abstract_refusal(abstract_checkpointable, self._leaf_handlers) is None

    def validate_leaves_handleable(self, checkpointable: PyTree) -> None:
        """Raises the error for the first leaf that cannot be stored."""
        _raise(_refusal(checkpointable, self._leaf_handlers))

    def validate_abstract_leaves_handleable(self, abstract_checkpointable: PyTree) -> None:
        """Raises the error for the first leaf that no template may have."""
        _raise(_abstract_refusal(abstract_checkpointable, self._leaf_handlers))

    def recognizes(self, item: StoredItem) -> bool:
        """Whether there is a tree."""
        return item.is_tree

    def plan_save(self, checkpointable: PyTree, item: NewItem) -> Writing:
        """The arrays, and what describes them."""
        return Tree(state=checkpointable, options=self._merged(item.options))

    async def observe(self, item: StoredItem, look: Observe) -> Contents:
        """What describes the arrays."""
        metadata = item.options.pytree.saving.pytree_metadata_options
        return await read_tree(
            cast("Perform", look),
            item.directory,
            item.listed,
            item.digests.get(manifest.NAME),
            rich=metadata.support_rich_types,
        )

    def plan_load(
        self, item: StoredItem, abstract_checkpointable: PyTree | None = None
    ) -> Reading[PyTree]:
        """The arrays that the template asks for."""
        template = abstract_checkpointable
        if isinstance(template, CheckpointMetadata):
            template = cast("CheckpointMetadata[Any]", template).metadata
        return FromTree(contents=_seen(item), template=template, options=self._merged(item.options))

    def plan_metadata(self, item: StoredItem) -> Reading[PyTree]:
        """The tree with shapes, dtypes and shardings for arrays."""
        return Known(tree_metadata(_seen(item), item.options.pytree))


def _seen(item: StoredItem) -> Contents:
    """What ``observe`` found, also where another handler lets this one plan."""
    found: object = item.observed
    if isinstance(found, Contents):
        return found
    raise InvalidHandlerError(
        "PyTreeHandler was to plan a load without what its observe had found",
        expected="item.observed as PyTreeHandler().observe(item, look) gives it",
        found=f"an object of type {type(found).__qualname__}",
        hint="A handler that lets it plan also observes with it: "
        "`async def observe(self, item, look): return await PyTreeHandler().observe(item, look)`.",
    )


def _raise(error: SealwaxError | None) -> None:
    if error is not None:
        raise error


def _refusal(tree: object, handlers: LeafHandlers) -> SealwaxError | None:
    flat = flatten(tree)
    failed = flat.swap().value_or(None)
    if failed is not None:
        return failed
    for leaf in flat.unwrap().leaves:
        known = isinstance(leaf.value, EmptyKind) or handlers.find(type(leaf.value)) is not None
        refused = None if known else classify(leaf.value).swap()
        error = None if refused is None else refused.value_or(None)
        if error is not None:
            return error.located(leaf=leaf.name)
    return None


def _abstract_refusal(tree: object, handlers: LeafHandlers) -> SealwaxError | None:
    flat = flatten(tree)
    failed = flat.swap().value_or(None)
    if failed is not None:
        return failed
    for leaf in flat.unwrap().leaves:
        if not _may_ask(leaf.value) and not any(h.accepts(leaf.value) for h in handlers.handlers):
            return UnsupportedLeafError(
                "A template cannot have a leaf of this type",
                leaf=leaf.name,
                expected="an array, a jax.ShapeDtypeStruct, a scalar, a string, or a type of these",
                found=_name_of(leaf.value),
            )
    return None


def _may_ask(leaf: object) -> bool:
    import jax

    scalars = (bool, int, float, complex, str, bytes, np.generic)
    if isinstance(leaf, type):
        return issubclass(leaf, (*scalars, np.ndarray, jax.Array, jax.ShapeDtypeStruct))
    described = hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    return described or leaf is ... or isinstance(leaf, (*scalars, EmptyKind))


def _name_of(leaf: object) -> str:
    return leaf.__qualname__ if isinstance(leaf, type) else type(leaf).__qualname__
