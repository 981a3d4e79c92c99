"""The names that a program written for Orbax v1 looks for: there, and as they are there."""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import re
import subprocess
import sys
import types
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as orbax

import sealwax as ocp
from tests.interop import surface

NAMESPACES = {
    *("aio", "arrays", "effect_handlers", "effects", "errors", "handlers", "hooks", "memory"),
    *("multihost", "options", "partial", "path", "testing", "training", "tree"),
}
INNER = {
    *("path.step", "training.pathways"),
    *("training.preservation_policies", "training.save_decision_policies"),
}


class TestTheSameNames:
    """docs/api.md lists every difference, and nothing else."""

    def test_every_difference_is_listed(self):
        assert surface.unlisted(surface.found(), surface.rows()) == set()

    def test_what_is_listed_is_a_difference(self):
        assert surface.stale(surface.found(), surface.rows()) == set()

    def test_every_row_has_a_reason(self):
        assert [row for row, reason in surface.rows().items() if len(reason) < 10] == []

    def test_hardly_anything_is_missing(self):
        absent = {name for name, difference in surface.found() if difference == "is not there"}
        assert {name for name in absent if not name.endswith(".v0")} == set()


class TestTheComparison:
    """It sees what it should see, on modules made for it."""

    @staticmethod
    def seen(theirs: Any, ours: Any) -> set[tuple[str, str]]:
        modules = [types.ModuleType("package"), types.ModuleType("package")]
        for module, value in zip(modules, (theirs, ours), strict=True):
            vars(module).update(f=value)
        return set(surface.differences(*modules))

    def test_equal_ones_do_not_differ(self):
        def f(a: int, b: int = 1, *, c: str = "x") -> None: ...
        def g(a: Any, b: Any = 1, *, c: Any = "x") -> None: ...

        assert self.seen(f, g) == set()

    def test_parameters(self):
        def theirs(a: int, b: int, c: int = 1, *, d: int = 2, e: int = 3) -> None: ...
        def ours(b: int, a: int, *, c: int = 1, d: int = 4, f: int = 5) -> None: ...

        assert self.seen(theirs, ours) == {
            ("f", "takes `a` at another place"),
            ("f", "takes `b` at another place"),
            ("f", "takes `c` as keyword-only"),
            ("f", "`d` is `4` by default, not `2`"),
            ("f", "does not take `e`"),
            ("f", "takes `f`"),
        }

    def test_what_must_be_given(self):
        def theirs(a: int, b: int = 1) -> None: ...
        def ours(a: int, b: int, c: int) -> None: ...

        assert self.seen(theirs, ours) == {
            ("f", "`b` is required by default, not `1`"),
            ("f", "needs `c`"),
        }

    def test_coroutines(self):
        async def theirs() -> None: ...
        def ours() -> None: ...

        assert self.seen(theirs, ours) == {("f", "is not a coroutine")}
        assert self.seen(ours, theirs) == {("f", "is a coroutine")}

    def test_errors_and_enums(self):
        class Theirs(KeyError): ...

        class Ours(ValueError): ...

        assert ("f", "is not a `KeyError`") in self.seen(Theirs, Ours)
        one, two = enum.Enum("One", {"A": 1}), enum.Enum("Two", {"A": 1, "B": 2})
        assert self.seen(one, one) == set()
        assert self.seen(one, two) == {("f", "has the members {'A': 1, 'B': 2}")}

    def test_classes(self):
        @dataclasses.dataclass
        class Theirs:
            a: int
            b: int = 1

            def m(self, x: int) -> None: ...

            @property
            def p(self) -> int:
                return 1

            class Inner:
                def __init__(self, y: int) -> None: ...

        @dataclasses.dataclass
        class Ours:
            a: int
            c: int = 1

            def p(self) -> int:
                return 1

            class Inner:
                def __init__(self, z: int) -> None: ...

        for each in (Theirs, Ours, Theirs.Inner, Ours.Inner):
            each.__module__ = "sealwax.made"
        assert self.seen(Theirs, Ours) == {
            ("f", "does not take `b`"),
            ("f", "takes `c`"),
            ("f.b", "is not there"),
            ("f.m", "is not there"),
            ("f.p", "is a method"),
            ("f.Inner", "does not take `y`"),
            ("f.Inner", "needs `z`"),
        }

    def test_names(self):
        theirs, ours = types.ModuleType("a"), types.ModuleType("b")
        vars(theirs).update(x=1, _y=2, imported=sys)
        vars(ours).update(z=1)
        assert set(surface.differences(theirs, ours)) == {("x", "is not there"), ("z", "is new")}


