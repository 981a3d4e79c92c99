"""Sessions of partial saves that both libraries take part in."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as orbax

import sealwax as ocp
from sealwax.errors import (
    InvalidLayoutError,
    OptionValueError,
    PartialSaveReplacementError,
    UnsupportedLeafError,
)

BOTH = {"sealwax": ocp, "orbax": orbax}
FIRST: dict[str, Any] = {
    "params": {"w": np.arange(6.0).reshape(2, 3)},
    "name": "run",
    "pair": [jnp.ones(3), 2],
}
SECOND: dict[str, Any] = {
    "params": {"b": jnp.zeros(2, jnp.bfloat16)},
    "step": 7,
    "key": jax.random.key(3),
    "empty": {},
}
WHOLE = {**FIRST, **SECOND, "params": FIRST["params"] | SECOND["params"]}
HALF_DONE = """
import sys
from orbax.checkpoint import v1 as orbax

orbax.partial.save(sys.argv[1], {"a": "one"})
orbax.partial.save(sys.argv[1], {"b": "two"})
try:
    orbax.partial.finalize(sys.argv[1])
except FileExistsError:
    sys.exit(0)
sys.exit("it was meant to fail")
"""


def check(path: Path) -> None:
    for module in BOTH.values():
        found = module.load(path, WHOLE)
        np.testing.assert_array_equal(found["params"]["w"], WHOLE["params"]["w"])
        assert found["params"]["b"].dtype == jnp.bfloat16
        assert jax.random.key_data(found["key"]).tolist() == [0, 3]
        assert (found["name"], found["step"], found["pair"][1]) == ("run", 7, 2)
        assert module.load(path).keys() == WHOLE.keys()
        assert module.metadata(path).custom_metadata == {"in": {"a": 1, "b": 2}}
        assert module.is_orbax_checkpoint(path)
    assert not ocp.verify(path).problems
    ocp.delete(path)


@pytest.mark.parametrize("names", list(itertools.product(BOTH, BOTH, BOTH)), ids="-".join)
def test_whoever_begins_goes_on_and_finalizes(tmp_path: Path, names: tuple[str, ...]) -> None:
    begins, goes_on, finalizes = (BOTH[name] for name in names)
    path = tmp_path / "c"
    begins.partial.save(path, FIRST, custom_metadata={"in": {"a": 1}})
    goes_on.partial.save(path, SECOND, custom_metadata={"in": {"b": 2}})
    finalizes.partial.finalize(path)
    assert os.listdir(tmp_path) == ["c"]
    check(path)


@pytest.mark.parametrize("first", BOTH)
@pytest.mark.parametrize("second", BOTH)
def test_strings_in_more_than_one_part(tmp_path: Path, first: str, second: str) -> None:
    """Orbax cannot put these together, even if it saved both."""
    path = tmp_path / "c"
    BOTH[first].partial.save(path, {"a": "one", "n": 1})
    BOTH[second].partial.save(path, {"b": {"c": "two"}, "m": 2})
    ocp.partial.finalize(path)
    for module in BOTH.values():
        assert module.load(path) == {"a": "one", "n": 1, "b": {"c": "two"}, "m": 2}


@pytest.mark.parametrize("use_zarr3", [True, False])
@pytest.mark.parametrize("name", BOTH)
def test_parts_without_a_database(tmp_path: Path, name: str, use_zarr3: bool) -> None:
    module, path = BOTH[name], tmp_path / "c"
    options = module.options.ArrayOptions(
        saving=module.options.ArrayOptions.Saving(use_ocdbt=False, use_zarr3=use_zarr3)
    )
    with module.Context(array_options=options):
        module.partial.save(path, {"a": {"w": np.arange(4.0)}})
        module.partial.save(path, {"a": {"v": jnp.ones(3)}})
    ocp.partial.finalize(path)
    for reader in BOTH.values():
        assert reader.load(path)["a"]["w"].tolist() == [0, 1, 2, 3]


class TestWhatDoesNotGoTogether:
    def test_a_key_of_the_other_library(self, tmp_path: Path) -> None:
        orbax.partial.save(tmp_path / "c", {"a": {"b": 1}})
        for part in ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": {"c": 1}}}):
            with pytest.raises(PartialSaveReplacementError):
                ocp.partial.save(tmp_path / "c", part)
        ocp.partial.save(tmp_path / "c", {"a": {"c": 1}})
        with pytest.raises(Exception, match="REPLACEMENT"):
            orbax.partial.save(tmp_path / "c", {"a": {"c": 2}})
        ocp.partial.finalize(tmp_path / "c")
        assert orbax.load(tmp_path / "c") == {"a": {"b": 1, "c": 1}}

    @pytest.mark.parametrize(
        "leaf", [b"bytes", 1 << 70, np.zeros((0, 2)), np.random.default_rng(1)]
    )
    def test_leaves_that_orbax_has_no_place_for(self, tmp_path: Path, leaf: Any) -> None:
        """Told when the part is saved, or, if that came first, before anything is changed."""
        orbax.partial.save(tmp_path / "c", {"a": 1})
        with pytest.raises(UnsupportedLeafError):
            ocp.partial.save(tmp_path / "c", {"b": leaf})
        ocp.partial.save(tmp_path / "d", {"b": leaf, "c": 1})
        orbax.partial.save(tmp_path / "d", {"a": 1})
        with pytest.raises(UnsupportedLeafError):
            ocp.partial.finalize(tmp_path / "d")
        assert len(list((tmp_path / "d.partial_save").iterdir())) == 2

    def test_another_version_of_zarr(self, tmp_path: Path) -> None:
        orbax.partial.save(tmp_path / "c", {"a": np.ones(3)})
        context = ocp.Context().replace({"array.saving.use_zarr3": False})
        with pytest.raises(OptionValueError):
            ocp.partial.save(tmp_path / "c", {"b": np.ones(3)}, context=context)

    def test_what_a_finalize_of_orbax_left_half_done(self, tmp_path: Path) -> None:
        """In a process of its own: Orbax's threads go on moving files after it has raised."""
        subprocess.run(
            [sys.executable, "-c", HALF_DONE, str(tmp_path / "c")], check=True, timeout=100
        )
        assert (tmp_path / "c.partial_save").is_dir()
        assert not (tmp_path / "c").exists()
        before = sorted(map(str, tmp_path.rglob("*")))
        with pytest.raises(InvalidLayoutError, match="by Orbax that was interrupted"):
            ocp.partial.finalize(tmp_path / "c")
        assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_both_say_that_it_is_no_checkpoint_yet(tmp_path: Path) -> None:
    ocp.partial.save(tmp_path / "c", {"a": 1})
    for module in BOTH.values():
        assert not module.is_orbax_checkpoint(tmp_path / "c")
        assert not module.is_orbax_checkpoint(tmp_path / "c.partial_save")


