"""Selecting: patterns, renaming, and a checkpoint's leaves put into another state."""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import sealwax as ocp
from sealwax.errors import (
    LeafMismatchError,
    NameCollisionError,
    OptionTypeError,
    OptionValueError,
    TreeMismatchError,
)
from sealwax.planning.selection import as_selection
from sealwax.trees.flatten import flatten
from sealwax.trees.keys import Key, KeyKind, name
from sealwax.trees.renames import moved, settle

PARTS = st.sampled_from(["params", "w", "b", "0", "1", "layer_0", "x y", "a/b"])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map(".".join)
GLOBS = st.lists(
    st.one_of(PARTS, st.sampled_from(["*", "**", "layer_*", "?", "[w]"])), min_size=1, max_size=4
).map(".".join)
KEYS = st.sampled_from(["a", "b", "c"])
NESTED = st.recursive(
    st.integers(0, 9),
    lambda inner: (
        st.dictionaries(KEYS, inner, min_size=1, max_size=3)
        | st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)
Save = Callable[[Any], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Save:
    root, numbers = tmp_path_factory.mktemp("saved"), itertools.count()

    def save(tree: Any) -> Path:
        path = root / str(next(numbers))
        ocp.save(path, tree)
        return path

    return save


def leaves(tree: Any) -> dict[str, Any]:
    return {leaf.name: leaf.value for leaf in flatten(tree).unwrap().leaves}


# ---------------------------------------------------------------- patterns


@given(NAMES)
def test_every_name_is_a_pattern_of_itself_and_its_subtrees(name):
    parts = name.split(".")
    assert ocp.Selection(include="**").takes(name)
    for depth in range(1, len(parts) + 1):
        assert ocp.Selection(include=".".join(parts[:depth])).takes(name)
        assert ocp.Selection(include=".".join([*parts[:depth], "**"])).takes(name)
    assert not ocp.Selection(include=f"{name}.more").takes(name)
    assert not ocp.Selection(exclude=name).takes(name)


@given(NAMES, GLOBS)
def test_a_glob_is_that_of_the_shell_part_by_part(name, glob):
    assume("**" not in glob and "[" not in glob)
    parts, patterns = name.split("."), glob.split(".")
    fits = len(parts) >= len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))
    assert ocp.Selection(include=glob).takes(name) == fits


@given(NAMES, GLOBS, GLOBS)
def test_what_is_taken_is_what_any_includes_and_none_excludes(name, first, second):
    def takes(pattern: str) -> bool:
        return ocp.Selection(include=pattern).takes(name)

    assert ocp.Selection(include=(first, second)).takes(name) == (takes(first) or takes(second))
    both = ocp.Selection(include=first, exclude=second)
    assert both.takes(name) == (takes(first) and not takes(second))


def test_two_stars_stand_for_any_number_of_parts():
    kernels = ocp.Selection(include="params.**.kernel")
    assert kernels.takes("params.kernel")
    assert kernels.takes("params.a.b.kernel")
    assert not kernels.takes("params.a.bias")
    assert not kernels.takes("opt.params.kernel")


def test_regular_expressions_match_whole_names():
    selection = ocp.Selection(include=re.compile(r"params\.layer_[02]\..*"))
    assert selection.takes("params.layer_0.w")
    assert not selection.takes("params.layer_1.w")
    assert not selection.takes("params.layer_0")


def test_functions_are_given_the_name_and_the_metadata(saved):
    tree = {"w": np.ones((2, 3)), "b": np.ones(3), "step": 4, "none": None}
    matrices = ocp.load(saved(tree), select=lambda _, leaf: len(getattr(leaf, "shape", ())) == 2)
    assert list(matrices) == ["w"]


def test_a_selection_is_a_value():
    made = ocp.Selection(include=["a.*", "b"], exclude="a.c", rename={"a": "x", "a.b": "y"})
    same = ocp.Selection(include=("a.*", "b"), exclude=["a.c"], rename={"a.b": "y", "a": "x"})
    assert made == same
    assert hash(made) == hash(same)
    assert pickle.loads(pickle.dumps(made)) == made
    assert dataclasses.replace(made) == made
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.include = "b"
    assert as_selection("a") == ocp.Selection(include="a")


@pytest.mark.parametrize("wrong", [{"include": 1}, {"exclude": [2]}, {"rename": {"a": 1}},
                                   {"rename": 3}, {"rename": ["ab", "c"]}])  # fmt: skip
def test_what_is_no_pattern_is_refused(wrong):
    with pytest.raises(OptionTypeError, match=next(iter(wrong))):
        ocp.Selection(**wrong)


# ---------------------------------------------------------------- renaming


def test_the_longest_prefix_renames():
    selection = ocp.Selection(rename={"params": "p", "params.head": "head", "opt": ""})
    assert selection.renamed("params.w") == "p.w"
    assert selection.renamed("params.head.w") == "head.w"
    assert selection.renamed("params.header") == "p.header"
    assert selection.renamed("opt.mu") == "mu"
    assert selection.renamed("other") == "other"
    assert ocp.Selection(rename={"": "model"}).renamed("w") == "model.w"


