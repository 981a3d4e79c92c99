"""What a setting accepts: its type from the annotation, its range, and freezing on the way in.

A field's annotation says everything: ``Annotated[int, at_least(1)] | None`` is a positive integer
or nothing. ``accepted`` turns a value into the frozen one that is kept, or raises. Sets become
frozensets, sequences tuples and mappings immutable; callables, classes, stores and registries are
kept by identity.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import enum
import math
import numbers
import reprlib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, cast, final, get_args, get_origin

from sealwax.errors import OptionTypeError, OptionValueError

K = TypeVar("K")
V = TypeVar("V")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A condition on a value whose type is right already."""

    holds: Callable[[Any], bool]
    expected: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Convert:
    """A conversion in place of a type check; it raises TypeError or ValueError to refuse."""

    make: Callable[[Any], object]
    expected: str


def at_least(least: float) -> Check:
    """The value is ``least`` or more."""
    return Check(holds=lambda value: value >= least, expected=f"at least {least}")


def above(bound: float) -> Check:
    """The value is more than ``bound``."""
    return Check(holds=lambda value: value > bound, expected=f"above {bound}")


def at_most(most: float) -> Check:
    """The value is ``most`` or less."""
    return Check(holds=lambda value: value <= most, expected=f"at most {most}")


def accepted(name: str, kind: Any, value: object) -> Any:
    """Returns the frozen form of ``value`` for the setting ``name``.

    Args:
      name: Dotted name of the setting, for the error.
      kind: Its annotation.
      value: What the caller gave.

    Raises:
      OptionTypeError: The type is wrong.
      OptionValueError: The type is right and the value is not.
    """
    try:
        return _accept(kind, value)
    except _Refused as refused:
        error, what = (
            (OptionValueError, f"Option {name!r} does not allow this value")
            if refused.by_value
            else (OptionTypeError, f"Option {name!r} has a value of the wrong type")
        )
        raise error(
            what, expected=refused.expected, found=shown(value), hint=_advice(kind, value)
        ) from None


def shown(value: object) -> str:
    """A short text for ``value`` and its type, for errors."""
    if value is None or isinstance(value, bool | enum.Enum):
        return repr(value)
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return f"{value.__qualname__} ({type(value).__name__})"
    return f"{reprlib.repr(value)} ({type(value).__name__})"


def near(name: str, names: Iterable[str]) -> str | None:
    """A question naming those of ``names`` that ``name`` may be meant for."""
    found = difflib.get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(map(repr, found))}?" if found else None


