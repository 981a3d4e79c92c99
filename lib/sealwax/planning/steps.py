"""Steps and the names of their directories."""

from __future__ import annotations

import dataclasses
import operator
import re
from typing import SupportsIndex, cast

from sealwax.errors import ArgumentTypeError, ArgumentValueError
from sealwax.planning import names


def as_step(step: object) -> int:
    """A step as an ``int``; integers of NumPy and JAX are taken too.

    Raises:
      ArgumentTypeError: It is not an integer.
      ArgumentValueError: It is negative.

    >>> import numpy as np
    >>> as_step(np.int64(5))
    5
    """
    try:
        if isinstance(step, bool):
            raise TypeError
        number = operator.index(cast("SupportsIndex", step))
    except TypeError:
        raise ArgumentTypeError(
            "A step is an integer",
            expected="an int, such as 1000",
            found=f"{step!r} of type {type(step).__name__}",
        ) from None
    if number < 0:
        raise ArgumentValueError("A step is not negative", expected="0 or more", found=str(number))
    return number


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Names that are a prefix, an underscore, and the step in decimal digits.

    A step has one name, and a name that is of a step at all is of one step: ``007`` is no name
    where the width is 0, and ``7`` is none where it is 3.

    Attributes:
      prefix: What is before the underscore; with ``None``, there is neither.
      width: The least number of digits, filled up with zeros; 0 for as many as it takes.

    >>> padded = Naming(prefix="ckpt", width=4)
    >>> padded.build(12), padded.parse("ckpt_0012"), padded.parse("ckpt_12")
    ('ckpt_0012', 12, None)
    """

    prefix: str | None = None
    width: int = 0

    def __post_init__(self) -> None:
        _check_prefix(self.prefix)
        if isinstance(self.width, bool) or not isinstance(cast("object", self.width), int):
            raise ArgumentTypeError(
                "The fixed length of a step's digits is an integer", found=repr(self.width)
            )
        if self.width < 0:
            raise ArgumentValueError(
                "The fixed length of a step's digits is negative",
                expected="0 or more",
                found=str(self.width),
            )

    @property
    def start(self) -> str:
        """What every name begins with."""
        return "" if self.prefix is None else f"{self.prefix}_"

    def build(self, step: object) -> str:
        """The name of a step's directory.

        Raises:
          ArgumentTypeError: ``step`` is not an integer.
          ArgumentValueError: ``step`` is negative.
        """
        return f"{self.start}{as_step(step):0{self.width}d}"

    def parse(self, name: str) -> int | None:
        """The step that a directory of this name is of, or ``None`` if it is of none."""
        digits = name.removeprefix(self.start)
        # ``int`` knows the digits of every script, and Orbax writes those of one.
        if not name.startswith(self.start) or not _DIGITS.fullmatch(digits):
            return None
        # Digits without end are nobody's step, and Python refuses to make a number of them.
        if len(digits) > _LONGEST:
            return None
        step = int(digits)
        return step if digits == f"{step:0{self.width}d}" else None


_DIGITS = re.compile(r"[0-9]+")
_LONGEST = 255
"""The length of the longest name that file systems take."""


def _check_prefix(prefix: object) -> None:
    if prefix is None:
        return
    if not isinstance(prefix, str):
        raise ArgumentTypeError("The prefix of a step's name is not a string", found=repr(prefix))
    wrong = next((part for part in ("/", "\0") if part in prefix), None)
    if wrong is not None:
        raise ArgumentValueError(
            "The prefix of a step's name holds a character that the name of a directory cannot",
            found=f"{wrong!r} in {prefix!r}",
            hint="For a directory of its own, make it a part of the run's path.",
        )
    if names.is_temporary(prefix):
        raise ArgumentValueError(
            "With this prefix, every checkpoint would be taken for an unfinished one",
            found=repr(prefix),
        )
    try:
        prefix.encode()
    except UnicodeEncodeError as error:
        raise ArgumentValueError(
            "The prefix of a step's name holds characters that file names cannot",
            found=ascii(prefix),
        ) from error
