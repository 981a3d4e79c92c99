"""Paths in a file system in memory, and the errors that a kernel has for them."""

from __future__ import annotations

import errno
import os
import posixpath
from typing import NoReturn, TypeAlias

from sealwax.effect_handlers.pagecache import Directory, File, Node

_LONGEST_NAME = 255
Place: TypeAlias = tuple[Directory, str]
"""A directory, and a name in it."""


def fail(number: int, path: str, target: str | None = None) -> NoReturn:
    """Raises what the kernel would."""
    raise OSError(number, os.strerror(number), path, None, target)


class Paths:
    """What the paths below a root name."""

    def __init__(self, root: Directory) -> None:
        self.root = root

    def find(self, path: str) -> Node:
        """What a path names."""
        return self._find(parts_of(path), path)

    def _find(self, parts: list[str], path: str) -> Node:
        node: Node = self.root
        for name in parts:
            if isinstance(node, File):
                fail(errno.ENOTDIR, path)
            below = entry(node, name, path)
            if below is None:
                fail(errno.ENOENT, path)
            node = below
        return node

    def find_or_none(self, path: str) -> Node | None:
        """What a path names, or ``None`` for nothing."""
        try:
            return self.find(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def directory(self, path: str) -> Directory:
        """The directory that a path names."""
        return self._directory(parts_of(path), path)

    def _directory(self, parts: list[str], path: str) -> Directory:
        node = self._find(parts, path)
        if isinstance(node, File):
            fail(errno.ENOTDIR, path)
        return node

    def slot(self, path: str) -> Place:
        """The directory above a path, and the name in it."""
        *above, name = parts_of(path) or fail(errno.EBUSY, path)
        return self._directory(above, path), name

    def free(self, path: str) -> Place:
        """The directory above a path, and the name in it, which must not be taken."""
        if not parts_of(path):
            fail(errno.EEXIST, path)
        directory, name = self.slot(path)
        if entry(directory, name, path) is not None:
            fail(errno.EEXIST, path)
        return directory, name

    def pair(self, source: str, target: str) -> tuple[Place, Place, Node, Node | None]:
        """Two places, what is at the first, and what, if anything, is at the second."""
        old, new = self.slot(source), self.slot(target)
        node = entry(*old, source)
        if node is None:
            fail(errno.ENOENT, source, target)
        return old, new, node, entry(*new, target)


def entry(directory: Directory, name: str, path: str) -> Node | None:
    """What a name in a directory stands for."""
    if len(os.fsencode(name)) > _LONGEST_NAME:
        fail(errno.ENAMETOOLONG, path)
    return directory.entries.get(name)


def parts_of(path: str) -> list[str]:
    """The names that a path consists of."""
    return [part for part in posixpath.normpath(path).split("/") if part not in ("", ".")]


def holds(node: Node, directory: Directory) -> bool:
    """Whether ``directory`` is ``node`` or somewhere below it."""
    return node is directory or (
        isinstance(node, Directory)
        and any(holds(below, directory) for below in node.entries.values())
    )
