"""What a loss of power may leave: the model of a page cache, example by example."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import hypothesis
import hypothesis.strategies as st
import pytest

from sealwax import effects as e
from sealwax.effect_handlers import Memory, memory
from sealwax.effect_handlers.crashes import Contents, Tree, torn
from tests.crash.power import fingerprint


def do(fs: Memory, *performed: e.Effect) -> Memory:
    async def never(effect: e.Effect) -> object:
        raise AssertionError(effect)

    async def all_of_them() -> None:
        with fs.operation() as session:
            for effect in performed:
                await session.perform(effect, never)

    anyio.run(all_of_them)
    return fs


def after(fs: Memory, **how: int) -> list[Tree]:
    """The different trees that may be found."""
    found = [fs.crash(crash).tree() for crash in fs.crash_states(**how)]
    return list({fingerprint(tree): tree for tree in found}.values())


def write(path: str, content: bytes = b"abc", sync: bool = False) -> e.Effect:
    return e.WriteFile(path=path, content=content, sync=sync)


def mkdir(path: str) -> e.Effect:
    return e.MakeDirectory(path=path)


def sync(path: str) -> e.Effect:
    return e.SyncDirectory(path=path)


def same(found: list[Tree], *wanted: Tree) -> bool:
    return {fingerprint(tree) for tree in found} == {fingerprint(tree) for tree in wanted}


class TestFiles:
    def test_what_was_not_synced_may_be_missing_empty_cut_or_zero(self):
        fs = do(memory(), write("/f", b"abcd"))
        found = [tree.get("f") for tree in after(fs, block=2)]
        assert set(found) == {None, b"abcd", b"", b"ab", b"\0\0cd", b"ab\0\0", b"\0\0\0\0"}

    def test_a_synced_file_may_have_no_name_yet(self):
        assert same(after(do(memory(), write("/f", sync=True))), {}, {"f": b"abc"})

    def test_a_synced_directory_may_name_a_file_that_is_not_there_yet(self):
        found = after(do(memory(), write("/f"), sync("/")))
        assert same(found, {"f": b"abc"}, {"f": b""}, {"f": b"\0\0\0"})

    def test_both_synced_is_certain(self):
        assert same(after(do(memory(), write("/f", sync=True), sync("/"))), {"f": b"abc"})

    @hypothesis.given(st.binary(max_size=40), st.data(), st.integers(1, 9))
    def test_what_is_certain_of_a_file_is_in_all_that_may_be_found(self, data, draw, block):
        certain = draw.draw(st.integers(0, max(0, len(data) - 1)))
        found = torn(Contents(data, certain), block)
        assert found[0] == data
        assert len(found) == len(set(found))
        assert all(version.startswith(data[:certain]) for version in found)
        assert data[:certain] in found
        for version in found:
            assert len(version) <= len(data)
            assert all(x in (0, y) for x, y in zip(version, data, strict=False))


class TestDirectories:
    def test_a_directory_needs_the_one_above_it(self):
        fs = do(memory(), mkdir("/d"), write("/d/f", sync=True), sync("/d"))
        assert same(after(fs), {}, {"d": {"f": b"abc"}})
        assert same(after(do(fs, sync("/"))), {"d": {"f": b"abc"}})

    def test_names_in_one_directory_reach_the_disk_in_any_order(self):
        fs = do(memory(), mkdir("/a"), mkdir("/b"))
        assert same(after(fs), {}, {"a": {}}, {"b": {}}, {"a": {}, "b": {}})

    def test_what_happened_to_one_name_is_kept_in_order(self):
        fs = do(memory({"f": b"1"}), e.RemoveFile(path="/f"), mkdir("/f"))
        assert same(after(fs), {"f": b"1"}, {}, {"f": {}})

    def test_a_removed_tree_may_be_there_in_part(self):
        tree = {"d": {"a": b"1", "b": b"2"}}
        fs = do(memory(tree), e.RemoveTree(path="/d"))
        parts = [{"d": part} for part in ({}, {"a": b"1"}, {"b": b"2"})]
        assert same(after(fs), tree, {}, *parts)
        assert same(after(do(fs, sync("/"))), {})

    def test_a_whole_tree_is_synced_at_once(self):
        fs = do(memory(), mkdir("/d"), mkdir("/d/e"), e.SyncTree(path="/d"), sync("/"))
        assert same(after(fs), {"d": {"e": {}}})


class TestMoving:
    def test_a_rename_is_there_or_not(self):
        tree = {"a": {"f": b"1"}}
        fs = do(memory(tree), e.Rename(source="/a", target="/b"))
        assert same(after(fs), tree, {"b": {"f": b"1"}})
        assert same(after(do(fs, sync("/"))), {"b": {"f": b"1"}})

    def test_a_rename_may_be_there_before_the_content(self):
        fs = do(memory(), write("/a", b"x"), e.Rename(source="/a", target="/b"))
        found = [{}, *({name: data} for name in "ab" for data in (b"x", b"", b"\0"))]
        assert same(after(fs), *found)

    def test_an_exchange_is_there_or_not(self):
        fs = do(memory({"a": {"1": b""}, "b": {"2": b""}}), e.Exchange(first="/a", second="/b"))
        swapped = {"b": {"1": b""}, "a": {"2": b""}}
        assert same(after(fs), {"a": {"1": b""}, "b": {"2": b""}}, swapped)
        assert same(after(do(fs, sync("/"))), swapped)

    def test_a_file_takes_the_place_of_another_or_not(self):
        fs = do(memory({"a": b"new", "b": b"old"}), e.Replace(source="/a", target="/b"))
        assert same(after(fs), {"a": b"new", "b": b"old"}, {"b": b"new"})

    def test_a_rename_between_directories_is_one_change_and_needs_both(self):
        tree = {"a": {"x": {}}, "b": {}}
        moved = {"a": {}, "b": {"x": {}}}
        for first, second in ("ab", "ba"):
            fs = do(memory(tree), e.Rename(source="/a/x", target="/b/x"), sync(f"/{first}"))
            assert same(after(fs), tree, moved)
            assert same(after(do(fs, sync(f"/{second}"))), moved)

    def test_a_later_change_that_is_certain_brings_the_earlier_one(self):
        fs = do(
            memory({"a": {"x": {}}, "b": {}}),
            e.Rename(source="/a/x", target="/b/x"),
            sync("/b"),
            e.Rename(source="/b/x", target="/b/y"),
            sync("/b"),
        )
        assert same(after(fs), {"a": {}, "b": {"y": {}}})


PATHS = st.sampled_from(["/a", "/b", "/a/c", "/b/c", "/a/c/d"])
CHANGES = st.one_of(
    st.builds(mkdir, PATHS),
    st.builds(write, PATHS, st.binary(max_size=3), st.booleans()),
    st.builds(sync, st.one_of(st.just("/"), PATHS)),
    st.builds(lambda a, b: e.Rename(source=a, target=b), PATHS, PATHS),
    st.builds(lambda a, b: e.Exchange(first=a, second=b), PATHS, PATHS),
    st.builds(lambda a: e.RemoveTree(path=a), PATHS),
)


def tried(fs: Memory, changes: list[e.Effect]) -> Memory:
    for change in changes:
        try:
            do(fs, change)
        except OSError:
            continue
    return fs


class TestLaws:
    @hypothesis.given(st.lists(CHANGES, max_size=8))
    def test_what_programs_see_is_among_what_may_be_found(self, changes):
        fs = tried(memory(), changes)
        assert fingerprint(fs.tree()) in set(map(fingerprint, after(fs)))

    @hypothesis.given(st.lists(CHANGES, max_size=8))
    def test_when_all_is_synced_nothing_else_can_be_found(self, changes):
        fs = tried(memory(), changes)
        fs.sync()
        assert same(after(fs), fs.tree())

    @hypothesis.given(st.lists(CHANGES, max_size=6), PATHS)
    def test_a_sync_only_takes_away_from_what_may_be_found(self, changes, path):
        hypothesis.assume(len(list(tried(memory(), changes).crash_states(limit=500))) < 500)
        before = set(map(fingerprint, after(tried(memory(), changes), limit=500)))
        fs = tried(tried(memory(), changes), [sync(path), e.SyncTree(path="/a"), sync("/")])
        assert set(map(fingerprint, after(fs, limit=500))) <= before

    @hypothesis.given(st.lists(CHANGES, max_size=8), st.integers(1, 30), st.integers(0, 3))
    def test_a_limit_and_a_seed_are_kept(self, changes, limit, seed):
        fs = tried(memory(), changes)
        found = list(fs.crash_states(limit=limit, seed=seed))
        assert 1 <= len(found) <= limit
        assert found == list(fs.crash_states(limit=limit, seed=seed))
        assert len({(crash.kept, crash.contents) for crash in found}) == len(found)

    @hypothesis.given(st.lists(CHANGES, max_size=8))
    def test_a_crash_leaves_the_first_file_system_as_it_was(self, changes):
        fs = tried(memory(), changes)
        disk, tree = fs.disk(), fs.tree()
        for crash in fs.crash_states(limit=5):
            tried(fs.crash(crash), [mkdir("/z"), sync("/"), e.RemoveTree(path="/a")])
        assert fs.disk() == disk
        assert fingerprint(fs.tree()) == fingerprint(tree)


def test_leases_end_with_the_power():
    fs = memory()

    async def never(effect: e.Effect) -> object:
        raise AssertionError(effect)

    async def leased() -> tuple[bool, bool]:
        remove = e.RemoveTree(path="/d", abandoned=True)
        with fs.operation() as one, fs.operation() as other:
            await one.perform(e.MakeDirectory(path="/d", lease=True), never)
            fs.sync()
            (crash,) = fs.crash_states()
            held = await other.perform(remove, never)
            return held, await fs.crash(crash).perform(remove, never)

    assert anyio.run(leased) == (False, True)


@pytest.mark.parametrize("synced", [True, False])
def test_what_was_removed_does_not_stay_in_memory(synced):
    """A directory that is gone for certain takes what was pending in it along."""
    fs = memory()
    for _ in range(5):
        do(fs, mkdir("/d"), write("/d/f", bytes(1000)), e.RemoveTree(path="/d"))
        do(fs, *([sync("/")] if synced else []))
    assert len(fs.disk().files) == (0 if synced else 5)


def test_everything_is_written_back_after_a_while(monkeypatch):
    from sealwax.effect_handlers import memoryfiles

    monkeypatch.setattr(memoryfiles, "_WRITE_BACK_AFTER", 3000)
    fs = memory()
    for _ in range(10):
        do(fs, mkdir("/d"), write("/d/f", bytes(1000)), e.RemoveTree(path="/d"))
    assert len(fs.disk().files) < 5


def test_every_change_is_watched():
    seen: list[Callable[[], None]] = []
    fs = memory(watch=lambda: seen.append(fs.disk()))
    do(fs, mkdir("/d"), write("/d/f", sync=True), sync("/d"))
    assert len(seen) == 5  # made, created, written, synced, synced
    assert fs.disk() == seen[-1]
