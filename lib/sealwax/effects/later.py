"""Values that a plan does not have yet: they will be the results of earlier steps."""

from __future__ import annotations

import dataclasses
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class From(Generic[T]):
    """The result of an earlier step of the plan, or the part of it that has a name."""

    step: int
    part: str | None = None


Later: TypeAlias = T | From[T]
