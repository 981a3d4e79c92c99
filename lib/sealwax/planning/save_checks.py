"""What a save is refused for: its path, what is there, and its items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from returns.result import Failure, Result, Success

from sealwax.effects import Entry
from sealwax.errors import (
    CheckpointExistsError,
    DeletionInProgressError,
    InvalidHandlerError,
    InvalidPathError,
    SealwaxError,
)
from sealwax.layouts import manifest, orbax, strangers
from sealwax.layouts.detect import has_marker, is_growing
from sealwax.planning import names
from sealwax.planning.pipeline import first
from sealwax.planning.requests import SaveRequest, Site


def check_path(request: SaveRequest, site: Site) -> Result[SaveRequest, SealwaxError]:
    """Refuses a path at which nothing could be loaded, or made."""
    if names.is_temporary(names.base(request.path)):
        return Failure(
            InvalidPathError(
                f"A path that contains {orbax.TEMPORARY!r} names an unfinished checkpoint, and "
                "none could be loaded from it",
                path=request.path,
                hint="Choose another name.",
            )
        )
    if site.obstacle is not None:
        return Failure(
            InvalidPathError(
                f"{site.obstacle!r} is not a directory, so nothing can be saved below it",
                path=request.path,
            )
        )
    return Success(request)


def check_target(request: SaveRequest, site: Site) -> Result[SaveRequest, SealwaxError]:
    """Refuses a path at which there is something that may not be replaced."""
    match site.entry:
        case None:
            return Success(request)
        case Entry.DIRECTORY:
            pass
        case other:
            return Failure(
                CheckpointExistsError(
                    f"A {other.value} is at the path, which is never replaced by a checkpoint",
                    path=request.path,
                    hint="Remove it, or choose another path.",
                )
            )
    if orbax.DELETION in site.names:
        return Failure(
            DeletionInProgressError(
                "The deletion of a part of the checkpoint at the path is not finished",
                path=request.path,
                hint="Repeat that deletion to finish it, or delete the whole checkpoint.",
            )
        )
    if is_growing(site.names):
        # Whether a save is at it, or it was given up, only taking it away can tell.
        return Success(request)
    if not request.overwrite:
        what = "A checkpoint" if has_marker(site.names) else "A directory"
        return Failure(
            CheckpointExistsError(
                f"{what} is at the path already",
                path=request.path,
                hint="Pass overwrite=True to replace it, or choose another path.",
            )
        )
    if site.names and not has_marker(site.names):
        return Failure(
            CheckpointExistsError(
                "The directory at the path is not a checkpoint, so overwrite=True does not "
                "replace it",
                path=request.path,
                expected="a checkpoint or an empty directory",
                found=f"a directory with {', '.join(map(repr, site.names[:3]))}"
                + (", ..." if len(site.names) > 3 else ""),
                hint="Remove it yourself, or choose another path.",
            )
        )
    return Success(request)


def check_beside(
    path: str, known: frozenset[str], called: Sequence[str | None], listed: Iterable[str]
) -> None:
    """Refuses what handlers put into the checkpoint beside their own directories.

    Nothing there would be synced or have a checksum, and no deletion would touch it.

    Args:
      path: Where the checkpoint will be.
      known: The names of its items.
      called: Those that handlers of users wrote.
      listed: What is in the directory.

    Raises:
      InvalidHandlerError: Something there is none of the items.
    """
    own = {orbax.INDICATOR, manifest.UNFINISHED}
    strays = [name for name in listed if name not in known and name not in own]
    strays = [name for name in strays if not strangers.litter(name)]
    if not strays:
        return
    whose = [name for name in called if name is not None]
    error = InvalidHandlerError(
        f"A handler wrote {strays[0]!r} beside the directory that it was given, into that of the "
        "whole checkpoint",
        path=path,
        expected="the items " + ", ".join(map(repr, sorted(known))) + " and nothing else",
        found=", ".join(map(repr, strays[:5])) + (", ..." if len(strays) > 5 else ""),
        hint="Let it write below the directory that its save is called with"
        + (f"; it is one of those of {', '.join(map(repr, whose))}." if len(whose) > 1 else "."),
    )
    raise error.located(item=whose[0]) if len(whose) == 1 else error


def check_items(request: SaveRequest, site: Site) -> Result[SaveRequest, SealwaxError]:
    """Refuses items that cannot be saved there, the first with the others as notes."""
    root = names.temporary(request.path, site.token)
    failures: list[SealwaxError] = []
    for item in request.items:
        refused = item.refuse(names.join(root, item.name), request.options)
        if isinstance(refused, Failure):
            failures.append(refused.failure().located(item=request.label(item)))
    return Success(request) if not failures else Failure(first(failures))
