"""The files of an Orbax checkpoint: their names, and what they hold."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Hashable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from msgspec import Struct

from sealwax.errors import CorruptionError

INDICATOR = "orbax.checkpoint"
CHECKPOINT_METADATA = "_CHECKPOINT_METADATA"
COMMIT = "commit_success.txt"
DELETION = "_CHECKPOINT_DELETION"
TREE_METADATA = "_METADATA"
SHARDING = "_sharding"
STRINGS = "_strings.json"
ARRAY_METADATAS = "array_metadatas"
PROCESS = "process_"
PROCESS_METADATA = "array_metadatas/process_0"
DATABASE = "manifest.ocdbt"
DATA = "d"
OWN_DATABASE = "ocdbt.process_0"
TEMPORARY = ".orbax-checkpoint-tmp"
SESSION = ".partial_save"
PENDING = ".pending"
DEFAULT_ITEM = "state"
AUTO = "AUTO"
DAMAGED = "The checkpoint is damaged: load an earlier one, or restore this file from a copy."
RESERVED = frozenset({"metrics", AUTO, DELETION})
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_T = TypeVar("_T", bound=Hashable)


def data_file(number: int) -> str:
    """The name of a data file of an item.

    >>> data_file(10)
    'd/0000000a'
    """
    return f"{DATA}/{number:08x}"


class Facts(NamedTuple):
    """What ``_CHECKPOINT_METADATA`` says."""

    init_timestamp_nsecs: int | None = None
    commit_timestamp_nsecs: int | None = None
    custom_metadata: Mapping[str, Any] = MappingProxyType({})
    item_handlers: Any = None


def checkpoint_metadata(handlers: Mapping[str, str], facts: Facts) -> bytes:
    """The content of ``_CHECKPOINT_METADATA``; Orbax refuses any key that it does not know."""
    return json.dumps(
        {
            "item_handlers": dict(handlers),
            "metrics": {},
            "performance_metrics": {},
            "init_timestamp_nsecs": facts.init_timestamp_nsecs,
            "commit_timestamp_nsecs": facts.commit_timestamp_nsecs,
            "custom_metadata": dict(facts.custom_metadata),
        }
    ).encode()


def read_checkpoint_metadata(data: bytes | None, path: str) -> Facts:
    """What a ``_CHECKPOINT_METADATA`` file says; an absent file says nothing.

    Raises:
      CorruptionError: The file is not what Orbax writes.
    """
    found = {} if data is None else parse(data, path)
    custom: object = found.get("custom_metadata") or {}
    start, end = found.get("init_timestamp_nsecs"), found.get("commit_timestamp_nsecs")
    for stamp in (start, end):
        if stamp is not None and not isinstance(stamp, int):
            raise CorruptionError(
                "A timestamp is not a number", path=path, expected="an integer", found=repr(stamp)
            )
    if not isinstance(custom, dict):
        raise CorruptionError("The custom metadata is not an object", path=path)
    return Facts(start, end, cast("dict[str, Any]", custom), found.get("item_handlers"))


def recorded(item_handlers: object) -> dict[str, str]:
    """What a checkpoint recorded of its items' handlers, as far as it can be understood."""
    if not isinstance(item_handlers, dict):
        return {}
    known = cast("dict[Any, Any]", item_handlers)
    return {name: handler for name, handler in known.items() if isinstance(handler, str)}


