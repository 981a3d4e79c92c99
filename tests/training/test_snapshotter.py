"""A snapshot in the memory of the hosts: what it keeps, and what is left when devices are lost."""

from __future__ import annotations

import functools
import importlib
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

import sealwax as ocp
from sealwax.training.pathways import host_copies
from sealwax.training.pathways.host_copies import HostCopies
from sealwax.training.pathways.snapshots import Snapshot

P = PartitionSpec
Snapshotter = ocp.training.pathways.Snapshotter


def mesh_of(*shape: int, first: int = 0) -> Mesh:
    count = int(np.prod(shape))
    devices = np.array(jax.devices()[first : first + count]).reshape(shape)
    return Mesh(devices, ("replica", "data", "model")[: len(shape)])


def put(value: Any, mesh: Mesh, *spec: Any) -> jax.Array:
    return jax.device_put(value, NamedSharding(mesh, P(*spec)))


def state_on(mesh: Mesh, axis: str = "data") -> dict[str, Any]:
    return {
        "w": put(np.arange(48, dtype=np.float32).reshape(8, 6), mesh, axis),
        "bias": put(np.arange(6, dtype=jnp.bfloat16), mesh),
        "opt": (put(np.int32(7), mesh), None),
        "key": put(jax.random.key(3), mesh),
        "keys": put(jax.random.split(jax.random.key(1, impl="rbg"), 8), mesh, axis),
        "epoch": 3,
    }


def abstract(state: Any, mesh: Mesh | None = None) -> Any:
    def describe(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array):
            return leaf
        sharding = leaf.sharding if mesh is None else NamedSharding(mesh, leaf.sharding.spec)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(describe, state)


def bare(leaf: Any) -> Any:
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def same(found: Any, wanted: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert type(one) is type(other)
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)
        np.testing.assert_array_equal(bare(one), bare(other))


class Losses:
    """Devices that are lost, as far as a snapshotter is told."""

    def __init__(self) -> None:
        self.lost: set[Any] = set()

    def __call__(self, devices: Any) -> bool:
        return not self.lost & set(devices)


def taken(step: int, state: Any, **settings: Any) -> Any:
    made = Snapshotter(**settings)
    made.save(step, state)
    made.join()
    return made


