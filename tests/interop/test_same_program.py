"""Small programs written for Orbax v1, run with either library as ``ocp``.

Each returns what it saw. The two must see the same, and each must be able to go on where the
other stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as orbax

import sealwax
from tests.strategies import assert_same, mesh, noise

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning"),
    # What Orbax leaves behind when it refuses something.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
Program = Callable[[Any, Path], object]


def save_and_load(ocp: Any, path: Path) -> object:
    ocp.save(path, {"params": {"w": jnp.ones((2, 3))}, "step": 3, "name": "run"})
    return ocp.load(path)


def load_into_shapes(ocp: Any, path: Path) -> object:
    state = {"w": jnp.arange(8.0), "b": np.ones(3, np.int16)}
    ocp.save(path, state)
    on = NamedSharding(mesh(8), PartitionSpec("x"))
    template = {
        "w": jax.ShapeDtypeStruct((8,), jnp.bfloat16, sharding=on),
        "b": np.zeros(3, np.int16),
    }
    loaded = ocp.load(path, template)
    return loaded, str(loaded["w"].sharding)


def save_in_the_background(ocp: Any, path: Path) -> object:
    state = {"w": np.arange(1000), "j": jnp.zeros(10)}
    response = ocp.save_async(path, state, custom_metadata={"epoch": 1})
    state["w"][:] = -1
    done: list[str] = []
    response.on_complete(lambda _: done.append("done"))
    assert response.result() is None
    response.on_complete(lambda _: done.append("late"))
    return ocp.load(path), ocp.metadata(path).custom_metadata


def several_at_once(ocp: Any, path: Path) -> object:
    path.mkdir()
    responses = [ocp.save_async(path / str(n), {"n": n, "w": np.full(9, n)}) for n in range(5)]
    for response in responses:
        response.result(timeout=60)
    return [ocp.load(path / str(n)) for n in range(5)]


def overwrite(ocp: Any, path: Path) -> object:
    ocp.save(path, {"x": np.ones(3)})
    ocp.save(path, {"y": np.zeros(2)}, overwrite=True)
    return ocp.load(path)


def refuse_to_overwrite(ocp: Any, path: Path) -> object:
    ocp.save(path, {"x": 1})
    try:
        ocp.save(path, {"x": 2})
    except ValueError:
        return ocp.load(path), "refused"
    return "overwritten"


def refuse_a_leaf(ocp: Any, path: Path) -> object:
    try:
        ocp.save(path, {"x": object()})
    except ValueError:
        return path.exists()
    return "saved"


def a_context(ocp: Any, path: Path) -> object:
    with ocp.Context() as ctx:
        inner = ocp.Context(ctx)
        inner.array.saving.use_compression = False
        inner.asynchronous.timeout_secs = 60
        inner.memory.write_concurrent_bytes = 10_000_000
        inner.file.path_permission_mode = 0o750
        with inner:
            ocp.save(path, {"w": np.zeros(10_000)})
        values = ctx.array.saving.use_compression, inner.array.saving.use_compression
    stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return values, stored > 80_000, path.stat().st_mode & 0o777, ocp.load(path)


def options_in_the_constructor(ocp: Any, path: Path) -> object:
    saving = ocp.options.ArrayOptions.Saving(use_compression=False)
    array = ocp.options.ArrayOptions(saving=saving)
    waiting = ocp.options.AsyncOptions(timeout_secs=99)
    with ocp.Context(array_options=array, async_options=waiting) as ctx:
        ocp.save(path, {"w": np.zeros(9)})
        return ctx.array.saving.use_compression, ctx.asynchronous.timeout_secs, ocp.load(path)


def metadata_as_a_template(ocp: Any, path: Path) -> object:
    on = NamedSharding(mesh(2, 4), PartitionSpec("x", "y"))
    ocp.save(path, {"w": jax.device_put(noise("float32", (8, 8), 1), on), "n": np.ones(2)})
    found = ocp.metadata(path)
    shapes = {key: (leaf.shape, str(leaf.dtype)) for key, leaf in found.metadata.items()}
    loaded = ocp.load(path, found)
    return shapes, loaded, str(loaded["w"].sharding), found.metadata["w"].sharding == on


def named_items(ocp: Any, path: Path) -> object:
    ocp.save(path, {"a": 1}, checkpointable_name="params")
    found = ocp.metadata(path, "params").metadata
    return ocp.load(path), ocp.load(path, checkpointable_name="params"), found


def what_is_a_checkpoint(ocp: Any, path: Path) -> object:
    ocp.save(path, {"a": 1})
    return ocp.is_orbax_checkpoint(path), ocp.is_orbax_checkpoint(path / "state")


def keys(ocp: Any, path: Path) -> object:
    ocp.save(
        path,
        {"rng": jax.random.key(7, impl="rbg"), "split": jax.random.split(jax.random.key(1), 3)},
    )
    loaded = ocp.load(path)
    return loaded, jax.random.normal(loaded["split"][0], (2,))


def a_flax_state(ocp: Any, path: Path) -> object:
    model = nn.Dense(4)
    params = model.init(jax.random.key(0), jnp.ones((1, 3)))
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-3))
    ocp.save(path, state.replace(step=jnp.int32(7)))
    loaded = ocp.load(path, state.replace(step=jnp.int32(0)))
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    return type(loaded).__name__, jax.tree.leaves(loaded)


def partial_load(ocp: Any, path: Path) -> object:
    ocp.save(path, {"a": np.ones(2), "b": {"c": np.zeros(3), "d": np.ones(1)}})
    with ocp.Context() as ctx:
        inner = ocp.Context(ctx)
        inner.pytree.loading.partial_load = True
        with inner:
            return ocp.load(path, {"b": {"c": np.zeros(3)}})


def placeholders(ocp: Any, path: Path) -> object:
    ocp.save(path, {"a": np.ones(2), "b": np.zeros(3)})
    return ocp.load(path, {"a": np.zeros(2), "b": ocp.PLACEHOLDER})


def inside_a_loop(ocp: Any, path: Path) -> object:
    async def main() -> object:
        response = ocp.save_async(path, {"x": np.arange(4)})
        await asyncio.sleep(0)
        response.result()
        return ocp.load(path)

    return asyncio.run(main())


PROGRAMS: list[Program] = [
    *(save_and_load, load_into_shapes, save_in_the_background, several_at_once, overwrite),
    *(refuse_to_overwrite, refuse_a_leaf, a_context, options_in_the_constructor),
    *(metadata_as_a_template, named_items, what_is_a_checkpoint, keys, a_flax_state),
    *(partial_load, placeholders, inside_a_loop),
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_both_libraries_run_it_and_see_the_same(tmp_path: Path, program: Program) -> None:
    ours = program(sealwax, tmp_path / "ours")
    theirs = program(orbax, tmp_path / "theirs")
    assert_same(ours, theirs)


@pytest.mark.parametrize(
    "program",
    [p for p in PROGRAMS if p not in (several_at_once, refuse_a_leaf)],
    ids=lambda program: program.__name__,
)
def test_each_goes_on_where_the_other_stopped(tmp_path: Path, program: Program) -> None:
    program(sealwax, tmp_path / "ours")
    program(orbax, tmp_path / "theirs")
    for path in (tmp_path / "ours", tmp_path / "theirs"):
        assert_same(jax.tree.leaves(sealwax.load(path)), jax.tree.leaves(orbax.load(path)))
