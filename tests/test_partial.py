"""Checkpoints that are saved in parts: what may be added, in which order, and what comes of it."""

from __future__ import annotations

import collections
import concurrent.futures
import contextvars
import functools
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import sealwax as ocp
from sealwax import partial
from sealwax.effect_handlers import dry_run, inject, memory, record
from sealwax.errors import (
    ArgumentValueError,
    CheckpointExistsError,
    CheckpointNotFoundError,
    CorruptionError,
    InvalidLayoutError,
    NameCollisionError,
    OptionValueError,
    PartialSaveReplacementError,
    UnsupportedLeafError,
)
from sealwax.runtime.background import run
from tests.gates import gate

W = np.arange(6, dtype=np.float32).reshape(2, 3)
CONTEXTS = {
    "database": {},
    "files": {"array.saving.use_ocdbt": False},
    "zarr2": {"array.saving.use_zarr3": False},
    "zarr2 files": {"array.saving.use_zarr3": False, "array.saving.use_ocdbt": False},
    "rich": {"pytree.saving.pytree_metadata_options.support_rich_types": True},
}


class Point(NamedTuple):
    x: Any
    y: Any


def everything() -> dict[str, Any]:
    return {
        "params": {"w": jnp.asarray(W), "b": np.zeros(3, np.int8)},
        "list": [{"a": 1}, {"b": 2.5}],
        "tuple": ({"x": True}, {"y": None}),
        "point": Point({"left": 1}, {"right": 2}),
        "ordered": collections.OrderedDict(z=1, a=2),
        "typed": {1: "one", 2: "two"},
        "key": jax.random.key(7),
        "raw": b"wax",
        "huge": 1 << 70,
        "nothing": np.zeros((0, 3)),
        "generator": np.random.default_rng(3),
        "text": {"a/b": "slash", "a~b": "tilde"},
        "empty": {"dict": {}, "list": [], "tuple": (), "none": None},
        "half": np.ones(4, np.float16),
    }


def same(found: Any, wanted: Any) -> None:
    def plain(tree: Any) -> Any:
        data = {k: v for k, v in tree.items() if k not in ("generator", "key")}
        data["key"] = jax.random.key_data(tree["key"]) if "key" in tree else 0
        return data

    if "generator" in wanted:
        assert found["generator"].bit_generator.state == wanted["generator"].bit_generator.state
    found, wanted = plain(found), plain(wanted)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert type(a) is type(b)
        np.testing.assert_array_equal(a, b)


def finalized(path: Path, *parts: Any, **how: Any) -> Any:
    for part in parts:
        partial.save(path, part, **how)
    partial.finalize(path)
    return ocp.load(path)


