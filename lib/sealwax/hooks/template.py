"""What a hook knows of the state before any program runs: names, shapes and places of arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax as _jax
import numpy as np

from sealwax.errors import HookError, LeafMismatchError, TreeMismatchError
from sealwax.hooks.calls import manual_axes, varying_axes
from sealwax.planning.cutter import check_whole

jax: Any = _jax
Axes: TypeAlias = frozenset[str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slot:
    """One leaf of the state.

    Attributes:
      name: Its name on disk.
      shape: Its shape, or ``None`` where it is no array.
      dtype: Its dtype, or ``None`` where anything is taken.
      sharding: The sharding of the array, or of the data of typed keys.
      spec: How ``shard_map`` cuts it.
      axes: The axes of the mesh along which it is cut.
      key_impl: Implementation of typed keys.
      empty_keys: Typed keys without elements: all of them are this.
    """

    name: str
    shape: tuple[int, ...] | None = None
    dtype: Any = None
    sharding: Any = None
    spec: Any = None
    axes: Axes = frozenset()
    key_impl: str | None = None
    empty_keys: Any = None


class Template:
    """The structure of a state, and a slot for each of its leaves.

    Args:
      like: A state, of which nothing is kept alive, or its abstract form.

    Raises:
      HookError: Some of it lies where a hook cannot bring it from.

    Attributes:
      mesh: The mesh of several devices that the state is spread over, or ``None``.
      abstract: The state with ``jax.ShapeDtypeStruct`` for arrays, for loading.
    """

    def __init__(self, like: Any) -> None:
        paths, self.structure = jax.tree_util.tree_flatten_with_path(like)
        leaves = [leaf for _, leaf in paths]
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
        self.mesh = _mesh_of(names, leaves)
        self.slots = tuple(map(self._slot, names, leaves))
        self.abstract = jax.tree.map(_abstract, like)
        self.devices: tuple[Any, ...] = (
            (None,) if self.mesh is None else tuple(self.mesh.devices.flat)
        )

    def _slot(self, name: str, leaf: Any) -> Slot:
        if not _is_array(leaf):
            numeric = isinstance(leaf, (int, float, complex))
            return Slot(name=name, shape=() if numeric else None, sharding=self._placed(None))
        own: Any = getattr(leaf, "sharding", None)
        spread = self.mesh is not None and getattr(own, "mesh", None) == self.mesh
        spec = own.spec if spread else jax.sharding.PartitionSpec()
        impl = _key_impl(leaf) if _is_key(leaf) else None
        return Slot(
            name=name,
            shape=leaf.shape,
            dtype=leaf.dtype,
            sharding=self._placed(own),
            spec=spec,
            axes=frozenset(_names(spec)),
            key_impl=impl,
            empty_keys=_empty_keys(leaf, impl) if impl and 0 in leaf.shape else None,
        )

    def _placed(self, sharding: Any) -> Any:
        if sharding is not None:
            return sharding
        if self.mesh is not None:
            return jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec())
        return jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def match(self, state: Any) -> list[Any]:
        """The leaves of a state, which is what this template says.

        Raises:
          TreeMismatchError: It has other leaves.
          LeafMismatchError: One of them has another shape or dtype.
        """
        paths, structure = jax.tree_util.tree_flatten_with_path(state)
        if structure != self.structure:
            raise self._other(paths)
        manual = self._manual()
        leaves = [leaf for _, leaf in paths]
        for slot, leaf in zip(self.slots, leaves, strict=True):
            if isinstance(leaf, jax.Array):
                self._check(slot, leaf, manual)
        return leaves

    def _manual(self) -> bool:
        """Whether the caller is mapped by ``shard_map`` over the whole mesh, and sees shards."""
        axes = manual_axes()
        known: Axes = frozenset() if self.mesh is None else frozenset(self.mesh.axis_names)
        if axes and axes != known:
            raise HookError(
                "A hook is under a shard_map over other axes than those of its state",
                expected=f"all of {sorted(known)}" if known else "a state on a mesh",
                found=str(sorted(axes)),
                hint="Call it outside the shard_map, or make it with the state as it is placed "
                "there.",
            )
        return bool(axes)

    def _check(self, slot: Slot, leaf: Any, manual: bool) -> None:
        shape = slot.shape
        if manual and shape is not None and slot.spec is not None:
            shape = jax.sharding.NamedSharding(self.mesh, slot.spec).shard_shape(shape)
        if shape != leaf.shape or slot.dtype not in (None, leaf.dtype):
            raise LeafMismatchError(
                "The state that a hook was called with is not like the one that it was made with",
                leaf=slot.name,
                expected=f"{slot.dtype or 'anything'} of shape {shape}",
                found=f"{leaf.dtype} of shape {leaf.shape}",
                hint="Under shard_map a hook takes local shards, as the shardings of `like` cut "
                "them."
                if manual
                else None,
            )
        varies = varying_axes(leaf)
        if manual and not varies <= slot.axes:
            raise HookError(
                "A leaf differs along an axis of the mesh along which its sharding repeats it",
                leaf=slot.name,
                found=f"values that vary over {sorted(varies - slot.axes)}",
                hint="Reduce it first, with jax.lax.pmean for instance.",
            )

    def _other(self, paths: Sequence[tuple[Any, Any]]) -> TreeMismatchError:
        found = {jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths}
        known = {slot.name for slot in self.slots}
        missing, unexpected = sorted(known - found), sorted(found - known)
        return TreeMismatchError(
            "The state that a hook was called with is not like the one that it was made with",
            missing=tuple(missing),
            unexpected=tuple(unexpected),
            expected=_listed(missing) if missing or unexpected else str(self.structure),
            found=_listed(unexpected) if missing or unexpected else "other containers",
        )


def _mesh_of(names: Sequence[str], leaves: Sequence[Any]) -> Any:
    """The one mesh of several devices on which leaves lie."""
    mesh: Any = None
    for name, leaf in zip(names, leaves, strict=True):
        sharding = getattr(leaf, "sharding", None)
        if sharding is None or len(sharding.device_set) == 1:
            continue
        check_whole(sharding)
        if not isinstance(sharding, jax.sharding.NamedSharding):
            raise _unfit(name, f"a {type(sharding).__name__}", "a NamedSharding")
        if mesh is not None and sharding.mesh != mesh:
            raise _unfit(name, f"{sharding.mesh}", f"the mesh of the leaves before it, {mesh}")
        mesh = sharding.mesh
    return mesh


def _unfit(name: str, found: str, expected: str) -> HookError:
    return HookError(
        "A hook cannot take a state that is placed like this",
        leaf=name,
        expected=expected,
        found=found,
        hint="Place the state with jax.device_put and the NamedShardings of one mesh.",
    )


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct, np.ndarray, np.generic))


def _is_key(leaf: Any) -> bool:
    return bool(jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _key_impl(keys: Any) -> str:
    found: list[str] = []

    def note(traced: Any) -> None:
        found.append(str(jax.random.key_impl(traced)))

    jax.eval_shape(note, keys)
    return found[0]


def _empty_keys(keys: Any, impl: str) -> Any:
    data = jax.eval_shape(jax.random.key_data, keys)
    return jax.random.wrap_key_data(np.zeros(data.shape, data.dtype), impl=impl)


def _abstract(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _names(spec: Any) -> list[str]:
    """The axes of a mesh that a ``PartitionSpec`` names."""
    return [name for part in spec for name in jax.tree.leaves(part) if isinstance(name, str)]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "no more"
