"""Which test shows what becomes of each row of sections 1 to 8 of the catalogue of misuses.

The catalogue has what Orbax's users see when they use it wrongly. A row is either a mistake in
``mistakes.py`` and ``damages.py``, whose error is held to be clear, or no mistake here, and then
what it does is tested where the pointer says. The tests below are those of rows that have no
better place.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as orbax

import sealwax as ocp
from sealwax.errors import SealwaxError, TreeMismatchError
from tests.interop.damages import MISTAKES

ROOT = Path(__file__).parents[2]
TITLES = [mistake.title for mistake in MISTAKES]

MISTAKEN = {
    4: ["save to ''"],
    5: ["save over a checkpoint", "save to an empty directory"],
    7: ["overwrite=True on a plain file", "overwrite=True on a directory of other things"],
    8: ["save below a regular file"],
    10: ["load from a path with a typing error", "load what was never saved"],
    11: ["load a regular file"],
    13: ["load the item instead of the checkpoint"],
    14: ["load the root of a training run"],
    17: ["is_orbax_checkpoint(None)"],
    19: [
        "delete what is not there",
        "delete a random directory",
        "delete the root of a training run",
    ],
    20: ["item named '../x'", "item named 'a/b'"],
    22: ["item named '..'"],
    23: ["item named 1", "item named None", "load an item named 1"],
    25: ["item named 'metrics'", "item named 'AUTO'"],
    26: ["item named ''"],
    28: ["a list where a dict of items should be"],
    29: ["an item that is None"],
    31: ["custom_metadata with an np.float32", "custom_metadata with an object"],
    32: ["custom_metadata a list", "custom_metadata with integer keys"],
    34: [f"save {what}" for what in ("an arbitrary object", "a set", "a decimal", "a function")],
    38: ["save an array of strings", "save an array of objects", "save a structured array"],
    41: ["save inside jit"],
    43: ["keys 'a.b' and 'a' -> 'b'"],
    44: ["save a masked array"],
    46: ["a dict that holds itself"],
    49: ["template: a list for a dict", "template: a list that is too short"],
    52: ["template: another shape of a NumPy array", "template: another rank"],
    53: ["template: float to int", "template: float to bool", "template: 2.5 as an int"],
    56: ["template: None for a leaf"],
    58: ["template: an int for a string"],
    59: ["template: a float for an array"],
    61: ["template: an object", "template: a function"],
    62: ["template: the placeholder for a key that is not there"],
    64: ["partial_load: a misspelt key"],
    67: ["partial_load: the beginning of a list"],
    68: ["an item that is not there"],
    70: ["items of which one is not there"],
    73: ["template: a sharding on an abstract mesh"],
    74: ["items of a checkpoint that has none"],
    76: ["data file emptied", "data file cut", "Orbax's: data file emptied"],
    77: ["data file deleted", "Orbax's: data file deleted"],
    79: ["Orbax's: tree manifest deleted"],
    80: ["Orbax's: tree manifest cut"],
    82: ["Orbax's: _METADATA deleted"],
    83: ["Orbax's: _METADATA emptied"],
    86: ["_CHECKPOINT_METADATA emptied"],
    91: ["Orbax's: array_metadatas corrupt"],
    92: ["item directory deleted"],
    119: ["load while the save is under way, or was killed"],
}
"""The mistakes that are of a row."""

RIGHT = {
    1: "tests/test_paths.py::test_a_relative_path_starts_where_the_call_was_made",
    2: "tests/test_paths.py::test_a_tilde_is_the_home_directory",
    16: "tests/test_inspecting.py::test_what_is_a_checkpoint",
    35: "tests/interop/test_leaves.py::test_what_comes_back",
    37: "tests/interop/test_leaves.py::test_what_comes_back",
    40: "tests/test_inspecting.py::test_every_leaf_is_described",
    47: "tests/test_option_effects.py::"
    "test_dtype_casts_floating_and_complex_arrays_and_nothing_else",
    50: "tests/interop/test_misuse_rows.py::test_050_a_field_that_is_none_and_not_there",
    55: "tests/interop/test_roundtrip.py::test_eval_shape_of_numpy_leaves_narrows_what_fits",
    65: "tests/interop/test_misuse_rows.py::test_065_partial_load_of_nothing_is_nothing",
    71: "tests/interop/test_users_ask.py::test_orbax_648_332_load_on_another_number_of_devices",
    85: "tests/interop/test_misuse_rows.py::test_085_088_markers_are_not_needed",
    88: "tests/interop/test_misuse_rows.py::test_085_088_markers_are_not_needed",
    89: "tests/interop/test_missing_pieces.py::test_shardings_may_be_missing",
    94: "tests/interop/test_misuse_rows.py::test_094_a_stray_file_is_passed_over",
    95: "tests/crash/test_full_disk.py::"
    "test_a_directory_that_is_not_writable_is_told_and_the_interpreter_exits_at_once",
    97: "tests/test_deleting.py::test_without_permission",
    100: "tests/crash/test_full_disk.py::test_an_item_that_cannot_be_read_is_told",
    101: "tests/crash/test_full_disk.py::"
    "test_it_is_told_nothing_is_left_and_it_works_when_there_is_space",
    104: "tests/crash/test_full_disk.py::"
    "test_it_is_told_nothing_is_left_and_it_works_when_there_is_space",
    106: "tests/test_concurrency.py::test_sixty_four_in_flight_at_once_from_threads_and_tasks",
    109: "tests/test_save_async.py::test_numpy_arrays_may_be_changed_in_place",
    110: "tests/test_save_async.py::test_host_arrays_are_copied_unless_declined",
    112: "tests/test_concurrency.py::test_what_is_assigned_later_changes_nothing",
    113: "tests/test_aio.py::test_the_plain_verbs_work_in_their_loops_too",
    115: "tests/test_save_async.py::test_whoever_is_told_of_an_error_has_asked",
    116: "tests/test_save_async.py::test_until_captured_returns_before_it_is_staged",
    118: "tests/test_aio.py::test_plain_verbs_work_inside",
    121: "tests/test_exit.py::test_at_the_end_of_the_script",
    124: "tests/crash/test_killed.py::test_killed_at_random_times",
    127: "tests/test_exit_children.py::test_a_child_leaves_the_parents_saves_alone_and_can_save",
    128: "tests/interop/test_misuse_rows.py::test_128_a_primary_host_that_is_not_there",
    191: "tests/test_partial.py::test_parts_are_written_side_by_side_and_all_kept",
    193: "tests/crash/test_partial.py::test_a_part_whose_writer_died_is_not_waited_for",
}
"""Rows that are no mistake here, and the test of what they do."""

ROUGH = {
    "A1 overwriting": "tests/crash/test_durable.py::test_overwriting_has_no_moment_with_neither",
    "A2 default item": "tests/interop/test_users_ask.py::"
    "test_keras_22985_the_default_item_has_had_other_names",
    "A3 containers": "tests/interop/test_leaves.py::test_what_comes_back",
    "A4 metadata": "tests/interop/test_roundtrip.py::"
    "test_metadata_is_a_template_for_what_would_come_without_one",
    "A6 responses": "tests/runtime/test_response.py::test_it_can_be_awaited",
    "A7 load_async": "tests/test_loading.py::test_in_the_background",
    "A15 warnings": "tests/interop/test_users_ask.py::"
    "test_orbax_1110_no_warning_without_a_sharding",
    "A18 files": "tests/test_saving.py::test_a_thousand_leaves_are_a_handful_of_files",
    "A19 storage dtype": "tests/test_option_effects.py::"
    "test_dtype_casts_floating_and_complex_arrays_and_nothing_else",
    "A20 padding": "tests/test_load_semantics.py::test_padding_and_truncation",
    "A21 NumPy shapes": "tests/interop/test_leaves.py::test_what_a_template_asks_for",
    "C None": "tests/interop/test_leaves.py::test_what_a_template_asks_for",
    "C bytes and NumPy scalars": "tests/interop/test_leaves.py::test_what_comes_back",
    "C metadata": "tests/interop/test_misuse_rows.py::test_metadata_is_a_dataclass",
    "C missing path": "tests/test_loading.py::test_a_missing_path_is_a_file_that_is_not_found",
    "C partial saves queue": "tests/test_partial.py::"
    "test_parts_are_written_side_by_side_and_all_kept",
    "C scoped storage options": "tests/test_option_effects.py::"
    "test_the_creator_chooses_for_each_array_by_its_key_path",
}
"""Rough edges that belong to saving and loading one tree, and the test that they are none here."""

ELSEWHERE = {98, 103, 107, 122, 125}
"""Rows about checkpointers: those are in ``test_misuse_training.py``."""

ROWS = {1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20, 22, 23, 25, 26, 28, 29, 31, 32, 34, 35,
        37, 38, 40, 41, 43, 44, 46, 47, 49, 50, 52, 53, 55, 56, 58, 59, 61, 62, 64, 65, 67, 68, 70,
        71, 73, 74, 76, 77, 79, 80, 82, 83, 85, 86, 88, 89, 91, 92, 94, 95, 97, 98,
        100, 101, 103, 104, 106, 107, 109, 110, 112, 113, 115, 116, 118, 119,
        121, 122, 124, 125, 127, 128, 191, 193}  # fmt: skip


def test_every_row_is_shown() -> None:
    assert MISTAKEN.keys() | RIGHT.keys() | ELSEWHERE == ROWS


@pytest.mark.parametrize("row", MISTAKEN)
def test_the_mistakes_of_a_row_exist(row: int) -> None:
    assert set(MISTAKEN[row]) <= set(TITLES)


@pytest.mark.parametrize("pointer", sorted({*RIGHT.values(), *ROUGH.values()}))
def test_the_test_of_a_row_exists(pointer: str) -> None:
    file, _, name = pointer.partition("::")
    assert re.search(rf"^\s*(?:async )?def {name}\b", (ROOT / file).read_text(), re.M)


def test_no_two_mistakes_have_one_title() -> None:
    assert len(TITLES) == len(set(TITLES))


# ---------------------------------------------------------------- rows without a better place


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    a: Any
    b: Any = None


@pytest.mark.parametrize("module", [ocp, orbax], ids=["sealwax", "orbax"])
def test_050_a_field_that_is_none_and_not_there(tmp_path: Path, module: Any) -> None:
    module.save(tmp_path / "old", {"a": np.arange(3)})
    with pytest.raises(TreeMismatchError) as caught:
        ocp.load(tmp_path / "old", State(np.arange(3)))
    assert caught.value.missing == ("b",)
    module.save(tmp_path / "new", State(np.arange(3)))
    assert ocp.load(tmp_path / "new", State(np.arange(3))).b is None


@pytest.mark.parametrize("module", [ocp, orbax], ids=["sealwax", "orbax"])
def test_065_partial_load_of_nothing_is_nothing(tmp_path: Path, module: Any) -> None:
    module.save(tmp_path / "ckpt", {"a": 1, "b": {"c": 2}})
    partial = ocp.Context().at.pytree.loading.partial_load.set(True)
    assert ocp.load(tmp_path / "ckpt", {}, context=partial) == {}
    assert ocp.load(tmp_path / "ckpt", {"b": {}}, context=partial) == {"b": {}}


@pytest.mark.parametrize("module", [ocp, orbax], ids=["sealwax", "orbax"])
@pytest.mark.parametrize("name", ["orbax.checkpoint", "commit_success.txt", "_CHECKPOINT_METADATA"])
def test_085_088_markers_are_not_needed(tmp_path: Path, module: Any, name: str) -> None:
    module.save(tmp_path / "ckpt", {"a": np.arange(3)}, custom_metadata={"run": 1})
    (tmp_path / "ckpt" / name).unlink()
    assert ocp.is_orbax_checkpoint(tmp_path / "ckpt")
    assert ocp.load(tmp_path / "ckpt")["a"].tolist() == [0, 1, 2]
    kept = name != "_CHECKPOINT_METADATA"
    assert ocp.metadata(tmp_path / "ckpt").custom_metadata == ({"run": 1} if kept else {})


@pytest.mark.parametrize("module", [ocp, orbax], ids=["sealwax", "orbax"])
def test_094_a_stray_file_is_passed_over(tmp_path: Path, module: Any) -> None:
    module.save(tmp_path / "ckpt", {"a": jnp.arange(3)})
    for place in (".", "state", "state/d", "state/array_metadatas"):
        (tmp_path / "ckpt" / place / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (tmp_path / "ckpt" / "notes").mkdir()
    assert ocp.load(tmp_path / "ckpt")["a"].tolist() == [0, 1, 2]
    assert ocp.metadata(tmp_path / "ckpt").metadata["a"].shape == (3,)


def test_128_a_primary_host_that_is_not_there(tmp_path: Path) -> None:
    """Orbax waits for it for five minutes; here nothing is waited for."""
    third = ocp.Context().at.multiprocessing.primary_host.set(3)
    with pytest.raises(SealwaxError, match="primary_host"):
        ocp.save(tmp_path / "ckpt", {"a": 1}, context=third)
    assert list(tmp_path.iterdir()) == []


def test_metadata_is_a_dataclass(tmp_path: Path) -> None:
    ocp.save(tmp_path / "ckpt", {"a": np.arange(3)})
    found = ocp.metadata(tmp_path / "ckpt")
    changed = dataclasses.replace(found, custom_metadata={"note": "mine"})
    assert changed.custom_metadata == {"note": "mine"}
    assert changed.metadata == found.metadata
