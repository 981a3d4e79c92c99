"""The names under which checkpoints record who wrote an item, and who answers to which.

Orbax v1 recognises its own names and the older ones of v0; v0 recognises its own only. So what
has an older name is written under that one, and every reader finds its handler.
"""

from __future__ import annotations

from typing import Any

_V1 = "orbax.checkpoint.experimental.v1._src.handlers."
_V0 = ("orbax.checkpoint._src.handlers.", "orbax.checkpoint.v0._src.handlers.")


def _names(v1: str, *v0: str) -> tuple[str, ...]:
    return (*(prefix + name for name in v0 for prefix in _V0), _V1 + v1)


PYTREE = _names(
    "pytree_handler.PyTreeHandler",
    "pytree_checkpoint_handler.PyTreeCheckpointHandler",
    "standard_checkpoint_handler.StandardCheckpointHandler",
)
JSON = _names("json_handler.JsonHandler", "json_checkpoint_handler.JsonCheckpointHandler")
METRICS = (JSON[0], _V1 + "json_handler.MetricsHandler")
PROTO = _names("proto_handler.ProtoHandler", "proto_checkpoint_handler.ProtoCheckpointHandler")
STATEFUL = _names("stateful_checkpointable_handler.StatefulCheckpointableHandler")
_TREELESS = frozenset(
    [name.rpartition(".")[2] for name in (*JSON, *METRICS, *PROTO, *STATEFUL)],
)


def writes_no_tree(typestring: str) -> bool:
    """Whether an item with this record is certainly no tree, whatever files it has.

    Releases of Orbax have had their handlers in different modules. Of a class that is not Orbax's
    nothing is certain: it may well let the tree's handler do the work.

    >>> writes_no_tree(STATEFUL[0]), writes_no_tree(PYTREE[0]), writes_no_tree("mine.JsonHandler")
    (True, False, False)
    """
    module, _, name = typestring.rpartition(".")
    return module.startswith("orbax.checkpoint.") and name in _TREELESS


def typestrings(handler_type: type[Any]) -> tuple[str, ...]:
    """The names that a handler's class answers to; the first is the one that it is saved under.

    A standard class has those of its counterparts in Orbax as ``__typestrings__``. Any other has
    the one that Orbax would give it, and does not inherit: a subclass may write other files.

    >>> typestrings(dict)
    ('builtins.dict',)
    """
    own = (f"{handler_type.__module__}.{handler_type.__qualname__}",)
    standard: tuple[str, ...] | None = vars(handler_type).get("__typestrings__")
    return own if standard is None else (*standard, *own)
