"""``training.run``: stopped anywhere, in any way, it ends with the bits of a run left alone."""

from __future__ import annotations

import io
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sealwax as ocp
from sealwax.effect_handlers import inject
from sealwax.testing import VirtualClock, kill_at_every_effect
from sealwax.training import Preempted, bar
from sealwax.training import run as run_loop
from tests import scripts
from tests.strategies import assert_same
from tests.training import loops
from tests.training.loops import STEPS, Positioned, Stateful, bits, every, initial, step_fn

DATA: dict[str, Callable[[], Any]] = {
    "iterable": lambda: [step * step for step in range(1, 20)],
    "generator": lambda: loops.squares(0),
    "function of the step": lambda: loops.squares,
    "iterator with get_state": Positioned,
    "iterator that saves itself": Stateful,
}
sources = pytest.mark.parametrize("data", DATA.values(), ids=DATA)


def left_alone(steps: int = STEPS) -> Any:
    state = initial()
    for batch in itertools.islice(loops.squares(0), steps):
        state, _ = step_fn(state, batch)
    return bits(state)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "run"


def steps_in(directory: Path) -> list[int]:
    with every(directory) as checkpointer:
        return [each.step for each in checkpointer.checkpoints]


class TestResuming:
    """The state, the place in the data and the random numbers go on where they were."""

    @sources
    @pytest.mark.parametrize("stop", range(STEPS + 1))
    def test_resumed_equals_uninterrupted(self, directory: Path, data: Any, stop: int) -> None:
        with every(directory) as checkpointer:
            run_loop(step_fn, initial(), data(), checkpointer, steps=stop)
        with every(directory) as checkpointer:
            state, _ = run_loop(step_fn, initial(), data(), checkpointer, steps=STEPS)
        assert bits(state) == left_alone()

    @pytest.mark.parametrize("iterator", [Positioned, Stateful])
    def test_an_iterator_is_put_where_it_was_and_takes_no_batch_too_many(
        self, directory: Path, iterator: Any
    ) -> None:
        for last in (3, 5):
            data = iterator()
            with every(directory) as checkpointer:
                run_loop(step_fn, initial(), data, checkpointer, steps=last)
            assert (data.at, data.taken) == (last, 3 if last == 3 else 2)

    def test_the_last_step_is_saved_when_the_batches_end(self, directory: Path) -> None:
        with every(directory) as checkpointer:
            state, metrics = run_loop(step_fn, initial(), [1, 4, 9], checkpointer)
        assert bits(state) == left_alone(3)
        assert metrics == {"loss": state["w"].sum()}
        assert steps_in(directory) == [2, 3]

    def test_a_run_that_is_done_takes_no_step(self, directory: Path) -> None:
        for _ in range(2):
            with every(directory) as checkpointer:
                state, metrics = run_loop(step_fn, initial(), Positioned(), checkpointer, steps=2)
        assert metrics is None
        assert bits(state) == left_alone(2)
        assert steps_in(directory) == [2]

    def test_metrics_that_are_numbers_are_recorded(self, directory: Path) -> None:
        others = {"note": "warm", "z": 1j, "key": jax.random.key(0), "none": None}

        def with_metrics(state: Any, batch: int) -> Any:
            return state, {"loss": jnp.float32(1 / batch), "all": np.ones(2), "n": batch} | others

        with every(directory) as checkpointer:
            run_loop(with_metrics, initial(), [1, 2, 4], checkpointer)
            best = checkpointer.best("loss", mode="min")
        assert best is not None
        assert (best.step, best.metrics) == (3, {"loss": 0.25, "n": 4})

    def test_a_donated_sharded_state(self, directory: Path) -> None:
        devices = jax.sharding.NamedSharding(
            jax.make_mesh((8,), ("x",)), jax.sharding.PartitionSpec("x")
        )
        optimizer = optax.sgd(1e-2, momentum=0.9)

        def first() -> Any:
            params = jax.device_put(jnp.linspace(0.0, 1.0, 64), devices)
            return params, optimizer.init(params), jax.random.key(0)

        def step(state: Any, batch: jax.Array) -> Any:
            params, moments, key = state
            key, noise = jax.random.split(key)
            wanted = batch + jax.random.normal(noise, params.shape)
            loss, gradient = jax.value_and_grad(lambda p: jnp.mean((p - wanted) ** 2))(params)
            updates, moments = optimizer.update(gradient, moments, params)
            return (optax.apply_updates(params, updates), moments, key), {"loss": loss}

        donating = jax.jit(step, donate_argnums=0)
        batches = [jnp.float32(i) for i in range(STEPS)]
        whole = first()
        for batch in batches:
            whole, _ = donating(whole, batch)
        for last in (3, STEPS):
            with every(directory, 1) as checkpointer:
                state, _ = run_loop(donating, first(), batches, checkpointer, steps=last)
        assert_same(state, whole)
        assert state[0].sharding == devices

    def test_a_step_function_without_metrics_is_told(self, directory: Path) -> None:
        with (
            every(directory) as checkpointer,
            pytest.raises(TypeError, match="did not return a state and metrics"),
        ):
            run_loop(lambda state, batch: 1, 0, [1], checkpointer)  # type: ignore[arg-type]