class TestWhatComesBack:
    def test_the_state_where_it_was(self):
        state = state_on(mesh_of(2, 4))
        found = taken(5, state).load(abstract(state))
        same(found, state)
        assert jax.tree.map(lambda leaf: leaf.sharding, found["w"]) == state["w"].sharding
        assert found["keys"].sharding.is_equivalent_to(state["keys"].sharding, 1)
        assert found["w"].committed

    @pytest.mark.parametrize(("axis", "split"), [(0, "data"), (1, "replica"), (-2, "data")])
    def test_replicas_may_be_counted_by_any_axis(self, axis, split):
        mesh, losses = mesh_of(4, 2), Losses()
        state = state_on(mesh, split)
        made = taken(5, state, replica_axis_index=axis, is_live=losses)
        losses.lost |= set(np.moveaxis(mesh.devices, axis, 0)[:-1].flat)
        same(made.load(abstract(state)), state)

    @given(
        st.sampled_from([(2, 4), (4, 2), (8, 1), (2, 2, 2)]),
        st.sampled_from([(), ("data",), (None, "data"), ("model",), (("data", "model"),)]),
        st.data(),
    )
    def test_any_living_replica_has_all_of_it(self, shape, spec, data):
        mesh = mesh_of(*shape)
        known = set(mesh.axis_names)
        parts = [name for each in spec for name in (each if isinstance(each, tuple) else (each,))]
        spec = spec if set(parts) - {None} <= known else ()
        value = np.arange(8 * 8, dtype=np.int16).reshape(8, 8)
        state, losses = {"w": put(value, mesh, *spec)}, Losses()
        made = taken(1, state, is_live=losses)
        living = data.draw(st.sets(st.integers(0, shape[0] - 1), min_size=1), label="living")
        losses.lost = {d for n in range(shape[0]) if n not in living for d in mesh.devices[n].flat}
        target = mesh_of(*data.draw(st.sampled_from([(2, 2), (1, 4), (4, 1), (1, 1)])), first=2)
        wanted = data.draw(st.sampled_from([(), ("data",), ("replica", "data"), (None, "replica")]))
        sharding = NamedSharding(target, P(*wanted))
        leaf = jax.ShapeDtypeStruct((8, 8), np.int16, sharding=sharding)
        found = made.load({"w": leaf}, reset_snapshot_state=False)["w"]
        assert found.sharding == sharding
        np.testing.assert_array_equal(found, value)

    def test_on_one_device(self):
        state = {"w": jnp.arange(3.0), "n": 2}
        same(taken(0, state).load(abstract(state)), state)

    def test_on_fewer_devices(self):
        state, losses = state_on(mesh_of(2, 4)), Losses()
        made = taken(5, state, is_live=losses)
        losses.lost |= set(jax.devices()[:4])
        found = made.load(abstract(state, mesh_of(1, 4, first=4)))
        same(found, state)
        assert found["w"].devices() == set(jax.devices()[4:])

    def test_an_empty_state_and_one_without_arrays(self):
        for state in ({}, {"a": 1, "b": ()}):
            assert taken(0, state).load(state) == state

    def test_what_is_not_wanted_is_left_out(self):
        state = state_on(mesh_of(2, 4))
        made = taken(5, state)
        template = dict.fromkeys(state, ...) | {"w": abstract(state["w"])}
        found = made.load(template)
        np.testing.assert_array_equal(found["w"], state["w"])
        assert found["bias"] is ...
        same(made.load(abstract(state)), state)

    def test_a_template_of_key_data_stands_for_keys(self):
        state = {"key": put(jax.random.split(jax.random.key(0), 4), mesh_of(2, 4), "data")}
        template = jax.tree.map(ocp.arrays.to_shape_dtype_struct, state)
        same(taken(5, state).load(template), state)

    def test_memory_that_the_template_names(self):
        state = {"w": put(np.arange(8.0, dtype=np.float32), mesh_of(2, 4), "data")}
        sharding = state["w"].sharding.with_memory_kind("pinned_host")
        leaf = jax.ShapeDtypeStruct((8,), np.float32, sharding=sharding)
        found = taken(5, state).load({"w": leaf})["w"]
        assert found.sharding.memory_kind == "pinned_host"
        np.testing.assert_array_equal(found, np.arange(8.0))


class TestWhatIsKept:
    def test_in_pinned_memory_once_for_each_replica(self):
        made = taken(5, {"w": put(np.zeros((8, 2)), mesh_of(2, 4)), "s": put(1, mesh_of(2, 4))})
        [whole, scalar] = made._newest.copies.pieces
        assert [len(pieces) for pieces in (*whole, *scalar)] == [1, 1, 1, 1]
        assert whole[0][0].data.sharding.memory_kind == "pinned_host"
        assert [next(iter(piece.data.devices())) for [piece] in whole] == [
            jax.devices()[0],
            jax.devices()[4],
        ]

    def test_in_memory_of_numpy_where_devices_know_of_none(self, monkeypatch):
        monkeypatch.setattr(host_copies, "_HOST", ())
        state = state_on(mesh_of(2, 4))
        made = taken(5, state)
        assert type(made._newest.copies.of_replica(0)[0]) is np.ndarray
        same(made.load(abstract(state)), state)

    def test_numpy_arrays_belong_to_the_snapshot(self):
        array = np.arange(3)
        made = taken(5, {"a": array, "n": np.float32(2), "s": "text"})
        array[:] = -1
        found = made.load({"a": np.zeros(3, int), "n": 0, "s": ""})
        np.testing.assert_array_equal(found["a"], [0, 1, 2])
        assert (found["n"], type(found["n"]), found["s"]) == (2, np.float32, "text")
        found["a"][:] = -1
        np.testing.assert_array_equal(made.load({"a": 0, "n": 0, "s": 0})["a"], [0, 1, 2])

    def test_numpy_arrays_go_to_devices_where_the_template_says_so(self):
        sharding = NamedSharding(mesh_of(2, 4), P("data"))
        made = taken(5, {"a": np.arange(4, dtype=np.int32)})
        leaf = jax.ShapeDtypeStruct((4,), np.int32, sharding=sharding)
        assert made.load({"a": leaf})["a"].sharding == sharding

    def test_the_next_step_may_have_the_state_at_once(self):
        mesh, step = mesh_of(2, 4), jax.jit(lambda x: x + 1, donate_argnums=0)
        x, made = put(np.zeros((512, 512), np.float32), mesh, "data"), Snapshotter()
        for number in range(20):
            given = x
            made.save(number, {"x": x})
            x = step(x)
            assert given.is_deleted()
            for _ in range(3):
                x = step(x)
            made.join()
            found = made.load({"x": abstract(x)}, reset_snapshot_state=False)["x"]
            np.testing.assert_array_equal(found, np.full((512, 512), 4 * number))

    def test_what_was_restored_may_be_donated_and_the_snapshot_stays(self):
        state = {"x": put(np.arange(8, dtype=np.float32), mesh_of(2, 4), "data")}
        made, step = taken(1, state), jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
        for _ in range(3):
            found = made.load(abstract(state), reset_snapshot_state=False)["x"]
            np.testing.assert_array_equal(found, np.arange(8))
            step(found).block_until_ready()


