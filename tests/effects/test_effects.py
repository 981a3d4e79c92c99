"""The vocabulary of effects, the graph that they form, and how both are told in words."""

from __future__ import annotations

import dataclasses
import typing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax import effects as e
from sealwax.effects.plan import table, uses
from sealwax.effects.wording import count, sentence, size

F32 = np.dtype(np.float32)
SLABS = (e.Slab(0, 0, 0, 2), e.Slab(1, 0, 0, 1))
FETCH = e.Fetch(0, "d/00000000", *[0] * (e.Fetch.__struct_fields__.index("chunk_shape") - 2))
NAMES = ("layer.w", "layer.b")


class Own:
    """Stands for a handler."""


EXAMPLES: list[tuple[e.Effect, str]] = [
    (e.Look(path="/p"), "look at /p"),
    (e.ListDirectory(path="/p"), "list /p"),
    (e.ListTree(path="/p"), "list all below /p"),
    (e.ReadFile(path="/p"), "read /p"),
    (
        e.CheckExtents(directory="/p", extents=(e.Extent("f", 0, 1, 0),), nbytes=1),
        "check 1 range of files in /p",
    ),
    (
        e.CheckArrays(
            directory="/p",
            database=True,
            driver="zarr3",
            arrays=(e.StoredBoxes("a", (2,), (1,), 4),),
            fill_missing=False,
            piece=4,
            nbytes=8,
        ),
        "read through 1 array in /p",
    ),
    (e.Now(), "tell the time"),
    (e.Token(), "draw a random name"),
    (
        e.ReadEntries(directory="/p", keys=("a",), database=True),
        "read the metadata of 1 array in /p",
    ),
    (e.MakeDirectory(path="/p"), "make directory /p"),
    (e.WriteFile(path="/p", content=b""), "write /p and sync"),
    (e.WriteFiles(directory="/p", contents={}), "write files below /p and sync"),
    (e.SyncDirectory(path="/p"), "sync directory /p"),
    (e.SyncTree(path="/p"), "sync directory /p and all below it"),
    (e.Rename(source="/p", target="/q"), "rename /p to /q"),
    (e.Exchange(first="/p", second="/q"), "exchange /p and /q"),
    (e.Replace(source="/p", target="/q"), "replace /q by /p"),
    (e.RemoveFile(path="/p"), "remove /p"),
    (e.Retract(path="/p", aside="/q"), "take unfinished /p away to /q"),
    (e.RemoveDirectory(path="/p"), "remove /p if it is empty"),
    (e.RemoveTree(path="/p"), "remove /p"),
    (e.DigestTree(path="/p"), "take the checksums of the files in /p and sync them"),
    (
        e.BeginSave(path="/p", handler=Own(), value=1, path_class=str),
        "let Own begin to save into /p",
    ),
    (e.FinishSave(path="/p", rest=None), "let the handler finish its save into /p"),
    (
        e.RunLoad(path="/p", handler=Own(), abstract=None, path_class=str),
        "let Own load from /p",
    ),
    (e.RunMetadata(path="/p", handler=Own(), path_class=str), "let Own look at /p"),
    (e.Hold(path="/p"), "wait until nobody else uses /p"),
    (e.ReadMatching(path="/p", patterns=("*/a",)), "read what describes the parts in /p"),
    (e.LinkFiles(source="/p", target="/q", links=(("a", "b"),)), "link 1 file below /p to /q"),
    (e.MergeDatabases(directory="/p", parts=("a", "b")), "merge 2 databases in /p"),
    (e.Call(name="f", function=print), "call f"),
    (e.Derive(name="x", function=print, inputs=()), "derive x"),
    (
        e.Stage(slabs=SLABS, leaves=(), copy=False, nbytes=8),
        "bring 2 leaves to the host",
    ),
    (
        e.Probe(slabs=SLABS[:1], candidates=frozenset({0}), buffers=()),
        "look whether leaf 'layer.w' (2 chunks) can be compressed",
    ),
    (
        e.WriteBatch(
            path="/p", name="p", slabs=SLABS[1:], forms=(), buffers=(), compressed=(), nbytes=8
        ),
        "write leaf 'layer.b' to /p and sync",
    ),
    (
        e.WriteChunks(
            directory="/p", names=("w", "b"), slabs=SLABS, forms=(), buffers=(), compressed=(),
            nbytes=8, sync=False,
        ),
        "write 2 leaves below /p",
    ),
    (e.Allocate(buffers=(e.Buffer("a", (2,), F32),) * 2), "allocate 2 buffers"),
    (
        e.ReadBatch(directory="/p", fetches=(FETCH,), leaves=("a",), buffers=(), nbytes=12),
        "read 1 chunk from /p",
    ),
    (
        e.ReadRegions(
            directory="/p", database=True, driver="zarr3", leaves=("a",), regions=((),),
            targets=(0,), buffers=(), fill_missing=False, nbytes=8,
        ),
        "read 1 array from /p",
    ),
    (
        e.Place(arrays=(e.Placement("a", (2,), F32, None, ((0, None),)),), buffers=()),
        "put 1 array on devices",
    ),
]  # fmt: skip


