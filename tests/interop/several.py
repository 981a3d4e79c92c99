"""Checkpoints of several items, for tests of what becomes of one of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from orbax.checkpoint import v1 as orbax

import sealwax as ocp
from sealwax.layouts import manifest

TREES = {
    "state": {"w": np.arange(6.0).reshape(2, 3)},
    "opt": {"mu": np.full(5, 0.5, np.float32)},
    "extra": {"n": np.arange(4)},
}


def by_orbax(path: Path) -> Path:
    orbax.save_checkpointables(path, TREES)
    return path


def by_sealwax(path: Path) -> Path:
    """Puts the items of several checkpoints into one, as a save of all of them would have."""
    handlers: dict[str, Any] = {}
    digests: dict[str, Any] = {}
    for name, tree in TREES.items():
        one = path.with_name(f"{path.name}-{name}")
        ocp.save(one, tree, checkpointable_name=name, custom_metadata={"run": 7})
        listed = json.loads((one / "_CHECKPOINT_METADATA").read_bytes())["item_handlers"]
        if handlers:
            (one / name).rename(path / name)
            digests = _root(one).digests | digests
            shutil.rmtree(one)
        else:
            one.rename(path)
            digests |= _root(path).digests
        handlers |= listed
    metadata = json.loads((path / "_CHECKPOINT_METADATA").read_bytes())
    data = json.dumps(metadata | {"item_handlers": handlers}).encode()
    (path / "_CHECKPOINT_METADATA").write_bytes(data)
    digests["_CHECKPOINT_METADATA"] = manifest.digest(data)
    root = _root(path)
    whole = manifest.Checkpoint(writer=root.writer, settings=root.settings, digests=digests)
    (path / "_SEALWAX").write_bytes(manifest.encode(whole))
    return path


def _root(path: Path) -> manifest.Checkpoint:
    file = path / "_SEALWAX"
    return manifest.decode(file.read_bytes(), manifest.Checkpoint, str(file))


MAKERS = {"sealwax": by_sealwax, "orbax": by_orbax}


def holds(path: Path, *names: str, digests: bool = True, both: bool = True) -> None:
    """Checks that a checkpoint has these items and no others, and that each loads.

    With ``digests``, also that what sealwax recorded of its files is true of them; with ``both``
    that each loads with Orbax too.
    """
    listed = json.loads((path / "_CHECKPOINT_METADATA").read_bytes())["item_handlers"]
    assert sorted(listed) == sorted(names)
    assert sorted(x.name for x in path.iterdir() if x.is_dir()) == sorted(names)
    loads(path, *names)
    for name, loaded in orbax.load_checkpointables(path).items() if both else ():
        same(loaded, name)
    if digests and (path / "_SEALWAX").exists():
        recorded = _root(path).digests
        assert {name.partition("/")[0] for name in recorded if "/" in name} == set(names)
        for name, digest in recorded.items():
            assert manifest.digest((path / name).read_bytes()) == digest, name


def loads(path: Path, *names: str) -> None:
    """Checks that these items load as they were saved."""
    for name in names:
        same(ocp.load(path, checkpointable_name=name), name)


def same(loaded: Any, name: str) -> None:
    (key,) = TREES[name]
    np.testing.assert_array_equal(loaded[key], TREES[name][key])