class TestTheNewest:
    def test_there_is_none_at_first(self):
        made = Snapshotter()
        made.join()
        assert made.latest is None
        with pytest.raises(ocp.errors.SnapshotError, match="There is no snapshot") as caught:
            made.load({})
        assert isinstance(caught.value, RuntimeError)

    def test_it_has_a_step_a_time_and_no_tree(self):
        state = state_on(mesh_of(2, 4))
        made = taken(5, state)
        assert (made.latest.step, made.latest.metadata, made.latest.path) == (5, None, Path())
        assert made.latest.time.year > 2020
        made.save(np.int64(6), state)
        made.join()
        assert made.latest.step == 6

    def test_a_load_waits_for_it(self, held):
        state = {"w": jnp.zeros(3)}
        made = taken(1, state)
        hold = held()
        made.save(2, {"w": jnp.ones(3)})
        assert made.latest.step == 1
        threading.Timer(0.05, hold.set).start()
        np.testing.assert_array_equal(made.load(abstract(state))["w"], np.ones(3))
        assert made.latest.step == 2

    def test_one_that_comes_too_soon_is_skipped_with_a_warning(self, held, caplog):
        made, hold = Snapshotter(), held()
        made.save(1, {"w": jnp.zeros(3)})
        with caplog.at_level(logging.WARNING, "sealwax"):
            made.save(2, {"w": jnp.ones(3)})
        assert "step 2 is skipped: the snapshot of step 1 is not done" in caplog.text
        hold.set()
        made.join()
        assert made.latest.step == 1
        made.save(3, {"w": jnp.ones(3)})
        made.join()
        assert made.latest.step == 3

    def test_an_exit_is_quiet(self):
        script = """
import jax, jax.numpy as jnp, sealwax
made = sealwax.training.pathways.Snapshotter()
made.save(1, {"w": jnp.zeros((1000, 1000))})
"""
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONPATH": str(Path(ocp.__file__).parents[1]), "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Holds the snapshots that are taken from now on until an event is set."""
    awaited, event = Snapshot.awaited, threading.Event()

    def wait(snapshot: Snapshot) -> Snapshot:
        assert event.wait(60)
        return awaited(snapshot)

    def hold() -> threading.Event:
        monkeypatch.setattr(Snapshot, "awaited", wait)
        return event

    yield hold
    event.set()


class TestReplicas:
    def test_none_is_left(self):
        state = state_on(mesh_of(2, 4))
        losses = Losses()
        made = taken(5, state, is_live=losses)
        losses.lost |= {jax.devices()[1], jax.devices()[6]}
        with pytest.raises(ocp.errors.SnapshotError, match="No replica of the snapshot of step 5"):
            made.load(abstract(state))
        losses.lost.clear()
        same(made.load(abstract(state)), state)

    def test_they_are_asked_one_by_one_with_all_of_their_devices(self):
        asked: list[Any] = []
        mesh = mesh_of(2, 4)
        made = taken(5, state_on(mesh), is_live=lambda devices: not asked.append(devices))
        made.load(abstract(state_on(mesh)))
        assert asked == [tuple(row) for row in mesh.devices]

    def test_devices_that_are_there_answer(self):
        assert ocp.training.pathways.replicas.answers(jax.devices())

    def test_what_is_no_device_does_not_answer(self, caplog):
        assert not ocp.training.pathways.replicas.answers([object()])
        assert "do not answer" in caplog.text

    def test_a_snapshot_has_the_replicas_of_what_was_restored(self):
        state, losses = state_on(mesh_of(4, 2)), Losses()
        made = taken(5, state, is_live=losses)
        losses.lost |= set(jax.devices()[:4])
        smaller = abstract(state, mesh_of(2, 2, first=4))
        made.load(smaller)
        assert made.latest.step == 5
        # The first replica of the new mesh, which was the third of the old one.
        losses.lost |= set(jax.devices()[4:6])
        same(made.load(smaller, reset_snapshot_state=False), state)
        assert made._newest.replicas == tuple(map(tuple, mesh_of(2, 2, first=4).devices))

    def test_without_a_reset_it_stays_as_it_was(self):
        state = state_on(mesh_of(4, 2))
        made = taken(5, state)
        before = made._newest
        made.load(abstract(state, mesh_of(2, 2)), reset_snapshot_state=False)
        assert made._newest is before

    def test_a_reset_that_fails_leaves_the_snapshot(self, monkeypatch, caplog):
        state = state_on(mesh_of(2, 4))
        made = taken(5, state)
        before = made._newest
        lose(monkeypatch, 0, 1)
        same(made.load(abstract(state)), state)
        assert made._newest is before
        assert "stays as it was" in caplog.text


def lose(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Lets copies of some replicas fail."""
    of_replica = HostCopies.of_replica

    def lost(copies: HostCopies, number: int) -> Any:
        if number in numbers:
            raise RuntimeError("DATA_LOSS: the slice is gone")
        return of_replica(copies, number)

    monkeypatch.setattr(HostCopies, "of_replica", lost)


