"""Metadata that no library wrote: whatever it says, what comes is one of our errors, or the tree.

The files are JSON, and every value in them is replaced by others, one at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from orbax.checkpoint import v1 as orbax

import sealwax as ocp
from sealwax.errors import CorruptionError, InternalError, SealwaxError, StorageError
from sealwax.layouts import manifest
from tests.strategies import assert_same

STATE = {"a": {"b": jnp.arange(6.0).reshape(2, 3)}, "n": np.arange(4), "k": jax.random.key(0),
         "l": [1, 2.5], "s": "text", "e": {}}  # fmt: skip
WRONG: list[Any] = [None, -1, 2**62, "../../x", [], {}]
VERBS: list[Callable[[Path], object]] = [ocp.load, ocp.metadata, lambda path: repr(ocp.open(path))]


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    orbax.save(tmp_path / "ckpt", STATE)
    return tmp_path / "ckpt"


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    ocp.save(tmp_path / "ckpt", STATE)
    return tmp_path / "ckpt"


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    if isinstance(value, (dict, list)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(each, (*above, key))


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    made = value.copy()
    made[place[0]] = replaced(value[place[0]], place[1:], new)
    return made


def answers(path: Path) -> list[object]:
    """What the verbs give, or which of our errors; any other error is raised."""
    found: list[object] = []
    for verb in VERBS:
        try:
            found.append(verb(path))
        except InternalError:
            raise
        except SealwaxError as error:
            found.append(error)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["_METADATA", "_sharding", "_strings.json", "array_metadatas/process_0"]
)
def test_a_value_of_orbaxs_files_is_anything(theirs, name):
    file = theirs / "state" / name
    right = json.loads(file.read_text())
    for place in places(right):
        # Each of some places stands for all of its kind.
        if name == "_METADATA" and len(place) > 1 and place[1] not in ("('a', 'b')", "('l', '0')"):
            continue
        for wrong in WRONG:
            file.write_text(json.dumps(replaced(right, place, wrong)))
            answers(theirs)
    file.write_text(json.dumps(right))
    assert_same(answers(theirs)[0], ocp.load(theirs))


@pytest.mark.parametrize("name", ["_METADATA", "_sharding", "_strings.json"])
@pytest.mark.parametrize("data", [b"[" * 100_000, b"\xff\xfe\x00", b"3", b"null", b"{"])
def test_a_file_of_orbaxs_is_anything(theirs, name, data):
    (theirs / "state" / name).write_bytes(data)
    for found in answers(theirs):
        assert isinstance(found, CorruptionError)
        assert found.path == str(theirs / "state" / name)


def test_a_list_with_gaps_is_found_before_anything_is_read(tmp_path):
    orbax.save(path := tmp_path / "ckpt", {"l": [None, {}, 3], "w": np.ones(2)})
    file = path / "state" / "_METADATA"
    record = json.loads(file.read_text())
    for entry in record["tree_metadata"].values():
        if entry["key_metadata"][-1]["key"] == "1":
            entry["key_metadata"][-1]["key"] = "7"
    file.write_text(json.dumps(record))
    for verb in (*VERBS, ocp.plan_load, lambda path: ocp.tree.diff({"w": 1}, path)):
        with pytest.raises(CorruptionError, match="list has gaps") as caught:
            verb(path)
        assert (caught.value.leaf, caught.value.path) == ("l", str(path))
    assert ocp.load(path, select="w")["w"].tolist() == [1, 1]


@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "state/_METADATA", "state/_sharding"])
def test_a_directory_in_the_place_of_a_file(theirs, name):
    (theirs / name).unlink()
    (theirs / name).mkdir()
    with pytest.raises(StorageError, match=name) as caught:
        ocp.metadata(theirs)
    assert caught.value.path == str(theirs / name)


@pytest.mark.slow
def test_a_value_of_our_manifest_is_anything(ours):
    (ours / manifest.NAME).unlink()  # It has the digest of the other, which nothing else gets by.
    file = ours / "state" / manifest.NAME
    item = manifest.decode(file.read_bytes(), manifest.Item, "")
    right = json.loads(msgspec.json.encode(item))
    del right["digests"]
    for place in places(right):
        for wrong in WRONG:
            try:
                made = msgspec.convert(
                    replaced(right, place, wrong) | {"digests": {}}, manifest.Item
                )
            except (msgspec.ValidationError, TypeError):
                continue
            file.write_bytes(manifest.encode(made))
            answers(ours)


def test_a_manifest_that_leads_nowhere_is_named(ours):
    file = ours / "state" / manifest.NAME
    file.unlink()
    file.symlink_to("nowhere")
    with pytest.raises(CorruptionError) as caught:
        ocp.load(ours)
    assert caught.value.path == str(file)


def test_keys_of_a_kind_that_jax_does_not_know(theirs, tmp_path):
    file = theirs / "state" / "array_metadatas" / "process_0"
    file.write_text(file.read_text().replace("threefry2x32", "fivefry"))
    with pytest.raises(SealwaxError, match=r"'fivefry'.*skip the leaf") as caught:
        ocp.load(theirs)
    assert caught.value.leaf == "k"
    rest = dict.fromkeys(STATE, ...) | {"n": np.empty(4, np.int64)}
    assert ocp.load(theirs, rest)["n"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["sealwax", "orbax"])
def test_files_of_two_checkpoints_are_not_mixed(tmp_path, kind):
    save = {"sealwax": ocp.save, "orbax": orbax.save}[kind]

    def state(seed: int) -> Any:
        noise = np.random.default_rng(seed).normal(size=(50, 7))
        return {"w": jnp.asarray(noise, jnp.float32), "n": noise, "t": [seed]}

    save(one := tmp_path / "one", state(1))
    save(two := tmp_path / "two", state(2))
    for file in [file.relative_to(one) for file in sorted(one.rglob("*")) if file.is_file()]:
        if not (two / file).exists():
            continue
        shutil.copytree(one, mixed := tmp_path / "mixed")
        shutil.copy(two / file, mixed / file)
        try:
            assert_same(ocp.load(mixed), ocp.load(one))
        except InternalError:
            raise
        except SealwaxError:
            pass  # As right as the values that are there.
        shutil.rmtree(mixed)
