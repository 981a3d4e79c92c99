"""Plans of saves: what is done, in which order, and what the plan says of itself."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings

from sealwax import effects as e
from sealwax.context import Context
from sealwax.errors import CheckpointExistsError, InvalidPathError
from sealwax.planning.batches import BATCH_BYTES
from sealwax.planning.names import parent
from sealwax.planning.requests import Site
from sealwax.planning.save import plan_save
from tests.planning.requests import (
    LEFTOVER,
    PATH,
    ROOT,
    TAKEN,
    TOKEN,
    planned,
    request_for,
    saves,
    virtual,
)

few = settings(max_examples=25)
MOVES_DATA = (e.Stage, e.Probe, e.Derive, e.Now, e.Call)


class Graph:
    """A plan's graph: which steps happen before which, whatever the executor does."""

    def __init__(self, plan: e.Plan) -> None:
        self.plan = plan

    @functools.cache  # noqa: B019 the graph lives as long as one test
    def before(self, number: int) -> frozenset[int]:
        """All steps that are done before this one starts."""
        needs = self.plan.steps[number].needs
        return needs.union(*(self.before(n) for n in needs))

    def steps(self, *kinds: type) -> Iterator[tuple[int, e.Effect]]:
        return ((s.number, s.effect) for s in self.plan.steps if isinstance(s.effect, kinds))

    def written(self) -> Iterator[tuple[int, e.Effect, str, bool]]:
        """The steps that write, the directory they write to, and whether also below it."""
        for number, effect in self.steps(e.WriteFile, e.WriteBatch):
            yield number, effect, parent(effect.path), False
        for number, effect in self.steps(e.WriteFiles, e.WriteChunks):
            yield number, effect, effect.directory, True

    def synced(self, directory: str, after: int, *, below: bool = False) -> list[int]:
        """The steps that sync a directory, later than step ``after``."""
        return [
            number
            for number, effect in self.steps(e.SyncDirectory, e.SyncTree)
            if after in self.before(number)
            if (effect.path == directory and not (below and isinstance(effect, e.SyncDirectory)))
            or (isinstance(effect, e.SyncTree) and directory.startswith(f"{effect.path}/"))
        ]

    @property
    def seal(self) -> int:
        ((number, _),) = self.steps(e.Rename, e.Exchange)
        return number


@few
@given(saves())
def test_planning_is_a_function(drawn):
    request, site = drawn
    one, two = plan_save(request, site).unwrap(), plan_save(request, site).unwrap()
    assert one == two
    assert one is not two
    assert str(one) == str(two)


@few
@given(saves())
def test_plans_of_different_requests_differ(drawn):
    request, site = drawn
    other = plan_save(request_for({"another": 1.0}, request.options, overwrite=True), site)
    assert other != plan_save(request, site)


@few
@given(saves())
def test_steps_are_numbered_and_depend_on_earlier_ones_only(drawn):
    plan = plan_save(*drawn).unwrap()
    assert [step.number for step in plan.steps] == list(range(len(plan.steps)))
    assert all(need < step.number for step in plan.steps for need in step.needs)


@few
@given(saves())
def test_there_is_one_seal_and_everything_else_is_before_or_after_it(drawn):
    request, site = drawn
    plan = plan_save(request, site).unwrap()
    graph = Graph(plan)
    assert graph.seal == plan.seal
    assert graph.before(graph.seal) == frozenset(range(graph.seal))
    for step in plan.steps[graph.seal + 1 :]:
        assert graph.seal in graph.before(step.number)
    kind = e.Exchange if request.overwrite else e.Rename
    seal = plan.steps[graph.seal].effect
    assert isinstance(seal, kind)
    assert {getattr(seal, name) for name in kind.__slots__} == {ROOT, PATH}


@few
@given(saves("durable"))
def test_every_written_file_is_synced_and_so_is_its_directory_before_the_seal(drawn):
    graph = Graph(plan_save(*drawn).unwrap())
    for number, effect, directory, below in graph.written():
        assert effect.sync
        syncs = graph.synced(directory, number, below=below)
        assert any(n in graph.before(graph.seal) for n in syncs), effect