class TestFailures:
    def test_one_replica_that_fails_is_left_out(self, monkeypatch, caplog):
        state = state_on(mesh_of(2, 4))
        with monkeypatch.context() as patch:
            lose(patch, 0)
            made = taken(5, state)
        assert "lacks a replica: DATA_LOSS" in caplog.text
        asked: list[Any] = []
        made._is_live = lambda devices: not asked.append(devices)
        same(made.load(abstract(state)), state)
        assert asked == [tuple(jax.devices()[4:])]

    @pytest.mark.parametrize("by", ["join", "save"])
    def test_one_that_fails_is_raised_once_and_the_one_before_stays(self, monkeypatch, by):
        state = state_on(mesh_of(2, 4))
        made = taken(1, state)
        with monkeypatch.context() as patch:
            lose(patch, 0, 1)
            made.save(2, {"w": put(np.zeros(8), mesh_of(2, 4))})
            made._wait()
        call = {"join": made.join, "save": functools.partial(made.save, 3, state)}[by]
        with pytest.raises(ocp.errors.SnapshotError, match="step 2 failed") as caught:
            call()
        assert isinstance(caught.value.__cause__, RuntimeError)
        made.join()
        assert made.latest.step == 1
        same(made.load(abstract(state)), state)

    def test_a_load_goes_on_from_the_one_before(self, monkeypatch, caplog):
        state = state_on(mesh_of(2, 4))
        made = taken(1, state)
        with monkeypatch.context() as patch:
            lose(patch, 0, 1)
            made.save(2, state)
            made._wait()
        same(made.load(abstract(state)), state)
        assert "step 2 failed" in caplog.text
        assert made.latest.step == 1
        made.join()