def failure(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except Exception as error:
        return error
    return None


class TestAnyDivisionMakesTheWhole:
    """The order of parts, and what is in which, do not matter."""

    @pytest.mark.parametrize("how", CONTEXTS)
    @pytest.mark.parametrize("backwards", [False, True])
    def test_key_by_key(self, tmp_path: Path, how: str, backwards: bool) -> None:
        context = ocp.Context().replace(CONTEXTS[how])
        whole = everything()
        parts = [{key: value} for key, value in whole.items()]
        parts = parts[::-1] if backwards else parts
        template = dict(whole)
        for part in parts:
            partial.save(tmp_path / "c", part, context=context)
        partial.finalize(tmp_path / "c", context=context)
        same(ocp.load(tmp_path / "c", template), whole)
        assert not ocp.verify(tmp_path / "c").problems
        assert os.listdir(tmp_path) == ["c"]

    def test_the_same_comes_without_a_template_as_from_one_save(self, tmp_path: Path) -> None:
        ocp.save(tmp_path / "whole", everything())
        wanted = ocp.load(tmp_path / "whole")
        parts = [{key: value} for key, value in everything().items()]
        same(finalized(tmp_path / "c", *parts[::2], *parts[1::2]), wanted)

    @given(st.data())
    @settings(max_examples=40, deadline=None)
    def test_whatever_is_in_which_part(self, data: st.DataObject) -> None:
        names = st.sampled_from(["a", "b", "c"])
        leaves = st.one_of(
            st.integers(-9, 9), st.text(max_size=3, alphabet="xyz"), st.just(W), st.none()
        )
        trees = st.recursive(leaves, lambda inner: st.dictionaries(names, inner, min_size=1))
        whole = data.draw(st.dictionaries(names, trees, min_size=1))
        paths = [
            [key.key for key in path]
            for path, _ in jax.tree_util.tree_flatten_with_path(
                whole, is_leaf=lambda leaf: leaf is None
            )[0]
        ]
        count = data.draw(st.integers(1, 3))
        parts: list[dict[str, Any]] = [{} for _ in range(count)]
        for path in paths:
            into, value = parts[data.draw(st.integers(0, count - 1))], whole
            for key in path[:-1]:
                into, value = into.setdefault(key, {}), value[key]
            into[path[-1]] = value[path[-1]]
        with memory():
            for part in parts:
                if part:
                    partial.save("/c", part)
            partial.finalize("/c")
            found = ocp.load("/c")
        chex.assert_trees_all_equal(found, whole)
        assert jax.tree.structure(found) == jax.tree.structure(whole)

    def test_lists_and_tuples_grow_by_what_their_items_lack(self, tmp_path: Path) -> None:
        first = {"l": [{"a": 1}], "t": ({"a": 1}, {"b": 2}), "p": Point({"a": 1}, {})}
        second = {"l": [{"b": 2}, {"c": 3}], "t": ({"c": 3},), "p": Point({"b": 2}, {"c": 3})}
        assert finalized(tmp_path / "c", second, first) == {
            "l": [{"a": 1, "b": 2}, {"c": 3}],
            "t": ({"a": 1, "c": 3}, {"b": 2}),
            "p": {"x": {"a": 1, "b": 2}, "y": {"c": 3}},
        }

    def test_an_empty_container_takes_up_what_is_added(self, tmp_path: Path) -> None:
        for number, parts in enumerate(itertools.permutations([{"a": {}}, {"a": {"b": 1}}])):
            assert finalized(tmp_path / str(number), *parts) == {"a": {"b": 1}}

    def test_a_single_leaf_is_a_whole(self, tmp_path: Path) -> None:
        assert finalized(tmp_path / "c", 7) == 7

    def test_strings_whose_places_nest(self, tmp_path: Path) -> None:
        """Orbax's document of strings cannot have both; what it has no place for is not lost."""
        parts = [{"a": "one"}, {"a/b": "two"}, {"a~": "three"}]
        whole = {"a": "one", "a/b": "two", "a~": "three"}
        for number, order in enumerate(itertools.permutations(parts)):
            assert finalized(tmp_path / str(number), *order) == whole


class TestWhatCannotBeAdded:
    @pytest.mark.parametrize(
        ("first", "second", "leaf"),
        [
            ({"a": 1}, {"a": 2}, "a"),
            ({"a": 1}, {"a": {"b": 2}}, "a"),
            ({"a": {"b": 1}}, {"a": 2}, "a"),
            ({"a": {"b": 1}}, {"a": {"b": 2, "c": 3}}, "a.b"),
            ({"a": [1]}, {"a": [2]}, "a.0"),
            ({"a": [1, 2]}, {"a": [{"x": 1}]}, "a.0"),
            ({"a": [{"x": 1}]}, {"a": ({"y": 1},)}, "a"),
            ({"a": [{"x": 1}]}, {"a": {"1": 2}}, "a"),
            ({"a": None}, {"a": 1}, "a"),
            ({"a": 1}, {"a": None}, "a"),
            ({"a": None}, {"a": None}, "a"),
            ({"a": {1: 1}}, {"a": {"1": 2}}, "a.1"),
            ({"a": {1: 1}}, {"a": {"b": 2}}, "a"),
            ({"a": Point(1, {})}, {"a": {"z": 1}}, "a"),
            ({"g": np.random.default_rng(1)}, {"g": {"more": 1}}, "g"),
            (7, {"a": 1}, ""),
        ],
    )
    def test_a_place_that_is_taken(
        self, tmp_path: Path, first: Any, second: Any, leaf: str
    ) -> None:
        path = tmp_path / "c"
        partial.save(path, first)
        before = sorted(map(str, tmp_path.rglob("*")))
        for verb in (partial.save, partial.save_async, partial.plan_save):
            with pytest.raises(PartialSaveReplacementError) as caught:
                verb(path, second)
            assert (caught.value.leaf or "") == leaf
        assert isinstance(caught.value, ValueError)
        # The session is as it was, and nothing lies beside it.
        assert sorted(map(str, tmp_path.rglob("*"))) == before
        partial.finalize(path)
        ocp.load(path)

    def test_the_root_is_called_so(self, tmp_path: Path) -> None:
        partial.save(tmp_path / "c", 7)
        with pytest.raises(PartialSaveReplacementError, match=r"already \(the root, path"):
            partial.save(tmp_path / "c", 8)

    def test_two_keys_of_one_name(self, tmp_path: Path) -> None:
        partial.save(tmp_path / "c", {"a.b": 1})
        with pytest.raises(NameCollisionError):
            partial.save(tmp_path / "c", {"a": {"b": 2}})

    @pytest.mark.parametrize("empty", [{}, [], (), None])
    def test_an_empty_tree(self, tmp_path: Path, empty: Any) -> None:
        with pytest.raises(ArgumentValueError, match="adds nothing"):
            partial.save(tmp_path / "c", empty)
        assert os.listdir(tmp_path) == []

    def test_a_leaf_that_nothing_can_store(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedLeafError):
            partial.save(tmp_path / "c", {"a": object()})
        assert os.listdir(tmp_path) == []

    def test_commit_files(self, tmp_path: Path) -> None:
        context = ocp.Context().replace({"atomicity.mode": "commit_file"})
        for verb in (partial.save, partial.save_async, partial.plan_save):
            with pytest.raises(OptionValueError, match="atomicity"):
                verb(tmp_path / "c", {"a": 1}, context=context)
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("how", ["files", "zarr2"])
    def test_arrays_in_another_form(self, tmp_path: Path, how: str) -> None:
        """It is told when the part is saved, not when all of them are put together."""
        partial.save(tmp_path / "c", {"a": W})
        context = ocp.Context().replace(CONTEXTS[how])
        with pytest.raises(OptionValueError, match="one form"):
            partial.save(tmp_path / "c", {"b": W}, context=context)
        # Where there are no arrays there is no form.
        partial.save(tmp_path / "c", {"b": "text"}, context=context)
        assert finalized(tmp_path / "c")["b"] == "text"

    def test_settings_that_only_change_the_bytes_can_differ(self, tmp_path: Path) -> None:
        zeros = np.zeros((300, 1000))
        for number, changes in enumerate(
            (
                {"array.saving.compression": "always"},
                {"array.saving.use_compression": False},
                {"array.saving.storage_options.chunk_byte_size": 100_000},
                {"pytree.saving.pytree_metadata_options.support_rich_types": True},
                {"array.saving.enable_write_sharding_file": False},
            )
        ):
            context = ocp.Context().replace(changes)
            partial.save(
                tmp_path / "c", {f"{number}": zeros, "d": {number: jnp.ones(3)}}, context=context
            )
        found = finalized(tmp_path / "c")
        for number in range(5):
            np.testing.assert_array_equal(found[f"{number}"], zeros)
        assert sorted(found["d"]) == list(range(5))
        assert not ocp.verify(tmp_path / "c").problems


class TestCustomMetadata:
    def test_it_is_merged_and_the_later_wins(self, tmp_path: Path) -> None:
        path = tmp_path / "c"
        partial.save(path, {"a": 1}, custom_metadata={"who": "me", "in": {"x": 1, "y": 1}})
        partial.save(path, {"b": 1})
        partial.save(path, {"c": 1}, custom_metadata={"in": {"y": 2, "z": [3]}, "n": None})
        partial.finalize(path)
        assert ocp.metadata(path).custom_metadata == {
            "who": "me", "in": {"x": 1, "y": 2, "z": [3]}, "n": None,
        }  # fmt: skip

    def test_settings_of_the_parts_are_kept(self, tmp_path: Path) -> None:
        context = ocp.Context().replace({"array.saving.compression": "always"})
        partial.save(tmp_path / "c", {"a": 1}, context=context)
        partial.finalize(tmp_path / "c")
        found = ocp.metadata(tmp_path / "c").settings
        assert found["array"]["saving"]["compression"] == "always"


class TestPaths:
    def test_the_path_of_the_session_will_do(self, tmp_path: Path) -> None:
        partial.save(tmp_path / "c", {"a": 1})
        partial.save(tmp_path / "c.partial_save", {"b": 2})
        partial.finalize(tmp_path / "c.partial_save")
        assert ocp.load(tmp_path / "c") == {"a": 1, "b": 2}

    def test_a_path_that_is_taken(self, tmp_path: Path) -> None:
        ocp.save(tmp_path / "c", {"a": 1})
        for call in (lambda p: partial.save(p, {"b": 1}), partial.finalize):
            with pytest.raises(CheckpointExistsError) as caught:
                call(tmp_path / "c")
            assert isinstance(caught.value, FileExistsError)
        assert ocp.load(tmp_path / "c") == {"a": 1}

    def test_nothing_to_finalize(self, tmp_path: Path) -> None:
        for verb in (partial.finalize, partial.discard, partial.plan_finalize):
            with pytest.raises(CheckpointNotFoundError) as caught:
                verb(tmp_path / "c")
            assert isinstance(caught.value, FileNotFoundError)
        (tmp_path / "c.partial_save").mkdir()
        with pytest.raises(CheckpointNotFoundError):
            partial.finalize(tmp_path / "c")

    def test_a_whole_checkpoint_may_come_to_the_path_meanwhile(self, tmp_path: Path) -> None:
        path = tmp_path / "c"
        partial.save(path, {"a": 1})
        ocp.save(path, {"whole": 1})
        with pytest.raises(CheckpointExistsError, match="parts that were saved are kept"):
            partial.finalize(path)
        assert ocp.load(path) == {"whole": 1}
        ocp.delete(path)
        assert finalized(path) == {"a": 1}

    def test_before_it_is_finalized_it_is_no_checkpoint(self, tmp_path: Path) -> None:
        path = tmp_path / "c"
        partial.save(path, {"a": 1})
        (session,) = tmp_path.iterdir()
        (part,) = session.iterdir()
        for each in (path, session, part):
            assert not ocp.is_orbax_checkpoint(each)
            with pytest.raises(InvalidLayoutError, match=r"sealwax\.partial\.finalize\('.*/c'\)"):
                ocp.load(each)

    def test_what_somebody_put_into_the_session_is_not_removed(self, tmp_path: Path) -> None:
        partial.save(tmp_path / "c", {"a": 1})
        (part,) = (tmp_path / "c.partial_save").iterdir()
        for place in (tmp_path / "c.partial_save", part):
            (place / "notes.txt").write_text("mine")
            for verb in (partial.finalize, partial.discard):
                with pytest.raises(InvalidLayoutError, match="not a part") as caught:
                    verb(tmp_path / "c")
                assert "notes.txt" in str(caught.value)
            (place / "notes.txt").unlink()
        (tmp_path / "c.partial_save" / ".DS_Store").touch()
        assert finalized(tmp_path / "c") == {"a": 1}

    def test_a_session_that_is_given_up_is_gone(self, tmp_path: Path) -> None:
        partial.save(tmp_path / "c", {"a": 1})
        partial.discard(tmp_path / "c")
        assert os.listdir(tmp_path) == []
        partial.discard(tmp_path / "c", missing_ok=True)
        assert finalized(tmp_path / "c", {"a": 2}) == {"a": 2}

    def test_parents_are_made(self, tmp_path: Path) -> None:
        assert finalized(tmp_path / "x" / "y" / "c", {"a": 1}, {"b": 2}) == {"a": 1, "b": 2}

    def test_from_several_programs_working_directories(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        partial.save("c", {"a": 1})
        partial.save(tmp_path / "c", {"b": 1})
        assert finalized(Path("c")) == {"a": 1, "b": 1}


class TestLinks:
    def test_a_file_that_was_moved_elsewhere_is_found_through_a_link(self, tmp_path: Path) -> None:
        partial.save(tmp_path / "c", {"a": W})
        (file,) = (tmp_path / "c.partial_save").glob("*/state/ocdbt.process_0/d/00000000")
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(os.path.relpath(tmp_path / "elsewhere", file.parent))
        assert (finalized(tmp_path / "c")["a"] == W).all()
        assert not any(made.is_symlink() for made in (tmp_path / "c").rglob("*"))


class TestDamage:
    def test_of_what_describes_a_part(self, tmp_path: Path) -> None:
        partial.save(tmp_path / "c", {"a": 1, "w": jnp.ones(3)})
        names = ["_METADATA", "_sharding", "array_metadatas/process_0"]
        for name in names:
            (file,) = (tmp_path / "c.partial_save").glob(f"*/state/{name}")
            before = file.read_bytes()
            file.write_bytes(before.replace(b"1", b"2").replace(b"a", b"b", 1))
            with pytest.raises(CorruptionError):
                partial.finalize(tmp_path / "c")
            file.write_bytes(before)
        assert finalized(tmp_path / "c")["a"] == 1

    def test_of_a_data_file_that_was_cut(self, tmp_path: Path) -> None:
        partial.save(tmp_path / "c", {"a": W})
        (file,) = (tmp_path / "c.partial_save").glob("*/state/ocdbt.process_0/d/00000000")
        before = file.read_bytes()
        file.write_bytes(before[:-1])
        with pytest.raises(CorruptionError, match="cut short"):
            partial.finalize(tmp_path / "c")
        assert not (tmp_path / "c").exists()
        file.write_bytes(before)
        finalized(tmp_path / "c")

    @pytest.mark.parametrize("name", ["a/zarr.json", "a/c/0/0"])
    @pytest.mark.parametrize("cut", [True, False])
    def test_of_a_file_of_an_array_that_has_its_own(
        self, tmp_path: Path, name: str, cut: bool
    ) -> None:
        partial.save(tmp_path / "c", {"a": W}, context=ocp.Context().replace(CONTEXTS["files"]))
        (file,) = (tmp_path / "c.partial_save").glob(f"*/state/{name}")
        before = file.read_bytes()
        file.write_bytes(before[:-1]) if cut else file.unlink()
        with pytest.raises(CorruptionError, match="missing or cut short") as caught:
            partial.finalize(tmp_path / "c")
        assert caught.value.path == str(file)
        file.write_bytes(before)
        finalized(tmp_path / "c")

    def test_of_the_data_is_found_by_loading(self, tmp_path: Path) -> None:
        partial.save(tmp_path / "c", {"a": W})
        partial.finalize(tmp_path / "c")
        file = tmp_path / "c" / "state" / "d" / "00000000"
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
        with pytest.raises(CorruptionError):
            ocp.load(tmp_path / "c")


class TestAtOnce:
    def test_parts_are_written_side_by_side_and_all_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "c"
        responses = [partial.save_async(path, {f"{n}": np.full(1000, n)}) for n in range(8)]
        for response in responses:
            response.result()
        found = finalized(path)
        assert [int(found[f"{n}"][0]) for n in range(8)] == list(range(8))

    def test_from_many_threads(self, tmp_path: Path) -> None:
        path, failed = tmp_path / "c", list[BaseException]()

        def save(number: int) -> None:
            try:
                partial.save(path, {f"{number}": number})
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=save, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert finalized(path) == {f"{n}": n for n in range(8)}

    def test_what_was_passed_may_be_changed_at_once(self, tmp_path: Path) -> None:
        w = np.zeros(1000)
        response = partial.save_async(tmp_path / "c", {"w": w})
        w[:] = 1
        response.result()
        assert not finalized(tmp_path / "c")["w"].any()

    def test_one_of_two_with_the_same_key_wins(self, tmp_path: Path) -> None:
        path = tmp_path / "c"
        with gate(ocp.effects.Hold, parties=2) as both:
            responses = [partial.save_async(path, {"a": n, f"{n}": n}) for n in range(2)]
            both.arrived.wait()
            both.open()
            outcomes = [failure(response.result) for response in responses]
        errors = [error for error in outcomes if error is not None]
        assert [type(error) for error in errors] == [PartialSaveReplacementError]
        winner = outcomes.index(None)
        assert finalized(path) == {"a": winner, f"{winner}": winner}
        assert os.listdir(tmp_path) == ["c"]

    def test_finalize_waits_for_what_is_being_saved(self, tmp_path: Path) -> None:
        path = tmp_path / "c"
        partial.save(path, {"a": 1})
        with gate(ocp.effects.Hold) as hold:
            response = partial.save_async(path, {"b": 2})
            hold.arrived.wait()
            ended = threading.Thread(target=partial.finalize, args=(path,))
            ended.start()
            assert not path.exists()
            hold.open()
            response.result()
            ended.join()
        assert ocp.load(path) == {"a": 1, "b": 2}

    def test_of_several_who_finalize_one_does_it_and_the_others_are_told(
        self, tmp_path: Path
    ) -> None:
        path, count = tmp_path / "c", 4
        partial.save(path, {"a": 1})
        together = threading.Barrier(count)

        def end() -> BaseException | None:
            together.wait()
            return failure(lambda: partial.finalize(path))

        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            told = [each.result() for each in [pool.submit(end) for _ in range(count)]]
        assert told.count(None) == 1
        for error in told:
            if error is not None:
                assert isinstance(error, CheckpointExistsError), error
                assert "was finalized already" in str(error)
        assert ocp.load(path) == {"a": 1}
        with pytest.raises(CheckpointExistsError, match="was finalized already"):
            partial.finalize(path)

    def test_who_waited_for_a_part_that_somebody_else_put_in_is_told_that(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "c"
        partial.save(path, {"a": 1})
        with gate(ocp.effects.Hold) as part:
            response = partial.save_async(path, {"b": 2})
            part.arrived.wait()
            with gate(ocp.effects.Hold) as end:
                found: list[BaseException | None] = []
                call = functools.partial(failure, functools.partial(partial.finalize, path))
                copied = contextvars.copy_context()
                thread = threading.Thread(target=copied.run, args=(lambda: found.append(call()),))
                thread.start()
                end.arrived.wait()
                part.open()
                response.result()
                contextvars.Context().run(partial.finalize, path)
                end.open()
                thread.join()
        assert "was finalized already" in str(found[0]), found
        assert ocp.load(path) == {"a": 1, "b": 2}

    def test_what_was_not_saved_in_parts_is_not_called_finalized(self, tmp_path: Path) -> None:
        ocp.save(tmp_path / "c", {"a": 1})
        with pytest.raises(CheckpointExistsError, match="was not saved in parts"):
            partial.finalize(tmp_path / "c")

    def test_finalize_tells_when_one_of_those_failed(self, tmp_path: Path) -> None:
        path = tmp_path / "c"
        partial.save(path, {"a": 1})
        rename = inject(ocp.effects.Rename, error=OSError(28, "full"))
        with rename, gate(ocp.effects.Hold) as part:
            response = partial.save_async(path, {"b": 2})
            part.arrived.wait()
            with gate(ocp.effects.Hold) as end:
                found: list[BaseException | None] = []
                call = functools.partial(failure, functools.partial(partial.finalize, path))
                copied = contextvars.copy_context()
                thread = threading.Thread(target=copied.run, args=(lambda: found.append(call()),))
                thread.start()
                # It has seen the part that is being saved, and is about to wait for it.
                end.arrived.wait()
                part.open()
                assert failure(response.result) is not None
                end.open()
                thread.join()
        (error,) = found
        assert isinstance(error, CheckpointNotFoundError)
        assert "has failed" in str(error)
        assert finalized(path) == {"a": 1}

    def test_several_that_finalize(self, tmp_path: Path) -> None:
        path = tmp_path / "c"
        partial.save(path, {"a": 1})
        found: list[BaseException | None] = []
        threads = [
            threading.Thread(target=lambda: found.append(failure(lambda: partial.finalize(path))))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        errors = [error for error in found if error is not None]
        assert len(errors) == 3
        assert {type(error) for error in errors} <= {CheckpointExistsError, CheckpointNotFoundError}
        assert ocp.load(tmp_path / "c") == {"a": 1}


class TestCost:
    def test_finalizing_writes_no_data(self, tmp_path: Path) -> None:
        partial.save(tmp_path / "c", {"a": np.zeros((1000, 1000))})
        partial.save(tmp_path / "c", {"b": np.zeros((1000, 1000)), "n": 1})
        numbers = {f.stat().st_ino for f in tmp_path.rglob("d/00000000")}
        assert partial.plan_finalize(tmp_path / "c").bytes == 0
        with record() as trace:
            partial.finalize(tmp_path / "c")
        assert not {"WriteBatch", "WriteChunks", "ReadBatch"} & {*trace.kinds()}
        assert {f.stat().st_ino for f in (tmp_path / "c").rglob("d/0*")} >= numbers
        assert all(f.stat().st_nlink == 1 for f in (tmp_path / "c").rglob("d/0*"))

    def test_where_there_are_no_links_files_are_copied(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(1, "no links here")

        partial.save(tmp_path / "c", {"a": W})
        monkeypatch.setattr(os, "link", refuse)
        np.testing.assert_array_equal(finalized(tmp_path / "c")["a"], W)

    def test_what_is_not_done_in_a_dry_run(self, tmp_path: Path) -> None:
        with dry_run():
            partial.save(tmp_path / "c", {"a": W})
        assert os.listdir(tmp_path) == []
        partial.save(tmp_path / "c", {"a": W})
        with dry_run() as dry:
            partial.finalize(tmp_path / "c")
        assert os.listdir(tmp_path) == ["c.partial_save"]
        assert any(isinstance(effect, ocp.effects.LinkFiles) for effect in dry.report.effects)
        finalized(tmp_path / "c")


def test_the_callback_is_called_when_it_is_whole(tmp_path: Path) -> None:
    called: list[bool] = []
    context = ocp.Context().replace(
        {
            "asynchronous.post_finalization_callback": lambda: called.append(
                (tmp_path / "c").exists()
            )
        }
    )
    partial.save(tmp_path / "c", {"a": 1}, context=context)
    assert called == []
    partial.finalize(tmp_path / "c", context=context)
    assert called == [True]


def test_in_an_event_loop(tmp_path: Path) -> None:
    async def work() -> None:
        await ocp.aio.partial_save(tmp_path / "c", {"a": 1})
        response = await ocp.aio.partial_save_async(tmp_path / "c", {"b": 2})
        await response
        await ocp.aio.partial_finalize(tmp_path / "c")
        await ocp.aio.partial_discard(tmp_path / "c", missing_ok=True)

    run(work, "test")
    assert ocp.load(tmp_path / "c") == {"a": 1, "b": 2}


def test_the_last_look_at_what_was_written_is_taken_of_parts_too(tmp_path: Path) -> None:
    context = ocp.Context().replace({"array.saving.enable_post_merge_validation": True})
    np.testing.assert_array_equal(finalized(tmp_path / "c", {"a": W}, context=context)["a"], W)
