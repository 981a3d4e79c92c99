"""Files and directories in memory, each with what of it is on stable storage.

A file is certain up to where it was last synced. A directory has its entries as programs see
them, those that are certain, and the changes between: each sets one or more entries at once, and
is certain when every directory in which it sets one was synced. Until then any of the changes may
have reached the disk and any not, except that of two to one entry the later brings the earlier.
"""

from __future__ import annotations

from typing import TypeAlias

from sealwax.effect_handlers.crashes import Contents, Disk, Pending, Tree


class File:
    """The bytes of a file, of which the first ``synced`` are certain."""

    __slots__ = ("_frozen", "content", "synced")

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.synced = len(content)
        self._frozen = content

    def frozen(self) -> bytes:
        """The content, as a value."""
        if len(self._frozen) != len(self.content):
            self._frozen = bytes(self.content)
        return self._frozen


class Directory:
    """Entries as they are seen, as they are certain, and the changes between."""

    __slots__ = ("certain", "entries", "latest", "lease", "maker", "mode", "pending")

    def __init__(self, mode: int | None = None) -> None:
        self.entries: dict[str, Node] = {}
        self.certain: dict[str, Node] = {}
        self.pending: dict[Change, None] = {}
        self.latest: dict[str, Change] = {}
        self.mode = mode
        self.lease: object = None
        self.maker: object = None


Node: TypeAlias = File | Directory
Slot: TypeAlias = tuple[Directory, str, Node | None]
"""One entry, and what it is to name."""


class Change:
    """Entries that are set together, which may or may not have reached the disk."""

    __slots__ = ("after", "awaited", "number", "slots")

    def __init__(self, number: int, slots: tuple[Slot, ...]) -> None:
        self.number = number
        self.slots = slots
        self.awaited = {directory for directory, _, _ in slots}
        self.after = tuple(
            directory.latest[name] for directory, name, _ in slots if name in directory.latest
        )
        for directory, name, node in slots:
            directory.pending[self] = None
            directory.latest[name] = self
            _set(directory.entries, name, node)

    def settle(self) -> None:
        """Makes this change certain, and those that it builds on."""
        below: dict[Change, None] = {self: None}
        waiting: list[Change] = [self]
        while waiting:
            earlier = waiting.pop().after
            waiting += [change for change in earlier if change not in below]
            below |= dict.fromkeys(earlier)
        for change in sorted(below, key=lambda change: change.number):
            change._settle()

    def _settle(self) -> None:
        for directory, name, node in self.slots:
            directory.pending.pop(self, None)
            if directory.latest.get(name) is self:
                del directory.latest[name]
            _set(directory.certain, name, node)
        # What is settled must not keep alive what it once named.
        self.slots, self.after = (), ()


def _set(entries: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        entries.pop(name, None)
    else:
        entries[name] = node


def sync(directory: Directory) -> None:
    """Brings the entries of a directory to stable storage, as ``fsync`` does."""
    for change in list(directory.pending):
        change.awaited.discard(directory)
        if not change.awaited:
            change.settle()


def sync_all(root: Directory) -> None:
    """Brings everything to stable storage, as ``sync`` does."""
    for node in _reachable(root):
        if isinstance(node, File):
            node.synced = len(node.content)
        else:
            for change in list(node.pending):
                change.settle()


def freeze(root: Directory) -> Disk:
    """What a loss of power at this instant may leave, as a value."""
    nodes = _reachable(root)
    files: dict[int, Contents] = {}
    directories: dict[int, dict[str, int]] = {}
    changes: dict[Change, None] = {}
    for node, number in nodes.items():
        if isinstance(node, File):
            files[number] = Contents(node.frozen(), node.synced)
        else:
            directories[number] = {name: nodes[below] for name, below in node.certain.items()}
            changes |= node.pending
    ordered = sorted(changes, key=lambda change: change.number)
    position = {change: place for place, change in enumerate(ordered)}
    return Disk(
        root=nodes[root],
        files=files,
        directories=directories,
        changes=tuple(
            Pending(
                tuple((nodes[d], n, None if x is None else nodes[x]) for d, n, x in change.slots),
                tuple(position[earlier] for earlier in change.after if earlier in position),
            )
            for change in ordered
        ),
    )


def _reachable(root: Directory) -> dict[Node, int]:
    """Everything that is there, or that a loss of power may bring back, with a number each."""
    found: dict[Node, int] = {root: 0}
    waiting: list[Node] = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, File):
            continue
        named = [*node.entries.values(), *node.certain.values()]
        for change in node.pending:
            named += [x for d, _, below in change.slots for x in (d, below) if x is not None]
        for below in named:
            if below not in found:
                found[below] = len(found)
                waiting.append(below)
    return found


def planted(tree: Tree) -> Directory:
    """A directory that holds a tree, all of it certain."""
    made = Directory()
    for name, below in tree.items():
        made.certain[name] = File(below) if isinstance(below, bytes) else planted(below)
    made.entries = dict(made.certain)
    return made


def tree_of(directory: Directory) -> Tree:
    """What a directory holds, as programs see it."""
    return {
        name: node.frozen() if isinstance(node, File) else tree_of(node)
        for name, node in sorted(directory.entries.items())
    }
