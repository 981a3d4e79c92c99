"""What effects are like: which may be performed again, and how many bytes each moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, assert_never

import sealwax.effects as v


class Traffic(NamedTuple):
    """Bytes that an effect reads from storage and writes to it, before compression."""

    read: int = 0
    written: int = 0


def repeatable(effect: v.Effect) -> bool:
    """Whether an effect may be performed again after it failed; see ``obstacle``.

    >>> from sealwax.effects import ListDirectory, Rename
    >>> repeatable(ListDirectory(path="/p")), repeatable(Rename(source="/p", target="/q"))
    (True, False)
    """
    return obstacle(effect) is None


def obstacle(effect: v.Effect) -> str | None:
    """Why a failed effect must not be performed again, or ``None`` when it may be.

    What only looks, reads or fills memory comes to the same however often it is tried. Of what
    acts on files, only that may be repeated which is content to find its work done.
    """
    match effect:
        case v.MakeDirectory(parents=parents):
            return None if parents else "it must find nothing there, and the first try may have"
        case v.DigestTree(sync=sync):
            return _SYNCED if sync else None
        case v.WriteFile() | v.WriteFiles() | v.WriteBatch() | v.WriteChunks():
            return _SYNCED
        case v.LinkFiles() | v.MergeDatabases():
            return _SYNCED
        case v.Hold() | v.Derive():
            return None
        case v.SyncDirectory() | v.SyncTree():
            return _SYNCED
        case v.Rename() | v.Exchange() | v.Replace() | v.Retract():
            return "it may have happened, and then a second one undoes it or finds nothing"
        case v.RemoveFile() | v.RemoveDirectory():
            return None
        case v.RemoveTree(replaced=replaced):
            return "what is there now may be something else" if replaced else None
        case v.Call() | v.BeginSave() | v.FinishSave() | v.RunLoad() | v.RunMetadata():
            return "only the function that was called knows what it has done"
        case _:
            return _obstacle_to_looking(effect)


_SYNCED = "after a failed write or sync nobody knows what is on the disk, and another sync may lie"


def _obstacle_to_looking(effect: v.Observation | v.DataEffect) -> str | None:
    match effect:
        case (
            v.Look()
            | v.ListDirectory()
            | v.ListTree()
            | v.ReadFile()
            | v.ReadMatching()
            | v.Now()
            | v.Token()
            | v.ReadEntries()
        ):
            return None
        case v.Stage() | v.Probe() | v.Allocate() | v.Place():
            return None
        case v.ReadBatch() | v.ReadRegions() | v.CheckExtents() | v.CheckArrays():
            return None
        case v.WriteBatch() | v.WriteChunks():
            return _SYNCED
        case _:
            assert_never(effect)


def traffic(effect: v.Effect) -> Traffic:
    """How many bytes an effect moves between host and storage, as far as it tells beforehand.

    What reads metadata tells only by its answer, and counts as nothing here.
    """
    match effect:
        case v.WriteFile(content=bytes() as content):
            return Traffic(written=len(content))
        case v.WriteFiles(contents=Mapping() as contents):
            return Traffic(written=sum(map(len, contents.values())))
        case v.WriteBatch(nbytes=nbytes) | v.WriteChunks(nbytes=nbytes):
            return Traffic(written=nbytes)
        case (
            v.ReadBatch(nbytes=nbytes)
            | v.ReadRegions(nbytes=nbytes)
            | v.CheckExtents(nbytes=nbytes)
            | v.CheckArrays(nbytes=nbytes)
        ):
            return Traffic(read=nbytes)
        case _:
            return Traffic()
