"""Arrays in an opened checkpoint, and reading from it as long as it is the same."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from sealwax.arrays import sharding_record
from sealwax.arrays.leafkinds import LeafKind
from sealwax.arrays.prng import key_dtype, key_words
from sealwax.effects import Plan
from sealwax.errors import InvalidLayoutError, LeafError
from sealwax.options import Options
from sealwax.planning import targets
from sealwax.planning.contents import Contents, StoredArray, StoredLeaf
from sealwax.planning.load import plan_leaves
from sealwax.planning.views import box, plan_box
from sealwax.runtime import background
from sealwax.runtime.observe import mark
from sealwax.runtime.operation import Operation
from sealwax.verbs.checkpoint_metadata import leaf_metadata
from sealwax.verbs.drawing import of_array
from sealwax.verbs.loading import request_for

SCALARS = frozenset(
    {LeafKind.INT, LeafKind.FLOAT, LeafKind.BOOL, LeafKind.COMPLEX, LeafKind.NUMPY_SCALAR}
)


class Source:
    """An opened checkpoint: what it holds, and how to read from it as long as it is the same."""

    def __init__(self, path: str, options: Options, contents: Contents, seen: bytes | None) -> None:
        self.path = path
        self.options = options
        self.contents = contents
        self._seen = seen

    def read(self, plan: Plan) -> Any:
        """Performs a plan.

        Raises:
          InvalidLayoutError: Another checkpoint has taken the place of this one.
        """
        # The handlers are those of the moment of the call, as for any other verb.
        operation = Operation(title="read", path=self.path, options=self.options)
        return background.run(functools.partial(self._read, operation, plan), "read")

    async def _read(self, operation: Operation, plan: Plan) -> Any:
        async with operation.performing() as perform:
            try:
                value = await operation.execute(plan, perform)
            except Exception as error:
                if await mark(perform, self.path) != self._seen:
                    raise _replaced(self.path) from error
                raise
            if await mark(perform, self.path) != self._seen:
                raise _replaced(self.path)
            return value

    @functools.cached_property
    def scalars(self) -> dict[str, object]:
        """The values of all scalars, read together when the first is asked for."""
        leaves = [leaf for leaf in self.contents.leaves if leaf.kind in SCALARS]
        values = self.load([(leaf, targets.as_saved(leaf)) for leaf in leaves])
        return {leaf.entry.name: value for leaf, value in zip(leaves, values, strict=True)}

    def load(self, chosen: Sequence[tuple[StoredLeaf, targets.Target]]) -> Sequence[object]:
        """Loads some leaves, each as its target says."""
        request = request_for(self.path, self.options, None)
        found = [(leaf.entry.name, target) for leaf, target in chosen]
        return self.read(plan_leaves(request, self.contents, found))


def _replaced(path: str) -> InvalidLayoutError:
    return InvalidLayoutError(
        "Another checkpoint has taken the place of the one that was opened",
        path=path,
        hint="Open it again to see what is there now.",
    )


class ArrayHandle:
    """An array in a checkpoint, of which only what is asked for is read.

    ``handle[2:4, ..., 0]`` is that part as a NumPy array, and ``np.asarray(handle)`` all of it;
    typed keys come as typed keys. Only chunks that hold a part of it are read, and each is
    checked.

    Attributes:
      name: Name of the leaf: its keys, joined by dots.
      kind: What it was when it was saved, such as ``"jax array"``.
    """

    __slots__ = ("_array", "_leaf", "_source", "kind", "name")

    def __init__(self, source: Source, leaf: StoredLeaf, array: StoredArray) -> None:
        self.name = leaf.entry.name
        self.kind = leaf.kind.value
        self._source = source
        self._leaf = leaf
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape; of typed keys that of the keys."""
        return self._array.shape[: len(self._array.shape) - len(self._words)]

    @property
    def dtype(self) -> Any:
        """The dtype; of typed keys that of the keys."""
        impl = self._array.key_impl
        return self._array.dtype if impl is None else key_dtype(impl)

    @property
    def _words(self) -> tuple[int, ...]:
        impl = self._array.key_impl
        return () if impl is None else key_words(key_dtype(impl))

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The size of the whole array in bytes, before compression."""
        return self._array.nbytes

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """The shape of what is read at once; of typed keys, of their data."""
        return self._array.chunk_shape

    @property
    def sharding(self) -> sharding_record.ShardingRecord | None:
        """How it was sharded when it was saved, as a record; ``None`` where none was kept."""
        text = self._array.sharding
        return None if text is None else sharding_record.from_json(text)

    @property
    def metadata(self) -> object:
        """What ``sealwax.metadata`` has for it: fit to be a leaf of a template."""
        return leaf_metadata(self._leaf)

    def __getitem__(self, index: object) -> Any:
        chosen = box(index, self.shape)
        words = box(..., self._words)
        region = dataclasses.replace(
            chosen.region,
            start=chosen.region.start + words.region.start,
            shape=chosen.region.shape + words.region.shape,
        )
        whole = chosen._replace(region=region)
        source = self._source
        plan = plan_box(source.path, source.options, source.contents, self._leaf, whole)
        return self._typed(source.read(plan))

    def _typed(self, data: np.ndarray[Any, Any]) -> Any:
        if self._array.key_impl is None:
            return data
        import jax as _jax

        jax: Any = _jax
        return jax.random.wrap_key_data(data, impl=self._array.key_impl)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False:
            raise ValueError("An array in a checkpoint has to be read, which makes a copy of it")
        return np.asarray(self[...], dtype=dtype)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("An array without axes has no length")
        return self.shape[0]

    def load(self, abstract_leaf: object = None) -> Any:
        """Loads all of it: as it was saved, or as the leaf of a template asks.

        Args:
          abstract_leaf: What to make of it, as for ``sealwax.load``.

        Raises:
          LeafError: What is stored does not fit.
        """
        source = self._source
        request = request_for(source.path, source.options, None)
        try:
            target = (
                targets.as_saved(self._leaf, request.devices, x64=request.x64)
                if abstract_leaf is None
                else targets.target(self._leaf, abstract_leaf, request.rules)
            )
        except LeafError as error:
            raise error.located(leaf=self.name, path=source.path) from error.__cause__
        return source.load([(self._leaf, target)])[0]

    def __repr__(self) -> str:
        return f"<{self.name or 'array'}: {of_array(self)}>"
