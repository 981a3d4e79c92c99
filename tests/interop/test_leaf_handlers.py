"""What Orbax sees of leaves that were taken apart, and modules of Equinox."""

from __future__ import annotations

import datetime

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as orbax

import sealwax as ocp


def test_orbax_reads_their_parts(tmp_path) -> None:
    generator = np.random.Generator(np.random.MT19937(3))
    when = datetime.datetime(2026, 1, 2, 3, 4, 5)
    state = {"rng": generator, "when": when, "age": datetime.timedelta(2), "w": np.arange(3.0)}
    ocp.save(tmp_path / "ckpt", state)
    found = orbax.load(tmp_path / "ckpt")
    known = generator.bit_generator.state
    assert found["rng"]["bit_generator"] == "MT19937"
    assert found["rng"]["state"]["key"].tolist() == known["state"]["key"].tolist()
    assert found["rng"]["state"]["pos"] == known["state"]["pos"]
    assert found["when"] == when.isoformat()
    assert found["age"] == {"days": 2, "microseconds": 0, "seconds": 0}
    assert found["w"].tolist() == [0, 1, 2]


def test_what_orbax_saves_of_the_parts_is_a_template_away(tmp_path) -> None:
    orbax.save(tmp_path / "ckpt", {"when": "2026-01-02"})
    assert ocp.load(tmp_path / "ckpt") == {"when": "2026-01-02"}


class TestEquinox:
    def test_a_module_of_arrays_comes_back_with_its_static_fields(self, tmp_path) -> None:
        model = eqx.nn.Linear(2, 3, key=jax.random.key(0))
        ocp.save(tmp_path / "ckpt", model)
        like = eqx.filter_eval_shape(eqx.nn.Linear, 2, 3, key=jax.random.key(0))
        assert eqx.tree_equal(ocp.load(tmp_path / "ckpt", like), model)

    def test_a_module_with_functions_is_filtered_and_combined(self, tmp_path) -> None:
        model = eqx.nn.MLP(2, 3, 4, 1, activation=jnp.tanh, key=jax.random.key(0))
        arrays, rest = eqx.partition(model, eqx.is_array)
        ocp.save(tmp_path / "ckpt", arrays)
        loaded = eqx.combine(ocp.load(tmp_path / "ckpt", arrays), rest)
        assert eqx.tree_equal(loaded, model)
        assert loaded(jnp.ones(2)).tolist() == model(jnp.ones(2)).tolist()

    def test_orbax_reads_it_too(self, tmp_path) -> None:
        model = eqx.nn.Linear(2, 3, key=jax.random.key(0))
        ocp.save(tmp_path / "ckpt", model)
        found = orbax.load(tmp_path / "ckpt")
        assert found["weight"].tolist() == model.weight.tolist()
