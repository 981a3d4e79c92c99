"""Every way of writing that the options offer: sealwax and Orbax 0.12.8 load each of them."""

from __future__ import annotations

import collections
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as v0
import pytest
from hypothesis import assume, given, settings
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as orbax

import sealwax
from sealwax.options import ArrayOptions
from tests.strategies import (
    assert_placed,
    assert_same,
    is_named_apart,
    mesh,
    noise,
    through_orbax,
    trees,
)

pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")

Pair = collections.namedtuple("Pair", "first second")
BOTH = [True, False]
COMPRESSION = {
    "never": {"use_compression": False},
    "auto": {},
    "always": {"compression": "always"},
}


def saving(**changes: Any) -> sealwax.Context:
    """Settings of writing, without waiting for the disk."""
    named = {f"array.saving.{key}": value for key, value in changes.items()}
    return sealwax.Context().replace({"file.durability": "atomic", **named})


def state() -> dict[str, Any]:
    """A little of everything that Orbax brings back as it was."""
    on = NamedSharding(mesh(4, 2), PartitionSpec("x", "y"))
    everywhere = NamedSharding(mesh(4, 2), PartitionSpec())
    return {
        "sharded": jax.device_put(noise("float32", (32, 32), 1), on),
        "replicated": jax.device_put(jnp.arange(48.0).reshape(8, 6), everywhere),
        "zeros": jnp.zeros((40, 24), jnp.bfloat16),
        "host": noise("int16", (20, 30), 2),
        "key": jax.random.key(1),
        "list": [noise("int4", (5,), 3), 2.5],
        "step": 3,
        "text": "note",
    }


@pytest.mark.parametrize("metadata", BOTH, ids=["metadata", "no-metadata"])
@pytest.mark.parametrize("compression", COMPRESSION)
@pytest.mark.parametrize("zarr3", BOTH, ids=["zarr3", "zarr2"])
@pytest.mark.parametrize("ocdbt", BOTH, ids=["ocdbt", "separate"])
def test_every_combination_is_loaded(
    tmp_path: Path, ocdbt: bool, zarr3: bool, compression: str, metadata: bool
) -> None:
    tree = state()
    rest = itertools.product([None, 1024], BOTH, [None, (0,)])
    for number, (chunk, shardings, axes) in enumerate(rest):
        options = {
            "use_ocdbt": ocdbt,
            "use_zarr3": zarr3,
            **COMPRESSION[compression],
            **({} if metadata else {"array_metadata_store": None}),
            "storage_options.chunk_byte_size": chunk,
            "storage_options.shard_axes": axes,
            "enable_write_sharding_file": shardings,
        }
        path = tmp_path / str(number)
        sealwax.save(path, tree, context=saving(**options))
        assert_same(sealwax.load(path), tree)
        seen = tree if metadata else tree | {"key": jax.random.key_data(tree["key"])}
        template = None if shardings else seen
        assert_same(orbax.load(path, template), seen)
        if number in (0, 7):
            with v0.PyTreeCheckpointer() as checkpointer:
                args = v0.args.PyTreeRestore(
                    seen, restore_args=v0.checkpoint_utils.construct_restore_args(seen)
                )
                assert_same(checkpointer.restore(path / "state", args=args), seen)


@pytest.mark.parametrize("zarr3", BOTH, ids=["zarr3", "zarr2"])
@pytest.mark.parametrize("ocdbt", BOTH, ids=["ocdbt", "separate"])
@settings(max_examples=20)
@given(tree=trees())
def test_any_tree_in_any_form(fresh: Any, ocdbt: bool, zarr3: bool, tree: Any) -> None:
    assume(is_named_apart(tree))
    options = {"use_ocdbt": ocdbt, "use_zarr3": zarr3, "storage_options.chunk_byte_size": 16}
    try:
        sealwax.save(path := fresh(), tree, context=saving(**options))
    except sealwax.errors.LeafError:
        assume(False)
    loaded = sealwax.load(path, tree)
    assert_placed(loaded, tree)
    sealwax.save(again := fresh(), tree)
    assert_same(loaded, sealwax.load(again, tree))
    assert_same(sealwax.load(path), sealwax.load(again))
    assert_same(orbax.load(path), through_orbax(tree))


