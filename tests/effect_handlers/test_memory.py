"""``memory``: answers and fails as the file system here does, and keeps the same bytes."""

from __future__ import annotations

import errno
import tempfile
import threading
from pathlib import Path

import anyio
import hypothesis
import hypothesis.strategies as st
import numpy as np
import orbax.checkpoint as orbax
import pytest

import sealwax
from sealwax import effects as e
from sealwax.context import Context
from sealwax.effect_handlers import Handler, inject, memory
from sealwax.effect_handlers.crashes import Tree
from sealwax.errors import CorruptionError, HandlerError
from sealwax.layouts import manifest
from sealwax.layouts.orbax import TEMPORARY
from sealwax.options import Options
from sealwax.runtime.live import Live
from tests.crash.power import at
from tests.crash.states import LAYOUTS, same, state

NAMES = st.sampled_from(["a", "b", "_METADATA", f"c{TEMPORARY}-x", "n" * 256])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
CONTENT = st.binary(max_size=5)
FILE_NAMES = st.sampled_from(["x", "a", "a/x", "a/b/x", "_METADATA", f"a/{'n' * 256}"])
FILES = st.dictionaries(FILE_NAMES, CONTENT, max_size=3)
EXTENTS = st.builds(
    e.Extent, PATHS, st.integers(0, 3), st.integers(1, 4), st.just(0), st.integers(0, 1)
)


def changes(below: st.SearchStrategy[str]) -> st.SearchStrategy[e.Effect]:
    yes = st.just(True)
    return st.one_of(
        st.builds(e.MakeDirectory, path=below),
        st.builds(e.MakeDirectory, path=below, parents=yes),
        st.builds(e.MakeDirectory, path=below, lease=yes),
        st.builds(e.WriteFile, path=below, content=CONTENT, sync=st.booleans()),
        st.builds(e.WriteFiles, directory=below, contents=FILES, sync=st.booleans()),
        st.builds(e.SyncDirectory, path=below),
        st.builds(e.SyncTree, path=below),
        st.builds(
            lambda path, names: e.SyncTree(path=path, directories=[f"{path}/{n}" for n in names]),
            below,
            st.lists(PATHS, max_size=2),
        ),
        st.builds(e.Rename, source=below, target=below),
        st.builds(e.Exchange, first=below, second=below),
        st.builds(e.Replace, source=below, target=below),
        st.builds(e.RemoveFile, path=below),
        st.builds(e.RemoveTree, path=below),
        st.builds(e.RemoveTree, path=below, abandoned=yes),
        st.builds(e.RemoveTree, path=below, replaced=yes),
    )


def looks(below: st.SearchStrategy[str]) -> st.SearchStrategy[e.Effect]:
    extents = st.lists(EXTENTS, max_size=2).map(tuple)
    return st.one_of(
        st.builds(e.Look, path=below),
        st.builds(e.ListDirectory, path=below),
        st.builds(e.ListTree, path=below),
        st.builds(e.ReadFile, path=below),
        st.builds(e.DigestTree, path=below, sync=st.booleans()),
        st.builds(e.CheckExtents, directory=below, extents=extents, nbytes=st.just(0)),
    )


async def answer(perform, effect: e.Effect) -> object:
    """What an effect gives, or the number of its error, and the path if there are several."""
    try:
        given = await perform(effect)
    except OSError as error:
        several = isinstance(effect, e.WriteFiles | e.SyncTree)
        return type(error), error.errno, error.filename if several else None
    return given


async def never(effect: e.Effect) -> object:
    raise AssertionError(f"{effect} went past the file system")


class TestAgainstThisMachine:
    """Two operations do the same on both, and one of them ends and begins again."""

    @hypothesis.given(st.data())
    def test_the_same_answers_and_errors(self, data):
        with tempfile.TemporaryDirectory() as base:
            below = st.one_of(PATHS, NAMES).map(lambda path: f"{base}/{path}")
            steps = data.draw(
                st.lists(
                    st.tuples(st.integers(0, 2), st.one_of(changes(below), looks(below))),
                    min_size=1,
                    max_size=25,
                )
            )
            fs = memory(tree_below(base, {}))
            anyio.run(self.both, fs, steps)
            assert at(fs.tree(), base) == tree_at(Path(base))

    async def both(self, fs, steps: list[tuple[int, e.Effect]]) -> None:
        operations = [Operation(fs), Operation(fs)]
        try:
            for who, effect in steps:
                if who == 2:
                    operations.pop().end()
                    operations.append(Operation(fs))
                operation = operations[min(who, 1)]
                real = await answer(operation.live, effect)
                kept = await answer(
                    lambda one, operation=operation: operation.session.perform(one, never), effect
                )
                assert kept == real, (effect, steps)
        finally:
            for operation in operations:
                operation.end()


class Operation:
    """One operation on this machine, and its like in memory."""

    def __init__(self, fs) -> None:
        self.live = Live(Options())
        self._entered = fs.operation()
        self.session = self._entered.__enter__()

    def end(self) -> None:
        self.live.close()
        self._entered.__exit__(None, None, None)


def tree_at(path: Path) -> Tree:
    """What is in a directory of this machine."""
    return {
        entry.name: tree_at(entry) if entry.is_dir() else entry.read_bytes()
        for entry in sorted(path.iterdir())
    }


def tree_below(path: object, tree: Tree) -> Tree:
    """A tree, as it is seen from the root."""
    for name in reversed(str(path).strip("/").split("/")):
        tree = {name: tree}
    return tree


