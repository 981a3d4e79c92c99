"""Our checkpointer beside Orbax's: one program for both, and runs that both go on with."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from orbax import checkpoint as v0
from orbax.checkpoint import v1 as orbax

import sealwax as ocp

theirs, ours = orbax.training, ocp.training
MODULES = [ocp, orbax]
BOTH = pytest.mark.parametrize("module", MODULES, ids=["sealwax", "orbax"])
WRITERS = pytest.mark.parametrize(
    ("writer", "reader"), [(ocp, orbax), (orbax, ocp)], ids=["orbax reads", "orbax wrote"]
)
METHODS = [
    name
    for name, _ in inspect.getmembers(theirs.Checkpointer)
    if not name.startswith("_") and callable(getattr(theirs.Checkpointer, name))
]


def state(step: int) -> dict[str, Any]:
    return {"w": jnp.full((4,), step, jnp.float32), "b": {"c": np.arange(step, step + 3)}}


def numbers(made: Any) -> list[int]:
    return [each.step for each in made.checkpoints]


def same(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


class TestNames:
    @pytest.mark.parametrize("method", ["__init__", *METHODS])
    def test_methods_take_what_those_of_orbax_take(self, method: str) -> None:
        their = inspect.signature(getattr(theirs.Checkpointer, method)).parameters
        mine = inspect.signature(getattr(ours.Checkpointer, method)).parameters
        order = [name for name in mine if name in their]
        assert order == list(their)
        for name, parameter in their.items():
            assert mine[name].kind == parameter.kind
            assert mine[name].default == parameter.default
        for name in set(mine) - set(their):
            assert mine[name].kind is inspect.Parameter.KEYWORD_ONLY

    def test_properties(self) -> None:
        for name in ("directory", "checkpoints", "latest"):
            assert isinstance(getattr(ours.Checkpointer, name), property)

    def test_every_public_name_is_there(self) -> None:
        public = {name for name in dir(theirs) if not name.startswith("_")}
        assert public <= set(dir(ours))

    @pytest.mark.parametrize("name", ["StepAlreadyExistsError", "StepNotFoundError"])
    def test_errors_are_caught_as_those_of_orbax_are(self, name: str) -> None:
        mine, their = getattr(ours.errors, name), getattr(theirs.errors, name)
        assert set(their.__mro__[1:]) <= set(mine.__mro__)

    def test_old_names_warn_and_work(self, tmp_path: Path) -> None:
        with ours.Checkpointer(tmp_path) as made:
            with pytest.warns(DeprecationWarning, match="`save`"):
                assert made.save_pytree(0, state(0))
            with pytest.warns(DeprecationWarning, match="`load`"):
                same(made.load_pytree(0), state(0))
            with pytest.warns(DeprecationWarning, match="`metadata`"):
                assert made.pytree_metadata().step == 0


def train(module: Any, run: Path, last: int, preserving: Any, interval: int = 2) -> list[Any]:
    """The training loop of Orbax's documentation, with what can be seen of it from outside."""
    training = module.training
    policies = training.save_decision_policies
    seen: list[Any] = []
    with training.Checkpointer(
        run,
        save_decision_policy=policies.AnySavePolicy(
            [policies.FixedIntervalPolicy(interval), policies.InitialSavePolicy()]
        ),
        preservation_policy=preserving(training.preservation_policies),
        custom_metadata={"made": "here"},
    ) as checkpointer:
        latest = checkpointer.latest
        now = jax.tree.map(jnp.asarray, state(0)) if latest is None else checkpointer.load(latest)
        start = 0 if latest is None else latest.step + 1
        for step in range(start, last):
            now = jax.tree.map(lambda x: x + 1, now)
            wanted = checkpointer.should_save(step)
            saved = checkpointer.save(
                step, now, metrics={"loss": abs(5.25 - step)}, custom_metadata={"at": step}
            )
            seen.append((step, wanted, saved, numbers(checkpointer)))
        seen.append([(each.step, each.metrics) for each in checkpointer.checkpoints])
        seen.append(checkpointer.root_metadata().custom_metadata)
        found = checkpointer.metadata()
        seen.append((found.step, found.custom_metadata, found.metadata["w"].shape))
        seen.append(jax.tree.map(lambda x: np.asarray(x).tolist(), checkpointer.load()))
    return seen


