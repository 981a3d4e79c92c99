"""What a verification came to: a report of what was checked, and of all that is wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

from sealwax.effects import Fault
from sealwax.effects.wording import count, size
from sealwax.errors import CorruptionError, SealwaxError

_SHOWN = 20

_WORDS: dict[Fault, str] = {
    Fault.MISSING: "it is missing",
    Fault.NOT_A_FILE: "it is not a file",
    Fault.SIZE: "it has another size",
    Fault.CHANGED: "stored bytes changed",
    Fault.MIXED: "it belongs to another place or another checkpoint",
    Fault.UNREADABLE: "it cannot be read",
    Fault.INVALID: "it makes no sense",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a checkpoint.

    Attributes:
      fault: What kind of thing.
      file: The file, relative to the checkpoint; the item's directory where only that is known.
      item: Name of the item; ``None`` for files of the checkpoint itself and for flat ones.
      leaf: Name of the leaf whose data it is, or ``None``.
      chunk: Place of the chunk in the grid of the leaf's chunks, or ``None``. Of Orbax's arrays
        it is the place of the first chunk that may be meant.
      offset: Where it starts in the file, in bytes, or ``None``.
      length: How many bytes it has, or ``None``.
      expected: What was recorded.
      found: What is there.
    """

    fault: Fault
    file: str
    item: str | None = None
    leaf: str | None = None
    chunk: tuple[int, ...] | None = None
    offset: int | None = None
    length: int | None = None
    expected: str | None = None
    found: str | None = None

    @property
    def subject(self) -> str:
        """What it is that the fault was found in."""
        parts = [] if self.leaf is None else [f"leaf {self.leaf!r}"]
        parts += [] if self.chunk is None else [f"chunk {self.chunk}"]
        if self.offset is not None and self.length is not None:
            parts.append(f"bytes {self.offset} to {self.offset + self.length}")
        return ", ".join(parts)

    @property
    def text(self) -> str:
        """In what the fault was found, and what kind it is."""
        return f"{self.subject}: {_WORDS[self.fault]}" if self.subject else _WORDS[self.fault]

    def __str__(self) -> str:
        text = f"{self.file}: {self.text}"
        told = [] if self.expected is None else [f"expected {self.expected}"]
        told += [] if self.found is None else [f"found {self.found}"]
        return f"{text} ({', '.join(told)})" if told else text

    def error(self, path: object) -> CorruptionError:
        """The problem as an exception; ``path`` is the checkpoint's."""
        return CorruptionError(
            f"The checkpoint is damaged: {self.text}",
            leaf=self.leaf,
            path=f"{path}/{self.file}",
            expected=self.expected,
            found=self.found,
            hint="Load an earlier one, or restore this file from a copy.",
        )


def from_error(error: SealwaxError, path: str, item: str) -> Problem:
    """The problem that an error tells of; ``path`` is the checkpoint's."""
    where = error.path or ""
    file = where.removeprefix(path).lstrip("/") if where.startswith(path) else item
    return Problem(
        fault=Fault.INVALID,
        file=file or item,
        item=item or None,
        leaf=error.leaf,
        expected=error.expected,
        found=error.what if error.found is None else f"{error.what}: {error.found}",
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What ``verify`` found. It is true when nothing is wrong, and prints as a report.

    Attributes:
      path: The checkpoint, as the class that ``ctx.file.path_class`` names.
      writer: Who wrote it, such as ``"sealwax 0.1.0"``.
      leaves: Number of leaves whose data was read; scalars in a manifest are not among them.
      chunks: Number of chunks of arrays that have a checksum of their own; 0 for Orbax's.
      files: Number of files that were looked at.
      nbytes: Bytes that were held against a checksum.
      problems: All that is wrong.
      unprotected: Files and leaves without a checksum. They were read and understood, but a change
        that leaves them readable goes unnoticed.
      unprotected_nbytes: Bytes of those leaves, once they are decoded.
      unknown: Files that nobody recorded. No load reads them.
    """

    path: Any
    writer: str
    leaves: int = 0
    chunks: int = 0
    files: int = 0
    nbytes: int = 0
    problems: tuple[Problem, ...] = ()
    unprotected: tuple[str, ...] = ()
    unprotected_nbytes: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok

    def raise_for_damage(self) -> None:
        """Raises the first problem, with the others as notes, if there is any.

        Raises:
          CorruptionError: Something is wrong.
        """
        if self.ok:
            return
        error = self.problems[0].error(self.path)
        for problem in self.problems[1:_SHOWN]:
            error.add_note(f"Also: {problem}")
        if len(self.problems) > _SHOWN:
            error.add_note(f"And {len(self.problems) - _SHOWN} more.")
        raise error

    def __str__(self) -> str:
        state = "intact" if self.ok else f"damaged, {count(len(self.problems), 'problem')}"
        lines = [f"{self.path}: {state}"]
        lines += [f"  {line}" for line in _some(list(map(str, self.problems)))]
        chunks = f", {count(self.chunks, 'chunk')}" if self.chunks else ""
        lines.append(
            f"written by {self.writer}: {count(self.leaves, 'leaf')}{chunks} and "
            f"{count(self.files, 'file')} read, {size(self.nbytes)} held against checksums"
        )
        if self.unprotected:
            lines.append(
                f"without a checksum, so only read and decoded: {len(self.unprotected)} files and "
                f"leaves, {size(self.unprotected_nbytes)} of arrays"
            )
        if self.unknown:
            lines.append("not part of the checkpoint: " + ", ".join(_some(list(self.unknown))))
        return "\n".join(lines)


def _some(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"... and {more} more"] if more > 0 else lines