def test_containers_merge_where_orbax_lets_them_and_also_where_it_does_not(tmp_path: Path) -> None:
    """An empty dict and then its keys are a replacement to Orbax, the other order is none."""
    orbax.partial.save(tmp_path / "theirs", {"a": {}, "x": 1})
    with pytest.raises(Exception, match="REPLACEMENT"):
        orbax.partial.save(tmp_path / "theirs", {"a": {"b": 1}})
    ocp.partial.save(tmp_path / "theirs", {"a": {"b": 1}})
    ocp.partial.finalize(tmp_path / "theirs")
    assert orbax.load(tmp_path / "theirs") == {"a": {"b": 1}, "x": 1}


def test_a_session_of_orbax_in_memory(tmp_path: Path) -> None:
    """The databases are merged where the files are, wherever that is."""
    orbax.partial.save(tmp_path / "c", FIRST)
    orbax.partial.save(tmp_path / "c", SECOND)

    def tree(path: Path) -> Any:
        return path.read_bytes() if path.is_file() else {p.name: tree(p) for p in path.iterdir()}

    with ocp.effect_handlers.memory({"run": tree(tmp_path)}) as fs:
        ocp.partial.finalize("/run/c")
        found = ocp.load("/run/c")
    assert [*fs.tree("/run")] == ["c"]
    np.testing.assert_array_equal(found["params"]["w"], WHOLE["params"]["w"])
    assert (found["name"], found["step"]) == ("run", 7)


@pytest.mark.parametrize("first", BOTH)
@pytest.mark.parametrize("bare", ["first", "second"])
def test_a_part_without_its_shardings_takes_them_from_no_other(
    tmp_path: Path, first: str, bare: str
) -> None:
    """Orbax loads no array of a checkpoint whose file of shardings has only some."""
    path, without = tmp_path / "c", ocp.Context().at.array.saving.enable_write_sharding_file
    parts = {"a": {"w": jnp.arange(6.0)}, "b": {"w": jnp.ones(2), "key": jax.random.key(1)}}
    for number, (name, part) in enumerate(parts.items()):
        if number == 0 and first == "orbax":
            orbax.partial.save(path, {name: part})
        else:
            context = without.set((number == 0) != (bare == "first"))
            ocp.partial.save(path, {name: part}, context=context)
    ocp.partial.finalize(path)
    for module in BOTH.values():
        found = module.load(path)
        np.testing.assert_array_equal(found["a"]["w"], parts["a"]["w"])
        np.testing.assert_array_equal(found["b"]["w"], parts["b"]["w"])
    assert ocp.verify(path)
