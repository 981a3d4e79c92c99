"""Shardings survive their JSON, and the JSON is Orbax's."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from sealwax.arrays.sharding_record import (
    Named,
    SingleDevice,
    describe,
    from_json,
    rebuild,
    to_json,
)

MESHES = [(8,), (2, 4), (4, 2), (2, 2, 2), (1, 1), (2,)]
NAMES = "xyz"


@st.composite
def named_shardings(draw):
    shape = draw(st.sampled_from(MESHES))
    devices = np.array(draw(st.permutations(jax.devices()))[: math.prod(shape)]).reshape(shape)
    kinds = tuple(draw(st.sampled_from([AxisType.Auto, AxisType.Explicit])) for _ in shape)
    mesh = Mesh(devices, tuple(NAMES[: len(shape)]), axis_types=kinds)
    parts = draw(st.permutations([*NAMES[: len(shape)], None, None]))
    cut = draw(st.integers(0, len(parts)))
    spec = [*parts[:cut]]
    if draw(st.booleans()) and len(shape) > 1:
        spec = [None, tuple(NAMES[:2])]
    return NamedSharding(mesh, PartitionSpec(*spec))


@given(named_shardings())
def test_a_named_sharding_survives(sharding):
    record = describe(sharding)
    assert from_json(to_json(record)) == record
    assert rebuild(record, jax.devices()) == sharding


@pytest.mark.parametrize("number", [0, 3])
def test_a_single_device_survives(number):
    sharding = SingleDeviceSharding(jax.devices()[number])
    record = describe(sharding)
    assert record == SingleDevice(device=str(jax.devices()[number]))
    assert from_json(to_json(record)) == record
    assert rebuild(record, jax.devices()) == sharding


def test_the_text_is_that_of_orbax(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint.experimental.v1")
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y"))
    kinds = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Explicit, AxisType.Auto))
    specs = [
        NamedSharding(mesh, PartitionSpec("x")),
        NamedSharding(mesh, PartitionSpec(("x", "y"))),
        NamedSharding(mesh, PartitionSpec(None, "y")),
        NamedSharding(mesh, PartitionSpec()),
        NamedSharding(kinds, PartitionSpec("a", "b")),
        SingleDeviceSharding(jax.devices()[5]),
    ]
    tree = [jax.device_put(jnp.ones((8, 8)), sharding) for sharding in specs]
    keys = jax.device_put(jax.random.split(jax.random.key(0), 8), specs[0])
    ocp.save(tmp_path / "c", [*tree, keys])
    written = json.loads((tmp_path / "c" / "state" / "_sharding").read_text())
    ours = [to_json(describe(sharding)) for sharding in specs]
    ours.append(to_json(describe(jax.random.key_data(keys).sharding)))
    assert sorted(written.values()) == sorted(ours)


@pytest.mark.parametrize("spec", [("x",), (), (None, "x"), ("x", None)])
def test_keys_are_recorded_as_their_data(spec):
    sharding = NamedSharding(jax.make_mesh((8,), ("x",)), PartitionSpec(*spec))
    keys = jax.device_put(jax.random.split(jax.random.key(0), (8, 8)), sharding)
    data = jax.random.key_data(keys)
    record = describe(data.sharding)
    assert rebuild(record, jax.devices()).is_equivalent_to(data.sharding, data.ndim)


def test_without_devices_all_are_taken():
    record = Named(mesh_shape=(4, 2), axis_names=("x", "y"), spec=("x", None))
    assert from_json(to_json(record)) == record
    rebuilt = rebuild(record, jax.devices())
    assert rebuilt.mesh.devices.ravel().tolist() == jax.devices()
    assert rebuild(record, jax.devices()[:4]) is None


def test_devices_that_are_not_there_give_nothing():
    record = Named(mesh_shape=(1,), axis_names=("x",), spec=(), device_ids=(99,))
    assert rebuild(record, jax.devices()) is None
    assert rebuild(SingleDevice(device="tpu:0"), jax.devices()) is None


def test_a_spec_that_the_mesh_does_not_have_gives_nothing():
    record = Named(mesh_shape=(8,), axis_names=("x",), spec=("q",))
    assert rebuild(record, jax.devices()) is None


def test_old_names_of_devices_are_understood():
    record = from_json('{"sharding_type": "SingleDeviceSharding", "device_str": "TFRT_CPU_0"}')
    assert record == SingleDevice(device="cpu:0")


NAMED = json.loads(
    to_json(Named(mesh_shape=(2,), axis_names=("x",), spec=("x",), device_ids=(0, 1)))
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"sharding_type": "PositionalSharding"}',
        json.dumps({**NAMED, "shape": [3]}),
        json.dumps({**NAMED, "axis_names": []}),
        json.dumps({**NAMED, "axis_types": []}),
        json.dumps({**NAMED, "partition_spec": [3]}),
        json.dumps({**NAMED, "device_mesh": {"mesh": [{"no": 1}]}}),
    ],
)
def test_what_is_not_a_sharding_gives_nothing(text):
    assert from_json(text) is None


def test_other_shardings_are_not_recorded():
    mesh = jax.make_mesh((8,), ("x",))
    abstract = NamedSharding(mesh.abstract_mesh, PartitionSpec("x"))
    auto = Mesh(mesh.devices, ("x",), axis_types=(AxisType.Auto,))
    unconstrained = NamedSharding(auto, PartitionSpec(PartitionSpec.UNCONSTRAINED))
    assert describe(abstract) is None
    assert describe(unconstrained) is None
