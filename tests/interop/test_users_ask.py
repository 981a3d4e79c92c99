"""What users of such libraries asked for, under the threads in which they did.

Themes: topology on restore, structure and partial restore, leaf types, upgrades. Threads that are
not about a behaviour that a test can show here:

===============================================  ==============================================
google/orbax#841, demonstration-information#1    the same question as #648 and #1110
google/orbax#329 and PR#62                       custom nodes: see #741
google/flax#4231, track-mjx#44, orbax#1105,      typed keys: see #620
orbax#1337, orbax#2540
google/flax#4423, google/flax#4521               see #1305
deepmodeling/deepmd-kit#5748                     see #2587
flax#4015, orbax#1039, bridge_data_v2#28,        a version of one library that did not fit
jaxili#41 and #50, maxtext PR#955 and PR#4863,   another's: nothing that a file holds
fortuna PR#107, axlearn PR#1255
===============================================  ==============================================
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
import orbax.checkpoint as v0
import pytest
import tensorstore as ts
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as orbax

import sealwax as ocp
from sealwax.errors import InvalidLayoutError, LeafMismatchError, TreeMismatchError
from sealwax.layouts import manifest
from tests.interop import topologies
from tests.strategies import assert_same, bits, mesh, noise

ROOT = Path(__file__).parents[2]
SAVERS: dict[str, Callable[[Path, Any], None]] = {"sealwax": ocp.save, "orbax": orbax.save}
savers = pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)


def sds(shape: Any, dtype: Any = np.float32, sharding: Any = None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


# ---------------------------------------------------------------- 1. topology


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Checkpoints saved on eight devices, by both."""
    root = tmp_path_factory.mktemp("eight")
    for name, save in SAVERS.items():
        save(root / name, topologies.state())
    return [str(root / name) for name in SAVERS]


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_orbax_648_332_load_on_another_number_of_devices(eight, devices):
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": f"{ROOT / 'lib'}{os.pathsep}{ROOT}",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-W", "error", "-m", "tests.interop.topologies", *eight]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert not done.stdout


