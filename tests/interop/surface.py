"""What a namespace offers, by introspection, and in what another one differs from it.

A difference is a dotted name and a sentence. ``python -m tests.interop.surface`` prints those that
``docs/api.md`` does not list, as rows of its table.
"""

from __future__ import annotations

import dataclasses
import enum
import fnmatch
import inspect
import pathlib
import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, cast

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "api.md"
Difference = tuple[str, str]
_EMPTY = inspect.Parameter.empty
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_VARIADIC = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
_OBJECT = set(dir(object)) | set(dir(Exception)) | set(dir(str)) | set(dir(tuple))


def differences(theirs: Any, ours: Any, at: str = "") -> Iterator[Difference]:
    """In what our module differs from theirs, and every module in it."""
    others, own = _names(theirs), _names(ours)
    for name in others:
        where = f"{at}.{name}" if at else name
        if name in own:
            yield from _values(getattr(theirs, name), getattr(ours, name), where)
        else:
            yield where, "is not there"
    for name in own:
        if name not in others:
            yield f"{at}.{name}" if at else name, "is new"


def _names(module: ModuleType) -> list[str]:
    """The public names of a module, less those that it imported for its own use."""
    package = module.__name__.partition(".")[0]
    return [
        name
        for name in sorted(dir(module))
        if not name.startswith("_") and not _is_imported(getattr(module, name), module, package)
    ]


def _is_imported(value: Any, module: ModuleType, package: str) -> bool:
    hidden = "._src." in module.__name__
    if isinstance(value, ModuleType):
        return hidden or not value.__name__.startswith(f"{package}.")
    return hidden and str(getattr(value, "__module__", "")).partition(".")[0] != package


def _values(theirs: Any, ours: Any, at: str) -> Iterator[Difference]:
    if isinstance(theirs, ModuleType):
        yield from differences(theirs, ours, at)
    elif inspect.isclass(theirs) and inspect.isclass(ours):
        yield from _classes(theirs, ours, at)
    elif inspect.isroutine(theirs):
        yield from _calls(theirs, ours, at)
    elif inspect.isclass(theirs) and _members(theirs):
        yield at, "is not a class"


def _classes(theirs: type, ours: type, at: str) -> Iterator[Difference]:
    bases = [base for base in theirs.__mro__ if base.__module__ == "builtins"]
    for base in bases:
        if not issubclass(ours, base):
            yield at, f"is not a `{base.__name__}`"
    if issubclass(theirs, enum.Enum):
        listed = [
            {member.name: member.value for member in cast(Any, kind)} for kind in (theirs, ours)
        ]
        if listed[0] != listed[1]:
            yield at, f"has the members {listed[1]}"
        return
    if not issubclass(theirs, BaseException):
        yield from _constructors(theirs, ours, at)
        yield from _bodies(theirs, ours, at)


def _constructors(theirs: type, ours: type, at: str) -> Iterator[Difference]:
    try:
        given, taken = inspect.signature(theirs), inspect.signature(ours)
    except ValueError:
        return
    # A protocol, and what only inherits from one, has a constructor that says nothing.
    if all(parameter.kind in _VARIADIC for parameter in given.parameters.values()):
        return
    yield from _signatures(given, taken, at)


def _bodies(theirs: type, ours: type, at: str) -> Iterator[Difference]:
    others, own = _members(theirs), _members(ours)
    for name in others:
        if name not in own:
            yield f"{at}.{name}", "is not there"
        else:
            one, two = (inspect.getattr_static(kind, name, None) for kind in (theirs, ours))
            if callable(getattr(theirs, name, None)) and not isinstance(one, property):
                yield from _values(getattr(theirs, name), getattr(ours, name), f"{at}.{name}")
            elif callable(two) and not inspect.isclass(two):
                yield f"{at}.{name}", "is a method"
    taken = _parameters(ours)
    for name in own:
        if name not in others and name not in taken:
            yield f"{at}.{name}", "is new"


def _parameters(kind: type) -> set[str]:
    try:
        return set(inspect.signature(kind).parameters)
    except ValueError:
        return set()


