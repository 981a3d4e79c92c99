"""File effects on the local file system.

Every function here blocks; the live handler runs them in worker threads. Files and directories
are brought to stable storage with ``fsync`` (``F_FULLFSYNC`` where the system has it), and a
failed ``fsync`` is final: the error is raised and nothing is tried again.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import shutil
import stat
import sys
from collections.abc import Generator, Iterable

from sealwax.effects import Entry

_MOST_OPEN = 64
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_RENAME_SWAP_DARWIN = 2
_RENAME_EXCL_DARWIN = 4
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


def look(path: str) -> Entry | None:
    """What ``path`` names, without following a symbolic link."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(mode):
        return Entry.SYMLINK
    if stat.S_ISDIR(mode):
        return Entry.DIRECTORY
    return Entry.FILE if stat.S_ISREG(mode) else Entry.OTHER


def list_directory(path: str) -> tuple[str, ...]:
    """The names in a directory, sorted."""
    return tuple(sorted(os.listdir(path)))


def read_file(path: str) -> bytes | None:
    """The bytes of a file, or ``None`` when there is none."""
    try:
        with open(path, "rb", opener=lambda name, _: open_regular(name)) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def open_regular(path: str) -> int:
    """Opens a file for reading, and returns its descriptor.

    Raises:
      OSError: It is none. A pipe, above all, would be waited at for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "this is not a regular file", path)


@contextlib.contextmanager
def naming(path: str) -> Generator[None]:
    """Lets an error say which file it is of; the system names one only that it cannot open."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or path
        raise


def sync(descriptor: int) -> None:
    """Brings what was written to stable storage."""
    if _FULL_SYNC is not None:
        fcntl.fcntl(descriptor, _FULL_SYNC)
    else:
        os.fsync(descriptor)


def start_sync(descriptor: int) -> None:
    """Lets what was written go to stable storage, where the system can be told so.

    Linux begins to write back what it is told that nobody will need.
    """
    if sys.platform == "linux":
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def create(path: str) -> int:
    """Opens a file that must not exist for writing, and returns its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def most_open() -> int:
    """How many files one effect may have open.

    Those that are performed side by side leave most of what the process may have to others.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_OPEN if limit == resource.RLIM_INFINITY else min(_MOST_OPEN, limit // 16 + 1)


def sync_directory(path: str) -> None:
    """Brings the entries of a directory to stable storage."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with naming(path):
            sync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: str, directories: Iterable[str] = ()) -> None:
    """Brings the entries of a directory, and of all below it, to stable storage, last first.

    Raises:
      FileNotFoundError: One of ``directories`` is not among them.
    """
    gone = set(directories)
    for directory, _, _ in os.walk(path, topdown=False, onerror=_raise):
        sync_directory(directory)
        gone.discard(directory)
    if gone:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), min(gone))


def _raise(error: OSError) -> None:
    raise error


def make_directory(path: str, mode: int | None, parents: bool) -> None:
    """Makes a directory; with ``parents`` also those above it, and then an existing one is fine."""
    if parents:
        os.makedirs(path, exist_ok=True)
    else:
        os.mkdir(path)
    if mode is not None:
        os.chmod(path, mode)


def remove_tree(path: str) -> None:
    """Removes a directory and everything below it; one that is gone already is fine."""
    while True:
        # Where two clean up at once, each may find that what it was about to remove is gone.
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
        if not os.path.lexists(path):
            return


def rename(source: str, target: str) -> None:
    """Renames a directory or file onto a name that is free.

    Raises:
      FileExistsError: Something is at ``target``.
    """
    if _rename_with(source, target, _RENAME_NOREPLACE, _RENAME_EXCL_DARWIN):
        return
    if not os.path.isdir(source):
        os.link(source, target, follow_symlinks=False)
        os.unlink(source)
        return
    # A file system without the flag: a directory can still only replace an empty directory, so
    # the worst that a race can do here is to put the checkpoint where an empty one was made.
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    os.rename(source, target)


def replace(source: str, target: str) -> None:
    """Lets one file take the place of another in one step."""
    os.replace(source, target)


def remove_file(path: str) -> None:
    """Removes a file; one that is gone already is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def exchange(first: str, second: str) -> None:
    """Lets two directories change places in one step; to a free name ``first`` is renamed.

    Raises:
      OSError: ``ENOTSUP`` where the file system cannot do it: there is then no way to overwrite
        a directory without a moment in which neither version is there.
    """
    while not os.path.lexists(second):
        # Somebody else may be quicker; then there is something to change places with.
        with contextlib.suppress(FileExistsError):
            return rename(first, second)
    if not _rename_with(first, second, _RENAME_EXCHANGE, _RENAME_SWAP_DARWIN):
        raise OSError(
            errno.ENOTSUP, "this file system cannot exchange two directories in one step", second
        )


def _rename_with(source: str, target: str, linux: int, darwin: int) -> bool:
    """Renames with a flag; ``False`` when the system or file system does not know the flag."""
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(source), os.fsencode(target)
    if sys.platform == "darwin":
        status = library.renamex_np(*names, darwin)
    elif hasattr(library, "renameat2"):
        status = library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], linux)
    else:
        return False
    if status == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), source, None, target)
