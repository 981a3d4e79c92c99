"""Damage done to checkpoints: the rows of section 5 of the catalogue, among the mistakes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as orbax

from sealwax import errors
from tests.interop.mistakes import MISTAKES as MISTAKES
from tests.interop.mistakes import STATE, Make, mistake

_LAYOUT = (errors.InvalidLayoutError, ValueError)
_CORRUPT = (errors.CorruptionError, OSError)


def _largest(folder: Path) -> Path:
    """The file that holds array data."""
    return max(folder.glob("state/**/d/*"), key=lambda file: file.stat().st_size)


def _damaged(damage: Callable[[Path], object], writer: Any = None) -> Make:
    def make(ocp: Any, here: Path) -> object:
        noise = np.random.default_rng(0).normal(size=3000)
        big = {"w": noise, "s": "text"} | ({"j": jnp.ones(2)} if writer else {})
        (writer or ocp).save(here / "ckpt", big)
        damage(here / "ckpt")
        return ocp.load(here / "ckpt")

    return make


def _flip(folder: Path) -> None:
    data = bytearray(_largest(folder).read_bytes())
    data[1000] ^= 1
    _largest(folder).write_bytes(data)


_DAMAGES: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "a bit of the data flipped": (_flip, "w"),
    "data file emptied": (lambda folder: _largest(folder).write_bytes(b""), "w"),
    "data file deleted": (lambda folder: _largest(folder).unlink(), "w"),
    "data file cut": (
        lambda folder: _largest(folder).write_bytes(_largest(folder).read_bytes()[:9000]),
        "w",
    ),
}
for _title, (_damage, _at) in _DAMAGES.items():
    mistake(_title, *_CORRUPT, leaf=_at)(_damaged(_damage))


@mistake("item directory deleted", *_LAYOUT, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    return _damaged(lambda folder: shutil.rmtree(folder / "state"))(ocp, here)


@mistake("the item's manifest deleted", *_CORRUPT, path="ckpt/state/_SEALWAX")
def _(ocp: Any, here: Path) -> object:
    return _damaged(lambda folder: (folder / "state" / "_SEALWAX").unlink())(ocp, here)


@mistake("the item's manifest emptied", *_CORRUPT, path="ckpt/state/_SEALWAX")
def _(ocp: Any, here: Path) -> object:
    return _damaged(lambda folder: (folder / "state" / "_SEALWAX").write_bytes(b""))(ocp, here)


@mistake("the checkpoint's manifest cut", *_CORRUPT, path="ckpt/_SEALWAX")
def _(ocp: Any, here: Path) -> object:
    return _damaged(lambda folder: (folder / "_SEALWAX").write_bytes(b"{}"))(ocp, here)


@mistake("_CHECKPOINT_METADATA emptied", *_CORRUPT, path="ckpt/_CHECKPOINT_METADATA")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "ckpt", STATE)
    (here / "ckpt" / "_CHECKPOINT_METADATA").write_bytes(b"")
    return ocp.metadata(here / "ckpt")


def _by_orbax(title: str, name: str, data: bytes | None, *raises: type[BaseException]) -> None:
    """Damage to a checkpoint that Orbax wrote."""

    def damage(folder: Path) -> None:
        file = folder / name
        file.unlink() if data is None else file.write_bytes(data)

    mistake(f"Orbax's: {title}", *raises)(_damaged(damage, orbax))


for _title, (_damage, _) in list(_DAMAGES.items())[1:]:
    mistake(f"Orbax's: {_title}", *_CORRUPT)(_damaged(_damage, orbax))
_by_orbax("_METADATA deleted", "state/_METADATA", None, *_LAYOUT)
_by_orbax("_METADATA emptied", "state/_METADATA", b"", *_CORRUPT)
_by_orbax("tree manifest deleted", "state/manifest.ocdbt", None, *_CORRUPT)
_by_orbax("tree manifest cut", "state/manifest.ocdbt", b"0123456789", *_CORRUPT)
_by_orbax("_sharding corrupt", "state/_sharding", b"{", *_CORRUPT)
_by_orbax("array_metadatas corrupt", "state/array_metadatas/process_0", b"{", *_CORRUPT)
_by_orbax("_sharding a list", "state/_sharding", b"[]", *_CORRUPT)
_by_orbax("_METADATA of nothing", "state/_METADATA", b"{}", *_LAYOUT)
_by_orbax("_strings.json deleted", "state/_strings.json", None, *_CORRUPT)
