"""What ``metadata`` and ``is_orbax_checkpoint`` tell."""

from __future__ import annotations

import datetime
import shutil
import time
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as orbax

import sealwax
from sealwax.errors import CheckpointNotFoundError, CorruptionError, InvalidLayoutError
from sealwax.settings.lens import from_dict
from sealwax.verbs.checkpoint_metadata import ArrayMetadata, NumpyMetadata
from tests.strategies import mesh

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inspecting") / "ckpt"


# ---------------------------------------------------------------- metadata


def test_every_leaf_is_described(tmp_path: Path) -> None:
    placed = NamedSharding(mesh(2, 4), PartitionSpec("x", "y"))
    state = {
        "j": jax.device_put(np.zeros((8, 8), ml_dtypes.bfloat16), placed),
        "n": np.zeros((2, 3), np.int16),
        "k": jax.random.split(jax.random.key(0, impl="rbg"), 4),
        "z": jnp.zeros((0, 3), jnp.int8),
        "s": np.float16(1),
        "scalars": [7, 1.5, 1j, True, "text", b"bytes", 1 << 70],
        "empty": [None, {}, [], ()],
    }
    sealwax.save(tmp_path / "ckpt", state)
    tree = sealwax.metadata(tmp_path / "ckpt").metadata
    assert isinstance(tree["j"], ArrayMetadata)
    assert (tree["j"].shape, tree["j"].dtype) == ((8, 8), ml_dtypes.bfloat16)
    assert tree["j"].sharding == placed
    assert tree["j"].storage_metadata.chunk_shape == (4, 2)
    assert isinstance(tree["n"], NumpyMetadata)
    assert (tree["n"].shape, tree["n"].dtype) == ((2, 3), np.int16)
    assert (tree["k"].shape, tree["k"].dtype) == (state["k"].shape, state["k"].dtype)
    assert (tree["z"].shape, tree["z"].dtype) == ((0, 3), np.int8)
    assert (type(tree["s"]), tree["s"]) == (np.float16, 0)
    assert tree["scalars"] == [0, 0.0, 0j, False, "string", b"", 0]
    assert list(map(type, tree["scalars"])) == [int, float, complex, bool, str, bytes, int]
    assert tree["empty"] == [None, {}, [], ()]


def test_no_array_is_read(tmp_path: Path) -> None:
    for library in (sealwax, orbax):
        library.save(path := tmp_path / library.__name__, {"w": np.zeros(5000), "s": "x"})
        wanted = sealwax.metadata(path)
        for data in path.glob("state/**/d/*"):
            if data.stat().st_size > 4000:
                data.unlink()
        assert sealwax.metadata(path) == wanted


def test_timestamps_surround_the_save(tmp_path: Path) -> None:
    before = time.time_ns()
    sealwax.save(tmp_path / "ckpt", {"x": 1})
    after = time.time_ns()
    found = sealwax.metadata(tmp_path / "ckpt")
    assert before <= found.init_timestamp_nsecs <= found.commit_timestamp_nsecs <= after
    assert found.init_timestamp.tzinfo == datetime.UTC
    told = found.init_timestamp.timestamp()
    assert told == pytest.approx(found.init_timestamp_nsecs / 1e9, abs=1e-3)
    assert found.commit_timestamp >= found.init_timestamp


