"""Leases: which directories are in use, and the removing of those that are not.

A lease is an ``flock`` on the directory itself. The kernel drops it when the process dies, however
it dies, so a directory that carries our name and no lock was abandoned.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import threading
from typing import NoReturn

from sealwax.layouts.detect import has_marker, is_growing
from sealwax.layouts.orbax import COMMIT, TEMPORARY
from sealwax.runtime import files

_IN_USE = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY})


class Leases:
    """The directories that one operation has in use, or made on its way."""

    def __init__(self) -> None:
        self._held: list[int] = []
        self._made: dict[str, os.stat_result] = {}
        self._lock = threading.Lock()

    def make(self, path: str, mode: int | None) -> None:
        """Makes a directory and holds a lease on it until ``close``."""
        while True:
            files.make_directory(path, mode, parents=False)
            # Between mkdir and flock someone who cleans up may take it for abandoned.
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if _still_there(path, descriptor):
                    break
                os.close(descriptor)
        with self._lock:
            self._held.append(descriptor)

    def make_above(self, path: str, mode: int | None) -> None:
        """Makes a directory and those above it, and remembers it if it was not there."""
        try:
            os.mkdir(path)
        except (FileExistsError, FileNotFoundError):
            files.make_directory(path, mode, parents=True)
            return
        with self._lock:
            self._made[path] = os.lstat(path)
        if mode is not None:
            os.chmod(path, mode)

    def unmake(self, path: str) -> None:
        """Removes a directory that ``make_above`` made, if nobody has put anything into it."""
        with self._lock:
            made = self._made.pop(path, None)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if made is not None and os.path.samestat(made, os.lstat(path)):
                try:
                    os.rmdir(path)
                except OSError as error:
                    if error.errno not in _IN_USE:
                        raise

    def retract(self, path: str, aside: str, own: bool) -> None:
        """Takes an unfinished checkpoint of ours away from its place.

        Raises:
          FileExistsError: Somebody is at it, or it was finished meanwhile.
        """
        with self._lock:
            mine = any(_still_there(path, held) for held in self._held)
        if mine:
            return files.rename(path, aside)
        if own or not os.path.lexists(path):
            return None
        descriptor = _lease(path)
        if descriptor is None:
            raise _taken(path)
        try:
            if not _still_there(path, descriptor) or not is_growing(os.listdir(descriptor)):
                raise _taken(path)
            files.rename(path, aside)
        finally:
            os.close(descriptor)

    def hold(self, path: str, keep: bool) -> bool | None:
        """Leases a directory that is there, or only tells whether it could.

        Returns:
          Whether it is there; ``None`` while somebody else has it.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        there = _still_there(path, descriptor)
        if there and keep:
            with self._lock:
                self._held.append(descriptor)
        else:
            os.close(descriptor)
        # Another one may have been made in its place.
        return True if there else None

    def exchange(self, first: str, second: str) -> None:
        """Exchanges two directories as ``exchange`` does, and leases what comes to ``first``.

        Otherwise someone who cleans up could take that for abandoned before it was looked at: it
        need not be what was there when the save began.
        """
        descriptor = _lease(second)
        if descriptor is None and os.path.isdir(second) and COMMIT not in os.listdir(second):
            raise _taken(second)
        try:
            files.exchange(first, second)
        except BaseException:
            if descriptor is not None:
                os.close(descriptor)
            raise
        if descriptor is not None and not _still_there(first, descriptor):
            # Something else was put there since.
            os.close(descriptor)
            descriptor = _lease(first)
        if descriptor is not None:
            with self._lock:
                self._held.append(descriptor)

    def remove_replaced(self, path: str) -> None:
        """Removes what a seal took the place of; see ``remove_replaced``."""
        with self._lock:
            mine = [held for held in self._held if _still_there(path, held)]
        if mine:
            _remove_replaced(path, mine[0])
        else:
            remove_replaced(path)

    def close(self) -> None:
        """Gives up all leases."""
        with self._lock:
            held, self._held = self._held, []
        for descriptor in held:
            # Unlocked by name, since a forked child may hold the descriptor open.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def remove_replaced(path: str) -> None:
    """Removes what a seal took the place of, if it is a checkpoint or an empty directory.

    Raises:
      OSError: ``ENOTEMPTY`` for anything else, which somebody put there while the save was under
        way; it is kept, under a name that no later save cleans up.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        _keep(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Meanwhile someone who cleans up may have removed it.
        if _still_there(path, descriptor):
            _remove_replaced(path, descriptor)
    except BlockingIOError:
        # Only ours are ever leased: its own save still is at it, or someone is cleaning it up and
        # may have taken the markers first.
        files.remove_tree(path)
    finally:
        os.close(descriptor)


def _remove_replaced(path: str, descriptor: int) -> None:
    found = os.listdir(descriptor)
    if found and not has_marker(found):
        _keep(path)
    _remove_held(path, descriptor)


def _taken(path: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "another save is writing there", path)


def _lease(path: str) -> int | None:
    """Leases the directory at ``path``; ``None`` where there is none, or somebody else has it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _keep(path: str) -> NoReturn:
    kept = path.replace(TEMPORARY, ".kept")
    files.rename(path, kept)
    raise OSError(
        errno.ENOTEMPTY,
        "what was put at the path while the save was under way is not a checkpoint, and is kept "
        f"as {kept!r}; the checkpoint is complete",
        path,
    )


def remove_abandoned(path: str) -> bool:
    """Removes a directory that nobody has a lease on; tells whether it did."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Meanwhile someone else may have removed it, and its owner made and leased a new one.
        if not _still_there(path, descriptor):
            return False
        _remove_held(path, descriptor)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _remove_held(path: str, descriptor: int) -> None:
    """Removes the very directory that is open; its owner may make another one at once."""
    while _still_there(path, descriptor):
        # Where two clean up, each may find that what it was about to remove is gone.
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)


def _still_there(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
