"""Looking into plain data of unknown shape, such as what a JSON file held."""

from __future__ import annotations

from typing import cast


def members(data: object) -> dict[str, object]:
    """Gives an object's members; none of anything else."""
    return cast("dict[str, object]", data) if isinstance(data, dict) else {}


def items(data: object) -> list[object] | None:
    """Gives ``data`` where it is a list."""
    return cast("list[object]", data) if isinstance(data, list) else None


def excerpt(data: object) -> str:
    """Writes ``data`` in at most 80 characters."""
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:77]}..."
