"""What ``load``, ``load_async`` and ``plan_load`` do beside giving back what was saved."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sealwax
from sealwax.errors import CheckpointNotFoundError, CorruptionError, InvalidLayoutError
from tests.strategies import assert_same

STATE = {"w": np.arange(6000.0), "j": jnp.arange(5.0), "s": "text", "n": 3, "e": [None, {}]}


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loading") / "ckpt"
    sealwax.save(path, STATE)
    return path


def test_in_the_background(ckpt: Path) -> None:
    response = sealwax.load_async(ckpt)
    assert_same(response.result(timeout=60), STATE)
    assert response.done()
    assert response.progress.bytes_done == response.progress.bytes_total > 0


def test_in_the_background_with_a_template_that_does_not_fit(ckpt: Path) -> None:
    response = sealwax.load_async(ckpt, {"x": int})
    with pytest.raises(sealwax.errors.TreeMismatchError):
        response.result()


def test_what_is_loaded_is_the_callers_own(ckpt: Path) -> None:
    first, second = sealwax.load(ckpt), sealwax.load(ckpt)
    first["w"][:] = 0
    assert_same(second, STATE)
    assert_same(sealwax.load(ckpt), STATE)
    assert second["w"].flags.writeable


def test_a_loaded_array_can_be_donated(ckpt: Path) -> None:
    array = sealwax.load(ckpt)["j"]
    twice = jax.jit(lambda x: 2 * x, donate_argnums=0)(array)
    assert_same(twice, 2 * STATE["j"])
    assert_same(sealwax.load(ckpt), STATE)


def test_jax_arrays_go_where_jax_puts_arrays_in_that_thread(ckpt: Path) -> None:
    device = jax.devices()[6]
    with jax.default_device(device):
        assert sealwax.load(ckpt)["j"].devices() == {device}
        later = sealwax.load_async(ckpt, {key: jax.Array if key == "j" else ... for key in STATE})
    assert later.result()["j"].devices() == {device}
    assert sealwax.load(ckpt)["j"].devices() == {jax.devices()[0]}


def test_loading_in_many_threads_at_once(ckpt: Path) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(sealwax.load(ckpt))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for tree in found:
        assert_same(tree, STATE)


def test_nothing_is_written(ckpt: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [ckpt, ckpt.parent, *ckpt.rglob("*")]}
    sealwax.load(ckpt)
    sealwax.metadata(ckpt)
    sealwax.plan_load(ckpt)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert os.listdir(ckpt.parent) == ["ckpt"]


def test_a_plan_tells_and_reads_no_array(ckpt: Path) -> None:
    plan = sealwax.plan_load(ckpt)
    assert plan.names == ("j", "n", "w")
    assert plan.path == str(ckpt)
    data = 6000 * 8 + 5 * 4 + 8
    assert data <= plan.bytes < data + 100
    first, second, *table = str(plan).splitlines()
    assert first == f"load {ckpt}"
    assert second.startswith(f"3 leaves, {plan.effects} effects, 46.9 KiB")
    assert any(re.search(rf"read \d chunks? from {ckpt}/state", line) for line in table)
    part = sealwax.plan_load(ckpt, {"w": ..., "j": jax.Array, "s": ..., "n": int, "e": ...})
    assert part.names == ("j", "n")
    assert part.bytes < 100


def test_a_plan_refuses_what_a_load_would(ckpt: Path, tmp_path: Path) -> None:
    with pytest.raises(sealwax.errors.TreeMismatchError):
        sealwax.plan_load(ckpt, {"x": int})
    with pytest.raises(CheckpointNotFoundError):
        sealwax.plan_load(tmp_path / "none")


def test_a_missing_path_is_a_file_that_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sealwax.load(tmp_path / "none")


@pytest.mark.parametrize("name", ["AUTO", "state"])
def test_the_item_is_found(ckpt: Path, name: str) -> None:
    assert sealwax.load(ckpt, checkpointable_name=name)["n"] == 3


@pytest.mark.parametrize("name", ["", "zz", None, "_METADATA", ".."])
def test_an_item_that_is_not_there(ckpt: Path, name: str | None) -> None:
    with pytest.raises(InvalidLayoutError, match="'state'"):
        sealwax.load(ckpt, checkpointable_name=name)


def damaged(tmp_path: Path) -> Path:
    sealwax.save(tmp_path / "ckpt", STATE)
    data = max((tmp_path / "ckpt/state/d").iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(data.read_bytes())
    content[-40] ^= 4
    data.write_bytes(content)
    return tmp_path / "ckpt"


def test_a_flipped_bit_is_an_error_that_names_the_leaf(tmp_path: Path) -> None:
    path = damaged(tmp_path)
    with pytest.raises(CorruptionError, match="differs from its checksum") as caught:
        sealwax.load(path)
    assert caught.value.leaf == "w"
    assert caught.value.path.startswith(str(path / "state" / "d"))
    spared = {key: ... if key == "w" else type(leaf) for key, leaf in STATE.items()}
    loaded = sealwax.load(path, spared | {"j": jax.Array, "e": STATE["e"]})
    assert_same(loaded | {"w": STATE["w"]}, STATE)


def test_checking_can_be_left_out(tmp_path: Path) -> None:
    context = sealwax.Context()
    context.array.loading.verify = "never"
    loaded = sealwax.load(damaged(tmp_path), context=context)
    assert (loaded["w"] != STATE["w"]).sum() == 1


def test_a_manifest_of_another_version_says_so(tmp_path: Path) -> None:
    from sealwax.checksum import crc32c

    sealwax.save(tmp_path / "ckpt", {"x": 1})
    newer = b'{"format":99}\n'
    (tmp_path / "ckpt" / "_SEALWAX").write_bytes(newer + b"%08x\n" % crc32c(newer))
    with pytest.raises(InvalidLayoutError, match="A newer version of sealwax") as caught:
        sealwax.load(tmp_path / "ckpt")
    assert caught.value.path == str(tmp_path / "ckpt" / "_SEALWAX")