@given(NAMES, st.dictionaries(NAMES, NAMES, max_size=3))
def test_an_origin_is_what_becomes_the_name(name, rename):
    selection = ocp.Selection(rename=rename)
    assert name in set(selection.origins(selection.renamed(name)))
    assert all(selection.renamed(origin) == name for origin in selection.origins(name))


@given(st.lists(PARTS, min_size=1, max_size=4), NAMES)
def test_a_moved_path_has_the_new_name(parts, new):
    kinds = itertools.cycle([KeyKind.MAPPING, KeyKind.SEQUENCE])
    path = tuple(map(Key, parts, kinds))
    assert name(moved(path, new)) == new
    assert moved(path, name(path)) == path
    (settled,) = settle([path])
    assert name(settled) == name(path)


# ---------------------------------------------------------------- loading what is selected


@given(NESTED, st.data())
def test_a_load_has_the_selected_leaves_and_no_others(saved, tree, data):
    assume(not isinstance(tree, int))
    every = leaves(tree)
    chosen = data.draw(st.sets(st.sampled_from(sorted(every)), min_size=1))
    found = leaves(ocp.load(saved(tree), select=ocp.Selection(include=chosen)))
    assert found == {name: every[name] for name in chosen}


def test_only_what_is_selected_is_read(saved):
    path = saved({"a": np.ones(1000), "b": np.ones(10)})
    assert ocp.plan_load(path, select="b").names == ("b",)
    assert ocp.load_async(path, select="b").result().keys() == {"b"}


def test_a_part_of_a_list_is_a_dict_by_index(saved):
    path = saved({"layers": [{"w": 1}, {"w": 2}, {"w": 3}], "pair": {7: (1, 2), 8: 3}})
    assert ocp.load(path, select="layers.1") == {"layers": {1: {"w": 2}}}
    assert ocp.load(path, select=ocp.Selection(exclude="pair.7.0")) == {
        "layers": [{"w": 1}, {"w": 2}, {"w": 3}],
        "pair": {7: {1: 2}, 8: 3},
    }


def test_renaming_on_the_way_without_and_with_a_template(saved):
    path = saved({"params": {"enc": [np.ones(2), np.zeros(3)]}, "step": 3})
    select = ocp.Selection(include="params.enc", rename={"params.enc": "model.layers"})
    loaded = ocp.load(path, select=select)
    assert jax.tree.structure(loaded) == jax.tree.structure({"model": {"layers": [0, 0]}})
    template = {"model": {"layers": [jax.ShapeDtypeStruct((2,), "float32"), np.empty(3)]}}
    loaded = ocp.load(path, template, select=select)
    assert loaded["model"]["layers"][0].dtype == np.float32
    with pytest.raises(TreeMismatchError) as caught:
        ocp.load(path, {"model": {"layers": [...], "extra": 0}}, select=select)
    assert caught.value.missing == ("model.extra",)


def test_a_tree_can_become_an_item_of_a_list(saved):
    path = saved({"a": {"w": 1}, "b": {"w": 2}})
    select = ocp.Selection(rename={"a": "layers.0", "b": "layers.1"})
    assert ocp.load(path, select=select) == {"layers": [{"w": 1}, {"w": 2}]}


def test_what_nothing_is_named_is_an_error(saved):
    path = saved({"params": {"backbone": {"w": 1}}, "step": 1})
    with pytest.raises(TreeMismatchError, match="Did you mean 'params.backbone'") as caught:
        ocp.load(path, select="params.backbon")
    assert caught.value.path == str(path)
    with pytest.raises(TreeMismatchError, match="named 'param'"):
        ocp.load(path, select=ocp.Selection(rename={"param": "p"}))
    with pytest.raises(TreeMismatchError, match="'params', 'step' at the top"):
        ocp.load(path, select=lambda name, leaf: False)
    with pytest.raises(TreeMismatchError, match="takes nothing"):
        ocp.load(path, select=ocp.Selection(exclude="**"))


def test_two_leaves_of_one_new_name_are_an_error(saved):
    path = saved({"a": {"w": 1}, "b": {"w": 2}, "c": 3})
    with pytest.raises(NameCollisionError, match="'a.w' and 'b.w' would both be called 'w'"):
        ocp.load(path, select=ocp.Selection(rename={"a": "", "b": ""}))
    with pytest.raises(NameCollisionError, match="a subtree would both be called 'a'"):
        ocp.load(path, select=ocp.Selection(rename={"c": "a"}))
    with pytest.raises(OptionTypeError, match="did not return a name"):
        ocp.load(path, select=ocp.Selection(rename=lambda name: None))


# ---------------------------------------------------------------- into a state


