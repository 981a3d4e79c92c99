"""Plain data as JSON that Orbax reads, and what JSON has no form for, as notes beside it.

=============================  ==========================  ======================
value                          in the file                 comes back
=============================  ==========================  ======================
``str``, ``bool``, ``None``    as JSON has them            the same
``int``                        all its digits              the same
``float``, NaN and Infinity    as Python's ``json`` does   the same
``dict``, ``list``             as JSON has them            the same, in its order
``tuple``                      a list                      a tuple
keys that are no strings       their text                  the same keys
NumPy number or boolean        a number, ``true``          of the same NumPy type
``OrderedDict`` and the like   an object                   a ``dict``
=============================  ==========================  ======================

Anything else is refused, by its place: what would come back as something else is no copy of it.
Orbax, which does not know the notes, reads lists, text and Python's numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec
import numpy as np
from returns.result import safe

from sealwax.arrays import dtypes
from sealwax.checkpointables import not_json
from sealwax.checksum import crc32c
from sealwax.errors import CorruptionError, SealwaxError
from sealwax.layouts.orbax import DAMAGED

DEPTH = 200
"""How deep JSON may be nested: Python's reader stops somewhere above."""

_FILE = "data.json"
_OLD_FILE = "metadata"
NOTES = "_SEALWAX_JSON"

_Place: TypeAlias = tuple[str | int, ...]
_Note: TypeAlias = tuple[_Place, str, list[Any]]


def written(filename: str | None = None) -> tuple[str, ...]:
    """The files that hold the JSON: the one that v1 looks for first, and the one that v0 does.

    >>> written(), written("metrics")
    (('data.json', 'metadata'), ('metrics', 'metadata'))
    """
    return tuple(dict.fromkeys((filename or _FILE, _OLD_FILE)))


def searched(filename: str | None = None) -> tuple[str, ...]:
    """The files that may hold the JSON, the first that is there being the one that counts."""
    return tuple(dict.fromkeys((filename or _FILE, _FILE, _OLD_FILE)))


class Encoded(NamedTuple):
    """JSON, and the notes on what it has no form for; ``None`` where it says everything."""

    data: bytes
    notes: bytes | None


@safe(exceptions=(SealwaxError,))
def encode(value: object, name: str = "value") -> Encoded:
    """The JSON of plain data.

    Args:
      value: The data.
      name: What to call it in an error.

    Returns:
      What to write; an ``InvalidCheckpointableError`` that names the first place of what JSON
      cannot hold.

    >>> encode({"lr": [1e-3, float("nan")]}).unwrap().data
    b'{"lr": [0.001, NaN]}'
    """
    walk = _Walk(name)
    try:
        plain = walk.visit(value, (), 0)
        data = json.dumps(plain).encode()
    except RecursionError as error:
        raise not_json.too_deep(name) from error
    if not walk.notes:
        return Encoded(data, None)
    return Encoded(data, json.dumps([crc32c(data), walk.notes]).encode() + b"\n")


def files(encoded: Encoded, filename: str | None = None) -> dict[str, bytes]:
    """The content of each file of the item: of all that some reader looks for, and the notes."""
    made = dict.fromkeys(written(filename), encoded.data)
    return made if encoded.notes is None else {**made, NOTES: encoded.notes}


