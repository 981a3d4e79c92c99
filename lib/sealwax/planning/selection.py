"""A selection: which leaves of a checkpoint are taken, and what they are called where they go."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, cast, final

from sealwax.errors import OptionTypeError
from sealwax.settings.checks import shown

Pattern: TypeAlias = "str | re.Pattern[str] | Callable[[str, Any], bool]"


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which leaves of a checkpoint to take, and under which names.

    Names are the keys of a leaf joined by dots, as a checkpoint's metadata has them. A pattern is

    - a string, in which ``*`` stands for any part of a name up to the next dot, ``?`` for one
      character and ``**`` for any number of whole parts; it takes the leaves of that name, and of
      a subtree of that name all leaves,
    - a compiled regular expression that matches a whole name, or
    - a function of the name and of what ``metadata`` tells of the leaf.

    Attributes:
      include: A pattern, or several, of what is taken; everything by default.
      exclude: A pattern, or several, of what is left all the same.
      rename: What subtrees of the checkpoint are called where they go, ``{old: new}``, the
        longest that fits; or a function from a leaf's name to its new one.

    >>> backbone = Selection(include="params.backbone", rename={"params.backbone": "encoder"})
    >>> backbone.takes("params.backbone.0.w"), backbone.takes("params.head.w")
    (True, False)
    >>> backbone.renamed("params.backbone.0.w")
    'encoder.0.w'
    """

    include: Pattern | Iterable[Pattern] = "**"
    exclude: Pattern | Iterable[Pattern] = ()
    rename: Mapping[str, str] | Callable[[str], str] | Iterable[tuple[str, str]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "include", _patterns("include", self.include))
        object.__setattr__(self, "exclude", _patterns("exclude", self.exclude))
        object.__setattr__(self, "rename", _renaming(self.rename))

    @property
    def included(self) -> tuple[Pattern, ...]:
        """The patterns of what is taken."""
        return cast("tuple[Pattern, ...]", self.include)

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """All patterns."""
        return (*self.included, *cast("tuple[Pattern, ...]", self.exclude))

    @property
    def moves(self) -> tuple[tuple[str, str], ...]:
        """Old and new names of subtrees; none where a function renames."""
        rename: Any = self.rename
        return cast("tuple[tuple[str, str], ...]", rename) if isinstance(rename, tuple) else ()

    def takes(self, name: str, leaf: object = None) -> bool:
        """Whether a leaf is taken.

        Args:
          name: Its name in the checkpoint.
          leaf: What functions among the patterns are given; they are not asked about ``None``.
        """
        excluded = self.patterns[len(self.included) :]
        return any(matches(pattern, name, leaf) for pattern in self.included) and not any(
            matches(pattern, name, leaf) for pattern in excluded
        )

    def renamed(self, name: str) -> str:
        """What a leaf of the checkpoint is called where it goes.

        Raises:
          OptionTypeError: The function that renames gave something else than a name.
        """
        if callable(self.rename):
            new: Any = self.rename(name)
            if not isinstance(new, str):
                raise OptionTypeError(
                    "The function that renames leaves did not return a name",
                    leaf=name,
                    expected="a string",
                    found=shown(new),
                )
            return new
        for old, new in self.moves:
            if under(name, old):
                return _join(new, name[len(old) :].removeprefix("."))
        return name

    def origins(self, name: str) -> Iterator[str]:
        """The names in a checkpoint from which a leaf of this name could come."""
        candidates = [name] + [
            _join(old, name[len(new) :].removeprefix("."))
            for old, new in self.moves
            if under(name, new)
        ]
        return (origin for origin in candidates if self.renamed(origin) == name)


def as_selection(value: object) -> Selection:
    """A selection; anything else is the pattern, or the patterns, of what is included."""
    return value if isinstance(value, Selection) else Selection(include=cast("Any", value))


def under(name: str, root: str) -> bool:
    """Whether a name is that of a subtree, or of something in it."""
    return not root or name == root or name.startswith(f"{root}.")


def matches(pattern: Pattern, name: str, leaf: object) -> bool:
    """Whether a pattern takes a leaf."""
    if isinstance(pattern, str):
        return _compiled(pattern).fullmatch(f"{name}.") is not None
    if isinstance(pattern, re.Pattern):
        return pattern.fullmatch(name) is not None
    return leaf is not None and bool(pattern(name, leaf))


@functools.lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    """What a glob matches: names with a dot at the end, so that each part has one."""
    parts: list[str] = []
    for part in pattern.split("."):
        if part == "**":
            parts.append(r"(?:[^.]*\.)*")
        else:
            text = re.escape(part).replace(r"\*", "[^.]*").replace(r"\?", "[^.]")
            parts.append(rf"{text}\.")
    return re.compile("".join(parts) + r"(?:[^.]*\.)*", re.DOTALL)


def _join(root: str, rest: str) -> str:
    return f"{root}.{rest}" if root and rest else root or rest


def _patterns(field: str, value: Any) -> tuple[Pattern, ...]:
    many: list[Any] = [value] if _is_pattern(value) else _items(value)
    wrong = [each for each in many if not _is_pattern(each)]
    if wrong:
        raise OptionTypeError(
            f"Field {field!r} of a selection is not a pattern",
            expected="a string, a compiled regular expression, a function, or several of these",
            found=shown(wrong[0]),
        )
    return tuple(many)


def _is_pattern(value: object) -> bool:
    return isinstance(value, (str, re.Pattern)) or callable(value)


def _items(value: Any) -> list[Any]:
    """What is in an iterable; anything else alone."""
    return [value] if isinstance(value, str) or not isinstance(value, Iterable) else [*value]


def _renaming(value: Any) -> object:
    if value is None or (callable(value) and not isinstance(value, Mapping)):
        return value
    given: list[Any] = _items(
        dict(cast("Any", value)).items() if isinstance(value, Mapping) else value
    )
    if not all(map(_is_pair, given)):
        raise OptionTypeError(
            "Field 'rename' of a selection does not say what is renamed",
            expected="a mapping of names of subtrees, or a function from a name to a name",
            found=shown(cast("object", value)),
        )
    pairs: list[tuple[str, str]] = [(old, new) for old, new in given]
    return tuple(sorted(pairs, key=lambda pair: (-len(pair[0]), pair)))


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and list(map(type, cast("tuple[Any, ...]", value))) == [
        str,
        str,
    ]