POLICIES = {
    "all": lambda p: p.PreserveAll(),
    "latest": lambda p: p.LatestN(2),
    "every": lambda p: p.AnyPreservationPolicy([p.EveryNSteps(4), p.LatestN(1)]),
    "best": lambda p: p.AnyPreservationPolicy(
        [p.BestN(get_metric_fn=lambda m: m["loss"], reverse=True, n=2), p.LatestN(1)]
    ),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_one_loop_with_one_import_changed(tmp_path: Path, policy: str) -> None:
    mine, other = (
        train(module, tmp_path / module.__name__, 9, POLICIES[policy]) for module in MODULES
    )
    assert mine == other


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("first", [0, 1], ids=["sealwax first", "orbax first"])
def test_runs_that_both_go_on_with_in_turn(tmp_path: Path, policy: str, first: int) -> None:
    alone: list[Any] = []
    mixed: list[Any] = []
    for part, last in enumerate((3, 6, 9)):
        alone += train(orbax, tmp_path / "alone", last, POLICIES[policy])
        module = MODULES[(first + part) % 2]
        mixed += train(module, tmp_path / "mixed", last, POLICIES[policy])
    assert mixed == alone
    for step in numbers(ocp.training.Checkpointer(tmp_path / "mixed")):
        assert ocp.verify(tmp_path / "mixed" / str(step)).ok


class TestDirectories:
    @WRITERS
    def test_everything_of_a_step(self, tmp_path: Path, writer: Any, reader: Any) -> None:
        items = {"params": state(1), "loop": {"epoch": 3}}
        with writer.training.Checkpointer(tmp_path, custom_metadata={"a": [1]}) as made:
            made.save_checkpointables(4, items, metrics={"loss": 0.5}, custom_metadata={"x": 1})
        with reader.training.Checkpointer(tmp_path) as made:
            assert numbers(made) == [4]
            latest = made.latest
            assert (latest.step, latest.metrics, latest.path) == (4, {"loss": 0.5}, tmp_path / "4")
            assert (
                latest.time == made.metadata(4).time
                or abs((latest.time - made.metadata(4).time).total_seconds()) < 0.001
            )
            loaded = made.load_checkpointables(4)
            same(loaded["params"], state(1))
            assert loaded["loop"] == {"epoch": 3}
            assert made.checkpointables_metadata(4).custom_metadata == {"x": 1}
            assert made.checkpointables_metadata(4).metadata.keys() == {"params", "loop"}
            assert made.root_metadata().custom_metadata == {"a": [1]}

    @WRITERS
    def test_a_step_and_an_item_are_deleted(self, tmp_path: Path, writer: Any, reader: Any) -> None:
        with writer.training.Checkpointer(tmp_path) as made:
            for step in (0, 1):
                made.save_checkpointables(
                    step, {"params": state(1), "opt": state(2)}, force=True, metrics={"a": 1}
                )
        with reader.training.Checkpointer(tmp_path) as made:
            assert made.delete(0)
            assert made.delete(1, checkpointable_name="opt")
        with writer.training.Checkpointer(tmp_path) as made:
            assert numbers(made) == [1]
            assert made.load_checkpointables(1).keys() == {"params"}
            assert made.metadata(1).metrics == {"a": 1}

    @BOTH
    def test_the_files_of_metrics_and_of_the_run_are_the_same(
        self, tmp_path: Path, module: Any
    ) -> None:
        with module.training.Checkpointer(tmp_path, custom_metadata={"lang": "en"}) as made:
            made.save(0, state(0), metrics={"loss": 0.5})
        root = json.loads((tmp_path / "metadata" / "_ROOT_METADATA").read_bytes())
        assert root == {"internal_metadata": {}, "custom_metadata": {"lang": "en"}}
        assert json.loads((tmp_path / "0" / "metrics" / "metrics").read_bytes()) == {"loss": 0.5}

    def test_what_the_old_manager_wrote(self, tmp_path: Path) -> None:
        options = v0.CheckpointManagerOptions(best_fn=lambda m: m["loss"])
        with v0.CheckpointManager(tmp_path, options=options, metadata={"a": 1}) as manager:
            for step in (0, 1):
                manager.save(
                    step,
                    args=v0.args.Composite(state=v0.args.StandardSave(state(step))),
                    metrics={"loss": step},
                )
            manager.wait_until_finished()
        with ours.Checkpointer(tmp_path) as made:
            assert [(each.step, each.metrics) for each in made.checkpoints] == [
                (0, {"loss": 0}),
                (1, {"loss": 1}),
            ]
            same(made.load(), state(1))
            assert made.root_metadata().custom_metadata == {"a": 1}
            assert made.save(2, state(2))

    def test_the_old_manager_reads_ours(self, tmp_path: Path) -> None:
        with ours.Checkpointer(tmp_path) as made:
            made.save(3, state(3), metrics={"loss": 1})
        with v0.CheckpointManager(tmp_path) as manager:
            assert manager.latest_step() == 3
            args = v0.args.Composite(state=v0.args.PyTreeRestore())
            same(manager.restore(3, args=args)["state"], state(3))

    def test_names_of_steps(self, tmp_path: Path) -> None:
        for module, step in ((ocp, 1), (orbax, 2), (ocp, 3)):
            names = module.path.step.standard_name_format(
                step_prefix="ckpt", step_format_fixed_length=4
            )
            with module.training.Checkpointer(tmp_path, step_name_format=names) as made:
                assert made.save(step, state(step))
                assert numbers(made) == list(range(1, step + 1))
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            f"ckpt_{n:04}" for n in (1, 2, 3)
        ]


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["save", "force", "overwrite", "delete", "reload"]), st.integers(0, 8)
    ),
    max_size=8,
)