class TestWhatCompletionShows:
    @pytest.mark.parametrize("namespace", ["", *sorted(NAMESPACES | INNER)])
    def test_public_names_and_no_others(self, namespace):
        module = importlib.import_module(f"sealwax.{namespace}".rstrip("."))
        shown = dir(module)
        assert shown == sorted(getattr(module, "__all__", shown))
        assert all(hasattr(module, name) for name in shown)
        modules = {name for name in shown if isinstance(getattr(module, name), ModuleType)}
        assert modules <= NAMESPACES | {"step", "errors"} | {
            name.partition(".")[2] for name in INNER
        }

    def test_every_module_of_the_library_that_is_shown_is_a_namespace(self):
        modules = {name for name in dir(ocp) if isinstance(getattr(ocp, name), ModuleType)}
        assert modules == NAMESPACES

    def test_what_is_not_there_is_told_as_usual(self):
        with pytest.raises(AttributeError, match="module 'sealwax' has no attribute 'sav'"):
            ocp.sav  # noqa: B018

    def test_namespaces_are_imported_when_they_are_used(self):
        script = """
import sys, sealwax
late = {"sealwax.training", "sealwax.hooks", "sealwax.multihost", "sealwax.testing", "chex"}
print(sorted(late & set(sys.modules)))
print(sealwax.training.Checkpointer.__name__, "chex" in sys.modules)
import gc
print(gc.isenabled())
"""
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONPATH": str(Path(ocp.__file__).parents[1]), "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == ["[]", "Checkpointer False", "True"]

    def test_type_checkers_see_them_all(self):
        tree = ast.parse(inspect.getsource(ocp))
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert set(ocp.__all__) - imported == {"PLACEHOLDER"}


def test_what_is_private_there_is_public_here() -> None:
    section = surface.PAGE.read_text().partition("## What is private in Orbax")[2]
    section = section.partition("\n## ")[0]
    here = re.findall(r"`sealwax\.([\w.]+)`", section)
    assert len(here) >= 16
    for name in here:
        *inside, last = name.split(".")
        module = importlib.import_module(".".join(["sealwax", *inside]))
        assert last in dir(module), name


def test_types_of_trees_can_be_written_down() -> None:
    def f(tree: ocp.tree.PyTreeOf[jax.Array], leaf: ocp.tree.Leaf) -> ocp.PyTreeMetadata:
        return tree, leaf

    hints = inspect.get_annotations(f, eval_str=True)
    assert hints["tree"] == ocp.tree.PyTreeOf[jax.Array]


def test_metadata_is_made_of_the_classes_in_tree(tmp_path: Path) -> None:
    ocp.save(tmp_path / "ckpt", {"j": jnp.ones(3), "n": np.ones(2)})
    found = ocp.metadata(tmp_path / "ckpt").metadata
    assert type(found["j"]) is ocp.tree.ArrayMetadata
    assert type(found["n"]) is ocp.tree.NumpyMetadata
    assert type(found["n"].storage_metadata) is ocp.tree.StorageMetadata


def test_metadata_can_be_made_as_orbax_makes_it(tmp_path: Path) -> None:
    state = {"a": np.arange(3)}
    for library in (ocp, orbax):
        library.save(tmp_path / library.__name__, state)
        made = library.CheckpointMetadata(tmp_path, metadata=state)
        assert library.load(tmp_path / library.__name__, made)["a"].tolist() == [0, 1, 2]


def test_paths_are_what_the_verbs_take_and_give(tmp_path: Path) -> None:
    path: ocp.path.PathLike = ocp.path.Path(tmp_path) / "ckpt"
    ocp.save(path, {"a": 1})
    assert type(ocp.metadata(path).path) is type(ocp.path.Path())


@pytest.mark.parametrize("asynchronous", ["", "_async"])
def test_old_names_warn_and_work(tmp_path: Path, asynchronous: str) -> None:
    state = {"w": jnp.ones(3), "n": np.arange(2)}

    def call(name: str, *args: Any, **kwargs: Any) -> Any:
        with pytest.warns(DeprecationWarning, match=f"`{name}") as caught:
            made = getattr(ocp, name)(*args, **kwargs)
        assert [warning.filename for warning in caught] == [__file__]
        return made.result() if name.endswith("_async") else made

    call(f"save_pytree{asynchronous}", tmp_path / "ckpt", state, custom_metadata={"a": 1})
    loaded = call(f"load_pytree{asynchronous}", tmp_path / "ckpt", state)
    assert loaded["n"].tolist() == [0, 1]
    assert call("pytree_metadata", tmp_path / "ckpt").custom_metadata == {"a": 1}


def test_new_names_do_not_warn(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ocp.save(tmp_path / "ckpt", {"a": 1})
        assert ocp.load(tmp_path / "ckpt") == {"a": 1}