# ---------------------------------------------------------------- as Orbax itself would write


def theirs(path: Path, tree: Any, options: Any) -> dict[str, Any]:
    """Saves with Orbax; returns chunk and write shapes by leaf."""
    with orbax.Context(array_options=orbax.options.ArrayOptions(saving=options)):
        orbax.save(path, tree)
    return shapes(path)


def shapes(path: Path) -> dict[str, Any]:
    found = json.loads((path / "state" / "array_metadatas" / "process_0").read_bytes())
    facts = [record["array_metadata"] for record in found["array_metadatas"]]
    return {f["param_name"]: (f["write_shape"], f["chunk_shape"]) for f in facts}


def arrays() -> dict[str, Any]:
    specs = [(), ("x",), ("x", "y"), (None, "y"), ("y", "x"), (("x", "y"),)]
    made: dict[str, Any] = {}
    for (n, shape), spec in itertools.product(enumerate([(8, 8), (24, 16), (8, 24)]), specs):
        sharding = NamedSharding(mesh(4, 2), PartitionSpec(*spec))
        made[f"{n}.{spec}"] = jax.device_put(noise("float32", shape, n), sharding)
    made["odd"] = jax.device_put(noise("float32", (7, 11), 9), jax.devices()[0])
    return made


@pytest.mark.parametrize(
    "options",
    [
        {"use_replica_parallel": True},
        {"use_replica_parallel": True, "min_slice_bytes_for_replica_parallel": 65},
        {"use_replica_parallel": True, "max_replicas_for_replica_parallel": 2},
        {"use_replica_parallel": True, "storage_options": {"chunk_byte_size": 40}},
        {"use_replica_parallel": False, "storage_options": {"shard_axes": (1,)}},
        {"use_replica_parallel": False, "storage_options": {"chunk_byte_size": 100}},
        {
            "use_replica_parallel": False,
            "storage_options": {"chunk_byte_size": 16, "shard_axes": (0,)},
        },
        {"use_replica_parallel": False, "ocdbt_target_data_file_size": 64},
    ],
    ids=str,
)
def test_chunks_and_write_shapes_are_those_of_orbax(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    storage = options.get("storage_options", {})
    rest = {key: value for key, value in options.items() if key != "storage_options"}
    kind = orbax.options.ArrayOptions.Saving
    wanted = theirs(
        tmp_path / "theirs", arrays(), kind(**rest, storage_options=kind.StorageOptions(**storage))
    )
    ours = ArrayOptions.Saving(
        **rest, storage_options=ArrayOptions.Saving.StorageOptions(**storage)
    )
    sealwax.save(tmp_path / "ours", arrays(), context=saving().at.array.saving.set(ours))
    assert shapes(tmp_path / "ours") == wanted
    assert_same(orbax.load(tmp_path / "ours"), arrays())


def test_orbax_reads_what_was_cast(tmp_path: Path) -> None:
    def create(keys: Any, leaf: Any) -> ArrayOptions.Saving.StorageOptions | None:
        half = ArrayOptions.Saving.StorageOptions(dtype="float16", chunk_byte_size=8)
        return half if keys[-1].key == "half" else None

    tree = {
        "half": noise("float32", (4, 4), 1) * 0 + 1.5,
        "wide": jnp.arange(4.0),
        "ints": np.arange(3),
        "step": 12345,
        "key": jax.random.key(0),
    }
    options = {"storage_options.dtype": "bfloat16", "scoped_storage_options_creator": create}
    sealwax.save(tmp_path / "ckpt", tree, context=saving(**options))
    seen = tree | {
        "half": tree["half"].astype(np.float16),
        "wide": tree["wide"].astype(jnp.bfloat16),
    }
    assert_same(orbax.load(tmp_path / "ckpt"), seen)
    assert_same(sealwax.load(tmp_path / "ckpt"), seen)


# ---------------------------------------------------------------- rich types


def rich_tree() -> dict[str, Any]:
    return {
        "pair": Pair(np.ones(2), ("s", [2.0])),
        "empty": optax.EmptyState(),
        "nothing": None,
        "tuples": ((), (1,), [(2, 3)]),
        "adam": optax.ScaleByAdamState(jnp.zeros((), jnp.int32), {"w": jnp.ones(2)}, {}),
        "nested": {"a": {"b": (4,)}},
    }


def ours_rich() -> sealwax.Context:
    option = "pytree.saving.pytree_metadata_options.support_rich_types"
    return sealwax.Context().replace({option: True})


def theirs_rich() -> Any:
    metadata = type(orbax.Context().pytree_options.saving.pytree_metadata_options)
    kind = orbax.options.PyTreeOptions
    saved = kind.Saving(pytree_metadata_options=metadata(support_rich_types=True))
    return orbax.Context(pytree_options=kind(saving=saved))


def spelled(tree: Any) -> Iterator[Any]:
    """The containers of a tree: their kinds, field names and order."""
    match tree:
        case dict():
            yield {key: list(spelled(value)) for key, value in tree.items()}
        case tuple() if hasattr(tree, "_fields"):
            yield (tree._fields, *(list(spelled(value)) for value in tree))
        case list() | tuple():
            yield (type(tree), *(list(spelled(value)) for value in tree))
        case None:
            yield None
        case _:
            yield np.asarray(tree).tolist()


@pytest.mark.parametrize("writer", ["ours", "theirs"])
@pytest.mark.parametrize("reader", ["ours", "theirs"])
def test_rich_types_are_read_back_by_either(tmp_path: Path, writer: str, reader: str) -> None:
    with ours_rich(), theirs_rich():
        (sealwax if writer == "ours" else orbax).save(tmp_path / "ckpt", rich_tree())
        found = (sealwax if reader == "ours" else orbax).load(tmp_path / "ckpt")
    assert list(spelled(found)) == list(spelled(rich_tree()))


def test_rich_types_written_are_those_that_orbax_writes(tmp_path: Path) -> None:
    with ours_rich(), theirs_rich():
        sealwax.save(tmp_path / "ours", rich_tree())
        orbax.save(tmp_path / "theirs", rich_tree())
    ours, theirs = (
        json.loads((tmp_path / who / "state" / "_METADATA").read_bytes())
        for who in ("ours", "theirs")
    )
    assert json.loads(ours["value_metadata_tree"]) == json.loads(theirs["value_metadata_tree"])
    assert ours == theirs | {"value_metadata_tree": ours["value_metadata_tree"]}


def test_without_the_option_both_read_as_ever(tmp_path: Path) -> None:
    with ours_rich(), theirs_rich():
        sealwax.save(tmp_path / "ours", rich_tree())
        orbax.save(tmp_path / "theirs", rich_tree())
    assert_same(orbax.load(tmp_path / "ours"), orbax.load(tmp_path / "theirs"))
    assert_same(sealwax.load(tmp_path / "theirs"), orbax.load(tmp_path / "theirs"))


def test_a_key_that_orbax_takes_for_a_tag_is_left_to_the_entries(tmp_path: Path) -> None:
    tree = {"category": {"a": 1}, "b": (2,)}
    with ours_rich(), theirs_rich():
        sealwax.save(tmp_path / "ckpt", tree)
        assert orbax.load(tmp_path / "ckpt") == {"category": {"a": 1}, "b": [2]}
        assert sealwax.load(tmp_path / "ckpt") == tree
