"""Metrics, as a training loop has them, as an item of the checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from returns.result import Result, safe

from sealwax.checkpointables import json_codec
from sealwax.checkpointables.typestrings import METRICS as TYPESTRINGS
from sealwax.errors import InvalidMetadataError, SealwaxError
from sealwax.options import Options
from sealwax.planning.capture import Captured
from sealwax.planning.pipeline import raised
from sealwax.planning.small_items import FilesItem
from sealwax.training.store import METRICS
from sealwax.verbs.save_operation import Capture

_LONG = str(np.dtype("longdouble"))


def plain(value: Any, place: str = METRICS) -> Any:
    """Metrics with Python's numbers in place of scalars of NumPy and JAX.

    Raises:
      InvalidMetadataError: JSON has nothing for one of them.

    >>> import numpy as np
    >>> plain({"loss": np.float32(0.5), "counts": [np.int64(2)]})
    {'loss': 0.5, 'counts': [2]}
    """
    try:
        return _plain(value, place)
    except RecursionError as error:
        raise InvalidMetadataError(
            f"The value of {place} is nested too deeply, or in itself"
        ) from error


def _plain(value: Any, place: str) -> Any:
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, Any]", value).items()
        return {_key(key, place): _plain(each, f"{place}[{key!r}]") for key, each in pairs}
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return [_plain(each, f"{place}[{number}]") for number, each in enumerate(items)]
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        item = _item(value)
        if type(item) is not type(value):
            return _plain(item, place)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    raise InvalidMetadataError(
        f"The value of {place} cannot be stored as JSON",
        expected="numbers, strings, booleans, None, and lists and dicts of these",
        found=kind if shape is None else f"{kind} of shape {shape}",
        hint="Convert it first: float(x) for one number, x.tolist() for an array.",
    )


def _item(scalar: Any) -> Any:
    """The number of a scalar; what has none as it is."""
    if str(getattr(scalar, "dtype", "")) == _LONG:  # Which is its own item.
        return float(scalar)
    try:
        return scalar.item()
    except NotImplementedError:  # Typed keys have none.
        return scalar


def _key(key: object, place: str) -> str:
    if not isinstance(key, str):
        raise InvalidMetadataError(
            f"A key of {place} is not a string", expected="strings", found=repr(key)
        )
    return key


def with_metrics(capture: Capture, metrics: Any) -> Capture:
    """Captures what another captures, and metrics beside it where there are any."""
    if metrics is None:
        return capture
    return functools.partial(_captured, capture, metrics)


@safe(exceptions=(SealwaxError,))
def _captured(capture: Capture, metrics: Any, options: Options) -> Sequence[Captured]:
    files = json_codec.files(raised(json_codec.encode(plain(metrics), METRICS)), METRICS)
    item = FilesItem(name=METRICS, typestring=TYPESTRINGS[0], files=files)
    made: Result[Sequence[Captured], SealwaxError] = capture(options)
    return (*raised(made), Captured(item, None))