class TestSignals:
    """A signal ends the loop after the step, with everything saved, and a status of its own."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("stop", range(1, STEPS + 1))
    def test_at_every_step(self, directory: Path, stop: int, number: signal.Signals) -> None:
        before = signal.getsignal(number)

        def at_stop(step: int, *_: object) -> None:
            if step == stop:
                signal.raise_signal(number)

        with every(directory, 4) as checkpointer, pytest.raises(Preempted) as caught:
            run_loop(
                step_fn,
                initial(),
                Positioned(),
                checkpointer,
                steps=STEPS,
                on_step=at_stop,
                signals=[signal.SIGTERM, signal.SIGINT],
            )
        assert (caught.value.code, caught.value.step) == (75, stop)
        assert signal.getsignal(number) is before
        assert steps_in(directory)[-1] == stop
        assert bits(loops.train(directory.parent)) == left_alone()

    def test_the_second_acts_as_ever(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        came: list[int] = []
        before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))

        def twice(*_: object) -> None:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

        try:
            with every(directory) as checkpointer, pytest.raises(Preempted):
                run_loop(step_fn, initial(), [1, 4], checkpointer, on_step=twice)
        finally:
            signal.signal(signal.SIGTERM, before)
        assert came == [signal.SIGTERM]

    def test_the_handlers_are_put_back_whatever_happens(self, directory: Path) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with every(directory) as checkpointer:
            run_loop(step_fn, initial(), [1], checkpointer)
            assert signal.getsignal(signal.SIGTERM) is before
            with pytest.raises(ZeroDivisionError):
                run_loop(lambda s, b: (s, 1 / 0), initial(), [1, 4], checkpointer)
            assert signal.getsignal(signal.SIGTERM) is before

    def test_another_thread_leaves_signals_alone(self, directory: Path) -> None:
        found: list[Any] = []

        def work() -> None:
            with every(directory) as checkpointer:
                found.append(run_loop(step_fn, initial(), [1, 4, 9], checkpointer))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert bits(found[0][0]) == left_alone(3)

    def test_a_process(self, directory: Path) -> None:
        script = """
            from tests.training.loops import *
            def tell(step, *_):
                print(step, flush=True)
                while step == 5 and signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
                    time.sleep(0.01)  # until it came, and the next one would be the end
            with every(Path(PATH), 2) as checkpointer:
                ocp.training.run(
                    step_fn, initial(), Positioned(), checkpointer, steps=1000, on_step=tell
                )
            """
        process = scripts.launch(script, directory)
        assert process.stdout is not None
        for line in iter(process.stdout.readline, "5\n"):
            assert line
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=100)
        assert (process.returncode, said) == (75, "SIGTERM: saved step 5\n")
        assert steps_in(directory) == [2, 4, 5]
        assert bits(loops.train(directory.parent)) == left_alone()


class TestKilled:
    """SIGKILL at any effect of any save: a run that is started again ends the same."""

    @pytest.mark.parametrize(
        ("effect", "moment", "left"),
        [
            ("e.Rename, nth=1", "before", [2]),
            ("e.Rename, nth=1", "after", [2, 4]),
            # There are two for each save: of the state, and of where the data is.
            ("e.WriteBatch, nth=2", "during", [2]),
            ("e.WriteBatch, nth=3", "after", [2]),
        ],
    )
    def test_in_the_second_save(
        self, directory: Path, effect: str, moment: str, left: list[int]
    ) -> None:
        script = f"""
            from tests.training.loops import Path, train
            with inject({effect}, kill=True, moment="{moment}"):
                train(Path(PATH).parent)
            """
        status, _, _ = scripts.run(script, directory)
        assert status == -signal.SIGKILL
        assert steps_in(directory) == left
        assert bits(loops.train(directory.parent)) == left_alone()

    @pytest.mark.long
    def test_at_every_effect(self, tmp_path: Path) -> None:
        stops = 0
        for stop in kill_at_every_effect(loops.train, tmp_path / "runs"):
            assert bits(loops.train(stop.directory)) == left_alone(), stop
            stops += 1
        assert stops > 100


class TestFailing:
    """What fails is raised, and what was saved before stays."""

    def test_a_step(self, directory: Path) -> None:
        def failing(state: Any, batch: int) -> Any:
            if batch == 25:
                raise FloatingPointError("the loss is not a number")
            return step_fn(state, batch)

        with every(directory) as checkpointer:
            with pytest.raises(FloatingPointError):
                run_loop(failing, initial(), Positioned(), checkpointer, steps=STEPS)
            state, _ = run_loop(step_fn, initial(), Positioned(), checkpointer, steps=STEPS)
        assert bits(state) == left_alone()

    def test_the_batches(self, directory: Path) -> None:
        def broken(done: int) -> Iterator[int]:
            yield from itertools.islice(loops.squares(done), 5)
            raise OSError("the data went away")

        with every(directory) as checkpointer, pytest.raises(OSError, match="went away"):
            run_loop(step_fn, initial(), broken, checkpointer)
        assert steps_in(directory) == [2, 4]

    def test_a_save_in_the_background(self, directory: Path) -> None:
        done: list[int] = []
        full = OSError(28, "No space left on device")
        with every(directory) as checkpointer:
            with inject(ocp.effects.WriteBatch, error=full), pytest.raises(OSError, match="space"):
                run_loop(
                    step_fn,
                    initial(),
                    Positioned(),
                    checkpointer,
                    on_step=lambda step, *_: done.append(step),
                )
            assert done[-1] < 50
            state, _ = run_loop(step_fn, initial(), Positioned(), checkpointer, steps=STEPS)
        assert bits(state) == left_alone()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Seconds(VirtualClock):
    """A clock that a test turns."""

    at = 0.0

    def now(self) -> float:
        return self.at


class TestBar:
    """A line that is redrawn on a terminal, and written now and then elsewhere."""

    def test_on_a_terminal(self) -> None:
        stream, clock = Terminal(), Seconds()
        with bar.bar(None, 10, 20, stream=stream, clock=clock) as draw:
            for step in range(11, 21):
                clock.at += 0.06
                draw(step, {"loss": jnp.float32(0.5), "more": np.ones(3)})
        drawn = stream.getvalue().split("\r\x1b[2K")[1:]
        assert len(drawn) == 5
        assert drawn[-1] == f"[{'#' * 24}] step 20/20, 16.7/s, loss 0.5\n"

    def test_elsewhere_only_when_asked(self) -> None:
        for shown, lines in ((None, 0), (False, 0), (True, 2)):
            stream, clock = io.StringIO(), Seconds()
            with bar.bar(shown, 0, None, stream=stream, clock=clock) as draw:
                for step in range(1, 26):
                    clock.at += 1
                    draw(step, None)
            assert len(stream.getvalue().splitlines()) == lines

    def test_metrics_are_waited_for_only_when_it_draws(self) -> None:
        class Costly:
            ndim = 0
            looked = 0

            def __float__(self) -> float:
                Costly.looked += 1
                return 1.0

        clock = Seconds()
        with bar.bar(None, 0, 100, stream=Terminal(), clock=clock) as draw:
            for step in range(1, 100):
                clock.at += 0.015
                draw(step, Costly())
        assert 1 < Costly.looked < 20

    def test_a_broken_or_missing_stream_is_no_reason_to_stop(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed = Terminal()
        closed.close()
        monkeypatch.setattr(closed, "isatty", lambda: True, raising=False)
        for stream in (closed, None):
            monkeypatch.setattr(sys, "stderr", stream)
            with every(directory) as checkpointer:
                run_loop(step_fn, initial(), Positioned(), checkpointer, steps=2, progress=True)
