"""Checkpoints of Orbax are verified as far as their files allow, and the report says how far."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from orbax.checkpoint import v1 as orbax

import sealwax
from sealwax.effects import Fault
from sealwax.errors import CorruptionError

RNG = np.random.default_rng(0)
STATE: dict[str, Any] = {
    "noise": RNG.normal(size=3000),
    "j": jnp.arange(12, dtype=jnp.float32).reshape(3, 4),
    "n": 3,
    "s": "text",
    "empty": {},
}


def save(path: Path, *, use_ocdbt: bool = True, use_zarr3: bool = True) -> None:
    array = orbax.options.ArrayOptions(
        saving=orbax.options.ArrayOptions.Saving(use_ocdbt=use_ocdbt, use_zarr3=use_zarr3)
    )
    with orbax.Context(array_options=array):
        orbax.save(path, STATE)


@pytest.fixture(scope="module", params=[(True, True), (False, True), (True, False), (False, False)])
def saved(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("orbax") / "c"
    save(path, use_ocdbt=request.param[0], use_zarr3=request.param[1])
    return path


@pytest.fixture
def path(saved, tmp_path) -> Path:
    return shutil.copytree(saved, tmp_path / "c")


def largest(path: Path) -> Path:
    """The file that holds the noise."""
    return max((f for f in path.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


def test_an_intact_one_says_what_no_checksum_covers(path):
    found = sealwax.verify(path)
    assert found.ok
    assert found.writer == "Orbax"
    assert found.leaves == 4
    assert {"state: noise", "state: j", "state: n"} <= set(found.unprotected)
    assert {"_CHECKPOINT_METADATA", "state/_METADATA", "state/_strings.json"} <= set(
        found.unprotected
    )
    assert found.unprotected_nbytes >= STATE["noise"].nbytes
    assert found.nbytes == 0
    assert "without a checksum, so only read and decoded" in str(found)


@pytest.mark.parametrize("size", [0, 100])
def test_data_that_was_cut_or_emptied_names_its_leaf(path, size):
    file = largest(path)
    file.write_bytes(file.read_bytes()[:size])
    assert "noise" in {problem.leaf for problem in sealwax.verify(path).problems}


def test_data_that_is_gone_names_its_leaf(path):
    largest(path).unlink()
    found = {p.leaf: p for p in sealwax.verify(path).problems}
    assert found["noise"].fault in (Fault.MISSING, Fault.CHANGED)
    assert found["noise"].item == "state"


@pytest.mark.parametrize(
    "name", ["_CHECKPOINT_METADATA", "state/_METADATA", "state/_sharding", "state/_strings.json"]
)
@pytest.mark.parametrize("content", [b"", b"{", b"[]"])
def test_metadata_that_makes_no_sense_names_its_file(path, name, content):
    path.joinpath(name).write_bytes(content)
    assert [problem.file for problem in sealwax.verify(path).problems] == [name]


@pytest.mark.parametrize("name", ["state/_METADATA", "state/_strings.json", "state"])
def test_metadata_that_is_gone_is_told(path, name):
    place = path / name
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    found = sealwax.verify(path).problems
    assert len(found) == 1
    assert found[0].leaf == ("s" if "strings" in name else None)


def test_a_flipped_bit_is_told_or_loaded_as_orbax_loads_it(tmp_path):
    """How many go unnoticed is what Orbax's files allow; none is of the database's own records."""
    save(tmp_path / "c")
    rng, told, tried = np.random.default_rng(1), 0, 60
    files = [f for f in (tmp_path / "c").rglob("*") if f.is_file() and f.stat().st_size]
    for number in range(tried):
        file = files[number % len(files)]
        whole = file.read_bytes()
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        file.write_bytes(changed)
        report = sealwax.verify(tmp_path / "c")
        told += not report.ok
        if report.ok:
            sealwax.load(tmp_path / "c", select=["noise"])
            assert file != tmp_path / "c/state/manifest.ocdbt"
        file.write_bytes(whole)
    print(f"{told} of {tried} flipped bits told")
    assert told > tried // 5


def test_a_flat_checkpoint_of_v0(tmp_path):
    import orbax.checkpoint as v0

    with v0.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "c", {"w": np.arange(5000.0)})
    found = sealwax.verify(tmp_path / "c")
    assert found.ok
    assert "w" in found.unprotected
    file = largest(tmp_path / "c")
    file.write_bytes(file.read_bytes()[:50])
    assert "w" in {problem.leaf for problem in sealwax.verify(tmp_path / "c").problems}


def test_items_of_json(tmp_path):
    orbax.save_checkpointables(tmp_path / "c", {"state": STATE, "config": {"lr": 0.1}})
    assert sealwax.verify(tmp_path / "c").ok


def test_chunks_that_carry_checksums_are_held_against_them(tmp_path):
    """Orbax reads such arrays and does not write them; those who convert checkpoints may."""
    sealwax.save(tmp_path / "c", {"w": STATE["noise"]})
    for manifest in (tmp_path / "c").rglob("_SEALWAX"):
        manifest.unlink()
    found = sealwax.verify(tmp_path / "c")
    assert found.ok
    assert (found.nbytes, found.unprotected_nbytes) == (STATE["noise"].nbytes, 0)
    file = largest(tmp_path / "c")
    changed = bytearray(file.read_bytes())
    changed[500] ^= 4
    file.write_bytes(changed)
    (problem,) = sealwax.verify(tmp_path / "c").problems
    assert (problem.leaf, problem.fault) == ("w", Fault.CHANGED)
    with pytest.raises(CorruptionError):
        sealwax.verify(tmp_path / "c").raise_for_damage()


def test_an_array_that_claims_to_be_huge_is_not_read_for_ever(tmp_path):
    save(tmp_path / "c", use_ocdbt=False)
    where = tmp_path / "c/state/noise/zarr.json"
    metadata = json.loads(where.read_bytes())
    metadata["shape"] = [3000 * 2**30]
    where.write_text(json.dumps(metadata))
    found = sealwax.verify(tmp_path / "c").problems
    assert {problem.leaf for problem in found} == {"noise"}


@pytest.mark.parametrize("how", ["copied", "moved"])
def test_orbax_loads_ours_after_it_was_copied_or_moved(tmp_path, how):
    sealwax.save(tmp_path / "c", STATE)
    place = tmp_path / "other" / "place"
    place.parent.mkdir()
    if how == "copied":
        shutil.copytree(tmp_path / "c", place)
        shutil.rmtree(tmp_path / "c")
    else:
        (tmp_path / "c").rename(place)
    assert sealwax.verify(place).ok
    found = orbax.load(place)
    np.testing.assert_array_equal(found["noise"], STATE["noise"])
    np.testing.assert_array_equal(found["j"], STATE["j"])
    assert (found["n"], found["s"]) == (3, "text")


def test_every_reader_of_zarr_checks_the_checksums_of_ours(tmp_path):
    sealwax.save(tmp_path / "c", STATE)
    files = {"driver": "file", "path": f"{tmp_path}/c/state/"}
    store = {"driver": "ocdbt", "base": files, "path": "noise"}
    spec = {"driver": "zarr3", "kvstore": store}
    np.testing.assert_array_equal(tensorstore.open(spec).result(), STATE["noise"])
    file = largest(tmp_path / "c")
    changed = bytearray(file.read_bytes())
    changed[1000] ^= 1
    file.write_bytes(changed)
    with pytest.raises(ValueError, match="Digest mismatch"):
        tensorstore.open(spec).result().read().result()
