"""Checkpoints of Orbax with a piece missing, damaged, or naming what is not theirs."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as v0
import pytest
from orbax.checkpoint import v1 as orbax

import sealwax as ocp
from sealwax.checksum import crc32c
from sealwax.errors import CorruptionError, InvalidLayoutError, SealwaxError
from sealwax.layouts import manifest, ocdbt
from sealwax.layouts.ocdbt_format import DataRef
from tests.layouts import ocdbt_tools
from tests.strategies import assert_same, noise

BIG = noise("float32", (64, 64), 0)
STATE = {"w": jax.numpy.asarray(BIG), "n": np.arange(3), "step": 5, "key": jax.random.key(1)}


def save_v1(path: Path) -> Path:
    orbax.save(path, STATE | {"name": "run"})
    return path / "state"


def save_v0_composite(path: Path) -> Path:
    with v0.Checkpointer(v0.CompositeCheckpointHandler()) as checkpointer:
        items = {"state": v0.args.PyTreeSave(STATE | {"name": "run"}),
                 "notes": v0.args.JsonSave({"a": 1})}  # fmt: skip
        checkpointer.save(path, v0.args.Composite(**items))
    return path / "state"


def save_v0_flat(path: Path) -> Path:
    with v0.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path, STATE | {"name": "run"})
    return path


SAVES = {"v1": save_v1, "v0 composite": save_v0_composite, "v0 flat": save_v0_flat}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """One checkpoint of each shape, and where its item is."""
    root = tmp_path_factory.mktemp("pristine")
    paths = {name: root / name.replace(" ", "_") for name in SAVES}
    return {name: (path, str(SAVES[name](path).relative_to(path))) for name, path in paths.items()}


@pytest.fixture(params=SAVES)
def ckpt(request: Any, pristine: Any, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of each, to be damaged: the checkpoint and its item."""
    path, item = pristine[request.param]
    copy = shutil.copytree(path, tmp_path / "ckpt")
    return copy, copy / item


def wanted(*, keys: bool = True) -> dict[str, Any]:
    key = STATE["key"] if keys else jax.random.key_data(STATE["key"])
    return STATE | {"name": "run", "key": key}


def cut(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "orbax.checkpoint", "commit_success.txt"])
def test_markers_may_be_missing(ckpt, name):
    path, _ = ckpt
    cut(path / name)
    assert_same(ocp.load(path), wanted())
    assert ocp.is_orbax_checkpoint(path)


@pytest.mark.parametrize(
    "key",
    ["init_timestamp_nsecs", "commit_timestamp_nsecs", "custom_metadata", "metrics",
     "performance_metrics", "item_handlers"],
)  # fmt: skip
def test_facts_of_the_checkpoint_may_be_missing(ckpt, key):
    path, _ = ckpt
    where = path / "_CHECKPOINT_METADATA"
    facts = json.loads(where.read_text()) if where.exists() else {}
    facts.pop(key, None)
    where.write_text(json.dumps(facts))
    assert_same(ocp.load(path), wanted())
    assert ocp.metadata(path).metadata["n"].shape == (3,)


def test_shardings_may_be_missing(ckpt):
    path, item = ckpt
    cut(item / "_sharding")
    assert_same(ocp.load(path), wanted())
    assert_same(ocp.load(path, wanted()), wanted())


def test_without_the_metadata_of_arrays_typed_keys_are_their_data(ckpt):
    path, item = ckpt
    cut(item / "array_metadatas")
    assert_same(ocp.load(path), wanted(keys=False))
    assert_same(ocp.load(path, wanted()), wanted())


def test_the_metadata_of_arrays_may_be_of_any_process(ckpt):
    path, item = ckpt
    (item / "array_metadatas" / "process_0").rename(item / "array_metadatas" / "process_12")
    assert_same(ocp.load(path), wanted())


def test_items_and_files_that_are_not_trees_are_passed_over(ckpt):
    path, _ = ckpt
    (path / "junk").mkdir()
    (path / "junk" / "_METADATA_").write_text("no tree")
    (path / "stray.txt").write_text("of the user's")
    assert_same(ocp.load(path), wanted())


def test_without_its_tree_an_item_is_none(ckpt):
    path, item = ckpt
    cut(item / "_METADATA")
    with pytest.raises(InvalidLayoutError, match="no tree|not a checkpoint"):
        ocp.load(path)


def test_without_strings_the_other_leaves_can_be_loaded(ckpt):
    path, item = ckpt
    cut(item / "_strings.json")
    with pytest.raises(CorruptionError, match=r"_strings\.json.*leaf 'name'"):
        ocp.load(path)
    with pytest.raises(CorruptionError, match="leaf 'name'"):
        ocp.metadata(path)
    template = {**dict.fromkeys(STATE, ...), "step": 0, "name": ...}
    assert ocp.load(path, template)["step"] == 5
    assert ocp.load(path, select="n")["n"].tolist() == [0, 1, 2]
    opened = ocp.open(path)
    assert opened["n"][1] == 1
    assert "  name: damaged" in repr(opened)
    with pytest.raises(CorruptionError, match="leaf 'name'"):
        opened["name"]