@few
@given(saves("durable"))
def test_every_directory_that_is_made_is_synced_into_the_one_above(drawn):
    graph = Graph(plan_save(*drawn).unwrap())
    for number, effect in graph.steps(e.MakeDirectory):
        syncs = graph.synced(parent(effect.path), number)
        if effect.path == ROOT:
            assert all(graph.seal in graph.before(n) for n in syncs)
        else:
            assert any(n in graph.before(graph.seal) for n in syncs), effect


@few
@given(saves("durable"))
def test_directories_are_synced_from_the_bottom_up(drawn):
    graph = Graph(plan_save(*drawn).unwrap())
    syncs = [s for s in graph.steps(e.SyncDirectory, e.SyncTree) if s[0] < graph.seal]
    for upper, one in syncs:
        for lower, other in syncs:
            if other.path.startswith(one.path + "/") and one.path.startswith(ROOT):
                assert lower in graph.before(upper)


@few
@given(saves("durable"))
def test_the_seal_is_durable_before_the_old_checkpoint_goes(drawn):
    request, site = drawn
    graph = Graph(plan_save(request, site).unwrap())
    (sync,) = graph.synced(parent(PATH), graph.seal)
    removals = [n for n, effect in graph.steps(e.RemoveTree) if effect.path == ROOT]
    assert len(removals) == request.overwrite
    assert all(sync in graph.before(number) for number in removals)
    assert all(sync in graph.before(number) for number, _ in graph.steps(e.Call))


@few
@given(saves("atomic"))
def test_without_durability_nothing_is_synced(drawn):
    graph = Graph(plan_save(*drawn).unwrap())
    assert list(graph.steps(e.SyncDirectory, e.SyncTree)) == []
    assert not any(effect.sync for _, effect, *_ in graph.written())


@few
@given(saves("atomic"))
def test_durability_changes_nothing_but_syncs(drawn):
    request, site = drawn
    file = dataclasses.replace(request.options.file, durability="durable")
    options = dataclasses.replace(request.options, file=file)
    durable = plan_save(dataclasses.replace(request, options=options), site).unwrap()
    atomic = plan_save(request, site).unwrap()

    def acts(plan):
        return [
            (type(s.effect), getattr(s.effect, "path", None), s.writes, s.holds, s.staging)
            for s in plan.steps
            if not isinstance(s.effect, e.SyncDirectory | e.SyncTree)
        ]

    assert acts(durable) == acts(atomic)
    assert durable.undo == atomic.undo


@few
@given(saves())
def test_nothing_outside_is_touched_before_the_seal(drawn):
    request, site = drawn
    plan = plan_save(request, site).unwrap()
    for step in plan.steps[: plan.seal]:
        match step.effect:
            case e.RemoveTree(path=path, abandoned=abandoned):
                assert (path, abandoned) == (LEFTOVER, True)
            case e.MakeDirectory(path=path, parents=True):
                assert path in site.missing
            case e.SyncDirectory(path=path) if not path.startswith(ROOT):
                assert path in map(parent, site.missing)
            case effect if isinstance(effect, MOVES_DATA):
                pass
            case effect:
                place = getattr(effect, "path", None) or effect.directory
                assert place == ROOT or place.startswith(f"{ROOT}/")
    above = [e.RemoveDirectory(path=path) for path in reversed(site.missing)]
    assert plan.undo == (e.RemoveTree(path=ROOT), *above)


@few
@given(saves())
def test_only_the_temporary_directory_is_leased_and_missing_ones_come_in_order(drawn):
    request, site = drawn
    graph = Graph(plan_save(request, site).unwrap())
    made = list(graph.steps(e.MakeDirectory))
    assert [d.path for _, d in made if d.lease] == [ROOT]
    assert [d.path for _, d in made if d.parents] == list(site.missing)
    for number, effect in made:
        above = [n for n, other in made if other.path == parent(effect.path)]
        assert all(n in graph.before(number) for n in above)
    mode = request.options.file.path_permission_mode
    assert {d.mode for _, d in made if d.path == ROOT} == {mode}