@given(NESTED, NESTED, st.booleans())
def test_every_leaf_is_accounted_for(saved, stored, state, keep):
    assume(not isinstance(stored, int) and not isinstance(state, int))
    there, mine = leaves(stored), leaves(state)
    path = saved(stored)
    unplaced, missing = there.keys() - mine.keys(), mine.keys() - there.keys()
    if unplaced or (missing and not keep):
        with pytest.raises(TreeMismatchError) as caught:
            ocp.load_into(path, state, missing="keep" if keep else "error")
        assert set(caught.value.unexpected) == unplaced
        assert set(caught.value.missing) == (set() if keep else missing)
        return
    loaded = ocp.load_into(path, state, missing="keep" if keep else "error")
    assert leaves(loaded.tree) == mine | there
    assert set(loaded.report.taken) == there.keys()
    assert set(loaded.report.missing) == missing
    assert loaded.report.left == ()


def test_a_pretrained_backbone_goes_into_a_new_model(saved):
    pretrained = {
        "params": {
            "backbone": {"layers": [{"w": np.full((2, 2), i, np.float32)} for i in range(2)]},
            "head": {"w": np.ones((2, 1000))},
        },
        "opt": {"mu": np.ones(4)},
    }
    head = jax.numpy.zeros((2, 10))
    model = {
        "encoder": {"layers": [{"w": jax.numpy.ones((2, 2), "bfloat16")} for _ in range(2)]},
        "head": {"w": head},
        "step": 0,
    }
    select = ocp.Selection(include="params.backbone.**", rename={"params.backbone": "encoder"})
    tree, report = ocp.load_into(saved(pretrained), model, select=select)
    assert [layer["w"][0, 0].item() for layer in tree["encoder"]["layers"]] == [0, 1]
    assert tree["encoder"]["layers"][0]["w"].dtype == jax.numpy.bfloat16
    assert tree["head"]["w"] is head
    assert report == ocp.Report(
        taken=("encoder.layers.0.w", "encoder.layers.1.w"),
        left=("opt.mu", "params.head.w"),
        missing=(),
    )
    assert str(report).startswith("2 taken, 2 left, 0 missing\n  taken from the checkpoint:")


def test_what_was_asked_for_and_is_missing_is_an_error_unless_kept(saved):
    path = saved({"a": {"w": np.ones(2), "b": np.ones(2)}})
    state = {"a": {"w": np.zeros(2), "b": np.zeros(2), "scale": 5}, "other": {"x": 1, "y": 2}}
    with pytest.raises(TreeMismatchError) as caught:
        ocp.load_into(path, state, select="a")
    assert caught.value.missing == ("a.scale",)
    assert 'missing="keep"' in str(caught.value)
    loaded = ocp.load_into(path, state, select="a", missing="keep")
    assert loaded.tree["a"]["scale"] == 5
    assert loaded.report.missing == ("a.scale",)
    with pytest.raises(TreeMismatchError, match=r"other \(2 leaves\)"):
        ocp.load_into(path, state)
    with pytest.raises(OptionValueError, match="'error' or 'keep'"):
        ocp.load_into(path, state, missing="ignore")


def test_a_function_that_renames_asks_for_the_subtree_that_it_fills(saved):
    path = saved({"params": {"old": {"w": 1, "b": 2}}})
    select = ocp.Selection(rename=lambda name: name.replace("params.old", "net.new"))
    tree, report = ocp.load_into(path, {"net": {"new": {"w": 0, "b": 0}, "head": 7}}, select=select)
    assert tree == {"net": {"new": {"w": 1, "b": 2}, "head": 7}}
    assert report.missing == ()
    with pytest.raises(TreeMismatchError) as caught:
        ocp.load_into(path, {"net": {"new": {"w": 0, "b": 0, "c": 7}}}, select=select)
    assert caught.value.missing == ("net.new.c",)


def test_what_has_no_place_is_an_error_unless_partial(saved):
    path = saved({"w": 1, "extra": 2})
    with pytest.raises(TreeMismatchError, match="Exclude|exclude") as caught:
        ocp.load_into(path, {"w": 0})
    assert caught.value.unexpected == ("extra",)
    partial = ocp.Context().at.pytree.loading.partial_load.set(True)
    assert ocp.load_into(path, {"w": 0}, context=partial).report.left == ("extra",)


def test_leaves_that_do_not_fit_are_named(saved):
    path = saved({"a": np.ones(2), "b": np.ones(3)})
    with pytest.raises(LeafMismatchError, match=r"2 leaves(.|\n)*a: expected shape \[5\]"):
        ocp.load_into(path, {"a": np.zeros(5), "b": np.zeros(6)})
    with pytest.raises(TreeMismatchError) as caught:
        ocp.load_into(path, {"a": np.zeros(5), "c": 0})
    assert [each.name for each in caught.value.different] == ["a"]


def test_placeholders_in_the_state_are_not_asked_for(saved):
    path = saved({"w": 1})
    assert ocp.load_into(path, {"w": 0, "later": ...}).tree == {"w": 1, "later": ...}