# ---------------------------------------------------------------- whole operations


class Fixed(Handler):
    """The same time and the same random names for everyone."""

    async def perform(self, effect, forward):
        match effect:
            case e.Now():
                return 1_700_000_000_000_000_000
            case e.Token():
                return "0123456789abcdef" * 2
            case _:
                return await forward(effect)


class Watched(Handler):
    """Lets nothing through that is about files."""

    async def perform(self, effect, forward):
        allowed = (e.Now, e.Token, e.Stage, e.Probe, e.Allocate, e.Place, e.Call, e.Derive)
        assert isinstance(effect, allowed), effect
        return await forward(effect)


FORMATS = {**LAYOUTS, "zarr 2": {"array.saving.use_zarr3": False}}


@pytest.mark.parametrize("format", FORMATS)
class TestSaving:
    def test_the_bytes_are_those_of_a_save_to_disk(self, tmp_path, format):
        path, context = tmp_path / "c", Context().replace(FORMATS[format])
        with Fixed():
            sealwax.save(path, state(3), context=context)
            with memory(tree_below(tmp_path, {})) as fs:
                sealwax.save(path, state(3), context=context)
        assert at(fs.tree(), str(path)) == tree_at(path)

    def test_nothing_reaches_the_disk_and_it_loads(self, tmp_path, format):
        path, context = tmp_path / "new" / "c", Context().replace(FORMATS[format])
        with Watched(), memory(tree_below(tmp_path, {})) as fs:
            sealwax.save(path, state(1), context=context)
            sealwax.save_async(path, state(2), context=context, overwrite=True).result()
            assert same(sealwax.load(path), state(2))
        assert list(tmp_path.iterdir()) == []
        with fs:
            assert same(sealwax.load(path), state(2))
        with memory(), pytest.raises(FileNotFoundError):
            sealwax.load(path)

    def test_what_others_wrote_is_read_through_its_own_driver(self, format):
        with memory() as fs:
            sealwax.save("/c", state(3), context=Context().replace(FORMATS[format]))
        plain = {name: data for name, data in fs.tree("/c").items() if name != manifest.NAME}
        plain["state"] = {n: x for n, x in plain["state"].items() if n != manifest.NAME}
        with Watched(), memory({"c": plain}):
            found = sealwax.load("/c")
        np.testing.assert_array_equal(found["params"][0]["w"], state(3)["params"][0]["w"])


def test_what_orbax_wrote_loads(tmp_path):
    wanted = {"w": np.arange(12.0).reshape(3, 4), "step": np.int32(3)}
    with orbax.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "c", wanted)
    with Watched(), memory({"c": tree_at(tmp_path / "c")}):
        found = sealwax.load("/c", checkpointable_name=None)
    np.testing.assert_array_equal(found["w"], wanted["w"])


def test_large_data_goes_in_pieces_and_comes_back():
    wanted = {"w": np.random.default_rng(0).normal(size=(1 << 19)).astype(np.float32)}
    with Watched(), memory():
        sealwax.save("/c", wanted)
        np.testing.assert_array_equal(sealwax.load("/c")["w"], wanted["w"])


def test_damage_is_found():
    with memory() as fs:
        sealwax.save("/c", {"w": np.arange(1000)})
    files = fs.tree("/c/state/d")
    cut = {name: data[:-1] for name, data in files.items()}
    broken = {**fs.tree("/c"), "state": {**fs.tree("/c/state"), "d": cut}}
    with memory({"c": broken}), pytest.raises(CorruptionError):
        sealwax.load("/c")


def test_many_operations_at_once_share_one_file_system():
    with memory() as fs:
        running = [sealwax.save_async(f"/c{n}", state(n)) for n in range(6)]
        for response in running:
            response.result()
        for n in range(6):
            assert same(sealwax.load(f"/c{n}"), state(n))
    assert sorted(fs.tree()) == [f"c{n}" for n in range(6)]


def test_a_handler_that_is_not_ours_is_told_that_it_needs_real_files():
    effect = e.RunLoad(path="/c", handler=object(), abstract=None, path_class=Path)

    async def run() -> None:
        await memory().perform(effect, never)

    with pytest.raises(HandlerError, match="real paths"):
        anyio.run(run)


def test_a_directory_is_in_use_for_as_long_as_its_operation():
    """Another save to the same path spares it meanwhile, and clears it up afterwards."""
    fs, seen = memory(), []

    def save() -> None:
        with fs:
            sealwax.save("/c", state(1))

    def another(effect: e.Effect) -> bool:
        if isinstance(effect, e.Rename):
            seen.append(sorted(fs.tree()))
            # A thread of its own has none of the handlers of this one.
            saving = threading.Thread(target=save)
            saving.start()
            saving.join()
            seen.append(sorted(fs.tree()))
        return isinstance(effect, e.RemoveTree) and not effect.abandoned

    broken = inject(another, error=OSError(errno.EIO, "broken"))
    with fs, broken, pytest.raises(FileExistsError):
        sealwax.save("/c", state(2))
    (growing,) = seen[0]
    assert seen[1] == ["c", growing] == sorted(fs.tree())  # since the undo was broken too
    with fs:
        sealwax.save("/c", state(3), overwrite=True)
        assert same(sealwax.load("/c"), state(3))
    assert [*fs.tree()] == ["c"]
