"""Trees of a checkpoint in words, one line for each leaf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

from sealwax.arrays.sharding_record import Named, ShardingRecord, SingleDevice
from sealwax.effects.wording import count, size

_LINES = 60
_TEXT = 40


class Array(Protocol):
    """What is told of an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def sharding(self) -> ShardingRecord | None: ...


def of_array(array: Array) -> str:
    """An array in a line: dtype, shape, size, and over which mesh it was sharded."""
    extents = ", ".join(map(str, array.shape))
    placed = of_sharding(array.sharding)
    return f"{array.dtype}[{extents}], {size(array.nbytes)}" + (f", {placed}" if placed else "")


def of_sharding(record: ShardingRecord | None) -> str:
    """A sharding in a few words; none for what was on one device.

    >>> of_sharding(Named(mesh_shape=(4, 2), axis_names=("x", "y"), spec=("x", None)))
    "P('x', None) over x=4, y=2"
    """
    match record:
        case None | SingleDevice():
            return ""
        case Named(spec=spec, axis_names=names, mesh_shape=shape):
            parts = ", ".join(map(repr, spec))
            mesh = ", ".join(f"{name}={n}" for name, n in zip(names, shape, strict=True))
            return f"P({parts}) over {mesh}"


def size_of(tree: Any) -> int:
    """The size of all arrays in a tree of handles, in bytes."""
    return sum(getattr(leaf, "nbytes", 0) for _, leaf, _ in _walk(tree, 0, ""))


def draw(title: str, tree: Any, scalars: Mapping[str, object]) -> str:
    """Draws a tree of handles and values; long ones are cut and counted."""
    rows = list(_walk(tree, 1, ""))
    leaves = sum(leaf is not _CONTAINER for _, leaf, _ in rows)
    head = f"{title}: {count(leaves, 'leaf')}, {size(size_of(tree))}"
    lines = [_line(depth, key, leaf, scalars) for depth, leaf, key in rows[:_LINES]]
    more = [f"  ... and {len(rows) - _LINES} more lines"] if len(rows) > _LINES else []
    return "\n".join([head, *lines, *more])


_CONTAINER = object()


def _walk(tree: Any, depth: int, key: str) -> Iterator[tuple[int, Any, str]]:
    """Containers and leaves in order, with their depth and key."""
    if isinstance(tree, dict) and tree:
        inner = list(cast("dict[Any, Any]", tree).items())
    elif isinstance(tree, (list, tuple)) and tree:
        inner = list(enumerate(cast("list[Any]", tree)))
    else:
        yield depth, tree, key
        return
    if key:
        yield depth, _CONTAINER, key
    for name, child in inner:
        yield from _walk(child, depth + bool(key), str(name) or repr(name))


def _line(depth: int, key: str, leaf: Any, scalars: Mapping[str, object]) -> str:
    start = f"{'  ' * depth}{key}"
    if leaf is _CONTAINER:
        return start
    if hasattr(leaf, "shape"):
        return f"{start}: {of_array(leaf)}"
    name: object = getattr(leaf, "name", None)
    if isinstance(name, str):
        return f"{start}: {scalars[name]!r}"
    if hasattr(leaf, "leaf"):
        return f"{start}: {'bytes' if leaf.leaf.damage is None else 'damaged'}"
    text = repr(leaf)
    return f"{start}: {text if len(text) <= _TEXT else text[: _TEXT - 3] + '...'}"
