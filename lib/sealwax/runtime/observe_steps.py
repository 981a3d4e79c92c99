"""Looking for the steps of a run: directories whose name is a step's and which hold one."""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterable

from sealwax.effects import Entry, ListDirectory, Look
from sealwax.layouts import orbax
from sealwax.layouts.detect import Found, has_marker, is_checkpoint
from sealwax.options import DEFAULTS, AtomicityOptions
from sealwax.planning import names
from sealwax.planning.atomicity import needs_commit
from sealwax.runtime.observe import Perform
from sealwax.runtime.operation import looking

_GONE = (errno.ENOENT, errno.ENOTDIR)


async def listed(perform: Perform, path: str) -> tuple[str, ...] | None:
    """The names in a directory, also behind a link; ``None`` where there is no directory."""
    if await perform(Look(path=path)) not in (Entry.DIRECTORY, Entry.SYMLINK):
        return None
    try:
        return await looking(perform, ListDirectory(path=path))
    except OSError as error:
        # Whoever deletes a step does not ask those that look.
        if error.errno in _GONE:
            return None
        raise


async def finished(
    perform: Perform,
    base: str,
    candidates: Iterable[str],
    atomicity: AtomicityOptions = DEFAULTS.atomicity,
) -> tuple[str, ...]:
    """Those names in the directory ``base`` that are finished checkpoints, in their order.

    An empty directory is none, whatever its name, and neither is an unfinished save.
    """
    perform = functools.partial(looking, perform)
    above = await listed(perform, base)
    if above is None:
        return ()
    there, commit = frozenset(above), needs_commit(atomicity, base)
    return tuple(
        [
            name
            for name in candidates
            if name in there and await _is_finished(perform, base, above, name, commit)
        ]
    )


async def _is_finished(
    perform: Perform, base: str, above: tuple[str, ...], name: str, commit: bool
) -> bool:
    path = names.join(base, name)
    inside = await listed(perform, path)
    if inside is None:
        return False
    items: dict[str, tuple[str, ...]] = {}
    # What old versions wrote has no file of its own that says what it is.
    for item in () if has_marker(inside) else inside:
        content = await listed(perform, names.join(path, item))
        if content is not None:
            items[item] = content
    beside = above if orbax.CHECKPOINT_METADATA in above else ()
    return is_checkpoint(
        Found(
            path=path,
            entry=Entry.DIRECTORY,
            names=inside,
            items=items,
            above=beside,
            commit=commit,
        )
    )