def vocabulary() -> set[type]:
    """The members of the closed union."""
    found, open_ends = set(), [e.Effect]
    while open_ends:
        members = typing.get_args(top := open_ends.pop())
        open_ends += members
        found |= set() if members else {top}
    return found


def test_there_is_an_example_of_every_effect():
    assert {type(effect) for effect, _ in EXAMPLES} == vocabulary()


@pytest.mark.parametrize(("effect", "words"), EXAMPLES, ids=lambda x: type(x).__name__)
def test_every_effect_has_words(effect, words):
    assert sentence(effect, NAMES) == words


@pytest.mark.parametrize(
    "effect", [effect for effect, _ in EXAMPLES], ids=lambda x: type(x).__name__
)
def test_every_effect_is_a_value_and_has_a_row(effect):
    assert effect == dataclasses.replace(effect)
    for field in dataclasses.fields(effect):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(effect, field.name, None)
    plan = e.Plan(title="do", path="/c", steps=(e.Step(number=0, effect=effect),), names=NAMES)
    assert sentence(effect, NAMES) in table(plan).splitlines()[-1]
    assert set(plan.leaves_of(plan.steps[0])) <= {*NAMES, "a"}


def test_a_number_in_place_of_a_name_that_is_not_known():
    stage = e.Stage(slabs=SLABS[1:], leaves=(), copy=True, nbytes=0)
    assert sentence(stage) == "copy leaf #1 to the host"


@pytest.mark.parametrize(
    ("nbytes", "words"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (64 << 20, "64.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (5000 << 30, "5000.0 GiB"),
    ],
)
def test_sizes_in_words(nbytes, words):
    assert size(nbytes) == words


@given(st.integers(0, 2**60))
def test_a_size_in_words_is_within_a_twentieth_of_the_size(nbytes):
    number, unit = size(nbytes).split()
    factor = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[unit]
    assert abs(float(number) * factor - nbytes) <= factor / 20 + 1e-6 * nbytes


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [(0, "leaf", "0 leaves"), (1, "leaf", "1 leaf"), (2, "leaf", "2 leaves"),
     (1, "effect", "1 effect"), (3, "chunk", "3 chunks")],
)  # fmt: skip
def test_counts_in_words(number, noun, words):
    assert count(number, noun) == words


def test_a_step_needs_what_it_uses_and_what_it_follows():
    derive = e.Derive(name="x", function=max, inputs=(e.From(step=3, part="a"), 7, e.From(step=2)))
    assert sorted(uses(derive)) == [2, 3]
    assert e.Step(number=5, effect=derive, after=(0, 2)).needs == {0, 2, 3}


def test_what_the_operation_was_called_with_is_not_a_step():
    stage = e.Stage(slabs=SLABS, leaves=e.From(step=e.SOURCES), copy=False, nbytes=0)
    assert list(uses(stage)) == [e.SOURCES]
    assert e.Step(number=0, effect=stage).needs == frozenset()


def steps(*held: int) -> tuple[e.Step, ...]:
    return tuple(
        e.Step(number=n, effect=e.Now(), holds=holds, writes=1, reads=2)
        for n, holds in enumerate(held)
    )


@given(st.lists(st.integers(0, 50), max_size=8), st.none() | st.integers(1, 100))
def test_a_plan_counts_bytes_and_bounds_host_memory(held, budget):
    plan = e.Plan(title="t", path="/p", steps=steps(*held), host_budget=budget)
    assert plan.bytes == 3 * len(held)
    assert plan.effects == len(held)
    assert max(held, default=0) <= plan.peak_host_bytes <= sum(held)
    if budget is not None:
        assert plan.peak_host_bytes <= max(budget, *held, 0)


def test_pure_steps_are_not_effects():
    derive = e.Derive(name="x", function=max, inputs=())
    plan = e.Plan(title="t", path="/p", steps=(e.Step(number=0, effect=derive),))
    assert plan.effects == 0


def test_a_long_table_is_cut_in_the_middle():
    plan = e.Plan(title="t", path="/p", steps=steps(*[0] * 100))
    lines = table(plan, limit=10).partition("----")[2].splitlines()
    shown = [int(line.split()[0]) for line in lines if line.split() and line.split()[0].isdigit()]
    assert shown == [*range(5), *range(95, 100)]
    assert any("90 more steps" in line for line in lines)
    assert table(plan, limit=100).count("tell the time") == 100


def test_the_table_says_ranges_of_steps():
    effect = e.Now()
    made = (
        *(e.Step(number=n, effect=effect) for n in range(5)),
        e.Step(number=5, effect=effect, after=(0, 1, 2, 4)),
    )
    assert table(e.Plan(title="t", path="/p", steps=made)).splitlines()[-1].split()[-2:] == [
        "0-2",
        "4",
    ]
