"""What policies accept: intervals, counts, and other policies."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex, TypeVar, cast

from sealwax.errors import ArgumentTypeError, ArgumentValueError

P = TypeVar("P")


def integer(what: str, value: object, *, least: int = 1) -> int:
    """An integer of at least ``least``, of NumPy's or JAX's kind too.

    Raises:
      ArgumentTypeError: It is not an integer.
      ArgumentValueError: It is less.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        made = operator.index(cast("SupportsIndex", value))
    except TypeError:
        raise ArgumentTypeError(f"{what} is not an integer", found=repr(value)) from None
    if made < least:
        raise ArgumentValueError(
            f"{what} is too small", expected=f"at least {least}", found=str(made)
        )
    return made


def number(what: str, value: object, *, zero: bool = False) -> None:
    """Checks that a number is finite and above zero, or zero if ``zero``.

    Raises:
      ArgumentTypeError: It is not a number.
      ArgumentValueError: It is not finite, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ArgumentTypeError(f"{what} is not a number", found=repr(value))
    made = float(value)
    if not math.isfinite(made) or made < 0 or (made == 0 and not zero):
        wanted = "a finite number above 0" if not zero else "a finite number, 0 or more"
        raise ArgumentValueError(f"{what} is out of range", expected=wanted, found=str(value))


def as_policies(policies: Iterable[P], kind: Any) -> tuple[P, ...]:
    """Policies as a tuple.

    Raises:
      ArgumentTypeError: One of them is no policy of that kind.
    """
    if not isinstance(cast("object", policies), Iterable):
        raise ArgumentTypeError("These are no policies", found=repr(policies))
    made = tuple(policies)
    for each in cast("tuple[object, ...]", made):
        if isinstance(each, type) or not isinstance(each, kind):
            raise ArgumentTypeError(
                "This is not a policy", expected=f"a {kind.__name__}", found=repr(each)
            )
    return made
