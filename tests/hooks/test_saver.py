"""A program that saves while it runs leaves what a loop leaves that saves between its steps."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sealwax
from sealwax import effects
from sealwax.effect_handlers import record
from tests.gates import gate, settings
from tests.hooks.states import alone, digests, explicit, plain, put, spread, step

KINDS = pytest.mark.parametrize("make", [alone, spread, explicit])
Make = Callable[[], dict[str, Any]]


def scan(saver: sealwax.hooks.Saver, last: int, traces: list[int] | None = None) -> Any:
    def body(state: Any, number: Any) -> tuple[Any, None]:
        state = step(state)
        saver(state, step=number)
        return state, None

    def loop(state: Any) -> Any:
        if traces is not None:
            traces.append(1)
        return jax.lax.scan(body, state, jnp.arange(1, last + 1))[0]

    return jax.jit(loop)


class TestTheSameCheckpoints:
    """The promise: as if the loop were a Python loop around ``sealwax.save``."""

    @KINDS
    def test_a_scan_of_a_thousand_steps_and_the_eager_loop(
        self, make: Make, tmp_path: Path
    ) -> None:
        state, traces = make(), []
        with sealwax.hooks.Saver(tmp_path / "hook", state, every=100) as saver:
            end = scan(saver, 1000, traces)(state)

        eager, one = make(), jax.jit(step)
        for number in range(1, 1001):
            # CPU devices that share few threads deadlock when several programs are under way.
            eager = jax.block_until_ready(one(eager))
            if number % 100 == 0:
                sealwax.save(tmp_path / "eager" / str(number), eager)

        assert saver.steps() == tuple(range(100, 1001, 100))
        for number in saver.steps():
            ours, theirs = tmp_path / "hook" / str(number), tmp_path / "eager" / str(number)
            assert digests(ours) == digests(theirs)
        chex.assert_trees_all_equal(plain(saver.restore()), plain(end))
        assert len(traces) == 1

    @KINDS
    def test_what_is_restored_is_placed_as_it_was(self, make: Make, tmp_path: Path) -> None:
        state = make()
        with sealwax.hooks.Saver(tmp_path, state) as saver:
            jax.jit(lambda s: saver(s, step=3))(state)
        restored = saver.restore(3)
        chex.assert_trees_all_equal(plain(restored), plain(state))
        same = jax.tree.map(lambda a, b: a.sharding == b.sharding, restored, state)
        assert all(jax.tree.leaves(same))
        assert sealwax.verify(tmp_path / "3").ok

    def test_constants_of_the_program_are_saved_as_they_are(self, tmp_path: Path) -> None:
        state = {"w": jnp.ones(2), "name": "run", "table": np.arange(3), "rate": 0.5}
        with sealwax.hooks.Saver(tmp_path, state) as saver:
            jax.jit(lambda w: saver(state | {"w": w}, step=0))(state["w"])
        chex.assert_trees_all_equal(sealwax.load(tmp_path / "0"), state)

    def test_an_abstract_state_will_do(self, tmp_path: Path) -> None:
        state = spread()
        abstract = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state
        )
        with sealwax.hooks.Saver(tmp_path, abstract) as saver:
            jax.jit(lambda s: saver(s, step=1))(state)
        chex.assert_trees_all_equal(plain(saver.restore()), plain(state))

    def test_outside_of_any_program_too(self, tmp_path: Path) -> None:
        state = spread()
        with sealwax.hooks.Saver(tmp_path, state, every=2) as saver, jax.disable_jit():
            for number in range(1, 5):
                saver(state, step=number)
        assert saver.steps() == (2, 4)
        sealwax.save(tmp_path / "eager", state)
        assert digests(tmp_path / "2") == digests(tmp_path / "eager")

    def test_donated_arguments(self, tmp_path: Path) -> None:
        state = spread()
        with sealwax.hooks.Saver(tmp_path, state, every=2) as saver:

            def one(state: Any, number: Any) -> Any:
                saver(state, step=number)
                return step(state)

            program = jax.jit(one, donate_argnums=0)
            expected = [plain(state)]
            for number in range(5):
                state = jax.block_until_ready(program(state, number))
                expected.append(plain(state))
        for number in (0, 2, 4):
            chex.assert_trees_all_equal(plain(saver.restore(number)), expected[number])

    def test_a_state_of_many_megabytes_does_not_stand_still(self, tmp_path: Path) -> None:
        state = put(jnp.zeros((8 * 512, 1024)), ("x", "y"))
        with sealwax.hooks.Saver(tmp_path, state) as saver:

            def body(state: Any, number: Any) -> tuple[Any, None]:
                state = state + 1 + state.mean()
                saver(state, step=number)
                return state, None

            jax.jit(lambda s: jax.lax.scan(body, s, jnp.arange(4)))(state)
        assert saver.steps() == (0, 1, 2, 3)
        assert float(saver.restore(1)[-1, -1]) == 3


class TestWhen:
    """Which steps are saved, and with what beside them."""

    def test_a_new_best_with_its_metrics(self, tmp_path: Path) -> None:
        losses = jnp.array([3.0, 2.0, 5.0, np.nan, 1.0, 4.0])
        with sealwax.hooks.Saver(tmp_path, jnp.float32(0)) as saver:

            def body(best: sealwax.hooks.Best, at: Any) -> tuple[Any, None]:
                number, loss = at
                best, better = best.update(loss, step=number)
                saver(loss, step=number, when=better, metrics={"loss": loss, "n": number})
                return best, None

            steps = (jnp.arange(6), losses)
            best, _ = jax.jit(lambda: jax.lax.scan(body, sealwax.hooks.Best.start(), steps))()
        assert saver.steps() == (0, 1, 4)
        assert (int(best.step), float(best.value)) == (4, 1.0)
        metrics = json.loads((tmp_path / "4" / "metrics" / "metrics").read_text())
        assert metrics == {"loss": 1.0, "n": 4}
        assert sealwax.verify(tmp_path / "4").ok

    def test_a_step_may_be_of_any_integer_type(self, tmp_path: Path) -> None:
        with sealwax.hooks.Saver(tmp_path, jnp.zeros(1), every=3) as saver:
            for dtype in (np.uint8, np.int16, np.uint32):
                jax.jit(lambda n: saver(jnp.zeros(1), step=n, when=n > 0))(
                    dtype(np.dtype(dtype).num)
                )
        assert len(saver.steps()) == 3

    def test_an_interval_that_the_type_of_the_step_cannot_hold(self, tmp_path: Path) -> None:
        with sealwax.hooks.Saver(tmp_path, jnp.zeros(1), every=1000) as saver:
            for step in (0, 1, 126):
                jax.jit(lambda n: saver(jnp.zeros(1), step=n))(np.int8(step))
        assert saver.steps() == (0,)


class TestWhereItGoes:
    """Host-side facts, which no program is compiled again for."""

    def test_another_root_compiles_nothing(self, tmp_path: Path) -> None:
        state, traces = spread(), []
        with sealwax.hooks.Saver(tmp_path / "a", state, every=2) as saver:
            program = scan(saver, 4, traces)
            program(state)
            saver.to(tmp_path / "b")
            program(state)
        assert program._cache_size() == len(traces) == 1
        for root in ("a", "b"):
            assert sorted(p.name for p in (tmp_path / root).iterdir()) == ["2", "4"]

    def test_it_may_be_an_argument(self, tmp_path: Path) -> None:
        traces = []

        @jax.jit
        def program(saver: sealwax.hooks.Saver, number: Any) -> None:
            traces.append(1)
            saver(jnp.zeros(2), step=number)

        with sealwax.hooks.Saver(tmp_path, jnp.zeros(2)) as saver:
            program(saver, 1)
            saver.to(tmp_path / "other")
            program(saver, 2)
        assert len(traces) == 1
        assert (tmp_path / "other" / "2").is_dir()

    def test_names_of_steps_and_what_is_there(self, tmp_path: Path) -> None:
        names = sealwax.path.step.standard_name_format(step_prefix="at", step_format_fixed_length=4)
        saver = sealwax.hooks.Saver(tmp_path, jnp.zeros(2), step_name_format=names)
        assert saver.latest() is None
        with pytest.raises(sealwax.errors.StepNotFoundError):
            saver.restore()
        jax.jit(lambda: saver(jnp.ones(2), step=7))()
        saver.wait()
        assert (tmp_path / "at_0007").is_dir()
        assert saver.latest() == 7

    def test_settings_and_handlers_are_those_of_where_it_was_made(self, tmp_path: Path) -> None:
        ctx = sealwax.Context()
        ctx.array.saving.use_compression = False
        with record() as trace, ctx:
            saver = sealwax.hooks.Saver(tmp_path, jnp.zeros(2))
        ctx.array.saving.use_compression = True
        program = jax.jit(lambda n: saver(jnp.zeros(2), step=n))
        other = threading.Thread(target=lambda: jax.block_until_ready(program(1)))
        other.start()
        other.join()
        with sealwax.Context().at.file.durability.set("atomic"):
            program(2)
            saver.wait()
        changed = settings({"array.saving.use_compression": False})
        assert sealwax.metadata(tmp_path / "1").settings == changed
        assert sealwax.metadata(tmp_path / "2").settings == changed
        assert trace.kinds().count("Rename") == 2


class TestWhatItCosts:
    """Next to nothing outside the steps that save; figures are in tests/benchmarks/hooks.py."""

    @KINDS
    def test_the_program_has_one_condition_more_and_no_communication(
        self, make: Make, tmp_path: Path
    ) -> None:
        state = make()
        saver = sealwax.hooks.Saver(tmp_path, state, every=10_000)
        with_hook = scan(saver, 10).lower(state).compile().as_text()
        without = (
            jax.jit(lambda s: jax.lax.scan(lambda s, _: (step(s), None), s, jnp.arange(10))[0])
            .lower(state)
            .compile()
            .as_text()
        )
        for word in ("all-gather(", "all-reduce(", "all-to-all(", "collective-permute("):
            assert with_hook.count(word) == without.count(word)
        body = jax.make_jaxpr(lambda s: saver(s, step=s["n"]))(state)
        assert (
            str(body).count("cond[") - str(body).count("cond[", str(body).index("cond[") + 1) == 1
        )

    def test_nothing_is_called_at_other_steps(self, tmp_path: Path) -> None:
        with record() as trace, sealwax.hooks.Saver(tmp_path, alone(), every=10_000) as saver:
            scan(saver, 100)(alone())
        assert list(trace.effects) == []

    def test_importing_sealwax_does_not_import_chex(self) -> None:
        code = "import sys, sealwax; assert 'chex' not in sys.modules; sealwax.hooks.Saver"
        subprocess.run([sys.executable, "-c", code], check=True)


def test_programs_are_held_up_by_saves_that_are_slow(tmp_path: Path) -> None:
    """As many states are on the host as was asked for, and one that is being delivered."""
    with gate(effects.Rename) as held:
        saver = sealwax.hooks.Saver(tmp_path, jnp.zeros(2), in_flight=1)
        begun: list[int] = []

        def body(state: Any, number: Any) -> tuple[Any, None]:
            saver(state, step=number)
            jax.debug.callback(lambda n: begun.append(int(n)), number, ordered=True)
            return state + 1, None

        program = jax.jit(lambda s: jax.lax.scan(body, s, jnp.arange(5))[0])
        running = threading.Thread(target=lambda: jax.block_until_ready(program(jnp.zeros(2))))
        running.start()
        assert held.arrived.wait(60)
        assert saver._inbox._backlog == 1
        assert 4 not in begun
        held.open()
        running.join()
    saver.wait()
    assert saver.steps() == (0, 1, 2, 3, 4)
