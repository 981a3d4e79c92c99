"""Looking at checkpoints without loading them."""

from __future__ import annotations

import functools
from typing import Any

from sealwax.context import Context, resolve
from sealwax.effects import ReadFile
from sealwax.layouts import orbax
from sealwax.layouts.detect import choose_item, is_checkpoint
from sealwax.options import Options
from sealwax.planning import names
from sealwax.runtime import background
from sealwax.runtime.observe import Perform, find, raised, read_contents, read_manifest, undisturbed
from sealwax.runtime.operation import Operation, looking
from sealwax.settings.availability import unavailable
from sealwax.verbs.checkpoint_metadata import CheckpointMetadata, tree_metadata
from sealwax.verbs.paths import absolute


class Inspect:
    """One look at a checkpoint, captured."""

    def __init__(self, path: object, item: str | None, context: Context | Options | None) -> None:
        self.item = item
        options = resolve(context)
        error = unavailable(options, "load")
        if error is not None:
            raise error
        self.operation = Operation(title="metadata", path=absolute(path), options=options)

    async def metadata(self) -> CheckpointMetadata[Any]:
        """What is known of the checkpoint and of one item's tree."""
        async with self.operation.performing() as perform:
            look = functools.partial(self._look, functools.partial(looking, perform))
            return await undisturbed(perform, self.operation.path, look)

    async def _look(self, perform: Perform) -> CheckpointMetadata[Any]:
        path = self.operation.path
        found = await find(perform, path, self.operation.options)
        item = raised(choose_item(found, self.item))
        contents = await read_contents(perform, found, item, rich=self.operation.rich)
        where = names.join(path, orbax.CHECKPOINT_METADATA)
        facts = orbax.read_checkpoint_metadata(await perform(ReadFile(path=where)), where)
        root = await read_manifest(perform, path)
        return CheckpointMetadata(
            path=self.operation.options.file.path_class(path),
            metadata=tree_metadata(contents, self.operation.options.pytree),
            init_timestamp_nsecs=facts.init_timestamp_nsecs,
            commit_timestamp_nsecs=facts.commit_timestamp_nsecs,
            custom_metadata=dict(facts.custom_metadata),
            settings={} if root is None else root.settings,
        )

    async def is_checkpoint(self) -> bool:
        """Whether a finished checkpoint is at the path."""
        async with self.operation.performing() as perform:
            operation = self.operation
            found = await find(perform, operation.path, operation.options, warn=False)
            return is_checkpoint(found)


def metadata(
    path: object,
    checkpointable_name: str | None = orbax.AUTO,
    *,
    context: Context | Options | None = None,
) -> CheckpointMetadata[Any]:
    """Tells what a checkpoint holds, without reading its arrays.

    Args:
      path: Directory of the checkpoint.
      checkpointable_name: Name of the item, or ``"AUTO"`` for the first that holds a tree.
      context: Settings to use instead of the current ones.

    Returns:
      The tree with shapes, dtypes and shardings for arrays, and what else is recorded. It can be
      passed to ``load`` as a template.

    Raises:
      CheckpointNotFoundError: Nothing is at ``path``.
      InvalidLayoutError: What is there is not a checkpoint, or has no such item.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"w": np.zeros((2, 3))}, custom_metadata={"run": 1})
    >>> found = ocp.metadata(path)
    >>> found.metadata["w"].shape, found.custom_metadata
    ((2, 3), {'run': 1})
    """
    look = Inspect(path, checkpointable_name, context)
    return background.run(look.metadata, "metadata")


def is_orbax_checkpoint(path: object, *, context: Context | Options | None = None) -> bool:
    """Whether a finished checkpoint, of Orbax or of sealwax, is at ``path``.

    >>> import sealwax as ocp
    >>> ocp.is_orbax_checkpoint(getfixture("tmp_path"))
    False
    """
    return background.run(Inspect(path, orbax.AUTO, context).is_checkpoint, "is_orbax_checkpoint")