@final
class FrozenMapping(Mapping[K, V]):
    """A mapping that cannot change, and so can be hashed and shared."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[K, V]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return f"FrozenMapping({self._items!r})"


class _Refused(Exception):
    def __init__(self, expected: str, *, by_value: bool = False) -> None:
        super().__init__(expected)
        self.expected = expected
        self.by_value = by_value


def _accept(kind: Any, value: object) -> object:
    origin = get_origin(kind) or kind
    if origin in (Union, types.UnionType):
        return _accept_any(kind, value)
    if origin is Annotated:
        return _accept_annotated(kind, value)
    if origin is Literal:
        return _accept_listed(kind, value, get_args(kind))
    if isinstance(origin, type) and issubclass(origin, enum.Enum):
        return _accept_enum(origin, value)
    if origin in _BUILTIN:
        return _BUILTIN[origin](kind, value)
    if origin in _CONTAINERS:
        return _CONTAINERS[origin](kind, value)
    return _accept_instance(origin, value)


def _accept_any(kind: Any, value: object) -> object:
    members = get_args(kind)
    if value is None and types.NoneType in members:
        return None
    refusals: list[_Refused] = []
    for member in members:
        try:
            return _accept(member, value)
        except _Refused as refused:
            refusals.append(refused)
    by_value = any(refused.by_value for refused in refusals)
    raise _Refused(describe(kind), by_value=by_value)


def _accept_annotated(kind: Any, value: object) -> object:
    base, *notes = get_args(kind)
    converts = [note for note in notes if isinstance(note, Convert)]
    if converts:
        try:
            return converts[0].make(value)
        except (TypeError, ValueError) as error:
            by_value = isinstance(error, ValueError)
            raise _Refused(describe(kind), by_value=by_value) from None
    made = _accept(base, value)
    if all(note.holds(made) for note in notes if isinstance(note, Check)):
        return made
    raise _Refused(describe(kind), by_value=True)


def _accept_listed(kind: Any, value: object, allowed: tuple[object, ...]) -> object:
    for one in allowed:
        if type(one) is type(value) and one == value:
            return one
    raise _Refused(describe(kind), by_value=isinstance(value, str))


def _accept_enum(kind: type[enum.Enum], value: object) -> object:
    if isinstance(value, kind):
        return value
    for member in kind:
        if isinstance(value, str) and member.value == value:
            return member
    raise _Refused(describe(kind), by_value=isinstance(value, str))


def _accept_instance(kind: Any, value: object) -> object:
    if kind is Any or kind is object:
        return value
    # A class has the methods of its instances, so it would pass for one.
    passes_by_shape = getattr(kind, "_is_protocol", False) and isinstance(value, type)
    if passes_by_shape or not isinstance(value, kind):
        raise _Refused(describe(kind))
    freeze = getattr(type(value), "__plain__", None)
    return value if freeze is None else freeze(value)


def _bool(kind: Any, value: object) -> object:
    if not isinstance(value, bool):
        raise _Refused(describe(kind))
    return value


def _int(kind: Any, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise _Refused(describe(kind))
    return int(value)


def _float(kind: Any, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise _Refused(describe(kind))
    if not math.isfinite(value):
        raise _Refused("a finite number", by_value=True)
    return float(value)


def _str(kind: Any, value: object) -> object:
    if not isinstance(value, str):
        raise _Refused(describe(kind))
    return str(value)


def _none(kind: Any, value: object) -> object:
    if value is not None:
        raise _Refused(describe(kind))
    return None


def _class(kind: Any, value: object) -> object:
    if not isinstance(value, type):
        raise _Refused(describe(kind))
    return value


def _callable(kind: Any, value: object) -> object:
    if not callable(value):
        raise _Refused(describe(kind))
    return value


def _set(kind: Any, value: object) -> object:
    if isinstance(value, str | bytes) or not isinstance(
        value, collections.abc.Set | collections.abc.Sequence
    ):
        raise _Refused(describe(kind))
    return frozenset(_items(kind, get_args(kind)[0], cast(Iterable[object], value)))


def _sequence(kind: Any, value: object) -> object:
    if isinstance(value, str | bytes) or not isinstance(value, collections.abc.Sequence):
        raise _Refused(describe(kind))
    return tuple(_items(kind, get_args(kind)[0], cast(Iterable[object], value)))


def _items(kind: Any, item: Any, values: Iterable[object]) -> Iterator[object]:
    try:
        yield from (_accept(item, value) for value in values)
    except _Refused as refused:
        raise _Refused(describe(kind), by_value=refused.by_value) from None


def _mapping(kind: Any, value: object) -> object:
    if not isinstance(value, collections.abc.Mapping):
        raise _Refused(describe(kind))
    key, item = get_args(kind)
    given = cast(Mapping[object, object], value)
    pairs = zip(_items(kind, key, given), _items(kind, item, given.values()), strict=True)
    return FrozenMapping(dict(pairs))


_Rule = Callable[[Any, object], object]
_BUILTIN: dict[Any, _Rule] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    types.NoneType: _none,
    type: _class,
}
_CALLABLE: Any = get_origin(Callable[..., object])
_CONTAINERS: dict[Any, _Rule] = {
    _CALLABLE: _callable,
    collections.abc.Set: _set,
    collections.abc.Sequence: _sequence,
    collections.abc.Mapping: _mapping,
}
_WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "an int",
    float: "a number",
    str: "a str",
    types.NoneType: "None",
    type: "a class",
    _CALLABLE: "a callable",
}


def describe(kind: Any) -> str:
    """What the annotation ``kind`` allows, in words."""
    origin, args = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, types.UnionType):
        words = [describe(arg) for arg in args if arg is not int or float not in args]
        return " or ".join(words)
    if origin is Annotated:
        converts = [note.expected for note in args[1:] if isinstance(note, Convert)]
        ranges = [note.expected for note in args[1:] if isinstance(note, Check)]
        return converts[0] if converts else ", ".join([describe(args[0]), *ranges])
    if origin is Literal:
        return f"one of {', '.join(map(repr, args))}"
    if isinstance(origin, type) and issubclass(origin, enum.Enum):
        return f"one of {', '.join(repr(member.value) for member in origin)}"
    if origin is collections.abc.Mapping:
        return f"a mapping from {describe(args[0])} to {describe(args[1])}"
    if origin in (collections.abc.Set, collections.abc.Sequence):
        container = "a set" if origin is collections.abc.Set else "a tuple"
        return f"{container} whose items are each {describe(args[0])}"
    return _WORDS.get(origin) or f"an instance of {origin.__qualname__}"


def _advice(kind: Any, value: object) -> str | None:
    if not isinstance(value, str):
        return None
    members = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if bool in members and value.strip().lower() in ("true", "false", "yes", "no", "1", "0"):
        return "Write True or False, without quotes."
    for member in members:
        if get_origin(member) is Literal:
            return near(value, map(str, get_args(member)))
        if isinstance(member, type) and issubclass(member, enum.Enum):
            return near(value, (str(one.value) for one in member))
    return None
