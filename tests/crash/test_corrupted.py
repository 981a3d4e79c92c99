"""Changed, cut and missing bytes: an error that names the place, or exactly what was saved."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import sealwax
from sealwax.context import Context
from sealwax.errors import CorruptionError, InvalidLayoutError
from sealwax.layouts import manifest
from sealwax.testing import corrupt, corruptions
from tests.crash.states import context, same, state

PER_FILE = 40
ALWAYS = Context().at.array.saving.compression.set("always")


@pytest.fixture(scope="module", params=["raw", "compressed", "files"])
def saved(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corrupted") / "c"
    settings = {"raw": Context(), "compressed": ALWAYS, "files": context("files")}
    sealwax.save(path, state(1), context=settings[request.param])
    return path


def data_file(path: Path) -> str:
    """The name of a file that holds data of arrays."""
    names = ("state/d/00000000", "state/compressible/c/0")
    return next(name for name in names if (path / name).exists())


def files_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def outcome(path: Path) -> str:
    """What a load comes to: the right values, or an error that says where the damage is."""
    try:
        found = sealwax.load(path)
    except (CorruptionError, InvalidLayoutError) as error:
        return "error" if str(error.path).startswith(str(path)) else f"error at {error.path}"
    return "right" if same(found, state(1)) else "wrong values"


@functools.cache
def copies(path: Path, where: Path) -> Path:
    shutil.copytree(path, where)
    return where


def test_any_damage_to_any_file_is_noticed_or_harmless(saved, tmp_path):
    path = copies(saved, tmp_path / "c")
    errors = dict.fromkeys(map(str, files_of(path)), 0)
    missing: dict[str, str] = {}
    for corruption in corruptions(path, per_file=PER_FILE):
        found, file = outcome(path), str(corruption.file)
        assert found in ("error", "right"), corruption
        errors[file] += found == "error"
        if corruption.what == "missing":
            missing[file] = found
    assert outcome(path) == "right"
    assert errors[str(path / "state/_SEALWAX")] > PER_FILE
    assert errors[str(path / data_file(path))] > 20
    assert missing.keys() == errors.keys()
    assert set(missing.values()) == {"error", "right"}
    assert missing[str(path / data_file(path))] == "error"
    assert missing[str(path / "state/_SEALWAX")] == "error"


def test_missing_directories_are_noticed(saved, tmp_path):
    for number, name in enumerate(("state", str(Path(data_file(saved)).parent))):
        path = copies(saved, tmp_path / str(number))
        shutil.rmtree(path / name)
        assert outcome(path) == "error"


def test_damaged_data_names_its_leaf_its_file_and_the_bytes(tmp_path):
    tree = {"a": np.arange(4, dtype=np.int32), "b": jnp.arange(1000, dtype=np.float32)}
    sealwax.save(tmp_path / "c", tree)
    file = tmp_path / "c" / "state" / "d" / "00000000"
    corrupt(file, bit=8000)
    with pytest.raises(CorruptionError, match="bytes") as caught:
        sealwax.load(tmp_path / "c")
    assert caught.value.leaf == "b"
    assert caught.value.path == str(file)
    whole = sealwax.load(tmp_path / "c", {"a": np.zeros(4, np.int32), "b": ...})
    assert whole["a"].tolist() == [0, 1, 2, 3]


def test_every_flipped_bit_and_every_cut_of_a_manifest_is_noticed(saved):
    for name, kind in ("_SEALWAX", manifest.Checkpoint), ("state/_SEALWAX", manifest.Item):
        data = (saved / name).read_bytes()
        manifest.decode(data, kind, "here")
        for place in range(len(data)):
            for damaged in (data[:place], flipped(data, place)):
                with pytest.raises(CorruptionError):
                    manifest.decode(damaged, kind, "here")


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :]


@pytest.mark.parametrize("name", ["state", "state/d/00000000", "state/_SEALWAX"])
def test_parts_of_two_checkpoints_do_not_mix(tmp_path, name):
    for number in (1, 3):
        sealwax.save(tmp_path / str(number), state(number), context=ALWAYS)
    one, other = tmp_path / "1" / name, tmp_path / "3" / name
    one.rename(tmp_path / "aside")
    if other.is_dir():
        shutil.copytree(other, one)
    else:
        shutil.copy(other, one)
    assert outcome(tmp_path / "1") == "error"


def test_chunks_that_changed_places_are_noticed(tmp_path):
    """Each carries a checksum of its own, so it is not that which tells."""
    tree = {"a": np.full(64, 1, np.int64), "b": np.full(64, 2, np.int64)}
    sealwax.save(tmp_path / "c", tree)
    file = tmp_path / "c" / "state" / "d" / "00000000"
    data, size = file.read_bytes(), os.path.getsize(file) // 2
    assert len(data) == 2 * size
    file.write_bytes(data[size:] + data[:size])
    with pytest.raises(CorruptionError):
        sealwax.load(tmp_path / "c")
