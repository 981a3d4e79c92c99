"""Names: only what saves of ours left behind is taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.planning import names

TOKENS = st.text("0123456789abcdef", min_size=32, max_size=32)
BASES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
OURS = "7.orbax-checkpoint-tmp-sealwax-" + "0123456789abcdef" * 2


@given(BASES, TOKENS)
def test_what_a_save_to_the_same_path_left_is_recognised(base, token):
    made = names.temporary(f"/runs/{base}", token)
    assert names.parent(made) == "/runs"
    assert names.is_temporary(names.base(made))
    assert names.leftovers(f"/runs/{base}", [names.base(made)]) == (names.base(made),)
    assert names.leftovers(f"/elsewhere/{base}", [names.base(made)]) == (names.base(made),)


@given(BASES, BASES, TOKENS)
def test_what_a_save_to_another_path_left_is_spared(base, other, token):
    left = names.base(names.temporary(f"/runs/{other}", token))
    assert (names.leftovers(f"/runs/{base}", [left]) == (left,)) == (base == other)


@given(st.text(max_size=60))
def test_nothing_else_is_ours(name):
    expected = names.base(names.temporary("/7", name[-32:])) == name
    assert bool(names.leftovers("/runs/7", [name])) <= expected


@pytest.mark.parametrize(
    "name",
    [
        "7",
        "70",
        "8",
        ".7",
        "7.orbax-checkpoint-tmp",
        "7.orbax-checkpoint-tmp-1718000000000000",
        "7.orbax-checkpoint-tmp-0123456789abcdef0123456789abcdef",
        "7.orbax-checkpoint-tmp-sealwax-",
        "7.orbax-checkpoint-tmp-sealwax-backup",
        OURS[:-1],
        OURS + "0",
        OURS + ".bak",
        OURS + "\n",
        " " + OURS,
        "1" + OURS,
        OURS.upper(),
        OURS[:-1] + "g",
        OURS[:-1] + "F",
        OURS[:-1] + "\N{ARABIC-INDIC DIGIT ONE}",
        "7.orbax-checkpoint-tmp-sealwax-" * 2 + "0123456789abcdef" * 2,
    ],
)
def test_what_is_only_like_ours_is_spared(name):
    assert names.leftovers("/runs/7", [name, OURS]) == (OURS,)


@pytest.mark.parametrize(("path", "parent"), [("/a/b/c", "/a/b"), ("/a", "/"), ("/a/b", "/a")])
def test_a_path_is_its_parent_and_its_base(path, parent):
    assert names.parent(path) == parent
    assert names.join(parent, names.base(path)) == path
