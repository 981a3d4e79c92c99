"""Teaching sealwax a type of leaf: by a pair of functions, as a value in the settings.

A leaf of such a type is stored as a small tree of leaves that every checkpoint can hold, and plain
data beside it. Orbax, and whoever does not know the type, sees that tree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast, final

from sealwax.errors import AlreadyExistsError, InvalidHandlerError


@final
@dataclasses.dataclass(frozen=True, slots=True)
class LeafHandler:
    """Says how leaves of one type are stored.

    Attributes:
      type: The type.
      to_leaves: Takes a leaf apart: gives a tree of standard leaves, and plain data for which JSON
        has a form, or ``None``. Both may be empty.
      from_leaves: Puts a leaf together again from the two.
      name: What checkpoints call the type: its dotted name where this is empty. A name that was
        used must stay for its checkpoints to be loaded.
      derived: Whether leaves of types derived from it are stored so too, and come back as
        whatever ``from_leaves`` makes of them.
      abstract: A type that describes such leaves in a template, beside ``type`` itself.
      template: Gives the template of the small tree, such as shapes and shardings, for the
        description of a leaf; without it, or where it gives ``None``, it is restored as saved.
      describe: Gives the description of a leaf from the small tree of metadata and the data:
        what ``sealwax.metadata`` shows, and ``template`` takes. Without it the type is shown.

    >>> import fractions
    >>> def pair(value):
    ...     return (value.numerator, value.denominator), None
    >>> def fraction(pair, _):
    ...     return fractions.Fraction(*pair)
    >>> handler = LeafHandler(fractions.Fraction, to_leaves=pair, from_leaves=fraction)
    >>> handler.name
    'fractions.Fraction'
    """

    type: type[Any]
    to_leaves: Callable[[Any], tuple[Any, Any]] = dataclasses.field(kw_only=True)
    from_leaves: Callable[[Any, Any], Any] = dataclasses.field(kw_only=True)
    name: str = dataclasses.field(default="", kw_only=True)
    derived: bool = dataclasses.field(default=False, kw_only=True)
    abstract: type[Any] | None = dataclasses.field(default=None, kw_only=True)
    template: Callable[[Any], Any] | None = dataclasses.field(default=None, kw_only=True)
    describe: Callable[[Any, Any], Any] | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        given = cast("type[Any] | object", self.type)
        if not isinstance(given, type):
            raise InvalidHandlerError(
                "A leaf handler is for a type", expected="a class", found=repr(given)[:80]
            )
        if not self.name:
            object.__setattr__(self, "name", f"{given.__module__}.{given.__qualname__}")

    def accepts(self, wanted: object) -> bool:
        """Whether a leaf of a template stands for such a leaf."""
        kinds = (self.type,) if self.abstract is None else (self.type, self.abstract)
        return isinstance(wanted, kinds) or (isinstance(wanted, type) and issubclass(wanted, kinds))


@final
@dataclasses.dataclass(frozen=True, slots=True)
class LeafHandlers:
    """Leaf handlers, as a value: ``with_handler`` gives another one.

    Attributes:
      handlers: The handlers, each for a type of its own.
    """

    handlers: tuple[LeafHandler, ...] = ()

    def with_handler(self, handler: LeafHandler) -> LeafHandlers:
        """These handlers and one more, which takes the place of one for the same type.

        Raises:
          AlreadyExistsError: Another type has the name.
        """
        others = tuple(known for known in self.handlers if known.type is not handler.type)
        for known in others:
            if known.name == handler.name:
                raise AlreadyExistsError(
                    f"The name {handler.name!r} is that of another leaf handler",
                    found=f"one for {known.type.__qualname__}",
                    hint="Pass another name=.",
                )
        return LeafHandlers((*others, handler))

    def find(self, kind: type) -> LeafHandler | None:
        """The handler for leaves of a type: its own, or that of the nearest base with one."""
        for base in kind.__mro__:
            for handler in self.handlers:
                if handler.type is base and (handler.derived or base is kind):
                    return handler
        return None

    def named(self, name: str) -> LeafHandler | None:
        """The handler that checkpoints call so."""
        return next((handler for handler in self.handlers if handler.name == name), None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(h.type.__qualname__ for h in self.handlers)})"
