"""Names that Orbax v1 has had for its verbs; each warns, and does what the new one does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from sealwax.verbs.inspecting import metadata
from sealwax.verbs.loading import load, load_async
from sealwax.verbs.saving import save, save_async

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _renamed(old: str, verb: Callable[_P, _T]) -> Callable[_P, _T]:
    new = verb.__name__

    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        warnings.warn(f"Use `{new}` instead of `{old}`.", DeprecationWarning, stacklevel=2)
        return verb(*args, **kwargs)

    call.__name__ = call.__qualname__ = old
    call.__doc__ = f"Deprecated: the new name is ``{new}``."
    return call


save_pytree = _renamed("save_pytree", save)
save_pytree_async = _renamed("save_pytree_async", save_async)
load_pytree = _renamed("load_pytree", load)
load_pytree_async = _renamed("load_pytree_async", load_async)
pytree_metadata = _renamed("pytree_metadata", metadata)