@few
@given(saves())
def test_a_file_is_written_into_a_directory_that_is_there(drawn):
    graph = Graph(plan_save(*drawn).unwrap())
    made = {effect.path: number for number, effect in graph.steps(e.MakeDirectory)}
    paths = []
    for number, effect, directory, below in graph.written():
        assert made[directory] in graph.before(number)
        paths += [] if below else [effect.path]
    assert len(set(paths)) == len(paths)


@few
@given(saves())
def test_every_chunk_is_staged_and_written_once(drawn):
    request, site = drawn
    plan = plan_save(request, site).unwrap()
    forms = request.items[0].inventory.arrays
    wanted = collections.Counter(
        (leaf, shard, chunk)
        for leaf, form in enumerate(forms)
        for shard, chunks in enumerate(form.chunks)
        for chunk in range(len(chunks))
    )
    for kind in (e.Stage, e.WriteBatch | e.WriteChunks):
        found = collections.Counter(
            (slab.leaf, slab.shard, chunk)
            for _, effect in Graph(plan).steps(kind)
            for slab in effect.slabs
            for chunk in range(slab.first, slab.last)
        )
        assert found == wanted


@few
@given(saves())
def test_bytes_are_those_of_the_arrays_and_memory_is_bounded(drawn):
    request, site = drawn
    plan = plan_save(request, site).unwrap()
    memory = request.options.memory
    assert plan.bytes == sum(form.nbytes for form in request.items[0].inventory.arrays)
    assert plan.peak_host_bytes <= sum(step.holds for step in plan.steps)
    largest = max((step.holds for step in plan.steps), default=0)
    if memory.transfer_concurrent_bytes is not None:
        assert plan.peak_host_bytes <= max(memory.transfer_concurrent_bytes, largest)
    elif not request.background:
        assert plan.peak_host_bytes <= 8 * BATCH_BYTES
    chunk = max((form.chunk_bytes for form in request.items[0].inventory.arrays), default=0)
    limits = (BATCH_BYTES, memory.write_concurrent_bytes, memory.transfer_concurrent_bytes)
    most = max(chunk, min(limit or BATCH_BYTES for limit in limits))
    assert all(step.writes <= most for step in plan.steps)


@few
@given(saves())
def test_the_caller_waits_for_staging_and_for_nothing_else(drawn):
    request, site = drawn
    plan = plan_save(request, site).unwrap()
    eager = not request.options.asynchronous.create_directories_asynchronously
    for step in plan.steps:
        match step.effect:
            case e.Stage(copy=copy):
                assert step.staging == request.background
                assert copy == (request.background and request.options.memory.deepcopy_host_arrays)
            case e.MakeDirectory():
                assert step.staging == (request.background and eager)
            case _:
                assert not step.staging


def test_a_thousand_small_leaves_are_a_handful_of_effects():
    plan = planned({f"w{n}": np.zeros(256, np.float32) for n in range(1000)})
    kinds = collections.Counter(type(step.effect) for step in plan.steps)
    assert plan.effects < 40
    assert kinds[e.WriteBatch] == kinds[e.Stage] == 1
    assert plan.bytes == 1000 << 10
    assert plan.peak_host_bytes == 0


def test_ten_times_the_leaves_are_no_more_effects():
    plans = [planned({f"w{n}": virtual((4,)) for n in range(count)}) for count in (10, 1000)]
    assert plans[0].effects == plans[1].effects


def test_a_large_array_is_several_bounded_batches():
    plan = planned([np.empty((64, 1024, 1024), np.float32)])
    writes = [step.writes for step in plan.steps if isinstance(step.effect, e.WriteBatch)]
    assert writes == [64 << 20] * 4
    assert plan.bytes == 256 << 20
    assert plan.peak_host_bytes == 0


def test_what_must_be_copied_is_counted_and_bounded():
    tree = [virtual((1 << 28,))]
    plan = planned(tree)
    assert plan.bytes == 1 << 30
    assert plan.peak_host_bytes == 8 * BATCH_BYTES
    options = Context().at.memory.transfer_concurrent_bytes.set(1 << 24).options
    assert planned(tree, options=options).peak_host_bytes == 1 << 24
    assert planned(tree, background=True).peak_host_bytes == 1 << 30