def _members(kind: type) -> list[str]:
    """Methods, properties and fields of a class that are not those of every object."""
    if kind.__module__.partition(".")[0] not in ("orbax", "sealwax"):
        return []
    annotated = [name for base in kind.__mro__ for name in inspect.get_annotations(base)]
    return sorted(n for n in {*dir(kind), *annotated} - _OBJECT if not n.startswith("_"))


def _calls(theirs: Any, ours: Any, at: str) -> Iterator[Difference]:
    if not callable(ours):
        yield at, "cannot be called"
        return
    if inspect.iscoroutinefunction(theirs) != inspect.iscoroutinefunction(ours):
        yield at, "is a coroutine" if inspect.iscoroutinefunction(ours) else "is not a coroutine"
    given, taken = inspect.signature(theirs), inspect.signature(ours)
    if not all(parameter.kind in _VARIADIC for parameter in given.parameters.values()):
        yield from _signatures(given, taken, at)


def _signatures(
    given: inspect.Signature, taken: inspect.Signature, at: str
) -> Iterator[Difference]:
    others, own = given.parameters, taken.parameters
    positions = [
        [name for name, parameter in each.items() if parameter.kind not in (_KEYWORD, *_VARIADIC)]
        for each in (others, own)
    ]
    for name, parameter in others.items():
        if name not in own:
            yield at, f"does not take `{name}`"
            continue
        if own[name].kind != parameter.kind:
            yield at, f"takes `{name}` as {own[name].kind.description}"
        elif name in positions[0] and positions[0].index(name) != positions[1].index(name):
            yield at, f"takes `{name}` at another place"
        if _default(own[name]) != _default(parameter):
            yield at, f"`{name}` is {_written(own[name])} by default, not {_written(parameter)}"
    for name, parameter in own.items():
        if name not in others:
            required = parameter.kind is not _KEYWORD and parameter.default is _EMPTY
            yield at, f"needs `{name}`" if required else f"takes `{name}`"


def _default(parameter: inspect.Parameter) -> object:
    """A default that can be compared with one of the other library."""
    default = parameter.default
    if default is _EMPTY:
        return "required"
    if isinstance(default, enum.Enum):
        return default.name
    if dataclasses.is_dataclass(default) or "<factory>" in repr(default):
        return "made for each"
    return default if not isinstance(default, type) else default.__qualname__


def _written(parameter: inspect.Parameter) -> str:
    default = _default(parameter)
    known = default is parameter.default
    return re.sub(r" at 0x\w+", "", f"`{default!r}`" if known else str(default)).replace("|", "or")


def rows() -> dict[Difference, str]:
    """The rows of the page's first table: pattern of names and difference, with the reason."""
    table: dict[Difference, str] = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `") and line.count(" | ") == 2:
            names, difference, reason = (cell.strip() for cell in line.strip("|").split(" | "))
            for name in re.findall(r"`([^`]+)`", names):
                assert (name, difference) not in table, f"{name} is listed twice"
                table[name, difference] = reason
    return table


def unlisted(there: set[Difference], table: dict[Difference, str]) -> set[Difference]:
    """Differences that no row covers."""
    return {each for each in there if not any(covers(row, each) for row in table)}


def stale(there: set[Difference], table: dict[Difference, str]) -> set[Difference]:
    """Rows that cover no difference."""
    return {row for row in table if not any(covers(row, each) for each in there)}


def covers(row: Difference, found: Difference) -> bool:
    """Whether a row, whose name may be a pattern, is about a difference."""
    return row[1] == found[1] and fnmatch.fnmatchcase(found[0], row[0])


def found() -> set[Difference]:
    """Every difference there is."""
    from orbax.checkpoint import v1 as orbax

    import sealwax

    return set(differences(orbax, sealwax))


if __name__ == "__main__":
    for each in sorted(unlisted(found(), rows())):
        sys.stdout.write(f"| `{each[0]}` | {each[1]} | |\n")
    for each in sorted(stale(found(), rows())):
        sys.stdout.write(f"no difference any more: {each[0]} {each[1]}\n")