class TestWhatIsRefused:
    def refused(self, kind: type, state: Any, *, leaf: str, match: str, axis: int = 0) -> None:
        made = Snapshotter(replica_axis_index=axis)
        with pytest.raises(kind, match=match) as caught:
            made.save(1, state)
        assert caught.value.leaf == leaf
        assert isinstance(caught.value, ValueError)
        made.join()
        assert made.latest is None

    def test_different_numbers_of_replicas(self):
        mesh = mesh_of(2, 4)
        state = {"a": put(1, mesh), "b": put(np.zeros(4), mesh), "c": {"d": jnp.zeros(3)}}
        error = ocp.errors.ReplicaError
        self.refused(error, state, leaf="c.d", match="2, as most of them have, found 1")

    def test_arrays_that_no_replica_has_all_of(self):
        state = {"w": put(np.zeros((8, 8)), mesh_of(2, 4), None, ("data", "replica"))}
        self.refused(ocp.errors.ReplicaError, state, leaf="w", match="split along the axis")

    def test_shardings_that_do_not_tell(self):
        # What JAX gives arrays whose sharding only its compiler knows; it has no public name.
        kind = importlib.import_module("jax._src.sharding_impls").GSPMDSharding
        array = jax.device_put(np.zeros(8), kind.get_replicated(jax.devices()))
        self.refused(ocp.errors.ReplicaError, {"w": array}, leaf="w", match="cannot be told")

    def test_an_axis_that_is_not_there(self):
        state = {"w": put(np.zeros(8), mesh_of(2, 4))}
        error = ocp.errors.ArgumentValueError
        self.refused(error, state, leaf="w", match="below 2", axis=2)

    def test_leaves_without_a_value(self):
        donated = jnp.zeros(3)
        donated.delete()
        error = ocp.errors.UnsupportedLeafError
        self.refused(error, {"w": donated}, leaf="w", match="donated")
        self.refused(error, {"w": abstract(jnp.zeros(3))}, leaf="w", match="no data")

    def test_arguments_of_the_wrong_type(self):
        with pytest.raises(ocp.errors.ArgumentTypeError, match="replica_axis_index"):
            Snapshotter(replica_axis_index="data")
        with pytest.raises(TypeError):
            Snapshotter().save("1", {})

    @pytest.mark.parametrize(
        ("leaf", "match"),
        [
            (jax.ShapeDtypeStruct((3,), np.float32), "does not say where"),
            (np.zeros(3, np.float32), "does not say where"),
            (jax.ShapeDtypeStruct((4,), np.float32), r"expected float32\[4\], found float32\[3\]"),
            (jax.ShapeDtypeStruct((3,), np.int32), r"expected int32\[3\], found float32\[3\]"),
            (0.0, "expected float, found"),
        ],
    )
    def test_a_leaf_of_the_template(self, leaf, match):
        made = taken(1, {"a": {"w": jnp.zeros(3)}})
        with pytest.raises(ocp.errors.LeafMismatchError, match=f"(?i){match}") as caught:
            made.load({"a": {"w": leaf}})
        assert caught.value.leaf == "a.w"

    def test_another_tree(self):
        made = taken(1, {"w": jnp.zeros(3)})
        with pytest.raises(ocp.errors.TreeMismatchError, match="missing"):
            made.load({"v": abstract(jnp.zeros(3))})

    def test_a_part_of_the_tree_says_how_to_ask_for_it(self):
        made = taken(1, {"w": jnp.zeros(3), "v": jnp.zeros(3)})
        with pytest.raises(ocp.errors.TreeMismatchError) as caught:
            made.load({"w": abstract(jnp.zeros(3))})
        told = str(caught.value)
        assert "in the snapshot, not in the template" in told
        assert "put ... in the place" in told
        assert "ctx." not in told  # No setting would help here.

    def test_a_template_that_could_not_be_a_snapshot_and_it_can_be_had_without(self):
        state = {"a": put(1, mesh_of(2, 4)), "b": put(np.zeros(4), mesh_of(2, 4))}
        made = taken(1, state)
        one = SingleDeviceSharding(jax.devices()[0])
        template = abstract(state) | {"b": jax.ShapeDtypeStruct((4,), np.float32, sharding=one)}
        with pytest.raises(ocp.errors.ReplicaError):
            made.load(template)
        same(made.load(template, reset_snapshot_state=False), state)
