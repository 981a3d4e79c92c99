"""Ways into a tree of settings: views that assign, ``at`` that copies, ``diff``, plain data."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast, final

import numpy as np

from sealwax.errors import OptionTypeError, OptionValueError
from sealwax.options import Options
from sealwax.settings.checks import shown
from sealwax.settings.frozen import (
    GROUPS,
    Group,
    Path,
    as_group,
    dotted,
    fields,
    inner_group,
    same,
    unknown,
    walk,
)

T = TypeVar("T")
NOT_PLAIN = "not_plain"


class _View:
    """A group read through a context: reads are live, and assignments go to the context.

    A view is an instance of the group's class. It equals and hashes like the group it shows, and
    copies, pickles and crosses ``jit`` as that group.
    """

    __slots__ = ()
    __read__: Callable[[], Group]
    __write__: Callable[[Path, object], None]

    def __plain__(self) -> Group:
        return self.__read__()

    def __setattr__(self, name: str, value: object) -> None:
        self.__write__((name,), value)


def view(
    kind: type[Group], read: Callable[[], Group], write: Callable[[Path, object], None]
) -> Group:
    """Returns a view of the group that ``read`` returns, whose assignments go to ``write``."""
    cls = _view_class(kind)
    made = object.__new__(cls)
    object.__setattr__(made, "__read__", read)
    object.__setattr__(made, "__write__", write)
    return cast(Group, made)


@functools.cache
def _view_class(kind: type[Group]) -> type[_View]:
    slots = {"__slots__": ("__read__", "__write__"), "__module__": kind.__module__}
    # dataclasses.replace calls __class__: what it makes is a plain group, in no context.
    own = slots | {"__doc__": kind.__doc__, "__class__": property(lambda _: kind)}
    readers = {field.name: property(_reader(kind, field.name)) for field in fields(kind)}
    return type(kind.__name__, (_View, kind), own | readers)


def _reader(kind: type[Group], name: str) -> Callable[[_View], Any]:
    def read(self: _View) -> Any:
        value = getattr(self.__read__(), name)
        if not isinstance(value, Group):
            return value

        def inner() -> Group:
            return as_group(dotted(kind, name), getattr(self.__read__(), name))

        def write(path: Path, new: object) -> None:
            self.__write__((name, *path), new)

        return view(value.__kind__, inner, write)

    return read


@final
class At(Generic[T]):
    """A place in a tree of settings, from which a changed copy can be made.

    Attribute access goes down; ``set`` and ``apply`` return the copy, ``get`` the value.
    """

    __slots__ = ("__make__", "__path__", "__value__")

    def __init__(
        self, value: object, make: Callable[[Mapping[Path, object]], T], path: Path = ()
    ) -> None:
        self.__value__ = value
        self.__make__ = make
        self.__path__ = path

    def __getattr__(self, name: str) -> At[T]:
        group = as_group(".".join(self.__path__), self.__value__)
        return At(getattr(group, name), self.__make__, (*self.__path__, name))

    def get(self) -> Any:
        """Returns the value at this place."""
        return self.__value__

    def set(self, value: object) -> T:
        """Returns a copy in which this place has ``value``; everything else is shared."""
        if not self.__path__:
            raise OptionTypeError("'at.set' names no option", hint="Write at.<option>.set(value).")
        return self.__make__({self.__path__: value})

    def apply(self, function: Callable[[Any], object]) -> T:
        """Returns a copy in which this place has ``function`` of its value."""
        return self.set(function(self.__value__))

    def __repr__(self) -> str:
        return f"<at {'.'.join(self.__path__)}: {self.__value__!r}>"


def changes(values: Mapping[str, object] | None, whole: Mapping[str, object]) -> dict[Path, object]:
    """Turns dotted names and keywords into changes by path.

    Raises:
      OptionTypeError: ``values`` is no mapping from dotted names.
    """
    given: Any = {} if values is None else values
    is_mapping = isinstance(given, Mapping)
    if not is_mapping or not all(isinstance(name, str) for name in cast(Any, given)):
        raise OptionTypeError(
            "Changes are given as a mapping from dotted names to values",
            expected="such as {'array.saving.use_zarr3': False}",
            found=shown(values),
        )
    merged = {**cast(Mapping[str, object], given), **whole}
    return {tuple(name.split(".")): value for name, value in merged.items()}


def diff(left: Group, right: Group) -> dict[str, tuple[Any, Any]]:
    """Lists the settings in which two groups of one kind differ.

    Returns:
      ``(value in left, value in right)`` by dotted name.

    >>> diff(Options(), Options(checkpoint_layout="auto"))
    {'checkpoint_layout': (<CheckpointLayout.ORBAX: 'orbax'>, <CheckpointLayout.AUTO: 'auto'>)}
    """
    if left.__kind__ is not right.__kind__:
        kinds = f"{left.__kind__.__qualname__} and {right.__kind__.__qualname__}"
        raise OptionTypeError("Only groups of one kind can be compared", found=kinds)
    found: dict[str, tuple[Any, Any]] = {}
    for field in fields(left):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, Group) and isinstance(b, Group):
            found.update(diff(a, b))
        elif not same(a, b):
            found[dotted(left.__kind__, field.name)] = (a, b)
    return found


def to_dict(options: Group) -> dict[str, Any]:
    """Returns the plain data of a snapshot or group: what JSON can hold.

    Callables, classes and other objects are not plain. Where they are the default they are left
    out, and otherwise their dotted names are listed under ``"not_plain"``.

    >>> to_dict(Options().file)
    {'path_permission_mode': None, 'skip_sync_file_validations': False, 'durability': 'durable'}
    """
    data = _plain_fields(options)
    held = [
        name
        for name, field, value in walk(options)
        if _encode(value) is _HELD and not same(value, field.default)
    ]
    return data | ({NOT_PLAIN: held} if held else {})


def from_dict(data: Mapping[str, Any], held: Mapping[str, object] | None = None) -> Options:
    """Makes the snapshot whose plain data ``to_dict`` returned.

    Args:
      data: The plain data; settings that are not in it have their defaults.
      held: Values by dotted name for those that ``data`` lists as not plain.

    Raises:
      OptionValueError: A value that is not plain is not given in ``held``.
      OptionError: A name, type or value is wrong.
    """
    given = dict(held or {})
    if missing := [name for name in data.get(NOT_PLAIN, ()) if name not in given]:
        raise OptionValueError(
            f"The options {', '.join(map(repr, missing))} were not plain data, and are not known",
            hint="Give each in held={name: value}; None stands for its absence where allowed.",
        )
    plain = {name: value for name, value in data.items() if name != NOT_PLAIN}
    return cast(Options, _decode(Options, plain, changes(given, {})))


@functools.cache
def register_pytrees() -> None:
    """Tells JAX that every group is a pytree without leaves; calling it again does nothing."""
    from jax import tree_util

    register_node: Any = cast(Any, tree_util).register_pytree_node
    for kind in GROUPS:
        tree_util.register_static(kind)
        register_node(_view_class(kind), _flatten_view, _unflatten_view)


_HELD = object()


def _flatten_view(seen: _View) -> tuple[tuple[()], Group]:
    return (), seen.__plain__()


def _unflatten_view(plain: Group, _: tuple[()]) -> Group:
    return plain


def _plain_fields(node: Group) -> dict[str, Any]:
    encoded: dict[str, Any] = {}
    for field in fields(node):
        value = getattr(node, field.name)
        plain = _plain_fields(value) if isinstance(value, Group) else _encode(value)
        if plain is not _HELD:
            encoded[field.name] = plain
    return encoded


def _encode(value: object) -> Any:
    match value:
        case enum.Enum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
        case frozenset():
            return sorted(cast(frozenset[Any], value))
        case tuple():
            return [_encode(item) for item in cast(tuple[object, ...], value)]
        case np.dtype():
            return cast(np.dtype[Any], value).name
        case _:
            return _HELD


def _decode(kind: type[Group], data: Mapping[str, Any], held: Mapping[Path, object]) -> Group:
    inner = {field.name: inner_group(field) for field in fields(kind)}
    given = {path[0]: value for path, value in held.items() if len(path) == 1}
    for name in {path[0] for path in held if len(path) > 1} | data.keys():
        if name not in inner:
            raise unknown(kind, name)
        group, value = inner[name], data.get(name, {})
        below = {path[1:]: v for path, v in held.items() if path[0] == name and path[1:]}
        if group is not None and isinstance(value, Mapping):
            value = _decode(group, cast(Mapping[str, Any], value), below)
        elif below:
            as_group(dotted(kind, name), value)
        given.setdefault(name, value)
    return kind(**given)
