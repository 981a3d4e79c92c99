"""The mechanism under the settings: frozen groups that check what they are given.

``@group("array.saving")`` turns a class into a frozen, slotted, keyword-only dataclass that knows
its dotted place. Its fields are checked and frozen on construction (see ``checks``); equal groups
are equal and hash alike. What Python cannot hash is compared by identity, because it is held by
identity.

To a type checker the fields look assignable: the same classes describe what a ``Context`` hands
out, through which assignment is allowed. On a group that belongs to no context it raises.
"""

from __future__ import annotations

import dataclasses
import functools
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, dataclass_transform, get_args

from sealwax.errors import FrozenOptionError, OptionTypeError, UnknownOptionError
from sealwax.settings.checks import accepted, near, shown

G = TypeVar("G", bound="Group")
Path = tuple[str, ...]
GROUPS: list[type[Group]] = []


class Group:
    """A frozen group of settings.

    Attributes:
      __at__: Dotted place of the group below the root; empty for the root.
      __kind__: The group's own class, also where a view of the group is looked at.
    """

    __slots__ = ()
    __at__: ClassVar[str]
    __kind__: ClassVar[type[Group]]
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            name = dotted(type(self), field.name)
            value = accepted(name, field.type, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        self.__check__()

    def __check__(self) -> None:
        """Checks what concerns several fields; a group that has such rules overrides it."""

    def __plain__(self) -> Group:
        return self

    def __copy__(self) -> Group:
        return self.__plain__()

    def __deepcopy__(self, memo: dict[int, object]) -> Group:
        return self.__plain__()

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.__kind__, values(self.__plain__()))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Group) or self.__kind__ is not other.__kind__:
            return NotImplemented
        return _comparable(self) == _comparable(other)

    def __hash__(self) -> int:
        return hash(_comparable(self))

    def __repr__(self) -> str:
        changed = (f"{f.name}={getattr(self, f.name)!r}" for f in _changed(self))
        return f"{self.__kind__.__qualname__}({', '.join(changed)})"

    if not TYPE_CHECKING:  # a checker that saw these would accept every name

        def __getattr__(self, name: str) -> Any:
            raise unknown(self.__kind__, name)

        def __setattr__(self, name: str, value: object) -> None:
            raise _frozen(self, name, reprlib.repr(value))

        def __delattr__(self, name: str) -> None:
            raise _frozen(self, name, "...")


@dataclass_transform(kw_only_default=True, eq_default=False)
def group(at: str) -> Callable[[type[G]], type[G]]:
    """Makes a class a frozen group of settings at the dotted place ``at``."""

    def decorate(cls: type[G]) -> type[G]:
        made = dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)(
            cls
        )
        made.__at__, made.__kind__ = at, made
        made.__setattr__, made.__delattr__ = Group.__setattr__, Group.__delattr__
        made.__init__ = _checked_init(made)
        GROUPS.append(made)
        return made

    return decorate


def fields(kind: type[Group] | Group) -> tuple[dataclasses.Field[Any], ...]:
    """The fields of a group, in order."""
    return dataclasses.fields(kind)


def values(node: Group) -> dict[str, Any]:
    """The values of a group by field name; nested groups stay groups."""
    return {field.name: getattr(node, field.name) for field in fields(node)}


def dotted(kind: type[Group], name: str) -> str:
    """The dotted name of the field ``name`` of the group ``kind``."""
    return f"{kind.__at__}.{name}" if kind.__at__ else name


def update(node: G, changes: Mapping[Path, object]) -> G:
    """Copies the paths from ``node`` to the changed fields and shares everything else.

    Args:
      node: A group; it is left as it is.
      changes: New values by path. A group and fields inside it may change together.

    Returns:
      The changed group, or ``node`` itself when nothing differs.

    Raises:
      OptionError: A name, type or value is wrong; then nothing changes at all.
    """
    changed = {path[0]: value for path, value in changes.items() if len(path) == 1}
    for head in dict.fromkeys(path[0] for path in changes if len(path) > 1):
        name = dotted(node.__kind__, head)
        inner = {path[1:]: v for path, v in changes.items() if path[0] == head and path[1:]}
        changed[head] = update(as_group(name, changed.get(head, getattr(node, head))), inner)
    made = node.__kind__(**(values(node) | changed))
    shared = all(getattr(made, f.name) is getattr(node, f.name) for f in fields(node))
    return node if shared else cast(G, made)


