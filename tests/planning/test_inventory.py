"""The inventory: where every leaf goes, and how arrays are cut."""

from __future__ import annotations

import collections
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from sealwax.arrays.forms import WHOLE
from sealwax.arrays.leafkinds import LeafKind
from sealwax.errors import LeafError
from sealwax.planning.inventory import take_inventory
from sealwax.trees.flatten import flatten
from tests.strategies import shardings


def inventory_of(tree, **kwargs):
    return take_inventory(flatten(tree).unwrap(), **kwargs).unwrap()


def mesh(*shape: int) -> Mesh:
    return Mesh(np.array(jax.devices()).reshape(shape), ("x", "y")[: len(shape)])


def test_arrays_that_are_alike_share_one_form():
    tree = {f"w{n}": np.zeros((4, 4), np.float32) for n in range(5)}
    tree |= {"other": np.zeros((4, 4), np.int32), "shape": np.zeros(4, np.float32)}
    inventory, sources = inventory_of(tree)
    assert len({id(form) for form in inventory.arrays}) == 3
    assert [source.form for source in sources] == list(inventory.arrays)


def test_jax_arrays_share_a_form_by_sharding():
    row = NamedSharding(mesh(8), PartitionSpec("x"))
    column = NamedSharding(mesh(8), PartitionSpec(None, "x"))
    arrays = [jax.device_put(np.zeros((8, 8)), s) for s in (row, column, row)]
    first, second, third = inventory_of(arrays)[0].arrays
    assert first is third
    assert first is not second


def test_keys_of_two_kinds_do_not_share_a_form_with_their_data():
    data = jnp.zeros(2, jnp.uint32)
    inventory, sources = inventory_of([jax.random.wrap_key_data(data, impl="threefry2x32"), data])
    assert [form.key_impl for form in inventory.arrays] == ["threefry2x32", None]
    assert [source.value.dtype for source in sources] == [np.uint32, np.uint32]


@pytest.mark.parametrize(
    ("spec", "shards"),
    [((), 1), (("x",), 2), ((None, "y"), 4), (("x", "y"), 8), ((("x", "y"),), 8), (("y", "x"), 8)],
)
def test_a_sharded_array_has_each_shard_once_however_often_it_is_replicated(spec, shards):
    sharding = NamedSharding(mesh(2, 4), PartitionSpec(*spec))
    (form,) = inventory_of([jax.device_put(np.zeros((8, 8), np.float32), sharding)])[0].arrays
    assert len(form.shards) == shards
    assert len({shard.position for shard in form.shards}) == shards
    assert sum(math.prod(shard.region.shape) for shard in form.shards) == 64


def test_an_array_on_one_device_is_one_shard():
    sharding = SingleDeviceSharding(jax.devices()[5])
    (form,) = inventory_of([jax.device_put(np.zeros(8), sharding)])[0].arrays
    assert [shard.position for shard in form.shards] == [WHOLE]


@given(st.sampled_from([(), (8,), (8, 4), (4, 8), (8, 4, 2)]), st.data())
def test_the_chunks_of_all_shards_tile_the_array(shape, data):
    sharding = data.draw(st.sampled_from(shardings(shape)))
    array = jax.device_put(np.arange(math.prod(shape), dtype=np.float32).reshape(shape), sharding)
    inventory, _ = inventory_of([array], chunk_bytes=data.draw(st.integers(4, 64)))
    (form,) = inventory.arrays
    seen = np.zeros(shape, np.int64)
    indices = collections.Counter()
    for shard, chunks in zip(form.shards, form.chunks, strict=True):
        box = seen[*shard.region.slices, ...]
        for chunk in chunks:
            box[*chunk.within.slices, ...] += 1
            indices[chunk.index] += 1
            start = tuple(i * n for i, n in zip(chunk.index, form.chunk_shape, strict=True))
            offset = zip(shard.region.start, chunk.within.start, strict=True)
            assert start == tuple(a + b for a, b in offset)
    assert (seen == 1).all()
    assert set(indices.values()) <= {1}
    whole = np.asarray(array)
    for position, region in form.shards:
        part = whole if position == WHOLE else array.addressable_shards[position].data
        assert np.array_equal(np.asarray(part), whole[region.slices])


def test_an_array_without_elements_is_no_array_of_the_store():
    inventory, sources = inventory_of([np.zeros((2, 0, 3)), jnp.zeros(0)])
    assert inventory.array_of == (-1, -1)
    assert sources == ()
    assert sorted(inventory.inline) == [0, 1]


def test_leaves_go_where_they_belong():
    tree = {
        "array": np.zeros(2),
        "big": 2**70,
        "bytes": b"ab",
        "empty": {},
        "float": 1.5,
        "none": None,
        "text": "hello",
    }
    inventory, sources = inventory_of(tree)
    leaves = [leaf.name for leaf in inventory.flat.leaves]
    kinds = dict(zip(leaves, inventory.kinds, strict=True))
    assert kinds["none"] is kinds["empty"] is LeafKind.EMPTY_NODE
    assert kinds["big"] is LeafKind.BIG_INT
    assert inventory.names == ("array", "float")
    assert [n >= 0 for n in inventory.array_of] == [name in inventory.names for name in leaves]
    assert len(sources) == 2
    assert inventory.strings == {"text": "hello"}
    assert {leaves[n] for n in inventory.inline} == {"big", "bytes", "text"}


def test_a_string_whose_name_orbax_would_take_for_another_is_kept_beside():
    inventory, _ = inventory_of({"a": "x", "a/b": "y", "a~": "z"})
    assert inventory.strings == {"a": "x"}
    assert list(inventory.inline.values()) == ["x", {"hidden": "y"}, {"hidden": "z"}]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((6, 4), order="F"),
        np.zeros((6, 8))[:, ::2],
        np.broadcast_to(np.zeros(4), (6, 4)),
        np.zeros((6, 4), ">f8"),
    ],
    ids=["fortran", "strided", "broadcast", "big-endian"],
)
def test_what_must_be_rearranged_is_not_taken_for_a_view(array):
    (one, two) = inventory_of([array, np.zeros((6, 4))])[0].arrays
    assert not one.on_host
    assert two.on_host


def test_the_first_leaf_that_cannot_be_stored_is_named():
    error = take_inventory(flatten({"ok": 1, "w": {"bad": object()}}).unwrap()).failure()
    assert isinstance(error, LeafError)
    assert error.leaf == "w.bad"
