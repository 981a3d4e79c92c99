"""What an operation was asked for, and what it found: the inputs of planning."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, cast

from returns.result import Failure, Result, Success

from sealwax.effects import Entry
from sealwax.errors import InvalidMetadataError, InvalidPathError, SealwaxError
from sealwax.layouts import manifest, orbax
from sealwax.options import Options
from sealwax.planning import names
from sealwax.planning.items import Item


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SaveRequest:
    """What is to be saved.

    Attributes:
      path: Absolute path of the checkpoint.
      items: The checkpointables, whose names differ.
      options: The settings, as they were when the save was called.
      overwrite: Whether a checkpoint at the path may be replaced.
      custom_metadata: The caller's own metadata, as plain data.
      background: Whether the caller goes on before the checkpoint is sealed.
      named: Whether the caller gave the items their names, so that failures must tell them.
      part: Whether it becomes one part of a checkpoint that others are added to.
      transfer_limit: The transfer budget that a regulator gave, in bytes, in place of the
        settings' own.
    """

    path: str
    items: tuple[Item, ...]
    options: Options
    overwrite: bool = False
    custom_metadata: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    background: bool = False
    named: bool = False
    part: bool = False
    transfer_limit: int | None = None

    def within(self, transfer_limit: int | None) -> SaveRequest:
        """This request, with a transfer budget that a regulator gave."""
        return dataclasses.replace(self, transfer_limit=transfer_limit)

    @property
    def durable(self) -> bool:
        """Whether every change is brought to stable storage."""
        return self.options.file.durability == "durable"

    def label(self, item: Item) -> str | None:
        """How failures call an item: not at all where it has no name of the caller's."""
        return item.name if self.named else None

    @property
    def budgeted(self) -> Options:
        """The settings with the transfer budget that is in force."""
        if self.transfer_limit is None:
            return self.options
        memory = dataclasses.replace(
            self.options.memory, transfer_concurrent_bytes=self.transfer_limit
        )
        return dataclasses.replace(self.options, memory=memory)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is at and around the path of a save.

    Attributes:
      entry: What is at the path.
      names: What is in the directory at the path, if it is one.
      siblings: What is in the directory that will hold the checkpoint.
      missing: Directories above the path that do not exist, outermost first.
      obstacle: Something above the path that is not a directory.
      token: Random digits that make the temporary name ours.
      now: Nanoseconds since the epoch.
    """

    entry: Entry | None
    names: tuple[str, ...] = ()
    siblings: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    obstacle: str | None = None
    token: str
    now: int


_FILES = frozenset({orbax.INDICATOR, orbax.CHECKPOINT_METADATA, orbax.COMMIT, orbax.TREE_METADATA})
_NAME_BYTES = 255


def check_item_name(name: object) -> Result[str, SealwaxError]:
    """A name that a checkpointable may have: one path component that nothing else uses."""
    if not isinstance(name, str):
        return Failure(
            InvalidPathError(
                "The name of a checkpointable is not a string",
                expected="a string such as 'state'",
                found=repr(name),
            )
        )
    if name in orbax.RESERVED or name in _FILES or name.startswith(manifest.NAME):
        return Failure(
            InvalidPathError(
                f"The name {name!r} is reserved and cannot name a checkpointable",
                hint="Choose another name, such as 'state'.",
            )
        )
    if any("\ud800" <= c <= "\udfff" for c in name):
        return Failure(
            InvalidPathError(
                f"The name {name!r} cannot name a checkpointable: it holds half a surrogate pair, "
                "which is no text",
                hint="Choose a short name without slashes, such as 'state'.",
            )
        )
    outside = name in ("", ".", "..") or any(c in name for c in "/\\\0")
    if outside or names.is_temporary(name) or len(name.encode()) > _NAME_BYTES:
        return Failure(
            InvalidPathError(
                f"The name {_shortened(name)!r} cannot name a checkpointable: it would not be one "
                "directory inside the checkpoint",
                hint="Choose a short name without slashes, such as 'state'.",
            )
        )
    return Success(name)


def _shortened(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:40]}..."


def _what_json_lacks(value: object) -> str:
    """The type of the first thing in there that JSON does not have."""
    found: list[str] = []

    def note(other: object) -> None:
        found.append(type(other).__name__)

    try:
        json.dumps(value, default=note)
    except (TypeError, ValueError, RecursionError) as error:
        return found[0] if found else str(error)
    return found[0] if found else type(value).__name__


def check_metadata(metadata: object) -> Result[dict[str, Any], SealwaxError]:
    """The caller's metadata as JSON will give it back."""
    if metadata is None:
        return Success({})
    if not isinstance(metadata, dict):
        return Failure(
            InvalidMetadataError(
                "The argument custom_metadata is not a dict",
                expected="a dict with string keys and JSON values",
                found=type(metadata).__name__,
            )
        )
    for key, value in cast("dict[object, object]", metadata).items():
        if not isinstance(key, str):
            return Failure(
                InvalidMetadataError(
                    "A key of custom_metadata is not a string", expected="strings", found=repr(key)
                )
            )
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            failure = InvalidMetadataError(
                f"The value of custom_metadata[{key!r}] cannot be stored as JSON",
                expected="strings, numbers, booleans, None, and lists and dicts of these",
                found=_what_json_lacks(value),
                hint="Convert it first: float(x) for an array scalar, x.tolist() for an array.",
            )
            failure.__cause__ = error
            return Failure(failure)
    return Success(json.loads(json.dumps(metadata)))


def title(named: bool, background: bool, part: bool = False) -> str:
    """The name of the verb that saves.

    >>> title(named=True, background=True)
    'save_checkpointables_async'
    """
    verb = "partial.save" if part else "save_checkpointables" if named else "save"
    return f"{verb}_async" if background else verb
