"""Snapshots on a Pathways backend, where arrays are split and joined by ``pathwaysutils``.

The backend is a stand-in: what it does in one call, without moving anything, is done here shard by
shard. Where ``pathwaysutils`` is installed, its own functions are called, and only what they call
in turn is the stand-in's, so that the shapes of all calls are those of the real thing.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
import types
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as orbax

import sealwax as ocp
from sealwax.training.pathways import snapshots
from sealwax.training.pathways.host_copies import HostCopies
from tests.training.test_snapshotter import Losses, abstract, mesh_of, put, same, state_on, taken

TOOLS = ("split_by_mesh_axis", "concatenate_by_mesh_axis")


def joined(parts: Sequence[jax.Array], sharding: NamedSharding) -> jax.Array:
    shards = {s.device: s.data for part in parts for s in part.addressable_shards}
    devices = sharding.addressable_devices_indices_map(parts[0].shape)
    return jax.make_array_from_single_device_arrays(
        parts[0].shape, sharding, [shards[device] for device in devices]
    )


def low_split(
    *,
    arrays: Sequence[jax.Array],
    sharded_dim_idxs: Sequence[int],
    mesh_axis_sizes: Sequence[int],
    mesh_axis_idx: int,
    mesh_axis_sections: Sequence[int],
    submesh_shardings: Sequence[Sequence[NamedSharding]],
    donate: bool,
) -> list[list[jax.Array]]:
    assert not donate
    assert set(sharded_dim_idxs) == {-1}
    assert mesh_axis_sections[-1] == mesh_axis_sizes[mesh_axis_idx]
    return [
        [joined([array], sharding) for sharding in shardings]
        for array, shardings in zip(arrays, submesh_shardings, strict=True)
    ]


def low_concatenate(
    *,
    arrays: Sequence[Sequence[jax.Array]],
    sharded_dim_idxs: Sequence[int],
    mesh_axis_sizes: Sequence[int],
    mesh_axis_idx: int,
    mesh_axis_sections: Sequence[int],
    out_shardings: Sequence[NamedSharding],
    donate: bool,
) -> list[jax.Array]:
    assert donate
    assert set(sharded_dim_idxs) == {-1}
    assert mesh_axis_sections[-1] == mesh_axis_sizes[mesh_axis_idx]
    made = [joined(parts, to) for parts, to in zip(arrays, out_shardings, strict=True)]
    made = jax.tree.map(lambda array: array.copy(), made)
    for part in itertools.chain(*arrays):
        part.delete()
    return made


def high_split(arrays: Any, mesh_axis: str) -> list[Any]:
    mesh = arrays[0].sharding.mesh
    axis = mesh.axis_names.index(mesh_axis)
    assert {array.sharding.mesh for array in arrays} == {mesh}
    meshes = [
        Mesh(part, mesh.axis_names) for part in np.split(mesh.devices, mesh.shape[mesh_axis], axis)
    ]
    return [[joined([a], NamedSharding(part, a.sharding.spec)) for a in arrays] for part in meshes]


def high_concatenate(trees: Sequence[Any], mesh_axis: str) -> Any:
    mesh = trees[0][0].sharding.mesh
    axis = mesh.axis_names.index(mesh_axis)
    devices = np.concatenate([tree[0].sharding.mesh.devices for tree in trees], axis)
    whole = Mesh(devices, mesh.axis_names)
    rows = [list(row) for row in zip(*trees, strict=True)]
    made = [joined(row, NamedSharding(whole, row[0].sharding.spec)).copy() for row in rows]
    for part in itertools.chain(*rows):
        part.delete()
    return made


@pytest.fixture(params=["package", "stand-in"])
def pathways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "on_pathways", lambda: True)
    monkeypatch.setattr(HostCopies, "take", None)
    if request.param == "package":
        if importlib.util.find_spec("pathwaysutils") is None:
            pytest.skip("pathwaysutils is not installed")
        low = importlib.import_module("pathwaysutils.jax")
        for name, function in zip(TOOLS, (low_split, low_concatenate), strict=True):
            monkeypatch.setattr(low, name, function)
        return
    for name, function in zip(TOOLS, (high_split, high_concatenate), strict=True):
        module = types.ModuleType(name)
        vars(module)[name] = function
        monkeypatch.setitem(sys.modules, f"pathwaysutils.experimental.{name}", module)
    for name in ("pathwaysutils", "pathwaysutils.experimental"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))


@pytest.mark.usefixtures("pathways")
class TestOnPathways:
    @pytest.mark.parametrize(("axis", "split"), [(0, "data"), (1, "replica")])
    def test_all_replicas_are_joined_again(self, axis, split):
        state = state_on(mesh_of(4, 2), split)
        made = taken(5, state, replica_axis_index=axis)
        kinds = {part.sharding.memory_kind for part in made._newest.copies.of_replica(1)}
        assert kinds == {"pinned_host"}
        for reset in (False, True, False):
            found = made.load(abstract(state), reset_snapshot_state=reset)
            same(found, state)
            assert found["w"].sharding == state["w"].sharding
            assert found["w"].sharding.memory_kind == "device"

    def test_those_that_live_make_a_smaller_state(self):
        mesh, losses = mesh_of(4, 2), Losses()
        state = state_on(mesh)
        made = taken(5, state, is_live=losses)
        losses.lost |= set(mesh.devices[[0, 2]].flat)
        smaller = Mesh(mesh.devices[[1, 3]], mesh.axis_names)
        found = made.load(abstract(state, smaller))
        same(found, state)
        assert found["w"].sharding == NamedSharding(smaller, PartitionSpec("data"))
        losses.lost |= set(mesh.devices[1])
        same(made.load(abstract(state, Mesh(mesh.devices[[3]], mesh.axis_names))), state)

    def test_onto_devices_that_had_no_replica(self):
        state, losses = state_on(mesh_of(2, 2)), Losses()
        made = taken(5, state, is_live=losses)
        losses.lost |= set(jax.devices()[:2])
        found = made.load(abstract(state, mesh_of(2, 2, first=4)))
        same(found, state)
        assert found["w"].devices() == set(jax.devices()[4:])

    def test_arrays_on_several_meshes_and_on_one_device(self):
        other = Mesh(mesh_of(2, 4).devices, ("slice", "rest"))
        for state in (
            {"a": put(np.arange(8), mesh_of(2, 4), "data"), "b": put(np.arange(4), other, "rest")},
            {"a": jax.numpy.arange(3), "b": put(1, mesh_of(1, 1))},
        ):
            same(taken(5, state).load(abstract(state)), state)

    def test_the_state_may_be_donated(self):
        state = {"x": put(np.arange(8, dtype=np.float32), mesh_of(2, 4), "data")}
        template, step = abstract(state), jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
        made = ocp.training.pathways.Snapshotter()
        made.save(1, state)
        step(state["x"]).block_until_ready()
        assert state["x"].is_deleted()
        for _ in range(3):
            found = made.load(template)["x"]
            np.testing.assert_array_equal(found, np.arange(8))
            step(found).block_until_ready()


@pytest.mark.parametrize("pathways", ["package"], indirect=True)
@pytest.mark.usefixtures("pathways")
class TestTheSameProgram:
    """Orbax's own snapshotter, on the same stand-in."""

    @pytest.mark.parametrize("module", [ocp, orbax], ids=["sealwax", "orbax"])
    def test_it_does_the_same(self, module):
        state = state_on(mesh_of(2, 4))
        made = module.training.pathways.Snapshotter(replica_axis_index=0)
        assert made.latest is None
        with pytest.raises(RuntimeError):
            made.load(abstract(state))
        made.save(5, state)
        made.join()
        assert made.latest.step == 5
        for _ in range(2):
            found = made.load(abstract(state), reset_snapshot_state=True)
            same(found, state)
            assert found["w"].sharding == state["w"].sharding
            made.join()
            assert made.latest.step == 5

    def test_only_ours_can_be_loaded_again(self):
        state = state_on(mesh_of(2, 4))
        ours, theirs = taken(5, state), orbax.training.pathways.Snapshotter()
        theirs.save(5, state)
        theirs.join()
        for made in (ours, theirs):
            same(made.load(abstract(state), reset_snapshot_state=False), state)
        same(ours.load(abstract(state)), state)
        with pytest.raises(RuntimeError):
            theirs.load(abstract(state))


class TestWithoutThePackage:
    def test_it_says_what_it_needs(self, monkeypatch):
        monkeypatch.setattr(snapshots, "on_pathways", lambda: True)
        monkeypatch.setitem(sys.modules, f"pathwaysutils.experimental.{TOOLS[0]}", None)
        made = ocp.training.pathways.Snapshotter()
        with pytest.raises(ocp.errors.MissingPackageError, match="pip install") as caught:
            made.save(1, state_on(mesh_of(2, 4)))
        assert isinstance(caught.value, ImportError)
        assert made.latest is None

    def test_other_backends_need_none(self, monkeypatch):
        monkeypatch.setitem(sys.modules, f"pathwaysutils.experimental.{TOOLS[0]}", None)
        state = state_on(mesh_of(2, 4))
        same(taken(1, state).load(abstract(state)), state)
