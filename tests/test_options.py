"""Options: what they accept, how they freeze, compare, copy, and become plain data."""

from __future__ import annotations

import copy
import dataclasses
import json
import pathlib
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence, Set
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax import options as o
from sealwax.context import Context
from sealwax.errors import (
    FrozenOptionError,
    OptionError,
    OptionTypeError,
    OptionUnavailableError,
    OptionValueError,
    UnknownOptionError,
)
from sealwax.leaf_handlers import LeafHandlers
from sealwax.settings.availability import LATER, unavailable
from sealwax.settings.checks import FrozenMapping, accepted, at_least
from sealwax.settings.frozen import GROUPS, fields, update, walk
from sealwax.settings.lens import diff, from_dict, to_dict

# One value that is not the default, for every option there is.
OTHER: dict[str, Any] = {
    "pytree.saving.pytree_metadata_options.support_rich_types": True,
    "pytree.loading.partial_load": True,
    "array.saving.storage_options.dtype": np.dtype("float16"),
    "array.saving.storage_options.chunk_byte_size": 1,
    "array.saving.storage_options.shard_axes": (0, 2),
    "array.saving.use_ocdbt": False,
    "array.saving.use_zarr3": False,
    "array.saving.use_compression": False,
    "array.saving.compression": "always",
    "array.saving.ocdbt_target_data_file_size": 0,
    "array.saving.enable_pinned_host_transfer": True,
    "array.saving.enable_post_merge_validation": False,
    "array.saving.use_replica_parallel": True,
    "array.saving.min_slice_bytes_for_replica_parallel": 1,
    "array.saving.max_replicas_for_replica_parallel": 2,
    "array.saving.enable_replica_parallel_separate_folder": True,
    "array.saving.enable_write_sharding_file": False,
    "array.saving.array_metadata_store": None,
    "array.saving.scoped_storage_options_creator": print,
    "array.loading.enable_padding_and_truncation": True,
    "array.loading.raise_array_data_missing_error": False,
    "array.loading.use_load_and_broadcast": True,
    "array.loading.load_and_broadcast_options.replica_axis_index": None,
    "array.loading.load_and_broadcast_options.primary_replica_id": 1,
    "array.loading.load_and_broadcast_options.broadcast_memory_limit_bytes": 1,
    "array.loading.load_and_broadcast_options.broadcast_memory_scaling_factor": 1.0,
    "pytree.loading.unregistered_leaves": "parts",
    "array.loading.verify": "never",
    "array.loading.saved_shardings": "restore",
    "array.loading.casting": "unsafe",
    "asynchronous.timeout_secs": None,
    "asynchronous.post_finalization_callback": print,
    "asynchronous.create_directories_asynchronously": False,
    "multiprocessing.primary_host": None,
    "multiprocessing.active_processes": frozenset({0, 2}),
    "multiprocessing.barrier_sync_key_prefix": "a",
    "file.path_permission_mode": 0o750,
    "file.path_class": pathlib.PurePosixPath,
    "file.skip_sync_file_validations": True,
    "file.durability": "atomic",
    "pathways.checkpointing_impl": o.CheckpointingImpl.PERSISTENCE,
    "checkpoint_layout": o.CheckpointLayout.SAFETENSORS,
    "deletion.gcs_deletion_options.todelete_full_path": "trash/old",
    "deletion.todelete_subdir": "trash",
    "memory.write_concurrent_bytes": 1,
    "memory.read_concurrent_bytes": 2,
    "memory.transfer_concurrent_bytes": 3,
    "memory.expected_surge_bytes": 0.5,
    "memory.is_prioritized_key_fn": callable,
    "memory.deepcopy_host_arrays": False,
    "safetensors.max_over_read_ratio": 1.0,
    "safetensors.read_chunk_bytes": 7,
    "atomicity.mode": o.AtomicityMode.COMMIT_FILE,
    "atomicity.allow_legacy_atomic_rename": True,
}


class Registry:
    def get(self, checkpointable_name):
        return None

    def has(self, checkpointable_name):
        return False

    def get_all_entries(self):
        return ()