def parse(data: bytes, path: str) -> dict[str, Any]:
    """A JSON object from a checkpoint's file.

    Raises:
      CorruptionError: The file is empty, cut short, or holds something else.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        state = "is empty" if not data.strip() else "cannot be read as JSON"
        raise CorruptionError(
            f"A metadata file {state}",
            path=path,
            hint=DAMAGED,
        ) from error
    if not isinstance(found, dict):
        raise CorruptionError(
            "A metadata file does not hold a JSON object",
            path=path,
            found=_JSON_WORDS.get(type(cast("object", found)), "something else"),
            hint=DAMAGED,
        )
    return cast("dict[str, Any]", found)


def parse_or_nothing(data: bytes) -> dict[str, Any]:
    """A JSON object, as Orbax reads it here: what cannot be read says nothing."""
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


_JSON_WORDS: dict[type, str] = {
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def commit(path: str) -> bytes:
    """The content of ``commit_success.txt``, which nobody reads."""
    return f"Checkpoint commit was successful to {path}".encode(errors="surrogateescape")


def tree_metadata(
    entries: Mapping[str, object],
    *,
    database: bool = True,
    zarr3: bool = True,
    rich: object | None = None,
) -> bytes:
    """The content of ``_METADATA``.

    Args:
      entries: What is recorded of each leaf.
      database: Whether arrays lie in one database.
      zarr3: Whether they are of version 3 of Zarr.
      rich: The tree with tuples and named tuples told apart, as plain data; JSON in JSON.
    """
    record: dict[str, object] = {
        "tree_metadata": entries,
        "use_ocdbt": database,
        "use_zarr3": zarr3,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }
    if rich is not None:
        record["value_metadata_tree"] = msgspec.json.encode(rich).decode()
    return msgspec.json.encode(record)


def shardings(records: Iterable[tuple[str, str]]) -> bytes:
    """The content of ``_sharding``: JSON in JSON, under base64 names."""
    encoded = _Encoded[str]()
    return msgspec.json.encode({sharding_key(name): encoded[text] for name, text in records})


class _Encoded(dict[_T, msgspec.Raw]):
    """Values and what they are in JSON: thousands of leaves share a handful of them."""

    def __missing__(self, value: _T) -> msgspec.Raw:
        encoded = self[value] = msgspec.Raw(msgspec.json.encode(value))
        return encoded


def sharding_key(name: str) -> str:
    """The name under which the sharding of a leaf is recorded."""
    # What base64 calls safe for URLs, without its checks for each leaf.
    return binascii.b2a_base64(name.encode(), newline=False).translate(_URL_SAFE).decode()


def read_shardings(data: bytes | None, path: str) -> dict[str, str]:
    """Recorded shardings by leaf name; an absent file records none."""
    if data is None:
        return {}
    try:
        return {
            base64.b64decode(key, b"-_", validate=True).decode(): text
            for key, text in parse(data, path).items()
            if isinstance(text, str)
        }
    except ValueError as error:
        raise CorruptionError(
            "The record of shardings names leaves in a way that Orbax does not",
            path=path,
            hint="Only saved_shardings needs it: remove this file to load without it.",
        ) from error


class ArrayFacts(Struct, frozen=True, gc=False):
    """What ``array_metadatas`` says of one array."""

    name: str
    write_shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    key_impl: str | None


class _ArrayMetadata(Struct, frozen=True, gc=False):
    param_name: str
    write_shape: msgspec.Raw
    chunk_shape: msgspec.Raw
    ext_metadata: dict[str, str] | None


def array_metadatas(arrays: Iterable[ArrayFacts]) -> bytes:
    """The content of ``array_metadatas/process_0``."""
    shapes = _Encoded[tuple[int, ...]]()
    records = [
        {
            "array_metadata": _ArrayMetadata(
                array.name,
                shapes[array.write_shape],
                shapes[array.chunk_shape],
                {"random_key_impl": array.key_impl} if array.key_impl else None,
            )
        }
        for array in arrays
    ]
    return msgspec.json.encode({"array_metadatas": records})


def read_key_impls(data: bytes | None, path: str) -> dict[str, str]:
    """Key implementations by leaf name; an absent file knows of none."""
    if data is None:
        return {}
    found: dict[str, str] = {}
    try:
        entries: list[dict[str, Any]] = parse(data, path).get("array_metadatas") or []
        for entry in entries:
            array: dict[str, Any] = entry.get("array_metadata") or {}
            extra: dict[str, Any] = array.get("ext_metadata") or {}
            impl = extra.get("random_key_impl")
            if impl is not None:
                found[str(array["param_name"])] = str(impl)
    except (AttributeError, KeyError, TypeError) as error:
        raise CorruptionError(
            "The metadata of a process's arrays is not as Orbax writes it",
            path=path,
            hint="Only typed keys need it: remove this file to load them as bare data.",
        ) from error
    return found


def place_string(document: dict[str, Any], name: str, value: str) -> bool:
    """Puts a string where Orbax will look for it; ``False`` where no name can say that.

    Orbax takes the leaf's name for a JSON pointer: a slash nests and a tilde escapes.
    """
    *parents, last = name.split("/")
    if "~" in name:
        return False
    place = document
    for parent in parents:
        inner: object = place.setdefault(parent, {})
        if not isinstance(inner, dict):
            return False
        place = cast("dict[str, Any]", inner)
    if last in place:
        return False
    place[last] = value
    return True


def find_string(document: Mapping[str, Any], name: str) -> str | None:
    """The string of a leaf, resolved as Orbax does; ``None`` if there is none."""
    found: Any = document
    for part in name.split("/"):
        if not isinstance(found, Mapping):
            return None
        key = part.replace("~1", "/").replace("~0", "~")
        found = cast("Mapping[str, Any]", found).get(key)
    return None if found is None or isinstance(found, Mapping) else str(found)