def as_group(name: str, value: object) -> Group:
    """Returns ``value`` if it is a group, and raises if fields below ``name`` are asked of none."""
    if isinstance(value, Group):
        return value.__plain__()
    what = f"Option {name!r} has no options inside"
    raise OptionTypeError(what, found=shown(value), hint=f"Assign a whole value to {name!r}.")


def inner_group(field: dataclasses.Field[Any]) -> type[Group] | None:
    """The kind of group that a field holds, or may hold."""
    members = (field.type, *get_args(field.type))
    return next((m for m in members if isinstance(m, type) and issubclass(m, Group)), None)


def walk(node: Group) -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Yields the dotted name, field and value of every setting at and below ``node``."""
    for field in fields(node):
        value = getattr(node, field.name)
        if isinstance(value, Group):
            yield from walk(value)
        else:
            yield dotted(node.__kind__, field.name), field, value


def names_below(kind: type[Group]) -> Iterator[str]:
    """Yields the dotted name of every setting that can exist at and below ``kind``."""
    for field in fields(kind):
        inner = inner_group(field)
        yield from (dotted(kind, field.name),) if inner is None else names_below(inner)


def unknown(kind: type[Group], name: str) -> UnknownOptionError:
    """The error for a name that the group ``kind`` does not have."""
    names = [field.name for field in fields(kind)]
    below = [path for path in names_below(kind) if path.rpartition(".")[2] == name]
    hint = f"Did you mean {' or '.join(map(repr, below))}?" if below else near(name, names)
    where = f"'{kind.__at__}' has" if kind.__at__ else "There is"
    what = f"{where} no option {name!r}"
    return UnknownOptionError(what, expected=f"one of {', '.join(names)}", hint=hint)


def _checked_init(kind: type[Group]) -> Any:
    init = cast(Callable[..., None], kind.__init__)
    known = {field.name for field in fields(kind)}
    needed = {f.name for f in fields(kind) if f.default is dataclasses.MISSING}

    @functools.wraps(init)
    def __init__(self: Group, /, **given: object) -> None:
        for name in given.keys() - known:
            raise unknown(kind, name)
        if missing := sorted(needed - given.keys()):
            what = f"{kind.__qualname__} needs {', '.join(missing)}"
            raise OptionTypeError(what, hint="It has no default: give it by keyword.")
        init(self, **given)

    return __init__


def _rebuild(kind: type[Group], given: dict[str, object]) -> Group:
    return kind(**given)


def same(left: object, right: object) -> bool:
    """Whether two values are equal; by identity where Python cannot hash them."""
    return _hashable(left) == _hashable(right)


def _changed(node: Group) -> Iterator[dataclasses.Field[Any]]:
    return (f for f in fields(node) if not same(getattr(node, f.name), f.default))


class _ByIdentity:
    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.held is other.held

    def __hash__(self) -> int:
        return id(self.held)


def _comparable(node: Group) -> tuple[object, ...]:
    return (node.__kind__, *map(_hashable, values(node.__plain__()).values()))


def _hashable(value: object) -> object:
    try:
        hash(value)
    except TypeError:
        return _ByIdentity(value)
    return value


def _frozen(node: Group, name: str, value: str) -> FrozenOptionError | UnknownOptionError:
    kind = node.__kind__
    if name not in {field.name for field in fields(kind)}:
        return unknown(kind, name)
    path = dotted(kind, name)
    return FrozenOptionError(
        f"Option {path!r} belongs to no context and cannot be assigned to",
        hint=f"Use ctx.at.{path}.set({value}) for a new context, dataclasses.replace for a new "
        f"group, or ctx.{path} = {value} to change a context.",
    )
