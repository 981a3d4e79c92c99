"""Names that Orbax v1 has had for methods of its checkpointer; each warns."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any


def _renamed(old: str, new: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        warnings.warn(f"Use `{new}` instead of `{old}`.", DeprecationWarning, stacklevel=2)
        return getattr(self, new)(*args, **kwargs)

    call.__name__ = call.__qualname__ = old
    call.__doc__ = f"Deprecated: the new name is ``{new}``."
    return call


class OldNames:
    """The methods that were renamed."""

    save_pytree = _renamed("save_pytree", "save")
    save_pytree_async = _renamed("save_pytree_async", "save_async")
    load_pytree = _renamed("load_pytree", "load")
    load_pytree_async = _renamed("load_pytree_async", "load_async")
    pytree_metadata = _renamed("pytree_metadata", "metadata")
