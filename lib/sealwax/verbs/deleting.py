"""Deleting: capture, observe, plan, execute."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from returns.result import Result

from sealwax.context import Context, resolve
from sealwax.effects import Plan
from sealwax.errors import (
    ArgumentTypeError,
    CheckpointExistsError,
    CheckpointNotFoundError,
    InvalidPathError,
    SealwaxError,
    StorageError,
)
from sealwax.options import Options
from sealwax.planning.delete import DeleteRequest, DeleteSite, not_found
from sealwax.planning.delete import plan_delete as plan_whole
from sealwax.planning.delete_item import plan_delete_item
from sealwax.planning.requests import check_item_name
from sealwax.runtime import background
from sealwax.runtime.observe import Perform, raised
from sealwax.runtime.observe_deletion import survey_deletion
from sealwax.runtime.operation import Operation, raise_unavailable
from sealwax.runtime.response import AsyncResponse
from sealwax.runtime.starting import start
from sealwax.verbs.paths import absolute

_MOST_TRIES = 10
_RACES = frozenset({errno.ENOENT, errno.EEXIST, None})


class Delete:
    """One deletion, captured."""

    def __init__(
        self,
        path: object,
        *,
        item: object,
        missing_ok: object,
        context: Context | Options | None,
        background: bool,
    ) -> None:
        options = resolve(context)
        raise_unavailable(options, "delete")
        target = _named(path)
        self.operation = Operation(
            title="delete_async" if background else "delete", path=target, options=options
        )
        try:
            self.request = DeleteRequest(
                path=target,
                item=_item(item),
                missing_ok=_flag(missing_ok),
                options=options,
                background=background,
            )
        except SealwaxError as error:
            raise error.located(path=target) from error.__cause__

    async def plan(self) -> Plan:
        """Observes and plans, and does nothing."""
        async with self.operation.performing() as perform:
            return raised(self._planned(await self._survey(perform)))

    async def run(self, on_staged: Callable[[], None] | None = None) -> bool:
        """Does it, and tells whether something was deleted."""
        async with self.operation.performing() as perform:
            site = await self._survey(perform, hold=True)
            made: Plan = raised(self._planned(site))
            for _ in range(_MOST_TRIES):
                try:
                    done: bool = await self.operation.execute(made, perform, on_staged=on_staged)
                except (CheckpointExistsError, StorageError) as error:
                    # Somebody else may have deleted it meanwhile, or begun to.
                    before, site = site, await self._survey(perform)
                    if error.errno not in _RACES or _same(before, site):
                        raise
                    made = raised(self._planned(site))
                else:
                    return self._told(done, site)
        raise CheckpointNotFoundError(
            "The checkpoint was changed each time before it could be deleted",
            path=self.request.path,
            hint="Let one program at a time delete it.",
        )

    async def _survey(self, perform: Perform, *, hold: bool = False) -> DeleteSite:
        return await survey_deletion(perform, self.request, hold=hold)

    def _planned(self, site: DeleteSite) -> Result[Plan, SealwaxError]:
        item = self.request.item
        if item is None:
            return plan_whole(self.request, site)
        return plan_delete_item(self.request, site, item)

    def _told(self, done: bool, site: DeleteSite) -> bool:
        if not done and not self.request.missing_ok:
            raise not_found(site.found)
        return done


def _same(before: DeleteSite, now: DeleteSite) -> bool:
    """Whether nothing changed that the deletion did not change itself."""

    def facts(site: DeleteSite) -> tuple[object, ...]:
        record = site.found.deletion
        begun = None if record is None else record.map(lambda r: r.operation_id).value_or("")
        return site.found.entry, site.target, site.metadata, begun

    return facts(before) == facts(now)


def _named(path: object) -> str:
    """The absolute path, of what has a name: the last part must say what is to be deleted."""
    target = absolute(path)
    if os.path.basename(os.fspath(str(path)).rstrip("/")) in (".", ".."):
        raise InvalidPathError(
            "The path does not end in the name of what is to be deleted",
            path=path,
            hint=f"Write {target!r} if that is meant.",
        )
    return target


def _item(item: object) -> str | None:
    if item is None:
        return None
    if not isinstance(item, str):
        raise ArgumentTypeError(
            "The name of a checkpointable is not a string",
            expected="a string such as 'state', or None for the whole checkpoint",
            found=repr(item),
        )
    return raised(check_item_name(item))


def _flag(missing_ok: object) -> bool:
    if not isinstance(missing_ok, bool):
        raise ArgumentTypeError(
            "The argument missing_ok is not a bool",
            expected="True or False",
            found=repr(missing_ok),
        )
    return missing_ok


def delete(
    path: object,
    *,
    checkpointable_name: str | None = None,
    missing_ok: bool = False,
    context: Context | Options | None = None,
) -> bool:
    """Deletes a checkpoint, or one checkpointable of it.

    A checkpoint is there or not at every instant; what an interruption leaves is not loaded, and
    deleting again finishes it. Deletions of checkpointables of one checkpoint wait for each other,
    for ``ctx.asynchronous.timeout_secs`` at most. With ``ctx.deletion.todelete_subdir`` it is moved
    there instead.

    Args:
      path: Directory of the checkpoint.
      checkpointable_name: Name of the only checkpointable to delete; ``None`` for all.
      missing_ok: Whether it is fine that there is nothing to delete.
      context: Settings to use instead of the current ones.

    Returns:
      Whether something was deleted.

    Raises:
      CheckpointNotFoundError: Nothing is at ``path``, or it has no such checkpointable.
      InvalidLayoutError: What is there is not a checkpoint, or holds what is not of one.
      DeletionRecoveryError: A deletion of another checkpointable was interrupted, and has to be
        finished first.
      StorageError: The file system refused.

    >>> import sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"step": 1})
    >>> ocp.delete(path), ocp.delete(path, missing_ok=True)
    (True, False)
    """
    operation = Delete(
        path, item=checkpointable_name, missing_ok=missing_ok, context=context, background=False
    )
    return background.run(operation.run, "delete", operation.operation.watch)


def delete_async(
    path: object,
    *,
    checkpointable_name: str | None = None,
    missing_ok: bool = False,
    context: Context | Options | None = None,
) -> AsyncResponse[bool]:
    """Deletes a checkpoint, or one checkpointable of it, in the background.

    When this returns it no longer counts: it cannot be loaded, and a new one can be saved to its
    path. What takes time, removing the files, goes on.

    Args:
      path: Directory of the checkpoint.
      checkpointable_name: Name of the only checkpointable to delete; ``None`` for all.
      missing_ok: Whether it is fine that there is nothing to delete.
      context: Settings to use instead of the current ones.

    Returns:
      A hold on the deletion: ``result()`` waits, and tells whether something was deleted.

    Raises:
      SealwaxError: What ``delete`` raises before anything is changed.

    >>> import sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"step": 1})
    >>> ocp.delete_async(path).result()
    True
    """
    operation = Delete(
        path, item=checkpointable_name, missing_ok=missing_ok, context=context, background=True
    )
    return start(operation.run, operation.operation, "staged")


def plan_delete(
    path: object,
    *,
    checkpointable_name: str | None = None,
    missing_ok: bool = False,
    context: Context | Options | None = None,
) -> Plan:
    """The plan of what ``delete`` would do, without doing it.

    Args:
      path: Directory of the checkpoint.
      checkpointable_name: Name of the only checkpointable to delete; ``None`` for all.
      missing_ok: Whether it is fine that there is nothing to delete.
      context: Settings to use instead of the current ones.

    Returns:
      The plan: print it to see what would be renamed and removed.

    >>> import sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"step": 1})
    >>> [type(step.effect).__name__ for step in ocp.plan_delete(path).steps]
    ['Rename', 'SyncDirectory', 'RemoveTree', 'Derive']
    """
    operation = Delete(
        path, item=checkpointable_name, missing_ok=missing_ok, context=context, background=False
    )
    return background.run(operation.plan, "plan_delete")
