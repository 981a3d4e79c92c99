"""Open ``with`` blocks: a stack per thread and task, whose blocks may be left in any order.

The stack is an immutable tuple in a ``ContextVar``, so whoever copies the context inherits it and
then goes on alone. ``context.py`` says what a block means; this module keeps the stack right when
blocks are left out of order, or elsewhere than they were opened.
"""

from __future__ import annotations

import contextvars
import dataclasses
import inspect
from typing import final

from sealwax.options import Options


@final
class Entry:
    """One opened block, told from all others by identity.

    Attributes:
      owner: The blocks of the handle that it belongs to.
      frame: Identity of the frame that opened it: a ``with`` statement leaves in the same one.
      left: It was left elsewhere, and the place where it was opened has not noticed yet.
    """

    __slots__ = ("_token", "frame", "left", "owner")

    def __init__(self, owner: OpenBlocks, frame: int) -> None:
        self.owner = owner
        self.frame = frame
        self.left = False
        self._token: contextvars.Token[tuple[Block, ...]] | None = None

    def push(self, snapshot: Options) -> None:
        """Puts the block on top of the stack."""
        block = Block(entry=self, snapshot=snapshot)
        self._token = _STACK.set((*stack(), block))

    def opened_here(self) -> bool:
        """Whether this is where the block was opened. The stack must be set after asking."""
        if self._token is None:
            return False
        try:
            # Only the context that set a variable can reset it; nothing else tells contexts apart.
            _STACK.reset(self._token)
        except (ValueError, RuntimeError):
            return False
        self._token = None
        return True


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """An opened block, and the snapshot that its handle is bound to in it."""

    entry: Entry
    snapshot: Options


_STACK: contextvars.ContextVar[tuple[Block, ...]] = contextvars.ContextVar(
    "sealwax_blocks", default=()
)


def stack() -> tuple[Block, ...]:
    """The blocks open in this thread and task, outermost first."""
    blocks = _STACK.get()
    if not any(block.entry.left for block in blocks):
        return blocks
    kept = tuple(b for b in blocks if not (b.entry.left and b.entry.opened_here()))
    if len(kept) < len(blocks):
        _STACK.set(kept)
    return kept


def calling_frame() -> int:
    """Identity of the frame that called the caller of this function."""
    frame = inspect.currentframe()
    for _ in range(2):
        frame = None if frame is None else frame.f_back
    return id(frame)


@final
class OpenBlocks:
    """The open blocks of one handle, in every thread and task."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        # Changed by single dictionary operations only: a collector may leave a block at any point.
        self._entries: dict[Entry, None] = {}

    def bound(self) -> Options | None:
        """The snapshot that the handle is bound to here, or ``None``."""
        for block in reversed(stack()):
            if block.entry.owner is self:
                return block.snapshot
        return None

    def rebind(self, snapshot: Options) -> None:
        """Moves every block of the handle here to ``snapshot``."""
        moved = (
            dataclasses.replace(block, snapshot=snapshot) if block.entry.owner is self else block
            for block in stack()
        )
        _STACK.set(tuple(moved))

    def enter(self, snapshot: Options, frame: int) -> Entry:
        """Opens a block here."""
        entry = Entry(self, frame)
        self._entries[entry] = None
        entry.push(snapshot)
        return entry

    def leave(self, entry: Entry) -> None:
        """Takes a block away, here and where it was opened."""
        self._entries.pop(entry, None)
        kept = tuple(block for block in stack() if block.entry is not entry)
        entry.left = not entry.opened_here()
        _STACK.set(kept)

    def to_leave(self, frame: int) -> Entry | None:
        """The block that is being left by ``frame``: its own, the innermost here, or the latest."""
        entries = list(self._entries)
        own = [entry for entry in entries if entry.frame == frame]
        here = [b.entry for b in stack() if b.entry.owner is self and b.entry in self._entries]
        return (own or here or entries or [None])[-1]
