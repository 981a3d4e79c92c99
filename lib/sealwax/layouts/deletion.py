"""The record of the deletion of one checkpointable, as Orbax keeps it.

It is there from before the first change to after the last, so that whoever comes by in between,
Orbax or sealwax, knows which item no longer counts and can finish what was begun.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import msgspec
from returns.result import Failure, Result, Success

from sealwax.errors import CorruptionError, DeletionRecoveryError, SealwaxError
from sealwax.layouts import manifest, orbax

_TOKEN = re.compile(r"[0-9a-f]{32}")
_WHOLE = "Delete the whole checkpoint, which needs no record; or restore this file from a copy."


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A deletion that was begun.

    Attributes:
      operation_id: Thirty-two hexadecimal digits that name it.
      item: The checkpointable that is being deleted.
      destination: Where it is moved to instead, relative to the directory of the checkpoint.
      original: What ``_CHECKPOINT_METADATA`` says before.
      updated: What it says afterwards.
    """

    operation_id: str
    item: str
    destination: str | None
    original: dict[str, Any]
    updated: dict[str, Any]


class _Wire(msgspec.Struct, frozen=True, kw_only=True):
    """The record as it is written."""

    checkpointable_name: str
    destination: str | None
    operation_id: str
    original_metadata: dict[str, Any]
    updated_metadata: dict[str, Any]


def begin(
    metadata: dict[str, Any], item: str, operation_id: str, destination: str | None
) -> Record:
    """The record of a deletion that is about to begin; ``metadata`` lists the item."""
    return Record(
        operation_id=operation_id,
        item=item,
        destination=destination,
        original=metadata,
        updated=without(metadata, item),
    )


def without(metadata: dict[str, Any], item: str) -> dict[str, Any]:
    """The content of ``_CHECKPOINT_METADATA`` less one item.

    >>> without({"item_handlers": {"a": "A", "b": "B"}, "metrics": {}}, "a")
    {'item_handlers': {'b': 'B'}, 'metrics': {}}
    """
    handlers = {name: kind for name, kind in metadata["item_handlers"].items() if name != item}
    return metadata | {"item_handlers": handlers}


def encode(record: Record) -> bytes:
    """The content of the record's file."""
    return encode_metadata(
        {
            "checkpointable_name": record.item,
            "destination": record.destination,
            "operation_id": record.operation_id,
            "original_metadata": record.original,
            "updated_metadata": record.updated,
        }
    )


def encode_metadata(metadata: dict[str, Any]) -> bytes:
    """The bytes of a JSON object, its keys sorted."""
    return json.dumps(metadata, sort_keys=True).encode()


def updated_manifest(data: bytes, record: Record, metadata: bytes, path: str) -> bytes:
    """The checkpoint's own manifest as it is true after the deletion, with such metadata.

    Raises:
      CorruptionError: ``data`` is not a manifest.
    """
    root = manifest.decode(data, manifest.Checkpoint, path)
    below = f"{record.item}/"
    kept = {name: value for name, value in root.digests.items() if not name.startswith(below)}
    if orbax.CHECKPOINT_METADATA in kept:
        kept[orbax.CHECKPOINT_METADATA] = manifest.digest(metadata)
    return manifest.encode(msgspec.structs.replace(root, digests=kept))


def read(data: bytes, metadata: bytes | None, path: str) -> Result[Record, SealwaxError]:
    """Reads a record, and checks it against the metadata that it would change.

    Args:
      data: The record's file.
      metadata: The file ``_CHECKPOINT_METADATA``.
      path: Path of the record.

    Returns:
      The record; an error when no deletion can have left things as they are.
    """
    try:
        fields = orbax.parse(data, path)
        now = {} if metadata is None else orbax.parse(metadata, orbax.CHECKPOINT_METADATA)
        wire = msgspec.convert(fields, _Wire)
    except CorruptionError as error:
        return Failure(_wrong(path, "cannot be read", cause=error))
    except msgspec.ValidationError as error:
        return Failure(_wrong(path, "is not one", cause=error))
    record = Record(
        operation_id=wire.operation_id,
        item=wire.checkpointable_name,
        destination=wire.destination,
        original=wire.original_metadata,
        updated=wire.updated_metadata,
    )
    problem = _problem(record, now)
    return Success(record) if problem is None else Failure(_wrong(path, problem))


def _problem(record: Record, now: dict[str, Any]) -> str | None:
    if not _TOKEN.fullmatch(record.operation_id):
        return "has no identifier of 32 hexadecimal digits"
    if not is_item_name(record.item):
        return "does not name a checkpointable"
    if not _lists(record.original, record.item):
        return f"is of a checkpointable {record.item!r} that its metadata does not list"
    if record.updated != without(record.original, record.item):
        return "would change more than one checkpointable"
    if now not in (record.original, record.updated):
        return f"does not fit the checkpoint's {orbax.CHECKPOINT_METADATA}"
    return None


def is_item_name(name: str) -> bool:
    """Whether an item may have this name.

    >>> is_item_name("opt"), is_item_name("../x"), is_item_name("metrics")
    (True, False, False)
    """
    if name in ("", ".", "..", *orbax.RESERVED):
        return False
    return not any(c in name for c in "/\\\0")


def _lists(metadata: dict[str, Any], item: str) -> bool:
    handlers: object = metadata.get("item_handlers")
    return isinstance(handlers, dict) and item in handlers


def _wrong(path: str, problem: str, *, cause: BaseException | None = None) -> DeletionRecoveryError:
    error = DeletionRecoveryError(
        f"The record of an unfinished deletion {problem}", path=path, hint=_WHOLE
    )
    error.__cause__ = cause
    return error
