"""Options cross JAX transformations as static arguments (C10)."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import pytest

from sealwax.context import Context
from sealwax.options import DEFAULTS, ArrayOptions, Options
from sealwax.settings.frozen import GROUPS
from sealwax.settings.lens import register_pytrees
from tests.test_options import NAMES, OTHER, Callback

register_pytrees()
register_pytrees()


def instances() -> list[object]:
    made = [kind() for kind in GROUPS if kind.__qualname__ != "MemoryOptions.RegulatorOptions"]
    return [*made, OTHER["memory.regulator_options"]]


@pytest.mark.parametrize("group", instances(), ids=lambda group: type(group).__qualname__)
def test_every_group_is_a_pytree_without_leaves(group):
    leaves, structure = jax.tree.flatten(group)
    assert leaves == []
    assert jax.tree.unflatten(structure, []) is group
    assert jax.tree.map(lambda leaf: leaf + 1, group) is group


def test_every_kind_of_group_was_tried():
    assert {type(group) for group in instances()} == set(GROUPS)


@pytest.mark.parametrize("name", NAMES)
def test_equal_snapshots_do_not_recompile_and_different_ones_do(name):
    traced = []

    @jax.jit
    def step(options: Options, x: jax.Array) -> jax.Array:
        traced.append(options)
        return x + 1

    one, two = (Context().replace({name: OTHER[name]}).options for _ in range(2))
    assert one is not two
    for options in (Options(), DEFAULTS, one, two, Options(), one):
        step(options, jnp.ones(2))
    assert traced == [DEFAULTS, one]


def test_settings_are_readable_while_tracing():
    @jax.jit
    def step(options: Options, x: jax.Array) -> jax.Array:
        return x * 2 if options.array.saving.use_zarr3 else x

    new = Context().at.array.saving.use_zarr3.set(False).options
    chex.assert_trees_all_equal(step(DEFAULTS, jnp.ones(2)), jnp.full(2, 2.0))
    chex.assert_trees_all_equal(step(new, jnp.ones(2)), jnp.ones(2))


def test_a_view_crosses_as_the_group_it_shows():
    traced = []

    @jax.jit
    def step(options: ArrayOptions, x: jax.Array) -> jax.Array:
        traced.append(options)
        return x

    ctx = Context()
    step(ctx.array, jnp.ones(2))
    step(ctx.array, jnp.ones(2))
    assert [type(options) for options in traced] == [ArrayOptions]
    ctx.array.saving.use_zarr3 = False
    step(ctx.array, jnp.ones(2))
    assert traced == [ArrayOptions(), ctx.options.array]


def test_options_cross_vmap_scan_and_grad():
    options = Context().at.memory.serialization_status_callback.set(Callback()).options
    factor = {"durable": 3.0, "atomic": 5.0}

    def scaled(given: Options, x: jax.Array) -> jax.Array:
        return x * factor[given.file.durability]

    xs = jnp.arange(3.0)
    chex.assert_trees_all_close(jax.vmap(scaled, in_axes=(None, 0))(options, xs), xs * 3)
    chex.assert_trees_all_close(jax.vmap(scaled)(options, xs), xs * 3)
    carried, ys = jax.lax.scan(lambda o, x: (o, scaled(o, x)), options, xs)
    assert carried == options
    chex.assert_trees_all_close(ys, xs * 3)
    nothing, slope = jax.grad(scaled, argnums=(0, 1))(options, jnp.array(2.0))
    assert nothing == options
    chex.assert_trees_all_close(slope, jnp.array(3.0))
    returned, shape = jax.eval_shape(lambda o, x: (o, x), options, xs)
    assert (returned, shape.shape) == (options, (3,))