def test_orbax_332_load_on_the_same_devices_in_other_meshes(eight):
    topologies.main(eight)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A checkpoint of a machine with a GPU, of which this one has none."""
    orbax.save(path := tmp_path / "gpu", {"w": jax.numpy.arange(4.0), "n": np.arange(3)})
    record = {"sharding_type": "SingleDeviceSharding", "device_str": "cuda:0"}
    name = base64.urlsafe_b64encode(b"w").decode()
    (path / "state" / "_sharding").write_text(json.dumps({name: json.dumps(record)}))
    return path


def test_orbax_646_2473_restore_on_a_cpu_what_a_gpu_saved(elsewhere):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = ocp.load(elsewhere)
    assert loaded["w"].devices() == {jax.devices()[0]}
    assert loaded["w"].tolist() == [0, 1, 2, 3]


def test_orbax_986_restore_to_the_host_without_knowing_the_structure(elsewhere):
    found = ocp.metadata(elsewhere).metadata
    template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), found)
    loaded = ocp.load(elsewhere, template)
    assert_same(loaded, {"w": np.arange(4.0, dtype=np.float32), "n": np.arange(3)})


def test_orbax_657_restore_on_the_device_that_is_asked_for(elsewhere):
    wanted = jax.sharding.SingleDeviceSharding(jax.devices()[5])
    loaded = ocp.load(elsewhere, {"w": sds((4,), sharding=wanted), "n": ...})
    assert loaded["w"].sharding == wanted
    with jax.default_device(jax.devices()[2]):
        assert ocp.load(elsewhere)["w"].devices() == {jax.devices()[2]}


def test_orbax_678_683_look_without_the_devices(elsewhere):
    found = ocp.metadata(elsewhere).metadata["w"]
    assert (found.shape, found.dtype) == ((4,), np.float32)
    assert "cuda:0" in found.sharding_metadata
    with pytest.raises(LeafMismatchError, match="8 devices"):
        _ = found.sharding
    assert ocp.open(elsewhere)["w"][1:3].tolist() == [1, 2]


@savers
def test_orbax_1110_no_warning_without_a_sharding(tmp_path, save):
    save(path := tmp_path / "ckpt", {"params": {"w": jax.numpy.ones((2, 2))}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ocp.load(path)
        ocp.load(path, {"params": {"w": sds((2, 2))}})


@savers
def test_maxdiffusion_379_describe_without_the_saved_mesh(tmp_path, save):
    placed = NamedSharding(mesh(2, 4), PartitionSpec("x", "y"))
    save(path := tmp_path / "ckpt", {"w": jax.device_put(noise("float32", (8, 8), 0), placed)})
    small = NamedSharding(mesh(2, 2), PartitionSpec("y"))
    template = jax.tree.map(
        lambda leaf: sds(leaf.shape, leaf.dtype, small), ocp.metadata(path).metadata
    )
    loaded = ocp.load(path, template)["w"]
    assert loaded.sharding.is_equivalent_to(small, 2)
    assert bits(loaded) == bits(noise("float32", (8, 8), 0))


@savers
def test_orbax_3164_a_mesh_that_is_current_changes_nothing(tmp_path, save):
    save(path := tmp_path / "ckpt", {"w": jax.numpy.arange(6.0), "k": jax.random.key(1)})
    explicit = jax.make_mesh((2, 4), ("x", "y"), (jax.sharding.AxisType.Explicit,) * 2)
    for devices in (mesh(8), explicit):
        with jax.set_mesh(devices):
            loaded = ocp.load(path)
            one = ocp.load(path, {"w": sds((6,)), "k": ...})
        assert loaded["w"].tolist() == one["w"].tolist() == [0, 1, 2, 3, 4, 5]
        assert_same(loaded["k"], jax.random.key(1))


# ---------------------------------------------------------------- 4. structure


def layers(count: int) -> dict[str, Any]:
    return {f"layer_{i}": {"w": np.full((2, 2), i, np.float32)} for i in range(count)}


@savers
def test_orbax_2972_strict_by_default(tmp_path, save):
    save(path := tmp_path / "ckpt", {"params": layers(12)})
    with pytest.raises(TreeMismatchError, match=r"layer_\* \(1 leaf\), 4 of them|layer_12") as few:
        ocp.load(path, {"params": layers(16)})
    assert len(few.value.missing) == 4
    with pytest.raises(TreeMismatchError, match="partial_load") as many:
        ocp.load(path, {"params": layers(8)})
    assert len(many.value.unexpected) == 4


@savers
def test_orbax_331_487_load_a_part(tmp_path, save):
    save(path := tmp_path / "ckpt", {"params": layers(3), "opt": {"mu": np.ones(100)}})
    assert_same(
        ocp.load(path, select="params.layer_1"), {"params": {"layer_1": layers(2)["layer_1"]}}
    )
    assert ocp.plan_load(path, select="params.layer_1").bytes < 100
    partial = ocp.Context().at.pytree.loading.partial_load.set(True)
    template = {"params": {"layer_2": {"w": np.empty((2, 2), np.float32)}}}
    assert ocp.load(path, template, context=partial)["params"]["layer_2"]["w"][0, 0] == 2


@savers
def test_orbax_360_not_strict_and_cast_on_the_way(tmp_path, save):
    save(path := tmp_path / "ckpt", {"a": noise("bfloat16", (3,), 0), "old": np.ones(1)})
    state = {"a": np.empty(3, np.float32), "new": np.zeros(2)}
    tree, report = ocp.load_into(path, state, select=ocp.Selection(exclude="old"), missing="keep")
    assert tree["a"].dtype == np.float32
    assert tree["new"] is state["new"]
    assert (report.taken, report.left, report.missing) == (("a",), ("old",), ("new",))


@savers
def test_orbax_2692_rename_on_the_way_without_saying_it_twice(tmp_path, save):
    save(path := tmp_path / "ckpt", {"model": {"enc": {"w": np.ones(2)}}})
    select = ocp.Selection(rename={"model.enc": "params.encoder"})
    template = {"params": {"encoder": {"w": sds((2,))}}}
    assert ocp.load(path, template, select=select)["params"]["encoder"]["w"].tolist() == [1, 1]


class Model(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.backbone = nnx.Linear(2, 3, rngs=rngs)
        self.head = nnx.Linear(3, 4, rngs=rngs)


@savers
def test_flax_5106_a_part_of_an_nnx_state_by_regular_expression(tmp_path, save):
    _, state = nnx.split(Model(nnx.Rngs(0)))
    save(path := tmp_path / "ckpt", state)
    model = Model(nnx.Rngs(1))
    mine = nnx.state(model)
    select = ocp.Selection(include=re.compile(r"backbone\..*"))
    tree, report = ocp.load_into(path, mine, select=select)
    nnx.update(model, tree)
    assert bits(model.backbone.kernel[...]) == bits(state["backbone"]["kernel"][...])
    assert bits(model.head.kernel[...]) == bits(mine["head"]["kernel"][...])
    assert ocp.plan_load(path, select=select).bytes < sum(
        leaf.nbytes for leaf in jax.tree.leaves(state)
    )
    assert [name.split(".")[0] for name in report.left] == ["head", "head"]


def train_state(features: int, tx: optax.GradientTransformation) -> TrainState:
    model = nn.Dense(features)
    params = model.init(jax.random.key(0), np.ones((1, 2), np.float32))["params"]
    return TrainState.create(apply_fn=model.apply, params=params, tx=tx)


@savers
def test_orbax_1904_one_train_state_from_two_structures(tmp_path, save):
    save(old := tmp_path / "old", train_state(3, optax.sgd(0.1, momentum=0.9)))
    state = train_state(3, optax.adam(1e-3))
    tree, report = ocp.load_into(old, state, select=["params", "step"])
    assert isinstance(tree, TrainState)
    assert set(report.taken) == {"params.bias", "params.kernel", "step"}
    assert all(name.startswith("opt_state") for name in report.left)
    with pytest.raises(TreeMismatchError, match="optimizer that was used when saving"):
        ocp.load(old, state)


@savers
@pytest.mark.parametrize("tx", [optax.adamw(1e-3), optax.chain(optax.clip(1.0), optax.sgd(0.1)),
                                optax.inject_hyperparams(optax.adam)(1e-3)])  # fmt: skip
def test_orbax_1305_ordinary_train_states_and_optimizers(tmp_path, save, tx):
    state = train_state(4, tx)
    save(path := tmp_path / "ckpt", state)
    for template in (state, jax.eval_shape(lambda: train_state(4, tx))):
        loaded = ocp.load(path, template)
        assert jax.tree.structure(loaded) == jax.tree.structure(template)
        for found, wanted in zip(jax.tree.leaves(loaded), jax.tree.leaves(state), strict=True):
            np.testing.assert_array_equal(found, wanted)


@savers
def test_openpi_312_what_is_loaded_is_fit_for_jit(tmp_path, save):
    save(path := tmp_path / "ckpt", {"w": jax.numpy.ones(3), "n": np.ones(2)})
    partial = ocp.Context().at.pytree.loading.partial_load.set(True)
    for loaded in (ocp.load(path), ocp.load(path, {"w": sds((3,))}, context=partial)):
        total = jax.jit(lambda tree: sum(leaf.sum() for leaf in jax.tree.leaves(tree)))(loaded)
        assert float(total) in (5, 3)
    assert ocp.load(path, {"w": sds((3,)), "n": ...})["n"] is ...


@savers
def test_orbax_2353_a_load_gives_the_tree(tmp_path, save):
    save(path := tmp_path / "ckpt", {"a": [1, {"b": 2}]})
    assert type(ocp.load(path)) is dict
    assert ocp.load(path) == {"a": [1, {"b": 2}]}


# ---------------------------------------------------------------- 7. leaf types


@savers
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_orbax_620_typed_keys(tmp_path, save, impl):
    state = {"one": jax.random.key(0, impl=impl), "many": jax.random.split(jax.random.key(1), 4)}
    save(path := tmp_path / "ckpt", state)
    assert_same(ocp.load(path), state)
    assert_same(ocp.load(path, state), state)
    assert_same(ocp.load(path, jax.eval_shape(lambda: state)), state)


def test_orbax_1071_the_state_of_numpys_generator(tmp_path):
    generator = np.random.default_rng(3)
    ocp.save(path := tmp_path / "ckpt", {"rng": generator.bit_generator.state})
    other = np.random.default_rng()
    other.bit_generator.state = ocp.load(path)["rng"]
    assert other.standard_normal() == generator.standard_normal()


def test_orbax_825_a_dataclass_with_strings(tmp_path):
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Config:
        name: str
        width: int

    config = Config("wide", 64)
    for name, save in SAVERS.items():
        save(path := tmp_path / name, {"config": config})
        assert ocp.load(path, {"config": Config("", 0)}) == {"config": config}
        assert ocp.load(path) == {"config": {"name": "wide", "width": 64}}


@savers
def test_orbax_721_none_is_a_value(tmp_path, save):
    save(path := tmp_path / "ckpt", {"a": None, "b": [None, 1]})
    assert ocp.load(path) == {"a": None, "b": [None, 1]}
    assert ocp.load(path, {"a": None, "b": [None, 0]}) == {"a": None, "b": [None, 1]}


def test_orbax_1309_2587_arrays_of_no_size(tmp_path):
    state = {"lora": jax.numpy.zeros((4, 0), "bfloat16"), "n": np.zeros((0, 3)), "w": np.ones(1)}
    ocp.save(path := tmp_path / "ckpt", state)
    assert_same(ocp.load(path), state)
    assert_same(ocp.load(path, state), state)
    assert ocp.open(path)["lora"].shape == (4, 0)


def test_orbax_2561_integer_keys_stay_integers(tmp_path):
    model = nnx.Sequential(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.Linear(2, 2, rngs=nnx.Rngs(1)))
    state = nnx.to_pure_dict(nnx.state(model))
    ocp.save(path := tmp_path / "ckpt", state)
    loaded = ocp.load(path)
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    other = nnx.Sequential(nnx.Linear(2, 2, rngs=nnx.Rngs(2)), nnx.Linear(2, 2, rngs=nnx.Rngs(3)))
    mine = nnx.state(other)
    nnx.replace_by_pure_dict(mine, loaded)
    assert bits(jax.tree.leaves(mine)[1]) == bits(jax.tree.leaves(nnx.state(model))[1])


@savers
def test_orbax_741_equinox_606_914_nodes_of_ones_own(tmp_path, save):
    class Linear:
        def __init__(self, weight: Any, bias: Any) -> None:
            self.weight, self.bias = weight, bias

    jax.tree_util.register_pytree_with_keys(
        Linear,
        lambda m: (
            (
                (jax.tree_util.GetAttrKey("weight"), m.weight),
                (jax.tree_util.GetAttrKey("bias"), m.bias),
            ),
            None,
        ),
        lambda _, inner: Linear(*inner),
    )
    made = Linear(jax.numpy.ones((1, 1)), np.ones((1,)))
    save(path := tmp_path / "ckpt", [made])
    (loaded,) = ocp.load(path, [made])
    assert type(loaded) is Linear
    assert loaded.weight.shape == (1, 1)
    assert loaded.bias.shape == (1,)


# ---------------------------------------------------------------- 9. upgrades


def test_keras_22985_the_default_item_has_had_other_names(tmp_path):
    for item in ("pytree", "state", "default", "model"):
        path = tmp_path / item
        orbax.save(path, {"w": np.arange(2)}, checkpointable_name=item)
        assert ocp.load(path)["w"].tolist() == [0, 1]
        assert ocp.load(path, checkpointable_name=item)["w"].tolist() == [0, 1]
        assert ocp.metadata(path).metadata["w"].shape == (2,)
    with pytest.raises(InvalidLayoutError, match="'model'"):
        ocp.load(path, checkpointable_name="state")


def test_flax_3977_old_checkpoints(tmp_path):
    state = {"params": {"w": jax.numpy.arange(6.0).reshape(2, 3)}, "step": 3}
    v0.PyTreeCheckpointer().save(tmp_path / "ocdbt", state)
    files = v0.PyTreeCheckpointer(use_ocdbt=False)
    files.save(tmp_path / "files", state)
    for name in ("ocdbt", "files"):
        # Older versions did not say how they stored things.
        where = tmp_path / name / "_METADATA"
        tree = json.loads(where.read_text())
        for key in ("use_ocdbt", "use_zarr3", "store_array_data_equal_to_fill_value"):
            tree.pop(key, None)
        where.write_text(json.dumps(tree))
        assert_same(ocp.load(tmp_path / name), state)
        assert_same(ocp.load(tmp_path / name, checkpointable_name=None), state)


@pytest.mark.parametrize("codec", ["gzip", "zstd", "zlib", "bz2", None])
def test_orbax_324_any_codec_of_any_version(tmp_path, codec):
    path = tmp_path / "ckpt"
    v0.PyTreeCheckpointer(use_ocdbt=False).save(path, {"w": np.zeros((4, 6), np.float32)})
    wanted = noise("float32", (4, 6), 5)
    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": str(path / "w")},
        "metadata": {
            "compressor": codec and {"id": codec, "level": 1},
            "shape": [4, 6],
            "chunks": [2, 6],
            "dtype": "<f4",
        },
        "delete_existing": True,
        "create": True,
    }
    ts.open(spec).result().write(wanted).result()
    assert bits(ocp.load(path)["w"]) == bits(wanted)


def test_changelog_0_11_30_what_a_later_version_adds_is_passed_over(tmp_path):
    orbax.save(path := tmp_path / "ckpt", {"w": np.arange(3)})
    for name in ("_CHECKPOINT_METADATA", "state/_METADATA"):
        found = json.loads((path / name).read_text())
        (path / name).write_text(json.dumps(found | {"from_the_future": {"a": [1]}}))
    assert ocp.load(path)["w"].tolist() == [0, 1, 2]
    assert ocp.metadata(path).metadata["w"].shape == (3,)


def test_changelog_0_11_30_a_format_that_is_not_known_is_said_to_be(tmp_path):
    ocp.save(path := tmp_path / "ckpt", {"w": np.arange(3)})
    where = path / "state" / manifest.NAME
    item = manifest.decode(where.read_bytes(), manifest.Item, "")
    newer = type("Item", (manifest.Item,), {}, frozen=True, kw_only=True)
    values = {name: getattr(item, name) for name in manifest.Item.__struct_fields__}
    where.write_bytes(manifest.encode(newer(**values | {"format": manifest.VERSION + 1})))
    (path / manifest.NAME).unlink()
    with pytest.raises(InvalidLayoutError, match="newer version of sealwax"):
        ocp.load(path)