class Callback:
    """Cannot be copied, hashed or pickled: it has to be held as it is."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def key_priority(self, keypath):
        return o.TransferPriority.SYNCHRONOUS

    def on_transfer_end(self, keypath):
        return None

    def on_write_end(self, keypath):
        return None


class Profiler:
    peak_usage_bytes = 1

    def profiler_start(self):
        return None

    def profiler_end(self):
        return None


OTHER["checkpointables.registry"] = Registry()
OTHER["pytree.leaf_handlers"] = LeafHandlers()
OTHER["memory.regulator_options"] = o.MemoryOptions.RegulatorOptions(
    max_memory_limit_gib=100, profiler=Profiler()
)
OTHER["memory.serialization_status_callback"] = Callback()
NAMES = sorted(OTHER)
PLAIN = sorted(
    n
    for n in NAMES
    if isinstance(OTHER[n], bool | int | float | str | tuple | frozenset | np.dtype)
)


def path(name: str) -> tuple[str, ...]:
    return tuple(name.split("."))


def at(node: Any, name: str) -> Any:
    for part in path(name):
        node = getattr(node, part)
    return node


def changed(names: Sequence[str]) -> o.Options:
    return update(o.DEFAULTS, {path(name): OTHER[name] for name in names})


subsets = st.sets(st.sampled_from(NAMES), max_size=6).map(sorted)
plain_subsets = st.sets(st.sampled_from(PLAIN), max_size=6).map(sorted)


# -- laws ----------------------------------------------------------------------------------------


def test_there_is_a_value_beside_the_default_for_every_option():
    assert {name for name, _, _ in walk(o.DEFAULTS)} == set(NAMES)


@given(subsets)
def test_an_update_changes_what_it_names_and_shares_the_rest(names):
    new = changed(names)
    assert set(diff(o.DEFAULTS, new)) == set(names)
    assert all(at(new, name) is OTHER[name] or at(new, name) == OTHER[name] for name in names)
    touched = {path(name)[0] for name in names}
    for field in fields(new):
        shared = getattr(new, field.name) is getattr(o.DEFAULTS, field.name)
        assert shared == (field.name not in touched)


@given(subsets, subsets)
def test_equal_if_and_only_if_nothing_differs_and_equal_hash_alike(left, right):
    a, b = changed(left), changed(right)
    assert (a == b) == (left == right)
    assert (diff(a, b) == {}) == (a == b)
    assert hash(changed(left)) == hash(a)
    assert copy.deepcopy(a) is a
    assert copy.copy(a) is a


@given(subsets)
def test_repr_names_exactly_what_is_not_default(names):
    text = repr(changed(names))
    shown = {name for name in NAMES if re.search(rf"\b{path(name)[-1]}=", text)}
    assert shown == set(names)


@given(plain_subsets)
def test_plain_data_survives_json_and_pickle(names):
    options = changed(names)
    data = json.loads(json.dumps(to_dict(options)))
    assert "not_plain" not in data
    assert from_dict(data) == options
    assert pickle.loads(pickle.dumps(options)) == options


@given(subsets)
def test_what_is_not_plain_is_named_and_asked_for(names):
    options = changed(names)
    data = json.loads(json.dumps(to_dict(options)))
    missing = data.get("not_plain", [])
    assert all(name in names or name == "memory.regulator_options.profiler" for name in missing)
    if missing:
        with pytest.raises(OptionValueError, match=missing[0]):
            from_dict(data)
    assert from_dict(data, {name: at(options, name) for name in missing}) == options


@given(subsets, st.sampled_from(NAMES))
def test_a_refused_update_changes_nothing(names, name):
    options = changed(names)
    before = to_dict(options)
    with pytest.raises(OptionError):
        update(options, {path(name): 3 + 4j})
    assert to_dict(options) == before


# -- names and defaults --------------------------------------------------------------------------


def test_the_fields_and_defaults_are_those_of_orbax():
    from orbax.checkpoint.experimental.v1 import options as theirs

    ours_only = {
        "pytree.leaf_handlers",
        "pytree.loading.unregistered_leaves",
        "deletion.todelete_subdir",
        "array.saving.compression",
        "array.loading.verify",
        "array.loading.saved_shardings",
        "array.loading.casting",
        "file.durability",
    }
    by_us = {"file.path_class", "array.saving.array_metadata_store", "checkpointables.registry"}
    for kind in GROUPS:
        if not kind.__at__ or kind is o.PyTreeMetadataOptions:
            continue
        other: Any = theirs
        for part in kind.__qualname__.split("."):
            other = getattr(other, part)
        expected = {f.name: f for f in dataclasses.fields(other) if f.init}
        names = {f.name: f"{kind.__at__}.{f.name}" for f in fields(kind)}
        assert {n for n in names if names[n] not in ours_only} == set(expected), kind
        for field in fields(kind):
            if names[field.name] in ours_only | by_us or field.name.endswith("options"):
                continue
            if expected[field.name].default_factory is dataclasses.MISSING:
                default = expected[field.name].default
                assert getattr(field.default, "value", field.default) == getattr(
                    default, "value", default
                ), names[field.name]
    for mine, other in (
        (o.CheckpointLayout, theirs.CheckpointLayout),
        (o.AtomicityMode, theirs.AtomicityMode),
    ):
        assert {m.name: m.value for m in mine} == {m.name: m.value for m in other}


def test_options_and_context_do_not_need_jax():
    # The package itself imports jax to register the groups, so its own file is left out here.
    code = """
