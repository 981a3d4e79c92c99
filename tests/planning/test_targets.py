"""What each leaf becomes: one by one, and remembered for those that are alike."""

import itertools

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec, SingleDeviceSharding
from msgspec.structs import replace

from sealwax.arrays.leafkinds import LeafKind
from sealwax.errors import SealwaxError
from sealwax.planning.contents import Foreign, StoredArray, StoredLeaf
from sealwax.planning.targets import Rules, aiming, target
from sealwax.trees.keys import Key, KeyKind
from sealwax.trees.records import Entry

DTYPES = ("float32", "bfloat16", "int8")
SHAPES = ((2,), (2, 3), ())
PLACED = [SingleDeviceSharding(device) for device in jax.devices()[:2]]
# Equal, but not the same object.
PLACED.append(SingleDeviceSharding(jax.devices()[0]))


def stored(shape, dtype, key_impl=None):
    array = StoredArray(
        shape=shape,
        dtype=np.dtype(dtype) if dtype != "bfloat16" else np.dtype(jax.numpy.bfloat16),
        chunk_shape=shape,
        place=Foreign(driver="zarr3", key="w"),
        key_impl=key_impl,
    )
    entry = Entry((Key("w", KeyKind.MAPPING),), "jax.Array")
    return StoredLeaf(entry, LeafKind.JAX_ARRAY, array)


LEAVES = [stored(shape, dtype) for shape in SHAPES for dtype in DTYPES]
LEAVES.append(stored((2,), "uint32", "threefry2x32"))
WANTED = [
    *(
        jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for shape in SHAPES
        for dtype in DTYPES
        for sharding in (None, *PLACED)
    ),
    *(np.zeros(shape, dtype) for shape, dtype in itertools.product(SHAPES, ("float32", "int8"))),
    *(jax.device_put(np.zeros(2, np.float32), where) for where in (None, *PLACED)),
    jax.ShapeDtypeStruct((2,), np.uint32),
    jax.random.key(0),
    jax.Array,
    float,
]


def outcome(decide, leaf, wanted, *rules):
    try:
        return decide(leaf, wanted, *rules)
    except SealwaxError as error:
        return type(error), str(error)


@given(
    st.lists(st.tuples(st.sampled_from(LEAVES), st.sampled_from(WANTED)), min_size=1, max_size=40),
    st.builds(Rules, lossy=st.booleans(), resize=st.booleans()),
)
def test_what_is_remembered_is_what_would_be_decided(pairs, rules):
    aim = aiming(rules)
    for leaf, wanted in pairs:
        assert outcome(aim, leaf, wanted) == outcome(target, leaf, wanted, rules)


def test_shardings_that_are_made_anew_whenever_they_are_asked_for_are_told_apart():
    mesh = jax.make_mesh((1, 1), ("x", "y"))
    with jax.set_mesh(mesh):
        aim = aiming(Rules(mesh=mesh))
        for spec in [PartitionSpec("x"), PartitionSpec("y"), PartitionSpec()] * 10:
            wanted = jax.ShapeDtypeStruct((2,), np.float32, sharding=spec)
            assert aim(stored((2,), "float32"), wanted).sharding.spec == spec


def test_arrays_that_are_alike_keep_their_own_data():
    aim = aiming(Rules())
    first, second = stored((2,), "float32"), stored((2,), "float32")
    other = replace(second, array=replace(second.array, place=Foreign(driver="zarr3", key="v")))
    wanted = jax.ShapeDtypeStruct((2,), np.float32)
    assert aim(first, wanted).array.place.key == "w"
    assert aim(other, wanted).array.place.key == "v"