def test_copies_of_an_async_save_are_counted():
    tree = {"w": np.zeros(1 << 18), "b": np.zeros(4, np.int8)}
    plan = planned(tree, background=True)
    assert plan.peak_host_bytes == plan.bytes == (1 << 21) + 4


def test_a_probe_is_shared_by_the_batches_of_an_array():
    plan = planned([np.empty((64, 1024, 1024), np.float32)])
    (probe,) = Graph(plan).steps(e.Probe)
    for _, effect in Graph(plan).steps(e.WriteBatch):
        assert e.From(step=probe[0]) in effect.compressed


@pytest.mark.parametrize(
    ("change", "probes", "always"),
    [
        ({}, 1, frozenset()),
        ({"array.saving.compression": "always"}, 0, frozenset({0})),
        ({"array.saving.use_compression": False}, 0, frozenset()),
    ],
    ids=["auto", "always", "never"],
)
def test_compression_is_looked_at_forced_or_left(change, probes, always):
    plan = planned([virtual((1 << 20,))], options=Context().replace(change).options)
    graph = Graph(plan)
    assert len(list(graph.steps(e.Probe))) == probes
    assert {effect.compressed[0] for _, effect in graph.steps(e.WriteBatch)} == {always}


@pytest.mark.parametrize(
    ("site", "error", "words"),
    [
        (TAKEN, CheckpointExistsError, "A checkpoint is at the path already"),
        (Site(entry=e.Entry.DIRECTORY, token=TOKEN, now=0), CheckpointExistsError, "A directory"),
        (Site(entry=e.Entry.FILE, token=TOKEN, now=0), CheckpointExistsError, "A file"),
        (Site(entry=e.Entry.SYMLINK, token=TOKEN, now=0), CheckpointExistsError, "symbolic link"),
        (Site(entry=None, obstacle="/runs", token=TOKEN, now=0), InvalidPathError, "'/runs'"),
    ],
    ids=["checkpoint", "directory", "file", "link", "obstacle"],
)
def test_what_is_in_the_way_is_an_error_value(site, error, words):
    failure = plan_save(request_for({"w": 1}), site).failure()
    assert isinstance(failure, error)
    assert words in str(failure)
    assert failure.path == PATH


def test_overwriting_replaces_only_checkpoints_and_empty_directories():
    request = request_for({"w": 1}, overwrite=True)
    for inside, allowed in ((), True), (("_METADATA",), True), (("thesis.tex",), False):
        site = Site(entry=e.Entry.DIRECTORY, names=inside, token=TOKEN, now=0)
        assert (plan_save(request, site).value_or(None) is not None) == allowed
    site = Site(entry=e.Entry.FILE, token=TOKEN, now=0)
    assert isinstance(plan_save(request, site).failure(), CheckpointExistsError)


GOLDEN = f"""\
save {PATH}
2 leaves, 12 effects, 36 B, at most 0 B of host memory besides what is there
[tmp] is {ROOT}

 #  effect                                             bytes  after
--  -------------------------------------------------  -----  -----
 0  make directory [tmp]
 1  make directory [tmp]/state                                0
 2  make directory [tmp]/state/d                              1
 3  bring 2 leaves to the host
 4  write 2 leaves to [tmp]/state/d/00000000 and sync   36 B  2-3
 5  derive the keys of the store                              4
 6  derive the item's files                                   5
 7  derive that nothing is missing                            5-6
 8  write files below [tmp]/state and sync                    2 6-7
 9  derive the digest of the item                             6
10  tell the time                                             9
11  derive the checkpoint's files                             9-10
12  write files below [tmp] and sync                          0 11
13  sync directory [tmp] and all below it                     0-12
14  seal: exchange [tmp] and {PATH}                        0-13
15  sync directory /runs/a                                    14
16  remove [tmp]                                              15"""


def test_a_plan_is_printed_as_a_table():
    tree = {"step": 3, "w": np.zeros(7, np.float32)}
    assert str(planned(tree, TAKEN, overwrite=True)) == GOLDEN