@settings(max_examples=25)
@given(custom=st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_custom_metadata_comes_back(once: Path, custom: dict[str, Any]) -> None:
    sealwax.save(once, {"x": 1}, custom_metadata=custom, overwrite=True)
    assert sealwax.metadata(once).custom_metadata == custom
    assert orbax.metadata(once).custom_metadata == custom


def test_custom_metadata_is_a_copy_of_what_was_passed(tmp_path: Path) -> None:
    custom: dict[str, Any] = {"a": [1]}
    response = sealwax.save_async(tmp_path / "ckpt", {"x": 1}, custom_metadata=custom)
    custom["a"].append(2)
    response.result()
    assert sealwax.metadata(tmp_path / "ckpt").custom_metadata == {"a": [1]}


def test_the_settings_that_wrote_it_come_back(tmp_path: Path) -> None:
    context = sealwax.Context()
    context.array.saving.use_compression = False
    context.asynchronous.timeout_secs = 77
    context.asynchronous.post_finalization_callback = lambda: None
    with context:
        sealwax.save(tmp_path / "ckpt", {"x": 1})
    settings = sealwax.metadata(tmp_path / "ckpt").settings
    assert settings["array"]["saving"]["use_compression"] is False
    assert settings["asynchronous"]["timeout_secs"] == 77
    assert settings["memory"]["deepcopy_host_arrays"] is True
    assert settings["not_plain"] == ["asynchronous.post_finalization_callback"]
    post = context.asynchronous.post_finalization_callback
    held = {"asynchronous.post_finalization_callback": post}
    assert from_dict(settings, held) == context.options


def test_orbax_leaves_no_settings_but_the_rest(tmp_path: Path) -> None:
    state = {"j": jnp.ones((2, 3)), "n": np.zeros(3), "i": 1, "b": True, "s": "x", "e": None}
    orbax.save(tmp_path / "ckpt", state, custom_metadata={"run": 4})
    found = sealwax.metadata(tmp_path / "ckpt")
    assert found.settings == {}
    assert found.custom_metadata == {"run": 4}
    assert found.init_timestamp_nsecs <= found.commit_timestamp_nsecs
    shapes = {name: getattr(leaf, "shape", leaf) for name, leaf in found.metadata.items()}
    assert shapes == {"j": (2, 3), "n": (3,), "i": 0, "b": False, "s": "string", "e": None}
    assert sealwax.load(tmp_path / "ckpt", found)["j"].sharding == state["j"].sharding


def test_the_path_is_of_the_class_that_the_context_names(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", {"x": 1})
    context = sealwax.Context()
    context.file.path_class = PurePosixPath
    path = sealwax.metadata(str(tmp_path / "ckpt"), context=context).path
    assert (type(path), str(path)) == (PurePosixPath, str(tmp_path / "ckpt"))


def test_one_item_by_name(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", {"x": 1}, checkpointable_name="params")
    assert sealwax.metadata(tmp_path / "ckpt", "params").metadata == {"x": 0}
    assert sealwax.metadata(tmp_path / "ckpt", checkpointable_name="AUTO").metadata == {"x": 0}
    with pytest.raises(InvalidLayoutError, match="Did you mean 'params'") as caught:
        sealwax.metadata(tmp_path / "ckpt", "parms")
    assert caught.value.path == str(tmp_path / "ckpt")


def test_damage_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError):
        sealwax.metadata(tmp_path / "none")
    for damage in (b"", b"{", b"[]", b'{"custom_metadata": 3}', b'{"init_timestamp_nsecs": "x"}'):
        sealwax.save(tmp_path / "ckpt", {"x": 1}, overwrite=True)
        (tmp_path / "ckpt" / "_CHECKPOINT_METADATA").write_bytes(damage)
        with pytest.raises(CorruptionError) as caught:
            sealwax.metadata(tmp_path / "ckpt")
        assert caught.value.path == str(tmp_path / "ckpt" / "_CHECKPOINT_METADATA")


def test_a_recorded_sharding_that_these_devices_cannot_form(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "ckpt", {"w": jax.device_put(jnp.ones(8), jax.devices()[5])})
    where = ArrayMetadata(
        shape=(8,),
        dtype=np.dtype(np.float32),
        sharding_metadata='{"sharding_type": "SingleDeviceSharding", "device_str": "TPU_99"}',
    )
    with pytest.raises(sealwax.errors.LeafMismatchError, match="cannot form"):
        _ = where.sharding
    loaded = sealwax.load(tmp_path / "ckpt", {"w": where})["w"]
    assert loaded.devices() == {jax.devices()[0]}
    assert not loaded.committed


# ---------------------------------------------------------------- is_orbax_checkpoint


def made(path: Path, kind: str) -> Path:
    """Makes something of a kind at the path, and returns what is to be asked about."""
    match kind:
        case "sealwax" | "orbax":
            {"sealwax": sealwax, "orbax": orbax}[kind].save(path, {"w": np.ones(3)})
        case "item":
            sealwax.save(path, {"w": 1})
            return path / "state"
        case "root of a run":
            sealwax.save(path / "1", {"w": 1})
        case "unfinished":
            sealwax.save(path, {"w": 1})
            hidden = path.with_name("x.orbax-checkpoint-tmp-1")
            return path.rename(hidden)
        case "empty":
            path.mkdir()
        case "random":
            path.mkdir()
            (path / "notes.txt").write_text("hello")
        case "safetensors":
            path.mkdir()
            (path / "model.safetensors").write_bytes(b"\0" * 16)
        case "file":
            path.write_text("x")
        case "link":
            sealwax.save(path.with_name("real"), {"w": 1})
            path.symlink_to("real")
        case "dangling link":
            path.symlink_to("nowhere")
        case "without indicator":
            sealwax.save(path, {"w": 1})
            (path / "orbax.checkpoint").unlink()
    return path


@pytest.mark.parametrize("kind", ["sealwax", "orbax", "link", "without indicator"])
def test_what_is_a_checkpoint(tmp_path: Path, kind: str) -> None:
    assert sealwax.is_orbax_checkpoint(path := made(tmp_path / "x", kind))
    assert sealwax.load(path)


@pytest.mark.parametrize(
    "kind",
    [
        *("item", "root of a run", "unfinished", "empty", "random", "safetensors", "file"),
        *("dangling link", "nothing"),
    ],
)
def test_what_is_no_checkpoint_cannot_be_loaded_either(tmp_path: Path, kind: str) -> None:
    path = made(tmp_path / "x", kind)
    assert not sealwax.is_orbax_checkpoint(path)
    with pytest.raises((InvalidLayoutError, CheckpointNotFoundError)) as caught:
        sealwax.load(path)
    assert caught.value.path == str(path)


def test_a_deleted_checkpoint_is_none(tmp_path: Path) -> None:
    sealwax.save(tmp_path / "x", {"w": 1})
    shutil.rmtree(tmp_path / "x")
    assert not sealwax.is_orbax_checkpoint(tmp_path / "x")


@pytest.mark.parametrize("setting", [{"checkpoint_layout": "safetensors"}])
def test_a_setting_that_cannot_act_on_a_look_says_so(tmp_path, setting):
    sealwax.save(tmp_path / "c", {"w": np.ones(3)})
    with pytest.raises(sealwax.errors.OptionUnavailableError):
        sealwax.metadata(tmp_path / "c", context=sealwax.Context().replace(setting))
