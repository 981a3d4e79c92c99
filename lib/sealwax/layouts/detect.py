"""Which item of a directory to load, or why the directory is not a checkpoint."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping

from returns.result import Failure, Result, Success

from sealwax.checkpointables.typestrings import PYTREE, writes_no_tree
from sealwax.effects import Entry
from sealwax.errors import (
    CheckpointNotFoundError,
    DeletionInProgressError,
    InvalidLayoutError,
    InvalidPathError,
    SealwaxError,
)
from sealwax.layouts import manifest, orbax
from sealwax.layouts.deletion import Record

MARKERS = frozenset(
    {
        orbax.INDICATOR,
        orbax.CHECKPOINT_METADATA,
        orbax.TREE_METADATA,
        manifest.NAME,
        manifest.UNFINISHED,
    }
)
_SHOWN = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is at a path that is to be loaded.

    Attributes:
      path: The path.
      entry: What it names, or ``None`` for nothing.
      names: What is in the directory.
      items: For each directory in it, what is in there.
      recorded: What it recorded of the handlers of its items.
      above: What is beside it.
      deletion: The record of an unfinished deletion of an item, or what is wrong with it.
      commit: Whether only a commit file makes it complete, as the reader sees it.
    """

    path: str
    entry: Entry | None
    names: tuple[str, ...] = ()
    items: Mapping[str, tuple[str, ...]] = dataclasses.field(
        default_factory=dict[str, tuple[str, ...]]
    )
    recorded: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    above: tuple[str, ...] = ()
    deletion: Result[Record, SealwaxError] | None = None
    commit: bool = False

    def treeless(self, item: str) -> bool:
        """Whether an item is certainly no tree, by what is recorded of it."""
        # Orbax records this of the tree that it puts together of parts, which is the only item.
        parts = tuple(self.recorded) == (orbax.DEFAULT_ITEM,) and manifest.NAME not in self.names
        return writes_no_tree(self.recorded.get(item, "")) and not parts

    def looks_only(self, item: str) -> bool:
        """Whether an item has a tree's file, but by what is recorded of it may be something else.

        A handler that lets the tree's do the work leaves our manifest in it.
        """
        recorded = self.recorded.get(item, PYTREE[0])
        return not recorded.startswith("orbax.") and manifest.NAME not in self.items[item]

    @property
    def deleting(self) -> str | None:
        """The item that is being deleted, and no longer counts."""
        return None if self.deletion is None else self.deletion.map(_item).value_or(None)


def _item(record: Record) -> str:
    return record.item


def has_marker(names: Iterable[str]) -> bool:
    """Whether one of the names in a directory is one that only a checkpoint has.

    >>> has_marker(["notes.txt"]), has_marker(["_METADATA", "d"])
    (False, True)
    """
    return not MARKERS.isdisjoint(names)


def is_growing(names: Iterable[str]) -> bool:
    """Whether a directory in which there are these is being made in place, or was given up so.

    >>> is_growing([manifest.UNFINISHED]), is_growing([manifest.UNFINISHED, orbax.COMMIT])
    (True, False)
    """
    there = frozenset(names)
    return manifest.UNFINISHED in there and orbax.COMMIT not in there


def is_checkpoint(found: Found) -> bool:
    """Whether the directory is a finished checkpoint, by its markers and not by its name alone.

    >>> is_checkpoint(Found(path="/x", entry=Entry.DIRECTORY, names=("a.txt",)))
    False
    """
    if found.entry is not Entry.DIRECTORY or _unfinished(found) or _inside(found):
        return False
    if _part(found) or _uncommitted(found):
        return False
    return not MARKERS.isdisjoint(found.names) or bool(trees_in(found))