import sys, types
package = types.ModuleType("sealwax")
package.__path__ = [sys.argv[1]]
sys.modules["sealwax"] = package
import sealwax.settings.availability, sealwax.context, sealwax.options
sys.exit("jax" in sys.modules)
"""
    folder = str(pathlib.Path(o.__file__).parent)
    done = subprocess.run([sys.executable, "-c", code, folder], check=False)
    assert done.returncode == 0


# -- what is accepted ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("array.saving.use_ocdbt", "no"),
        ("array.saving.use_ocdbt", 1),
        ("array.saving.use_zarr3", None),
        ("array.saving.enable_pinned_host_transfer", "true"),
        ("memory.write_concurrent_bytes", True),
        ("memory.write_concurrent_bytes", 1.0),
        ("asynchronous.timeout_secs", "x"),
        ("asynchronous.timeout_secs", True),
        ("asynchronous.post_finalization_callback", 3),
        ("multiprocessing.active_processes", "01"),
        ("multiprocessing.active_processes", {"0"}),
        ("array.saving.storage_options.shard_axes", {0, 1}),
        ("array.saving.storage_options.dtype", "floaty"),
        ("file.path_class", "pathlib.Path"),
        ("checkpoint_layout", 3),
        ("checkpointables.registry", Registry),
        ("checkpointables.registry", object()),
        ("memory.serialization_status_callback", Callback),
        ("array", o.FileOptions()),
        ("array.saving.array_metadata_store", True),
        ("file", None),
    ],
)
def test_a_wrong_type_is_refused_by_name(name, value):
    with pytest.raises(OptionTypeError, match=name):
        update(o.DEFAULTS, {path(name): value})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("checkpoint_layout", "zip", "'orbax', 'safetensors', 'auto'"),
        ("atomicity.mode", "rename", "'auto', 'commit_file', 'atomic_rename'"),
        ("array.saving.compression", "never", "'auto', 'always'"),
        ("file.durability", "none", "'durable', 'atomic'"),
        ("file.path_permission_mode", 0o10000, f"at most {0o7777}"),
        ("array.saving.storage_options.chunk_byte_size", 0, "at least 1"),
        ("array.saving.storage_options.dtype", object, "a floating or complex dtype"),
        ("array.saving.storage_options.dtype", "int32", "a floating or complex dtype"),
        ("array.saving.storage_options.dtype", jnp.uint4, "a floating or complex dtype"),
        ("array.saving.storage_options.dtype", bool, "a floating or complex dtype"),
        ("memory.transfer_concurrent_bytes", -1, "at least 1"),
        ("asynchronous.timeout_secs", 0, "above 0"),
        ("asynchronous.timeout_secs", float("nan"), "a number"),
        ("multiprocessing.active_processes", set(), "not empty"),
        ("multiprocessing.primary_host", -1, "at least 0"),
        ("safetensors.max_over_read_ratio", 0.5, "at least 1"),
        ("deletion.gcs_deletion_options.todelete_full_path", "/a", "a relative path"),
        ("deletion.gcs_deletion_options.todelete_full_path", "a/../b", "a relative path"),
        ("deletion.gcs_deletion_options.todelete_full_path", "gs://a", "a relative path"),
        ("deletion.todelete_subdir", "../a", "a relative path"),
        ("deletion.todelete_subdir", "a\0", "a relative path"),
        (
            "array.loading.load_and_broadcast_options.broadcast_memory_scaling_factor",
            1.5,
            "at most 1",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_the_allowed_ones(name, value, allowed):
    with pytest.raises(OptionValueError, match=name) as caught:
        update(o.DEFAULTS, {path(name): value})
    assert allowed in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("checkpoint_layout", "auto", o.CheckpointLayout.AUTO),
        ("atomicity.mode", "commit_file", o.AtomicityMode.COMMIT_FILE),
        ("asynchronous.timeout_secs", 0.5, 0.5),
        ("memory.read_concurrent_bytes", np.int64(5), 5),
        ("safetensors.max_over_read_ratio", 2, 2.0),
        ("array.saving.storage_options.dtype", jnp.bfloat16, np.dtype(jnp.bfloat16)),
        ("array.saving.storage_options.dtype", "bfloat16", np.dtype(jnp.bfloat16)),
        ("array.saving.storage_options.dtype", "float8_e4m3fn", np.dtype(jnp.float8_e4m3fn)),
        ("array.saving.storage_options.dtype", ">f4", np.dtype("=f4")),
        ("array.saving.storage_options.shard_axes", [1, 0], (1, 0)),
        ("multiprocessing.active_processes", {1, 0}, frozenset({0, 1})),
        ("multiprocessing.active_processes", [1, 0], frozenset({0, 1})),
        ("file.path_class", pathlib.Path, pathlib.Path),
    ],
)
def test_values_are_brought_to_one_frozen_form(name, value, kept):
    found = at(update(o.DEFAULTS, {path(name): value}), name)
    assert found == kept
    assert type(found) is type(kept)


def test_later_changes_of_what_was_passed_do_not_arrive():
    processes = {0, 1}
    options = o.MultiprocessingOptions(active_processes=processes)
    processes.add(2)
    assert options.active_processes == {0, 1}


def test_a_mapping_becomes_an_immutable_one():
    source = {"a": [1, 2]}
    frozen = accepted("x", Mapping[str, Sequence[int]], source)
    source["a"].append(3)
    source["b"] = []
    assert frozen == {"a": (1, 2)}
    assert hash(frozen) == hash(FrozenMapping({"a": (1, 2)}))
    assert pickle.loads(pickle.dumps(frozen)) == frozen
    with pytest.raises(TypeError):
        frozen["b"] = ()
    with pytest.raises(OptionTypeError, match="a mapping from a str to"):
        accepted("x", Mapping[str, Sequence[int]], {"a": ["b"]})


@given(st.from_type(type(None)) | st.booleans() | st.integers() | st.floats() | st.text())
def test_acceptance_follows_the_annotation(value):
    def fits(kind) -> bool:
        try:
            return accepted("x", kind, value) == value
        except OptionError:
            return False

    is_int = isinstance(value, int) and not isinstance(value, bool)
    assert fits(bool) == isinstance(value, bool)
    assert fits(int | None) == (value is None or is_int)
    assert fits(Annotated[int, at_least(1)]) == (is_int and value >= 1)
    assert fits(str) == isinstance(value, str)
    assert not fits(Set[int])
    assert fits(Literal["auto"]) == (value == "auto")


def test_an_unknown_name_is_refused_with_the_near_and_the_allowed_ones():
    with pytest.raises(UnknownOptionError, match=r"'array.saving' has no option 'use_zar3'") as one:
        o.ArrayOptions.Saving(use_zar3=False)
    assert "Did you mean 'use_zarr3'?" in str(one.value)
    assert all(field.name in str(one.value) for field in fields(o.ArrayOptions.Saving))
    with pytest.raises(UnknownOptionError, match=r"Did you mean 'array.saving.use_zarr3'"):
        o.Options(use_zarr3=False)
    with pytest.raises(UnknownOptionError, match="no option 'arry'"):
        _ = o.DEFAULTS.arry
    assert not hasattr(o.DEFAULTS, "arry")


def test_the_regulator_needs_a_profiler_and_room():
    with pytest.raises(OptionTypeError, match="RegulatorOptions needs profiler"):
        o.MemoryOptions.RegulatorOptions(max_memory_limit_gib=100)
    with pytest.raises(OptionTypeError, match=r"regulator_options\.profiler"):
        o.MemoryOptions.RegulatorOptions(max_memory_limit_gib=100, profiler=None)
    with pytest.raises(OptionValueError, match="min_memory_limit_gib"):
        o.MemoryOptions.RegulatorOptions(max_memory_limit_gib=12, profiler=Profiler())
    with pytest.raises(OptionTypeError, match=r"'memory.regulator_options' has no options inside"):
        update(o.DEFAULTS, {path("memory.regulator_options.kp"): 1.0})


# -- freezing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in NAMES if n != "memory.regulator_options"])
def test_assigning_to_a_field_of_no_context_names_the_functional_way(name):
    *parents, last = path(name)
    node = at(o.DEFAULTS, ".".join(parents)) if parents else o.DEFAULTS
    with pytest.raises(FrozenOptionError, match=rf"ctx\.at\.{name}\.set\("):
        setattr(node, last, OTHER[name])
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(node, last)
    assert at(o.DEFAULTS, name) == at(o.Options(), name)


def test_assigning_to_an_unknown_field_of_a_group_is_an_unknown_option():
    with pytest.raises(UnknownOptionError, match="Did you mean 'durability'"):
        o.FileOptions().durabilty = "atomic"


def test_held_objects_keep_their_identity_and_count_by_it():
    callback = Callback()
    options = o.MemoryOptions(serialization_status_callback=callback)
    assert options.serialization_status_callback is callback
    assert copy.deepcopy(options).serialization_status_callback is callback
    same = o.MemoryOptions(serialization_status_callback=callback)
    other = o.MemoryOptions(serialization_status_callback=Callback())
    assert options == same
    assert hash(options) == hash(same)
    assert options != other


def test_replace_gives_a_checked_group():
    options = dataclasses.replace(o.DEFAULTS.array.saving, use_zarr3=False)
    assert options == o.ArrayOptions.Saving(use_zarr3=False)
    with pytest.raises(OptionTypeError):
        dataclasses.replace(options, use_zarr3="yes")


def test_groups_of_different_kinds_are_not_equal_and_not_compared():
    assert o.PathwaysOptions() != o.CheckpointablesOptions()
    with pytest.raises(OptionTypeError, match="PathwaysOptions and CheckpointablesOptions"):
        diff(o.PathwaysOptions(), o.CheckpointablesOptions())


def test_reprs_can_be_read_back():
    options = changed(["array.saving.use_zarr3", "file.durability", "asynchronous.timeout_secs"])
    assert eval(repr(options), vars(o)) == options
    assert repr(o.Options()) == "Options()"


def test_from_dict_refuses_what_it_does_not_know():
    with pytest.raises(UnknownOptionError, match="no option 'arry'"):
        from_dict({"arry": {}})
    with pytest.raises(OptionTypeError, match=r"array.saving.use_zarr3"):
        from_dict({"array": {"saving": {"use_zarr3": "no"}}})
    with pytest.raises(OptionTypeError, match="'file'"):
        from_dict({"file": None}, {"file.path_class": pathlib.PurePath})


# -- what cannot act yet -------------------------------------------------------------------------


def test_defaults_are_available_for_every_operation():
    for operation in ("save", "load", "delete"):
        assert unavailable(o.DEFAULTS, operation) is None
        assert unavailable(update(o.Options(), {}), operation) is None


@pytest.mark.parametrize("name", NAMES)
def test_an_option_that_cannot_act_is_an_error_where_it_would_and_only_there(name):
    listed = [entry for entry in LATER if name == entry or name.startswith(f"{entry}.")]
    options = changed([name])
    for operation in ("save", "load", "delete"):
        error = unavailable(options, operation)
        assert (error is not None) == any(operation in LATER[one].operations for one in listed)
        if error is not None:
            assert isinstance(error, OptionUnavailableError)
            assert LATER[listed[0]].needs in str(error)
            assert listed[0] in str(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("checkpoint_layout", "auto"),
        ("atomicity.mode", "atomic_rename"),
        ("array.saving.use_replica_parallel", False),
        ("array.saving.enable_pinned_host_transfer", False),
    ],
)
def test_values_that_can_act_are_available(name, value):
    options = Context().replace({name: value}).options
    assert at(options, name) != at(o.DEFAULTS, name)
    assert unavailable(options, "save") is None
    assert unavailable(options, "load") is None


def test_every_name_in_the_table_is_an_option():
    for name in LATER:
        at(o.DEFAULTS, name)
