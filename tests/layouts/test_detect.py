"""What a directory is taken for, by what is in it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from returns.result import Failure, Success

from sealwax.checkpointables import typestrings
from sealwax.effects import Entry
from sealwax.errors import CheckpointNotFoundError, InvalidLayoutError
from sealwax.layouts.detect import Found, choose_item, is_checkpoint, trees_in

TREE = ("_METADATA", "d", "manifest.ocdbt")
TOP = ("_CHECKPOINT_METADATA", "commit_success.txt", "orbax.checkpoint")


def checkpoint(path: str = "/run/ckpt", above: tuple[str, ...] = (), **items: Any) -> Found:
    return Found(
        path=path,
        entry=Entry.DIRECTORY,
        names=(*TOP, *items),
        items=items or {},
        above=above,
    )


NAMES = st.sampled_from(["state", "a", "params", "zz", "default", "metrics", "AUTO"])


@given(items=st.dictionaries(NAMES, st.sampled_from([TREE, ("metadata",), ()]), max_size=4))
def test_auto_takes_state_or_the_first_that_holds_a_tree(items: dict[str, Any]) -> None:
    found = checkpoint(**items)
    trees = sorted(
        name for name in items if items[name] == TREE and name not in ("metrics", "AUTO")
    )
    assert sorted(trees_in(found)) == trees
    chosen = choose_item(found, "AUTO")
    if "state" in trees:
        assert chosen == Success("state")
    elif trees:
        assert chosen == Success(trees[0])
    else:
        assert isinstance(chosen.failure(), InvalidLayoutError)
    for name in trees:
        assert choose_item(found, name) == Success(name)


@pytest.mark.parametrize("wanted", ["AUTO", None])
def test_a_flat_checkpoint_has_no_name(wanted: str | None) -> None:
    flat = Found(path="/x", entry=Entry.DIRECTORY, names=(*TREE, "_CHECKPOINT_METADATA"))
    assert is_checkpoint(flat)
    assert choose_item(flat, wanted) == Success("")


def test_a_tree_that_sealwax_wrote_needs_only_its_manifest() -> None:
    found = checkpoint(state=("_SEALWAX", "d"))
    assert choose_item(found, "AUTO") == Success("state")


NOT_CHECKPOINTS: dict[str, tuple[Found, type[Exception], str]] = {
    "nothing": (
        Found(path="/run/ckpt", entry=None, above=("other",)),
        CheckpointNotFoundError,
        "nothing at the path.*Check the path",
    ),
    "a near name": (
        Found(path="/run/ckpt", entry=None, above=("ckpt1", "zz")),
        CheckpointNotFoundError,
        "Did you mean 'ckpt1'",
    ),
    "a save under way": (
        Found(path="/run/ckpt", entry=None, above=("ckpt.orbax-checkpoint-tmp-7",)),
        CheckpointNotFoundError,
        "under way, or was interrupted",
    ),
    "a file": (
        Found(path="/run/ckpt", entry=Entry.FILE),
        InvalidLayoutError,
        "A file is at the path",
    ),
    "a link": (
        Found(path="/run/ckpt", entry=Entry.SYMLINK),
        InvalidLayoutError,
        "A symbolic link is at the path",
    ),
    "unfinished": (
        checkpoint("/run/ckpt.orbax-checkpoint-tmp", state=TREE),
        InvalidLayoutError,
        "not finished",
    ),
    "an item": (
        Found(
            path="/run/ckpt/state",
            entry=Entry.DIRECTORY,
            names=TREE,
            above=("_CHECKPOINT_METADATA", "state"),
        ),
        InvalidLayoutError,
        "Load '/run/ckpt' with checkpointable_name='state'",
    ),
    "empty": (
        Found(path="/x", entry=Entry.DIRECTORY),
        InvalidLayoutError,
        "found an empty directory",
    ),
    "something else": (
        Found(path="/x", entry=Entry.DIRECTORY, names=("a", "b")),
        InvalidLayoutError,
        "found 'a', 'b'",
    ),
    "the root of a run": (
        Found(
            path="/x",
            entry=Entry.DIRECTORY,
            names=tuple(map(str, range(12))),
            items={str(step): TOP for step in range(12)},
        ),
        InvalidLayoutError,
        "holds 12 checkpoints.*'7', '8', '9', '10', '11' and 7 earlier ones",
    ),
    "a run of flat checkpoints": (
        Found(
            path="/x",
            entry=Entry.DIRECTORY,
            names=("1",),
            items={"1": (*TREE, "_CHECKPOINT_METADATA")},
        ),
        InvalidLayoutError,
        "holds a checkpoint",
    ),
    "checkpoints of sealwax": (
        Found(
            path="/x",
            entry=Entry.DIRECTORY,
            names=("1",),
            items={"1": (*TOP, "_SEALWAX", "state")},
        ),
        InvalidLayoutError,
        "holds a checkpoint",
    ),
}


@pytest.mark.parametrize(("found", "error", "words"), NOT_CHECKPOINTS.values(), ids=NOT_CHECKPOINTS)
def test_what_is_no_checkpoint(found: Found, error: type[Exception], words: str) -> None:
    assert not is_checkpoint(found)
    failure = choose_item(found, "AUTO").failure()
    assert isinstance(failure, error)
    assert failure.path == found.path
    with pytest.raises(error, match=words):
        raise failure


@pytest.mark.parametrize("wanted", ["zz", "", None, "stat"])
def test_an_item_that_is_not_there_lists_those_that_are(wanted: str | None) -> None:
    failure = choose_item(checkpoint(state=TREE, notes=("metadata",)), wanted).failure()
    assert isinstance(failure, InvalidLayoutError)
    assert failure.found == "'state'"
    assert ("Did you mean 'state'" in str(failure)) == (wanted == "stat")


def test_a_checkpoint_without_a_tree_says_what_it_has() -> None:
    failure = choose_item(checkpoint(notes=("metadata",)), "AUTO").failure()
    assert "found 'notes'" in str(failure)


RECORDS = st.sampled_from(
    [
        *(*typestrings.PYTREE, "mine.Handler", "mine.JsonHandler"),
        *(*typestrings.STATEFUL, *typestrings.JSON, *typestrings.METRICS, *typestrings.PROTO),
        # As releases before 0.11 had it.
        "orbax.checkpoint.json_checkpoint_handler.JsonCheckpointHandler",
    ]
)


@given(recorded=st.dictionaries(NAMES, RECORDS, max_size=4))
def test_auto_passes_over_what_is_recorded_as_no_tree(recorded: dict[str, str]) -> None:
    found = dataclasses.replace(checkpoint(**dict.fromkeys(recorded, TREE)), recorded=recorded)
    trees = [
        name
        for name in trees_in(found)
        if recorded[name] in typestrings.PYTREE or recorded[name].startswith("mine.")
    ]
    chosen = choose_item(found, "AUTO")
    assert chosen == Success(trees[0]) if trees else isinstance(chosen, Failure)
    for name in trees_in(found):
        assert choose_item(found, name) == Success(name)


def test_what_orbax_put_together_of_parts_counts_whatever_it_recorded() -> None:
    found = checkpoint(state=TREE)
    parts = dataclasses.replace(found, recorded={"state": typestrings.STATEFUL[0]})
    assert choose_item(parts, "AUTO") == Success("state")
    ours = dataclasses.replace(parts, names=(*parts.names, "_SEALWAX"))
    assert isinstance(choose_item(ours, "AUTO"), Failure)