@safe(exceptions=(SealwaxError,))
def decode(data: bytes, notes: bytes | None = None, *, path: str | None = None) -> Any:
    """The data that ``encode`` was given.

    Args:
      data: JSON, in Python's dialect.
      notes: The notes beside it. They count for the very bytes that they were written with: who
        changes the file by hand gets what is in it now.
      path: Path of the file, for errors.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        state = "is empty" if not data.strip() else "cannot be read as JSON"
        raise CorruptionError(f"A JSON file {state}", path=path, hint=DAMAGED) from error
    if notes is None:
        return found
    try:
        crc, listed = msgspec.convert(json.loads(notes), tuple[int, list[_Note]])
        by_place = {place: (what, more) for place, what, more in listed}
        return found if crc != crc32c(data) else _restore(found, by_place, ())
    except (LookupError, TypeError, ValueError, msgspec.MsgspecError) as error:
        raise CorruptionError(
            "The notes beside a JSON file cannot be read", path=path, hint=DAMAGED
        ) from error


class _Walk:
    __slots__ = ("_above", "_name", "notes")

    def __init__(self, name: str) -> None:
        self.notes: list[_Note] = []
        self._above: set[int] = set()
        self._name = name

    def visit(self, value: object, place: _Place, depth: int) -> object:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, np.generic):
            return self._number(cast("np.generic[Any]", value), place)
        if isinstance(value, int | float | str) and not not_json.is_enum(value):
            return self._scalar(value, place)
        if isinstance(value, dict) or type(value) in (list, tuple):
            return self._container(cast("Any", value), place, depth)
        raise not_json.refused(value, self._where(place))

    def _scalar(self, value: float | str, place: _Place) -> object:
        if isinstance(value, str):
            return str(value)
        if isinstance(value, float):
            return float(value)
        try:
            str(value)
        except ValueError as error:
            raise not_json.too_long(value, self._where(place)) from error
        return int(value)

    def _number(self, value: np.generic[Any], place: _Place) -> object:
        if isinstance(value, np.str_):
            return str(value)
        storage = dtypes.find_storage(value.dtype)
        item: object = value.item()
        if storage is None or not isinstance(item, bool | int | float):
            raise not_json.refused(value, self._where(place))
        self.notes.append((place, "numpy", [storage.logical]))
        return item

    def _container(self, value: Any, place: _Place, depth: int) -> object:
        mark = id(value)
        if mark in self._above:
            raise not_json.cycle(self._where(place))
        if depth >= DEPTH:
            raise not_json.too_deep(self._name)
        self._above.add(mark)
        made: object
        if isinstance(value, dict):
            made = self._dict(cast("dict[object, object]", value), place, depth)
        else:
            made = [self.visit(item, (*place, n), depth + 1) for n, item in enumerate(value)]
            if isinstance(value, tuple):
                self.notes.append((place, "tuple", []))
        self._above.discard(mark)
        return made

    def _dict(self, value: dict[object, object], place: _Place, depth: int) -> dict[str, object]:
        made: dict[str, object] = {}
        typed: list[Any] = []
        for key, item in value.items():
            if not isinstance(key, str):
                if type(key) not in (int, float, bool, type(None)):
                    raise not_json.wrong_key(key, self._where(place))
                typed.append([_text(key), key])
            text = str(key) if isinstance(key, str) else _text(key)
            if text in made:
                raise not_json.same_key(text, self._where(place))
            made[text] = self.visit(item, (*place, text), depth + 1)
        if typed:
            self.notes.append((place, "keys", typed))
        return made

    def _where(self, place: _Place) -> str:
        return self._name + "".join(f"[{part!r}]" for part in place)


def _text(key: object) -> str:
    """How Python's ``json`` writes a key that is no string."""
    return json.dumps(key)


def _restore(value: object, notes: Mapping[_Place, tuple[str, list[Any]]], place: _Place) -> object:
    made: object = value
    what, more = notes.get(place, ("", []))
    if isinstance(value, dict):
        keys = dict(more) if what == "keys" else {}
        members = cast("dict[str, object]", value)
        made = {
            keys.get(text, text): _restore(item, notes, (*place, text))
            for text, item in members.items()
        }
    elif isinstance(value, list):
        items = cast("list[object]", value)
        made = [_restore(item, notes, (*place, n)) for n, item in enumerate(items)]
        return tuple(made) if what == "tuple" else made
    elif what == "numpy":
        return dtypes.from_name(more[0]).type(cast("Any", value))
    return made
