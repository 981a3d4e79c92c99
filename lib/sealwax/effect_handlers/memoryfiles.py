"""A file system in memory: paths, entries and errors as the kernel has them, and leases.

Every function does in one step what ``sealwax.runtime.files`` does in several, and answers and
fails as that does.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Generator, Iterable

from sealwax.effect_handlers import pagecache
from sealwax.effect_handlers.crashes import Tree
from sealwax.effect_handlers.memorypaths import Paths, fail, holds, parts_of
from sealwax.effect_handlers.pagecache import Change, Directory, File, Node, Slot
from sealwax.effects import Entry, LinkFiles
from sealwax.layouts.detect import has_marker, is_growing
from sealwax.layouts.orbax import COMMIT, TEMPORARY

_WRITE_BACK_AFTER = 1 << 30


class MemoryFiles:
    """Files and directories below a root. Every method may be called from any thread.

    ``watch`` is called after every single change, while nothing else can change.
    """

    def __init__(self, tree: Tree, watch: Callable[[], None] | None) -> None:
        self._root = pagecache.planted(tree)
        self._paths = Paths(self._root)
        self._watch = watch
        self._lock = threading.RLock()
        self._changes = 0
        self._written = 0

    @contextlib.contextmanager
    def still(self) -> Generator[Directory]:
        """The uppermost directory, which does not change meanwhile."""
        with self._lock:
            yield self._root

    # What only looks.

    def look(self, path: str) -> Entry | None:
        """What ``path`` names."""
        with self._lock:
            node = self._paths.find_or_none(path)
        if node is None:
            return None
        return Entry.FILE if isinstance(node, File) else Entry.DIRECTORY

    def list_directory(self, path: str) -> tuple[str, ...]:
        """The names in a directory, sorted."""
        with self._lock:
            return tuple(sorted(self._paths.directory(path).entries))

    def read_file(self, path: str) -> bytes | None:
        """The bytes of a file, or ``None`` when there is none."""
        with self._lock:
            node = self._paths.find_or_none(path)
            if isinstance(node, Directory):
                fail(errno.EISDIR, path)
            return None if node is None else node.frozen()

    def tree(self, path: str) -> Tree:
        """All that is in a directory."""
        with self._lock:
            return pagecache.tree_of(self._paths.directory(path))

    # Files.

    def open(self, path: str) -> MemoryFile:
        """Opens a file for reading."""
        with self._lock:
            node = self._paths.find(path)
        if isinstance(node, Directory):
            fail(errno.EISDIR, path)
        return MemoryFile(self, node)

    def create(self, path: str) -> MemoryFile:
        """Makes a file, which must not exist."""
        with self._changing():
            file = File()
            self._change((*self._paths.free(path), file))
        return MemoryFile(self, file)

    def append(self, file: File, parts: list[memoryview]) -> int:
        """Adds to a file."""
        with self._changing():
            before = len(file.content)
            for part in parts:
                file.content += part
            size = len(file.content) - before
            self._written += size
            if self._written > _WRITE_BACK_AFTER:
                # Sooner or later a kernel writes everything back. Without it, what was removed
                # would stay in memory for as long as nobody syncs the directory that it was in.
                self.sync()
        return size

    def fill(self, file: File, parts: list[memoryview], offset: int) -> int:
        """Reads from a file."""
        with self._lock, memoryview(file.content) as content:
            start = offset
            for part in parts:
                with content[start : start + part.nbytes] as piece:
                    part[: piece.nbytes] = piece
                    start += piece.nbytes
        return start - offset

    def sync_file(self, file: File) -> None:
        """Brings a file's bytes to stable storage, and not its name."""
        with self._changing():
            file.synced = len(file.content)

    def link_files(self, effect: LinkFiles) -> None:
        """Gives files second names."""
        for old, new in effect.links:
            target = f"{effect.target}/{new}"
            self.make_directories(target.rpartition("/")[0])
            with self._changing():
                node = self._paths.find(f"{effect.source}/{old}")
                self._change((*self._paths.free(target), node))
            if effect.sync and isinstance(node, File):
                self.sync_file(node)

    # Directories.

    def make_directory(self, path: str, mode: int | None = None, lease: object = None) -> None:
        """Makes a directory, which ``lease`` has in use."""
        with self._changing():
            made = Directory(mode)
            made.lease = lease
            self._change((*self._paths.free(path), made))

    def ensure_directory(self, path: str) -> None:
        """Makes a directory, unless it is there."""
        with self._lock:
            if self._paths.find_or_none(path) is None:
                self.make_directory(path, None)

    def make_directories(self, path: str, mode: int | None = None, maker: object = None) -> None:
        """Makes a directory and those above it, where they are missing, and notes for whom."""
        with self._lock:
            node: Node = self._root
            parts = parts_of(path)
            for depth, name in enumerate(parts):
                if isinstance(node, File):
                    fail(errno.ENOTDIR, path)
                if name not in node.entries:
                    self.make_directory("/" + "/".join(parts[: depth + 1]))
                    self._paths.directory("/" + "/".join(parts[: depth + 1])).maker = maker
                node = node.entries[name]
            if isinstance(node, File):
                fail(errno.EEXIST, path)
            node.mode = node.mode if mode is None else mode

    def sync_directory(self, path: str) -> None:
        """Brings the entries of a directory to stable storage."""
        with self._changing():
            pagecache.sync(self._paths.directory(path))

    def sync_tree(self, path: str, directories: Iterable[str] = ()) -> None:
        """Brings the entries of a directory, and of all below it, to stable storage, last first."""
        with self._lock:
            for name, node in self._paths.directory(path).entries.items():
                if isinstance(node, Directory):
                    self.sync_tree(f"{path}/{name}")
            self.sync_directory(path)
            for gone in sorted(directories):
                _ = self.look(gone) is Entry.DIRECTORY or fail(errno.ENOENT, gone)

    def sync_files(self, path: str) -> None:
        """Brings the bytes of all files below a directory to stable storage."""
        with self._lock:
            for name, node in self._paths.directory(path).entries.items():
                if isinstance(node, Directory):
                    self.sync_files(f"{path}/{name}")
                else:
                    self.sync_file(node)

    def sync(self) -> None:
        """Brings everything to stable storage."""
        with self._lock:
            pagecache.sync_all(self._root)
            self._written = 0

    # Moving and removing.

    def rename(self, source: str, target: str) -> None:
        """Renames onto a name that is free."""
        with self._changing():
            old, new, node, there = self._paths.pair(source, target)
            if there is not None:
                fail(errno.EEXIST, source, target)
            if holds(node, new[0]):
                fail(errno.EINVAL, source, target)
            self._change((*old, None), (*new, node))

    def exchange(self, first: str, second: str, lease: object = None) -> None:
        """Lets two entries change places; to a free name ``first`` is renamed."""
        with self._changing():
            one, two, node, other = self._paths.pair(first, second)
            if other is None:
                return self.rename(first, second)
            if node is other:
                return
            if isinstance(other, Directory) and other.lease not in (None, lease):
                _ = COMMIT in other.entries or fail(errno.EEXIST, second)
            if holds(node, two[0]) or holds(other, one[0]):
                fail(errno.ENOTSUP, second)
            self._change((*one, other), (*two, node))

    def replace(self, source: str, target: str) -> None:
        """Renames a file onto a name, which another file may have."""
        with self._changing():
            old, new, node, there = self._paths.pair(source, target)
            if node is there:
                return
            if holds(node, new[0]):
                fail(errno.EINVAL, source, target)
            if there is not None and holds(there, old[0]):
                fail(errno.ENOTEMPTY, source, target)
            if isinstance(there, Directory) and isinstance(node, File):
                fail(errno.EISDIR, source, target)
            if isinstance(there, File) and isinstance(node, Directory):
                fail(errno.ENOTDIR, source, target)
            if isinstance(there, Directory) and there.entries:
                fail(errno.ENOTEMPTY, source, target)
            self._change((*old, None), (*new, node))

    def remove_file(self, path: str) -> None:
        """Removes a file; one that is gone already is fine."""
        with self._changing(), contextlib.suppress(FileNotFoundError):
            if isinstance(self._paths.find(path), Directory):
                fail(errno.EISDIR, path)
            self._change((*self._paths.slot(path), None))

    def remove_tree(self, path: str) -> None:
        """Removes a directory and everything below it; one that is gone already is fine."""
        with self._lock:
            try:
                node = self._paths.find(path)
            except FileNotFoundError:
                return
            if isinstance(node, File):
                fail(errno.ENOTDIR, path)
            self._remove(node, *self._paths.slot(path))

    def _remove(self, node: Node, above: Directory, name: str) -> None:
        if isinstance(node, Directory):
            for below in list(node.entries):
                self._remove(node.entries[below], node, below)
        with self._changing():
            self._change((above, name, None))

    def remove_abandoned(self, path: str) -> bool:
        """Removes a directory that nobody has a lease on; tells whether it did."""
        with self._lock:
            node = self._paths.find_or_none(path)
            if not isinstance(node, Directory) or node.lease is not None:
                return False
            self.remove_tree(path)
            return True

    def unmake(self, path: str, maker: object) -> None:
        """Removes a directory that was made for this maker, if it is empty."""
        with self._lock:
            node = self._paths.find_or_none(path)
            if isinstance(node, Directory) and node.maker is maker and not node.entries:
                self.remove_tree(path)

    def retract(self, path: str, aside: str, lease: object, own: bool) -> None:
        """Takes an unfinished checkpoint away from its place."""
        with self._lock:
            node = self._paths.find_or_none(path)
            if isinstance(node, Directory) and node.lease is lease:
                return self.rename(path, aside)
            if own or node is None:
                return None
            if isinstance(node, Directory) and is_growing(node.entries) and node.lease is None:
                return self.rename(path, aside)
            fail(errno.EEXIST, path)

    def remove_replaced(self, path: str) -> None:
        """Removes what a seal took the place of, if it is a checkpoint or an empty directory."""
        with self._lock:
            try:
                node = self._paths.find(path)
            except FileNotFoundError:
                return
            ours = isinstance(node, Directory) and (
                node.lease is not None or not node.entries or has_marker(node.entries)
            )
            if ours:
                return self.remove_tree(path)
            kept = path.replace(TEMPORARY, ".kept")
            self.rename(path, kept)
            raise OSError(errno.ENOTEMPTY, f"not a checkpoint, and kept as {kept!r}", path)

    def hold(self, path: str, lease: object, keep: bool) -> bool | None:
        """Leases a directory that is there; ``None`` while somebody else has it."""
        with self._lock:
            node = self._paths.find_or_none(path)
            if not isinstance(node, Directory):
                return False
            if node.lease is not None and node.lease is not lease:
                return None
            node.lease = lease if keep else node.lease
            return True

    def release(self, lease: object) -> None:
        """Gives up what ``lease`` has in use."""
        with self._lock:
            waiting = [self._root]
            while waiting:
                directory = waiting.pop()
                directory.lease = None if directory.lease is lease else directory.lease
                directory.maker = None if directory.maker is lease else directory.maker
                waiting += [x for x in directory.entries.values() if isinstance(x, Directory)]

    def _change(self, *slots: Slot) -> None:
        self._changes += 1
        Change(self._changes, slots)

    @contextlib.contextmanager
    def _changing(self) -> Generator[None]:
        with self._lock:
            yield
            if self._watch is not None:
                self._watch()


class MemoryFile:
    """An open file."""

    __slots__ = ("_file", "_system")

    def __init__(self, system: MemoryFiles, file: File) -> None:
        self._system = system
        self._file = file

    def write(self, parts: list[memoryview]) -> int:
        """Appends buffers, and tells how many bytes that were."""
        return self._system.append(self._file, parts)

    def read(self, parts: list[memoryview], offset: int) -> int:
        """Fills buffers, as far as there are bytes, and tells how many that were."""
        return self._system.fill(self._file, parts, offset)

    def take(self, nbytes: int, offset: int) -> bytes:
        """At most so many bytes; none at the end."""
        data = bytearray(nbytes)
        return bytes(data[: self._system.fill(self._file, [memoryview(data)], offset)])

    def size(self) -> int:
        """How many bytes it has."""
        return len(self._file.content)

    def start_sync(self) -> None:
        """Nothing is on its way to where it is safe before `sync`."""

    def sync(self) -> None:
        """Brings what was written to stable storage."""
        self._system.sync_file(self._file)

    def close(self) -> None:
        """There is nothing to give back."""
