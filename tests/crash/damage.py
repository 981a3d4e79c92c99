"""Checkpoints as plain dicts of bytes, damaged in memory and looked at there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sealwax
from sealwax import effect_handlers
from sealwax.errors import SealwaxError
from tests.crash.states import same

Files = dict[str, bytes | None]
"""The bytes of each file below a checkpoint; ``None`` is an empty directory in its place."""


def files_of(path: Path) -> Files:
    found = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in found}


def planted(files: Mapping[str, bytes | None]) -> Any:
    """A file system in memory that has these files below ``/run/c``."""
    root: dict[str, Any] = {}
    for name, data in files.items():
        *above, last = name.split("/")
        place = root
        for part in above:
            place = place.setdefault(part, {})
        place[last] = {} if data is None else data
    return effect_handlers.memory({"run": {"c": root}})


async def examined(files: Mapping[str, bytes | None]) -> sealwax.Verification:
    with planted(files):
        return await sealwax.aio.verify("/run/c")


async def loaded(files: Mapping[str, bytes | None], wanted: Any) -> str:
    """What a load comes to: ``right``, ``error``, or that it is wrong."""
    try:
        with planted(files):
            found = await sealwax.aio.load("/run/c")
    except SealwaxError as error:
        return "error" if str(error.path).startswith("/run/c") else f"an error at {error.path}"
    return "right" if same(found, wanted) else "wrong values"


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def others(files: Files) -> Iterator[tuple[str, Files]]:
    """Each file cut, gone, replaced by a directory or made longer, and each two exchanged."""
    for name, data in files.items():
        assert data is not None
        for size in sorted({0, len(data) // 2, max(0, len(data) - 1)} - {len(data)}):
            yield f"{name} cut to {size}", files | {name: data[:size]}
        yield f"{name} longer", files | {name: data + b"\0"}
        yield f"{name} gone", {other: files[other] for other in files if other != name}
        yield f"{name} a directory", files | {name: None}
        for other, with_it in files.items():
            if other < name and with_it != data:
                yield f"{name} and {other} exchanged", files | {name: with_it, other: data}