def choose_item(found: Found, wanted: object) -> Result[str, SealwaxError]:
    """The item to load: the one that is wanted, or with ``AUTO`` the one that holds a tree.

    Args:
      found: What is at the path.
      wanted: A name, ``"AUTO"``, or ``None`` for a checkpoint that has no items.

    Returns:
      The item's name, empty for a flat checkpoint; else an error that says what is there instead.
    """
    problem = why_not(found) or why_not_item(found, wanted)
    if problem is not None:
        return Failure(problem)
    trees = trees_in(found)
    # What saves itself may well have files like a tree's, and is none for that.
    first = [name for name in trees if not found.treeless(name)]
    # A handler's own file may be called like one of a tree's: what surely is a tree comes before.
    first.sort(key=found.looks_only)
    flat = orbax.TREE_METADATA in found.names
    if wanted is not None and not isinstance(wanted, str):
        return Failure(
            InvalidPathError(
                "The name of a checkpointable is not a string",
                path=found.path,
                expected=f"a string such as {orbax.DEFAULT_ITEM!r}, or None",
                found=repr(wanted),
            )
        )
    match wanted:
        case None:
            return Success("") if flat else Failure(_no_tree(found, "no tree of its own", trees))
        case orbax.AUTO if first:
            return Success(first[0])
        case orbax.AUTO if flat:
            return Success("")
        case orbax.AUTO:
            return Failure(_no_tree(found, "no tree that could be loaded", first))
        case _ if wanted in trees:
            return Success(wanted)
        case _:
            return Failure(_no_tree(found, f"no tree named {wanted!r}", trees, wanted))


def trees_in(found: Found) -> list[str]:
    """The items that hold a tree, the default one first."""
    # Where nothing says that this is a checkpoint, numbers are steps of a run of an old version.
    bare = MARKERS.isdisjoint(found.names)
    trees = [
        name
        for name, inside in found.items.items()
        if name not in orbax.RESERVED
        and name != found.deleting
        and not (bare and name.isdecimal())
        and not {orbax.TREE_METADATA, manifest.NAME}.isdisjoint(inside)
        # A directory with these is a checkpoint of its own.
        and {orbax.INDICATOR, orbax.CHECKPOINT_METADATA}.isdisjoint(inside)
    ]
    return sorted(trees, key=lambda name: (name != orbax.DEFAULT_ITEM, name))


def why_not_item(found: Found, wanted: object) -> SealwaxError | None:
    """Why an unfinished deletion stands in the way of reading an item, if it does."""
    if found.deletion is None:
        return None
    if found.deleting is None:
        return found.deletion.failure()
    return still_deleting(found.path, found.deleting) if wanted == found.deleting else None


def still_deleting(path: str, item: str) -> DeletionInProgressError:
    """The error for whoever wants an item whose deletion was begun."""
    return DeletionInProgressError(
        f"The checkpointable {item!r} is being deleted",
        path=path,
        hint=f"Finish it with delete(path, checkpointable_name={item!r}).",
    )


def why_not(found: Found, verb: str = "Load") -> SealwaxError | None:
    """Why what is at the path is not a checkpoint that could be loaded, or whatever the verb is."""
    match found.entry:
        case None:
            return _nothing(found)
        case Entry.DIRECTORY:
            pass
        case other:
            return InvalidLayoutError(
                f"A {other.value} is at the path, not a checkpoint",
                path=found.path,
                hint="Pass the directory of the checkpoint.",
            )
    if _uncommitted(found) and has_marker(found.names):
        return InvalidLayoutError(
            "The checkpoint is not complete: it has no commit file",
            path=found.path,
            expected=f"a file {orbax.COMMIT!r} in it, as ctx.atomicity.mode asks for",
            hint="Where it was made by a rename that wrote none, set "
            "ctx.atomicity.allow_legacy_atomic_rename = True.",
        )
    if _unfinished(found):
        return InvalidLayoutError(
            "This is a checkpoint that was not finished",
            path=found.path,
            hint=f"{verb} another one; the next save to the same place removes what sealwax left.",
        )
    if _part(found) or (found.path.endswith(orbax.SESSION) and _parts(found)):
        return _saved_in_parts(found.path)
    if _inside(found):
        parent, _, item = found.path.rpartition("/")
        return InvalidLayoutError(
            "This is an item inside a checkpoint, not a checkpoint",
            path=found.path,
            hint=f"{verb} {parent!r} with checkpointable_name={item!r}.",
        )
    steps = [name for name, inside in found.items.items() if not MARKERS.isdisjoint(inside)]
    steps.sort(key=lambda name: (len(name), name))  # As numbers are sorted, where they are that.
    if MARKERS.isdisjoint(found.names) and not trees_in(found):
        if steps:
            shown = ", ".join(map(repr, steps[-_SHOWN:]))
            held = "a checkpoint" if len(steps) == 1 else f"{len(steps)} checkpoints"
            return InvalidLayoutError(
                f"This directory is not a checkpoint but holds {held}",
                path=found.path,
                hint=f"{verb} one of them, by its path: {shown}"
                + (f" and {len(steps) - _SHOWN} earlier ones." if len(steps) > _SHOWN else "."),
            )
        return InvalidLayoutError(
            "This directory is not a checkpoint",
            path=found.path,
            expected="a file such as _CHECKPOINT_METADATA in it",
            found="an empty directory" if not found.names else _list(found.names),
        )
    return None


