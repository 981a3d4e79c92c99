"""Where in a program a hook can stand, and what it says where it cannot."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import sealwax
from sealwax.errors import HookError, LeafMismatchError, TreeMismatchError
from sealwax.hooks import Recorder, Saver
from tests.hooks.states import EXPLICIT, MESH, alone, plain, put, spread, step


class TestControlFlow:
    """In every construct the hook sees the values of the step that it is called in."""

    def check(self, saver: Saver, numbers: tuple[int, ...]) -> None:
        saver.wait()
        assert saver.steps() == numbers
        for number in numbers:
            np.testing.assert_array_equal(saver.restore(number), np.full(3, float(number)))

    def test_fori_loop(self, tmp_path: Path) -> None:
        saver = Saver(tmp_path, jnp.zeros(3), every=4)

        def body(number: Any, x: Any) -> Any:
            saver(x, step=number)
            return x + 1

        jax.jit(lambda x: jax.lax.fori_loop(0, 10, body, x))(jnp.zeros(3))
        self.check(saver, (0, 4, 8))

    def test_while_loop(self, tmp_path: Path) -> None:
        saver = Saver(tmp_path, jnp.zeros(3), every=4)

        def body(carry: Any) -> Any:
            number, x = carry
            saver(x, step=number)
            return number + 1, x + 1

        loop = functools.partial(jax.lax.while_loop, lambda carry: carry[1][0] < 9.5, body)
        jax.jit(loop)((0, jnp.zeros(3)))
        self.check(saver, (0, 4, 8))

    def test_a_branch_of_cond_and_switch(self, tmp_path: Path) -> None:
        saver = Saver(tmp_path, jnp.zeros(3))

        def save(number: Any, x: Any) -> None:
            saver(x, step=number)

        def skip(number: Any, x: Any) -> None:
            return None

        @jax.jit
        def program(number: Any) -> None:
            x = jnp.full(3, number, jnp.float32)
            jax.lax.cond(number > 2, save, skip, number, x)
            jax.lax.switch(number, [skip, save, skip], number, x)

        for number in (0, 1, 5):
            program(number)
        self.check(saver, (1, 5))

    def test_a_jit_within_a_jit_within_a_scan(self, tmp_path: Path) -> None:
        saver = Saver(tmp_path, jnp.zeros(3), every=2)

        @jax.jit
        def inner(x: Any, number: Any) -> Any:
            saver(x, step=number)
            return x + 1

        @jax.jit
        def outer(x: Any) -> Any:
            return jax.lax.scan(lambda x, n: (inner(x, n), None), x, jnp.arange(4))[0]

        outer(jnp.zeros(3))
        self.check(saver, (0, 2))

    def test_two_hooks_in_one_program(self, tmp_path: Path) -> None:
        one, two = Saver(tmp_path / "1", jnp.zeros(3)), Saver(tmp_path / "2", jnp.zeros(3), every=2)

        def body(x: Any, number: Any) -> Any:
            one(x, step=number)
            two(x, step=number)
            return x + 1, None

        jax.jit(lambda x: jax.lax.scan(body, x, jnp.arange(4)))(jnp.zeros(3))
        self.check(one, (0, 1, 2, 3))
        self.check(two, (0, 2))


class TestDerivatives:
    """A hook takes no part in them, wherever it stands."""

    def test_beside_a_gradient_in_a_step(self, tmp_path: Path) -> None:
        def loss(w: Any) -> Any:
            return (w**2).sum()

        with Saver(tmp_path, jnp.zeros(3)) as saver:

            @jax.jit
            def train(w: Any, number: Any) -> Any:
                saver(w, step=number)
                return w - 0.1 * jax.grad(loss)(w)

            w = train(train(jnp.ones(3), 0), 1)
        np.testing.assert_allclose(w, 0.64, rtol=1e-6)
        np.testing.assert_allclose(saver.restore(1), 0.8, rtol=1e-6)

    @pytest.mark.parametrize("derive", [jax.grad, jax.jacfwd])
    @pytest.mark.parametrize("put_there", [lambda x: x, lambda x: put(x, "x")])
    def test_inside_what_is_differentiated(
        self, derive: Any, put_there: Any, tmp_path: Path
    ) -> None:
        start = put_there(jnp.ones(4))
        with Saver(tmp_path, start) as saver:

            def loss(w: Any) -> Any:
                def body(w: Any, number: Any) -> tuple[Any, None]:
                    saver(w, step=number, when=w[0] < 10.0)
                    return w * 2.0, None

                return jax.lax.scan(body, w, jnp.arange(5))[0].sum()

            gradient = jax.jit(derive(loss))(start)
        np.testing.assert_array_equal(gradient, np.full(4, 32.0))
        assert saver.steps() == (0, 1, 2, 3)
        np.testing.assert_array_equal(saver.restore(3), np.full(4, 8.0))

    def test_what_is_computed_again_has_no_hook(self, tmp_path: Path) -> None:
        saver = Saver(tmp_path, jnp.zeros(3))

        @jax.checkpoint
        def loss(w: Any) -> Any:
            saver(w, step=0)
            return (w**2).sum()

        with pytest.raises(NotImplementedError, match="Effects not supported"):
            jax.grad(loss)(jnp.ones(3))


class TestShardMap:
    """Under ``shard_map`` a hook takes the local shards."""

    @pytest.mark.parametrize("check", [True, False])
    @pytest.mark.parametrize("mesh", [MESH, EXPLICIT], ids=["auto", "explicit"])
    def test_shards_make_up_the_state(self, check: bool, mesh: Any, tmp_path: Path) -> None:
        state = {
            "w": put(jnp.arange(64.0).reshape(8, 8), "x", "y", mesh=mesh),
            "b": put(jnp.arange(8.0), ("x", "y"), mesh=mesh),
            "n": put(jnp.int32(1), mesh=mesh),
        }
        specs = jax.tree.map(lambda leaf: leaf.sharding.spec, state)
        with Saver(tmp_path, state, every=2) as saver:

            def local(state: Any) -> Any:
                def body(state: Any, number: Any) -> tuple[Any, None]:
                    total = jax.lax.psum(state["w"].sum(), ("x", "y"))
                    saver(state, step=number)
                    return state | {"w": state["w"] + total}, None

                return jax.lax.scan(body, state, jnp.arange(3))[0]

            mapped = jax.shard_map(
                local, mesh=mesh, in_specs=(specs,), out_specs=specs, check_vma=check
            )
            jax.jit(mapped)(state)
        assert saver.steps() == (0, 2)
        chex.assert_trees_all_equal(plain(saver.restore(0)), plain(state))

    def test_a_leaf_that_differs_where_it_should_not(self, tmp_path: Path) -> None:
        saver = Saver(tmp_path, put(jnp.zeros(8), "x"))

        def local(x: Any) -> Any:
            saver(x + jax.lax.axis_index("y").astype(np.float32), step=0)
            return x

        mapped = jax.shard_map(local, mesh=MESH, in_specs=P("x"), out_specs=P("x"))
        with pytest.raises(HookError, match=r"differs along an axis .*\['y'\]"):
            jax.jit(mapped)(jnp.zeros(8))

    def test_a_whole_where_a_shard_is_expected(self, tmp_path: Path) -> None:
        saver = Saver(tmp_path, put(jnp.zeros(8), "x"))
        mapped = jax.shard_map(lambda x: saver(x, step=0), mesh=MESH, in_specs=P(), out_specs=None)
        with pytest.raises(LeafMismatchError, match=r"shape \(2,\), found .* shape \(8,\)"):
            jax.jit(mapped)(jnp.zeros(8))

    def test_a_part_of_the_mesh(self, tmp_path: Path) -> None:
        saver = Saver(tmp_path, put(jnp.zeros(8), "x"))
        mapped = jax.shard_map(
            lambda x: saver(x, step=0), mesh=MESH, axis_names={"x"}, in_specs=P("x"), out_specs=None
        )
        with pytest.raises(HookError, match=r"Expected all of \['x', 'y'\], found \['x'\]"):
            jax.jit(mapped)(jnp.zeros(8))

    def test_devices_that_do_not_agree_on_a_step(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sealwax.hooks.inbox.GRACE", 0.05)
        saver = Saver(tmp_path, put(jnp.zeros(8), "x"))

        def local(x: Any) -> None:
            saver(x, step=3, when=jax.lax.axis_index("x") < 2)

        mapped = jax.shard_map(local, mesh=MESH, in_specs=P("x"), out_specs=None, check_vma=False)
        jax.jit(mapped)(jnp.zeros(8))
        with pytest.raises(HookError, match="step 3 did not come in full: 2 of its parts"):
            saver.wait()
        # The next is a new one.
        jax.jit(lambda: saver(jnp.ones(8), step=4))()
        saver.wait()
        assert saver.steps() == (4,)


class TestWhereJaxCannot:
    """An error when the program is traced, in words of ours."""

    @pytest.mark.parametrize("what", ["the state", "the step", "the condition", "a loop"])
    def test_vmap(self, what: str, tmp_path: Path) -> None:
        saver, batch = Saver(tmp_path, jnp.float32(0)), jnp.arange(3)
        x = jnp.float32(0)
        functions = {
            "the state": lambda n: saver(n.astype(np.float32), step=0),
            "the step": lambda n: saver(x, step=n),
            "the condition": lambda n: saver(x, step=0, when=n > 1),
            "a loop": lambda n: jax.lax.fori_loop(
                0, 3, lambda i, v: (saver(v, step=i), v + 1)[1], n.astype(np.float32)
            ),
        }
        with pytest.raises(HookError, match="cannot be under vmap"):
            jax.jit(jax.vmap(functions[what]))(batch)
        saver.wait()
        assert saver.steps() == ()

    def test_vmap_of_a_recorder(self) -> None:
        record = Recorder()
        with pytest.raises(HookError, match="cannot be under vmap"):
            jax.vmap(lambda x: record({"x": x}, step=0))(jnp.arange(3))

    def test_a_state_on_one_device_in_a_program_on_several(self, tmp_path: Path) -> None:
        saver = Saver(tmp_path, jnp.zeros(8))
        with pytest.raises(HookError, match=r"made for a state on one device .*8 devices"):
            jax.jit(lambda x: saver(x, step=0))(put(jnp.zeros(8), "x"))

    def test_another_state(self, tmp_path: Path) -> None:
        saver = Saver(tmp_path, alone())
        with pytest.raises(TreeMismatchError, match="Expected n, found more"):
            saver(
                {name: leaf for name, leaf in alone().items() if name != "n"} | {"more": 1}, step=0
            )
        with pytest.raises(
            LeafMismatchError, match=r"leaf 'n'.*int32 of shape \(\), found float32"
        ):
            saver(alone() | {"n": jnp.float32(1)}, step=0)
        with pytest.raises(LeafMismatchError, match=r"leaf 'mask'.*shape \(8,\), found bool of"):
            jax.jit(lambda s: saver(s | {"mask": s["mask"][1:]}, step=0))(alone())

    @pytest.mark.parametrize("step", [1.5, jnp.arange(2), True, 2**40])
    def test_what_is_no_step(self, step: Any, tmp_path: Path) -> None:
        with pytest.raises(HookError, match="'step' of a hook is (not one integer|too large)"):
            Saver(tmp_path, jnp.zeros(1))(jnp.zeros(1), step=step)

    def test_what_is_no_condition(self, tmp_path: Path) -> None:
        with pytest.raises(HookError, match="'when' of a hook is not one truth value"):
            Saver(tmp_path, jnp.zeros(1))(jnp.zeros(1), step=1, when=0.5)

    @pytest.mark.parametrize(
        "metrics", [{"a": "x"}, {"a": None}, {"a": {}}, {"a": 1j}, {"a": jax.random.key(0)}, {1: 2}]
    )
    def test_what_is_no_metric(self, metrics: Any, tmp_path: Path) -> None:
        with pytest.raises(HookError, match="A metric of a hook is not a real number by a name"):
            Saver(tmp_path, jnp.zeros(1))(jnp.zeros(1), step=1, metrics=metrics)

    @pytest.mark.parametrize("metrics", [5, 0, [1.0], "", jnp.zeros(2)])
    def test_what_are_no_metrics(self, metrics: Any, tmp_path: Path) -> None:
        with pytest.raises(HookError, match="The metrics of a hook are not numbers by name"):
            Saver(tmp_path, jnp.zeros(1))(jnp.zeros(1), step=1, metrics=metrics)

    def test_shardings_of_two_meshes(self, tmp_path: Path) -> None:
        other = jax.sharding.Mesh(np.array(jax.devices()), ("z",))
        with pytest.raises(HookError, match="leaf 'b'"):
            Saver(tmp_path, {"a": put(jnp.zeros(8), "x"), "b": put(jnp.zeros(8), "z", mesh=other)})

    @pytest.mark.parametrize(
        "wrong", [{"every": 0}, {"every": 1.5}, {"in_flight": 0}, {"on_error": "ignore"}]
    )
    def test_arguments(self, wrong: dict[str, Any], tmp_path: Path) -> None:
        (name,) = wrong
        with pytest.raises(sealwax.errors.SealwaxError, match=f"'{name}' of a hook"):
            Saver(tmp_path, jnp.zeros(1), **wrong)


def test_nothing_of_the_first_state_is_kept_alive(tmp_path: Path) -> None:
    state = spread()
    saver = Saver(tmp_path, state)
    jax.tree.map(lambda leaf: leaf.delete(), state)
    jax.jit(lambda s: saver(s, step=1))(step(spread()))
    saver.wait()
    chex.assert_trees_all_equal(plain(saver.restore()), plain(step(spread())))
