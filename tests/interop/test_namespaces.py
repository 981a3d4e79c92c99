"""The names that a program written for Orbax v1 looks for, as far as one tree is concerned."""

from __future__ import annotations

import inspect
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

LATER = {
    # Several items, and handlers.
    *("save_checkpointables", "save_checkpointables_async", "load_checkpointables"),
    *("load_checkpointables_async", "checkpointables_metadata"),
    # Saving in parts, processes.
    *("partial", "multihost"),
}
"""Names of what has a place of its own, and is not there yet."""

NAMESPACES = ["", "options", "errors", "tree", "arrays", "path", "handlers"]


def within(module: Any, namespace: str) -> Any:
    return getattr(module, namespace) if namespace else module


def names(module: Any) -> set[str]:
    return {name for name in dir(module) if not name.startswith("_")}


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_every_name_of_orbax_is_there(namespace: str) -> None:
    theirs, ours = within(orbax, namespace), within(ocp, namespace)
    # A module that Orbax imports to write its own names is none of them.
    assert names(theirs) - names(ours) - {"orbax"} <= LATER


@pytest.mark.parametrize(
    "verb", ["save", "save_async", "load", "load_async", "metadata", "delete", "delete_async"]
)
def test_verbs_take_what_those_of_orbax_take(verb: str) -> None:
    theirs = inspect.signature(getattr(orbax, verb)).parameters
    ours = inspect.signature(getattr(ocp, verb)).parameters
    for name, parameter in theirs.items():
        assert ours[name].kind == parameter.kind
        # Their load_async looks for an item of another name than their load does.
        if (verb, name) != ("load_async", "checkpointable_name"):
            assert ours[name].default == parameter.default


def test_only_modules_and_public_names_are_in_the_package() -> None:
    public = {name for name in names(ocp) if not isinstance(getattr(ocp, name), ModuleType)}
    assert {"save", "load", "Context", "PLACEHOLDER", "PyTreeMetadata"} <= public


def test_types_of_trees_can_be_written_down() -> None:
    def f(tree: ocp.tree.PyTreeOf[jax.Array], leaf: ocp.tree.Leaf) -> ocp.PyTreeMetadata:
        return tree, leaf

    hints = inspect.get_annotations(f, eval_str=True)
    assert hints["tree"] == ocp.tree.PyTreeOf[jax.Array]


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
