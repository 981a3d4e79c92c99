"""Settings that cannot act yet: using one raises, so that none is ignored in silence.

``LATER`` is the whole truth: removing a line declares that the setting acts. A name may be that of
a field or of a group.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, final

from sealwax.errors import OptionUnavailableError
from sealwax.options import DEFAULTS, CheckpointLayout, Options
from sealwax.settings.checks import shown
from sealwax.settings.frozen import same

Operation = Literal["save", "load", "delete"]


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """One setting that cannot act yet.

    Attributes:
      operations: The operations on which it would act.
      needs: What has to be there for it to act.
      values: The values that cannot act; ``None`` for all but the default.
    """

    operations: frozenset[Operation]
    needs: str
    values: frozenset[object] | None = None


def _later(operations: frozenset[Operation], needs: str, *values: object) -> Later:
    return Later(operations=operations, needs=needs, values=frozenset(values) if values else None)


_SAVE = frozenset[Operation]({"save"})
_LOAD = frozenset[Operation]({"load"})
_BOTH = _SAVE | _LOAD
_BROADCAST = "broadcasts between replicas"
_PROCESSES = "more than one process"
_SAFETENSORS = "the safetensors layout"

LATER: dict[str, Later] = {
    "array.saving.enable_replica_parallel_separate_folder": _later(_SAVE, _PROCESSES),
    "array.loading.use_load_and_broadcast": _later(_LOAD, _BROADCAST),
    "array.loading.load_and_broadcast_options": _later(_LOAD, _BROADCAST),
    "multiprocessing.primary_host": _later(_BOTH, _PROCESSES),
    "multiprocessing.active_processes": _later(_BOTH, _PROCESSES),
    "multiprocessing.barrier_sync_key_prefix": _later(_BOTH, _PROCESSES),
    "pathways.checkpointing_impl": _later(_BOTH, "a Pathways backend"),
    "checkpoint_layout": _later(_BOTH, _SAFETENSORS, CheckpointLayout.SAFETENSORS),
    "safetensors.max_over_read_ratio": _later(_LOAD, _SAFETENSORS),
    "safetensors.read_chunk_bytes": _later(_LOAD, _SAFETENSORS),
}


def unavailable(options: Options, operation: Operation) -> OptionUnavailableError | None:
    """Returns the error for the first setting that would have to act on ``operation`` and cannot.

    >>> from sealwax.context import Context
    >>> unavailable(Context().options, "save") is None
    True
    """
    if options is DEFAULTS:
        return None
    for name, later in LATER.items():
        value, default = _at(options, name), _at(DEFAULTS, name)
        cannot = not same(value, default) if later.values is None else value in later.values
        if operation in later.operations and cannot:
            return OptionUnavailableError(
                f"Option {name!r} cannot act on a {operation} yet; it needs {later.needs}",
                expected=shown(default),
                found=shown(value),
                hint=f"Leave {name!r} at its default.",
            )
    return None


def _at(options: Options, name: str) -> Any:
    value: Any = options
    for part in name.split("."):
        value = getattr(value, part)
    return value