def _part(found: Found) -> bool:
    above, _, name = found.path.rpartition("/")
    return above.endswith(orbax.SESSION) and orbax.PENDING in name


def _parts(found: Found) -> list[str]:
    return [name for name in found.names if orbax.PENDING in name]


def _saved_in_parts(path: str) -> InvalidLayoutError:
    target = path.partition(f"{orbax.SESSION}/")[0].removesuffix(orbax.SESSION)
    return InvalidLayoutError(
        "The checkpoint was saved in parts, which were not put together yet",
        path=path,
        hint=f"Call sealwax.partial.finalize({target!r}) first.",
    )


def _unfinished(found: Found) -> bool:
    # Orbax, when it writes in place, begins with the one and ends with the other two.
    begun = orbax.INDICATOR in found.names
    ended = not {orbax.CHECKPOINT_METADATA, orbax.COMMIT}.isdisjoint(found.names)
    temporary = orbax.TEMPORARY in found.path.rpartition("/")[2]
    return temporary or is_growing(found.names) or (begun and not ended)


def _uncommitted(found: Found) -> bool:
    return found.commit and orbax.COMMIT not in found.names and not _unfinished(found)


def _inside(found: Found) -> bool:
    own = {orbax.INDICATOR, orbax.CHECKPOINT_METADATA}
    return orbax.CHECKPOINT_METADATA in found.above and own.isdisjoint(found.names)


def _nothing(found: Found) -> SealwaxError:
    name = found.path.rpartition("/")[2]
    if f"{name}{orbax.SESSION}" in found.above:
        return _saved_in_parts(found.path)
    saving = [other for other in found.above if other.startswith(f"{name}{orbax.TEMPORARY}")]
    if saving:
        hint = "A save to this path is under way, or was interrupted: wait for it, or save again."
    else:
        near = difflib.get_close_matches(name, found.above, n=1)
        hint = f"Did you mean {near[0]!r}, which is beside it?" if near else "Check the path."
    return CheckpointNotFoundError("There is nothing at the path", path=found.path, hint=hint)


def _no_tree(
    found: Found, what: str, trees: list[str], wanted: str | None = None
) -> InvalidLayoutError:
    others = tuple(
        [name for name, by in found.recorded.items() if name in found.items and by not in PYTREE]
    )
    if wanted in others or (others and not trees):
        named = "" if wanted is None else f", {{{wanted!r}: ...}}"
        return InvalidLayoutError(
            f"The checkpoint has {what}",
            path=found.path,
            expected="an item that the handler of pytrees saved",
            found=", ".join(f"{n!r} of {_class(found, n)}" for n in others[:_SHOWN])
            + (f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""),
            hint=f"Load what it has with load_checkpointables(path{named}).",
        )
    if not trees:
        return InvalidLayoutError(
            f"The checkpoint has {what}",
            path=found.path,
            expected="a directory in it with a file _METADATA",
            found=f"{_list(tuple(found.items))} without one" if found.items else "no directory",
            hint="The checkpoint is not complete: load an earlier one, or restore it from a copy.",
        )
    near = difflib.get_close_matches(wanted, trees, n=1) if wanted else []
    guess = f"Did you mean {near[0]!r}? " if near else ""
    return InvalidLayoutError(
        f"The checkpoint has {what}",
        path=found.path,
        found=_list(tuple(trees)),
        hint=f'{guess}Pass one of these as checkpointable_name, or "AUTO" for the first.',
    )


def _class(found: Found, item: str) -> str:
    return found.recorded[item].rpartition(".")[2]


def _list(names: tuple[str, ...]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