def play(module: Any, run: Path, calls: list[tuple[str, int]], preserving: Any) -> list[Any]:
    """What a checkpointer answers to calls, as far as both libraries promise the same."""
    training, policies = module.training, module.training.save_decision_policies
    seen: list[Any] = []
    with training.Checkpointer(
        run,
        save_decision_policy=policies.FixedIntervalPolicy(2),
        preservation_policy=preserving(training.preservation_policies),
    ) as made:
        for value, (call, step) in enumerate(calls):
            try:
                if call == "delete":
                    seen.append(made.delete(step))
                elif call == "reload":
                    made.reload()
                else:
                    known = numbers(made)
                    # Where the policy would decline, Orbax has deleted the step already; and it
                    # deletes a forced step at once that is not among the last.
                    later = bool(known) and known[-1] > step
                    if later or (call == "overwrite" and step % 2):
                        continue
                    flags = {} if call == "save" else {call: True}
                    seen.append(made.save(step, {"v": np.full(2, value)}, **flags))
            except FileNotFoundError:
                seen.append("not found")
            except FileExistsError:
                seen.append("exists")
            seen.append(numbers(made))
        seen += [made.load(step)["v"].tolist() for step in numbers(made)]
    return seen


@settings(max_examples=6, deadline=None)
@given(calls=CALLS, policy=st.sampled_from(["all", "latest", "every"]))
def test_any_calls_get_the_same_answers(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[str, int]], policy: str
) -> None:
    root = tmp_path_factory.mktemp("run")
    mine, other = (
        play(module, root / module.__name__, calls, POLICIES[policy]) for module in MODULES
    )
    assert mine == other