@pytest.mark.parametrize("name", ["manifest.ocdbt", "d", "ocdbt.process_0"])
def test_without_data_the_error_says_so(ckpt, name):
    path, item = ckpt
    if not (item / name).exists():
        pytest.skip("this version of Orbax made none")
    cut(item / name)
    with pytest.raises(CorruptionError, match="missing|damaged") as caught:
        ocp.load(path)
    assert str(item) in str(caught.value)
    assert "tensorstore" not in str(caught.value)


FILES = ["_METADATA", "_sharding", "_strings.json", "array_metadatas/process_0"]
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda data: data[: len(data) // 2],
    "binary": lambda data: b"\xff\x00" + data,
    "a list": lambda _: b"[]",
    "other members": lambda _: b'{"%%": "x", "array_metadatas": [1], "tree_metadata": [2]}',
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_metadata_is_named(ckpt, name, damage):
    path, item = ckpt
    data = (item / name).read_bytes()
    (item / name).write_bytes(DAMAGE[damage](data))
    with pytest.raises(SealwaxError) as caught:
        ocp.load(path)
    if name == "_strings.json" and damage == "other members":
        assert caught.value.leaf == "name"
    else:
        assert caught.value.path == str(item / name)
    if not (name == "_METADATA" and damage == "other members"):
        assert isinstance(caught.value, CorruptionError)


def test_damaged_facts_of_the_checkpoint_are_named(ckpt):
    path, _ = ckpt
    where = path / "_CHECKPOINT_METADATA"
    where.write_text("")
    with pytest.raises(CorruptionError, match="is empty") as caught:
        ocp.metadata(path)
    assert caught.value.path == str(where)


def test_missing_chunks_are_zeros_on_request(tmp_path):
    context = orbax.Context()
    context.array.saving.use_ocdbt = False
    with context:
        orbax.save(tmp_path / "ckpt", {"w": np.ones(3), "n": jax.numpy.ones((2, 2))})
    cut(tmp_path / "ckpt" / "state" / "n" / "c")
    with pytest.raises(CorruptionError, match="leaf 'n'"):
        ocp.load(tmp_path / "ckpt")
    lenient = ocp.Context().at.array.loading.raise_array_data_missing_error.set(False)
    loaded = ocp.load(tmp_path / "ckpt", context=lenient)
    assert_same(loaded, {"w": np.ones(3), "n": jax.numpy.zeros((2, 2))})


# ---------------------------------------------------------------- names that lead outside


def outside(item: Path, name: str) -> None:
    """Lets the first array of an item say that it is called ``name``."""
    where = item / "_METADATA"
    tree = json.loads(where.read_text())
    entry = next(
        e for e in tree["tree_metadata"].values() if e["value_metadata"]["value_type"] != "string"
    )
    entry["key_metadata"] = [{"key": name, "key_type": 2}]
    where.write_text(json.dumps(tree))


@pytest.mark.parametrize("name", ["../../secret", "/etc/secret", "a/../../../secret", "..", "a\0b"])
def test_names_of_arrays_do_not_lead_outside(tmp_path, name):
    secret = tmp_path / "secret"
    with v0.PyTreeCheckpointer(use_ocdbt=False) as checkpointer:
        checkpointer.save(secret, {"w": np.arange(3)})
        checkpointer.save(tmp_path / "ckpt", {"w": np.arange(3)})
    outside(tmp_path / "ckpt", name)
    with pytest.raises(CorruptionError, match="outside the checkpoint"):
        ocp.load(tmp_path / "ckpt")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "d/../../x", ".."])
def test_names_of_data_files_do_not_lead_outside(tmp_path, name):
    path = tmp_path / "ckpt"
    ocp.save(path, {"w": np.arange(3)})
    where = path / "state" / manifest.NAME
    body = json.loads(where.read_bytes()[:-9])
    body["files"] = [name]
    data = json.dumps(body).encode() + b"\n"
    where.write_bytes(data + b"%08x\n" % crc32c(data))
    cut(path / manifest.NAME)
    with pytest.raises(CorruptionError, match="outside the checkpoint"):
        ocp.load(path)


def test_references_of_a_database_do_not_lead_outside(tmp_path, monkeypatch):
    (tmp_path / "secret").write_bytes(b"s" * 24)
    item = save_v1(tmp_path / "ckpt")
    values = ocdbt_tools.contents(ocdbt_tools.store(item))
    (item / "d" / "values").write_bytes(b"".join(values.values()))
    ends = itertools.accumulate(map(len, values.values()))
    entries = {
        key: DataRef("d/values", end - len(value), len(value))
        for (key, value), end in zip(values.items(), ends, strict=True)
    }
    chunk = next(key for key in entries if key.startswith(b"n/c"))
    monkeypatch.setattr(ocdbt, "_check_path", lambda path: None)
    entries[chunk] = DataRef("../../secret", 0, 24)
    ocdbt_tools.write(item, ocdbt_tools.encode(entries))
    assert ocp.load(tmp_path / "ckpt", select="step") == {"step": 5}
    with pytest.raises(CorruptionError, match="leaf 'n'"):
        ocp.load(tmp_path / "ckpt", select="n")
