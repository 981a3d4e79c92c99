"""A checkpoint as a tree that can be looked at and cut, without loading it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast, overload

from sealwax.arrays.leafkinds import LeafKind
from sealwax.context import Context, resolve
from sealwax.layouts.detect import choose_item
from sealwax.layouts.orbax import AUTO
from sealwax.options import Options
from sealwax.planning import targets
from sealwax.planning.contents import StoredLeaf
from sealwax.runtime import background
from sealwax.runtime.observe import find, mark, raised, read_contents, undisturbed
from sealwax.runtime.operation import Operation
from sealwax.verbs.drawing import draw, size_of
from sealwax.verbs.handles import SCALARS, ArrayHandle, Source
from sealwax.verbs.paths import absolute


class Node:
    """A container in a checkpoint."""

    __slots__ = ("_inner", "_name", "_source")

    def __init__(self, source: Source, name: str, inner: Any) -> None:
        self._source = source
        self._name = name
        self._inner = inner

    def _child(self, value: Any, key: object) -> Any:
        name = f"{self._name}.{key}" if self._name else str(key)
        return view(self._source, name, value)

    @property
    def path(self) -> str:
        """Where the checkpoint is."""
        return self._source.path

    @property
    def nbytes(self) -> int:
        """The size of all arrays in it, in bytes, before compression."""
        return size_of(self._inner)

    def __len__(self) -> int:
        return len(self._inner)

    def __repr__(self) -> str:
        title = f"{type(self).__name__} {(self._name or self._source.path)!r}"
        return draw(title, self._inner, self._source.scalars)


class Group(Node, Mapping[Any, Any]):
    """A dict in a checkpoint, or what was a namedtuple, dataclass or other node by field."""

    __slots__ = ()

    def __getitem__(self, key: object) -> Any:
        try:
            return self._child(self._inner[key], key)
        except KeyError:
            known = ", ".join(map(repr, list(self._inner)[:10]))
            raise KeyError(f"{key!r}; {self._name or 'the checkpoint'} has {known}") from None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._inner)

    def __contains__(self, key: object) -> bool:
        return key in self._inner

    __hash__ = None  # pyright: ignore[reportAssignmentType]


class Items(Node, Sequence[Any]):
    """A list or tuple in a checkpoint."""

    __slots__ = ()

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        numbers = range(len(self._inner))[index]
        if isinstance(numbers, range):
            return [self[number] for number in numbers]
        return self._child(self._inner[numbers], numbers)


def view(source: Source, name: str, value: Any) -> Any:
    """What stands for a value of the stored tree: containers are wrapped, scalars are read."""
    if isinstance(value, dict):
        return Group(source, name, value)
    if isinstance(value, (list, tuple)):
        return Items(source, name, value)
    if isinstance(value, Scalar):
        return source.scalars[value.name]
    if isinstance(value, Deferred):
        return source.load([(value.leaf, targets.as_saved(value.leaf))])[0]
    return value


@dataclasses.dataclass(frozen=True, slots=True)
class Scalar:
    """The place of a scalar that is read with all others."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Deferred:
    """The place of bytes, or of what is damaged, until they are asked for."""

    leaf: StoredLeaf


def _stand_in(source: Source, leaf: StoredLeaf) -> object:
    if leaf.kind in SCALARS and leaf.array is not None:
        return Scalar(leaf.entry.name)
    if leaf.damage is not None or (leaf.kind is LeafKind.BYTES and leaf.array is not None):
        return Deferred(leaf)
    if leaf.array is not None:
        return ArrayHandle(source, leaf, leaf.array)
    return cast("targets.Ready", targets.as_saved(leaf)).value


class Opening:
    """One opening of a checkpoint, captured."""

    def __init__(self, path: object, item: str | None, context: Context | Options | None) -> None:
        self.item = item
        self.operation = Operation(title="open", path=absolute(path), options=resolve(context))

    async def run(self) -> Source:
        """Looks at the checkpoint, and reads no array."""
        path = self.operation.path
        async with self.operation.performing() as perform:

            async def look() -> Source:
                found = await find(perform, path, self.operation.options)
                options = self.operation.options
                item = raised(choose_item(found, self.item))
                contents = await read_contents(perform, found, item, rich=self.operation.rich)
                return Source(path, options, contents, await mark(perform, path))

            return await undisturbed(perform, path, look)


def open(
    path: object,
    *,
    checkpointable_name: str | None = AUTO,
    context: Context | Options | None = None,
) -> Any:
    """Opens a checkpoint for reading parts of it.

    Nothing but its metadata is read at first. Containers can be indexed, iterated and printed;
    arrays are handles with ``shape``, ``dtype``, ``nbytes`` and ``sharding``, and are read by
    indexing them; strings and scalars are there as they are.

    Args:
      path: Directory of the checkpoint, of sealwax or of Orbax.
      checkpointable_name: Name of the item, or ``"AUTO"`` for the first that holds a tree.
      context: Settings to use instead of the current ones.

    Returns:
      A ``Group`` or ``Items``, or for a tree that is one leaf, that leaf.

    Raises:
      CheckpointNotFoundError: Nothing is at ``path``.
      InvalidLayoutError: What is there is not a checkpoint, or has no such item.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"params": {"w": np.arange(12.0).reshape(4, 3)}, "step": 7})
    >>> ckpt = ocp.open(path)
    >>> ckpt["params"]["w"][:2, 0], ckpt["step"]
    (array([0., 3.]), 7)
    >>> ckpt["params"]
    Group 'params': 1 leaf, 96 B
      w: float64[4, 3], 96 B
    """
    source = background.run(Opening(path, checkpointable_name, context).run, "open")
    leaves = [_stand_in(source, leaf) for leaf in source.contents.leaves]
    return view(
        source,
        "",
        raised(source.contents.tree(leaves).alt(lambda error: error.located(path=source.path))),
    )


def abstract(node: Node | ArrayHandle) -> Any:
    """The metadata of all that is in a part of a checkpoint, as a tree for templates."""
    if isinstance(node, ArrayHandle):
        return node.metadata
    if isinstance(node, Group):
        return {key: _abstract(node[key]) for key in node}
    return [_abstract(item) for item in cast("Items", node)]


def _abstract(value: Any) -> Any:
    return abstract(value) if isinstance(value, (Node, ArrayHandle)) else value
