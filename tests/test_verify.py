"""``verify`` reads every byte, tells all that is wrong with where it is, and never more."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax
from sealwax import effects as e
from sealwax import handlers
from sealwax.checksum import crc32c, trailer
from sealwax.context import Context
from sealwax.effect_handlers import Handler, record
from sealwax.errors import CheckpointNotFoundError, CorruptionError, InvalidLayoutError
from sealwax.runtime.checking import check_extents
from sealwax.runtime.foreign import boxes
from tests.crash.states import state
from tests.test_deleting import begun

KINDS: dict[str, dict[str, Any]] = {
    "default": {},
    "compressed": {"array.saving.compression": "always"},
    "files": {"array.saving.use_ocdbt": False},
    "zarr2": {"array.saving.use_zarr3": False},
    "small chunks": {"array.saving.storage_options.chunk_byte_size": 256},
}


def files_in(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()]


def change(file: Path, place: int, flip: int = 1) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= flip
    file.write_bytes(data)


@pytest.fixture
def path(tmp_path) -> Path:
    """Two arrays of sixteen bytes a chunk, one of which has four chunks, and a string."""
    tree = {"a": np.arange(4, dtype=np.int32), "b": jnp.arange(16, dtype=jnp.float32), "s": "text"}
    context = Context().at.array.saving.storage_options.chunk_byte_size.set(16)
    sealwax.save(tmp_path / "c", tree, context=context)
    return tmp_path / "c"


DATA = "state/d/00000000"
SIZE = 16 + 4


class TestIntact:
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_byte_of_every_file_is_held_against_a_checksum(self, tmp_path, kind):
        sealwax.save(tmp_path / "c", state(1), context=Context().replace(KINDS[kind]))
        found = sealwax.verify(tmp_path / "c")
        assert found
        assert found.problems == found.unprotected == found.unknown == ()
        assert found.files == len(files_in(tmp_path / "c"))
        assert found.nbytes == sum(file.stat().st_size for file in files_in(tmp_path / "c"))

    def test_it_counts_leaves_and_chunks(self, path):
        found = sealwax.verify(path)
        assert (found.leaves, found.chunks) == (3, 5)

    def test_it_names_the_writer_and_prints(self, path):
        found = sealwax.verify(path)
        assert found.writer == f"sealwax {sealwax.__version__}"
        assert re.fullmatch(
            rf"{re.escape(str(path))}: intact\n"
            r"written by sealwax [\d.]+: 3 leaves, 5 chunks and 12 files read, "
            r"[\d.]+ KiB held against checksums",
            str(found),
        )

    def test_a_copy_and_a_moved_one_are_intact_too(self, path, tmp_path):
        shutil.copytree(path, tmp_path / "copy")
        path.rename(tmp_path / "moved")
        assert sealwax.verify(tmp_path / "copy").ok
        assert sealwax.verify(tmp_path / "moved").ok

    def test_files_behind_symbolic_links_count_like_others(self, path, tmp_path):
        path.joinpath("state/d").rename(tmp_path / "elsewhere")
        path.joinpath("state/d").symlink_to(tmp_path / "elsewhere")
        assert sealwax.verify(path).ok
        change(path / DATA, 0)
        assert [problem.file for problem in sealwax.verify(path).problems] == [DATA]

    def test_an_item_behind_a_link_is_missing_as_it_is_for_a_load(self, path, tmp_path):
        path.joinpath("state").rename(tmp_path / "elsewhere")
        path.joinpath("state").symlink_to(tmp_path / "elsewhere")
        (problem,) = sealwax.verify(path).problems
        assert (problem.fault, problem.item) == (e.Fault.MISSING, "state")

    def test_a_loop_of_links_ends(self, path):
        path.joinpath("state/up").symlink_to(path)
        assert sealwax.verify(path).ok

    def test_what_nobody_recorded_is_told_but_is_no_damage(self, path):
        path.joinpath("notes.txt").write_text("mine")
        path.joinpath("state/d/stray").write_text("mine")
        found = sealwax.verify(path)
        assert found.ok
        assert found.unknown == ("notes.txt", "state/d/stray")
        assert "not part of the checkpoint: notes.txt, state/d/stray" in str(found)

    def test_nothing_is_written(self, path):
        with record() as trace:
            sealwax.verify(path)
        looks = {"Look", "ListDirectory", "ListTree", "ReadFile", "CheckExtents"}
        assert set(trace.kinds()) <= looks


class TestDamage:
    def test_a_changed_chunk_is_told_with_its_leaf_place_and_checksums(self, path):
        """Chunks: that of ``a``, then the four of ``b``."""
        data = path.joinpath(DATA).read_bytes()
        change(path / DATA, 2 * SIZE + 3)
        changed = path.joinpath(DATA).read_bytes()
        (problem,) = sealwax.verify(path).problems
        chunk = slice(2 * SIZE, 3 * SIZE - 4)
        assert problem == sealwax.Problem(
            fault=e.Fault.CHANGED,
            file=DATA,
            item="state",
            leaf="b",
            chunk=(1,),
            offset=2 * SIZE,
            length=SIZE,
            expected=f"CRC-32C {crc32c(data[chunk]):08x}",
            found=f"CRC-32C {crc32c(changed[chunk]):08x}",
        )
        assert str(problem) == (
            f"{DATA}: leaf 'b', chunk (1,), bytes 40 to 60: stored bytes changed "
            f"(expected {problem.expected}, found {problem.found})"
        )

    def test_a_changed_checksum_is_told(self, path):
        change(path / DATA, SIZE - 1)
        (problem,) = sealwax.verify(path).problems
        assert (problem.leaf, problem.fault) == ("a", e.Fault.CHANGED)
        assert "stored behind it" in problem.found

    def test_whole_chunks_that_changed_places_are_told(self, path):
        data = path.joinpath(DATA).read_bytes()
        path.joinpath(DATA).write_bytes(data[SIZE : 2 * SIZE] + data[:SIZE] + data[2 * SIZE :])
        problems = sealwax.verify(path).problems
        assert [(p.leaf, p.fault) for p in problems] == [
            ("a", e.Fault.MIXED),
            ("b", e.Fault.MIXED),
        ]

    def test_all_of_it_is_told_at_once(self, path):
        change(path / DATA, 0)
        change(path / DATA, 4 * SIZE)
        change(path / "state/_METADATA", 5)
        path.joinpath("commit_success.txt").unlink()
        found = sealwax.verify(path)
        assert {(p.file, p.fault, p.leaf) for p in found.problems} == {
            ("commit_success.txt", e.Fault.MISSING, None),
            ("state/_METADATA", e.Fault.CHANGED, None),
            (DATA, e.Fault.CHANGED, "a"),
            (DATA, e.Fault.CHANGED, "b"),
        }
        assert str(found).startswith(f"{path}: damaged, 4 problems\n")

    def test_a_file_that_was_cut_names_the_leaves_that_it_cost(self, path):
        data = path.joinpath(DATA).read_bytes()
        path.joinpath(DATA).write_bytes(data[: 3 * SIZE + 5])
        found = sealwax.verify(path).problems
        assert [(p.fault, p.leaf, p.chunk, p.expected, p.found) for p in found] == [
            (e.Fault.SIZE, None, None, "100 bytes", "65 bytes"),
            (e.Fault.SIZE, "b", (2,), "20 bytes", "5 bytes"),
            (e.Fault.SIZE, "b", (3,), "20 bytes", "0 bytes"),
        ]

    def test_a_file_that_grew_is_told(self, path):
        with path.joinpath(DATA).open("ab") as file:
            file.write(b"more")
        (problem,) = sealwax.verify(path).problems
        assert (problem.file, problem.fault, problem.leaf) == (DATA, e.Fault.SIZE, None)

    def test_a_missing_data_file_names_each_of_its_leaves(self, path):
        path.joinpath(DATA).unlink()
        found = sealwax.verify(path).problems
        assert [(p.fault, p.leaf) for p in found] == [
            (e.Fault.MISSING, "a"),
            (e.Fault.MISSING, "b"),
        ]

    def test_a_directory_in_place_of_a_file_is_told(self, path):
        path.joinpath("state/_METADATA").unlink()
        path.joinpath("state/_METADATA").mkdir()
        (problem,) = sealwax.verify(path).problems
        assert problem.fault is e.Fault.NOT_A_FILE
        assert problem.found == "a directory"

    def test_a_link_to_nothing_is_told(self, path):
        path.joinpath("state/_METADATA").unlink()
        path.joinpath("state/_METADATA").symlink_to("nowhere")
        (problem,) = sealwax.verify(path).problems
        assert problem.found == "a symbolic link"

    @pytest.mark.parametrize("damage", ["changed", "gone"])
    def test_an_item_whose_manifest_is_lost_is_one_problem(self, path, damage):
        file = path / "state/_SEALWAX"
        change(file, 20) if damage == "changed" else file.unlink()
        found = sealwax.verify(path)
        assert [problem.file for problem in found.problems] == ["state/_SEALWAX"]
        assert found.unknown == ()

    @pytest.mark.parametrize("damage", ["changed", "gone"])
    def test_without_the_checkpoints_manifest_items_are_checked_by_their_own(self, path, damage):
        file = path / "_SEALWAX"
        change(file, 20) if damage == "changed" else file.unlink()
        change(path / DATA, 0)
        assert [p.file for p in sealwax.verify(path).problems] == ["_SEALWAX", DATA]

    def test_the_item_of_another_checkpoint_is_told(self, path, tmp_path):
        sealwax.save(tmp_path / "other", {"a": np.arange(4, dtype=np.int32)})
        shutil.rmtree(path / "state")
        shutil.copytree(tmp_path / "other" / "state", path / "state")
        found = sealwax.verify(path)
        assert [(p.file, p.fault) for p in found.problems] == [("state/_SEALWAX", e.Fault.MIXED)]

    def test_it_is_raised_on_request_with_all_that_is_wrong(self, path):
        sealwax.verify(path).raise_for_damage()
        change(path / DATA, 0)
        change(path / DATA, SIZE)
        with pytest.raises(CorruptionError, match="bytes 0 to 20: stored bytes changed") as caught:
            sealwax.verify(path).raise_for_damage()
        assert (caught.value.leaf, caught.value.path) == ("a", str(path / DATA))
        assert "leaf 'b'" in caught.value.__notes__[0]

    def test_long_reports_are_cut_and_say_so(self, tmp_path):
        sealwax.save(tmp_path / "c", {f"leaf{n:03}": np.full(9, n) for n in range(100)})
        file = tmp_path / "c" / DATA
        file.write_bytes(bytes(file.stat().st_size))
        found = sealwax.verify(tmp_path / "c")
        assert len(found.problems) == 100
        assert "... and 80 more" in str(found)
        with pytest.raises(CorruptionError) as caught:
            found.raise_for_damage()
        assert caught.value.__notes__[-1] == "And 80 more."


class TestItems:
    def test_the_files_of_every_kind_of_item_are_checked(self, tmp_path):
        path = tmp_path / "c"
        items = {"state": {"w": np.arange(3.0)}, "opt": {"m": np.zeros(4)}, "config": {"lr": 0.1}}
        registry = handlers.local_registry()
        registry.add(handlers.JsonHandler, checkpointable_name="config")
        context = Context().at.checkpointables.registry.set(registry)
        sealwax.save_checkpointables(path, items, context=context)
        found = sealwax.verify(path)
        assert found.ok
        assert found.nbytes == sum(file.stat().st_size for file in files_in(path))
        file = path / "config" / "data.json"
        file.write_text(file.read_text().replace("0.1", "0.2"))
        change(path / "opt" / "d" / "00000000", 0)
        problems = sealwax.verify(path).problems
        assert {(p.file, p.item, p.leaf) for p in problems} == {
            ("config/data.json", "config", None),
            ("opt/d/00000000", "opt", "m"),
        }

    def test_an_item_whose_deletion_was_begun_counts_no_more(self, tmp_path):
        path = tmp_path / "c"
        sealwax.save_checkpointables(path, {"state": {"w": np.ones(3)}, "opt": {"m": np.ones(4)}})
        begun(path, "opt")
        assert sealwax.verify(path).ok
        shutil.rmtree(path / "opt")
        assert sealwax.verify(path).ok
        path.joinpath("_CHECKPOINT_DELETION").write_bytes(b"{")
        assert "_CHECKPOINT_DELETION" in {p.file for p in sealwax.verify(path).problems}


class TestWhatALoadTells:
    """The errors of loads name what those of ``verify`` name."""

    def test_leaf_chunk_file_bytes_and_checksums(self, path):
        change(path / DATA, 2 * SIZE + 3)
        (problem,) = sealwax.verify(path).problems
        with pytest.raises(CorruptionError) as caught:
            sealwax.load(path)
        error = caught.value
        assert (error.leaf, error.path) == ("b", str(path / DATA))
        assert "chunk (1,), bytes 40 to 60" in error.what
        assert (error.expected, f"CRC-32C {error.found}") == (problem.expected, problem.found)

    def test_a_chunk_of_another_place(self, path):
        data = path.joinpath(DATA).read_bytes()
        path.joinpath(DATA).write_bytes(data[SIZE : 2 * SIZE] + data[:SIZE] + data[2 * SIZE :])
        with pytest.raises(CorruptionError, match="not the one that the manifest describes"):
            sealwax.load(path)

    def test_a_load_that_needs_nothing_damaged_gives_what_was_saved(self, path):
        change(path / DATA, 2 * SIZE)
        change(path / "state/_METADATA", 5)
        whole = sealwax.load(path, select=["a", "s"])
        assert whole["a"].tolist() == [0, 1, 2, 3]
        assert whole["s"] == "text"


class TestVerbs:
    def test_in_the_background(self, path):
        response = sealwax.verify_async(path)
        assert response.result().ok

    async def test_in_a_loop(self, path):
        change(path / DATA, 0)
        found = await sealwax.aio.verify(path)
        assert [problem.leaf for problem in found.problems] == ["a"]

    def test_the_plan_says_what_will_be_read(self, path):
        plan = sealwax.plan_verify(path)
        manifests = sum(file.stat().st_size for file in path.rglob("_SEALWAX"))
        assert plan.bytes == sum(f.stat().st_size for f in files_in(path)) - manifests
        assert "check 14 ranges of files" in str(plan)

    def test_a_path_where_nothing_is(self, tmp_path):
        with pytest.raises(CheckpointNotFoundError):
            sealwax.verify(tmp_path / "nothing")

    def test_a_directory_that_is_no_checkpoint(self, path, tmp_path):
        with pytest.raises(InvalidLayoutError, match="holds a checkpoint"):
            sealwax.verify(tmp_path)
        with pytest.raises(InvalidLayoutError, match="inside a checkpoint") as caught:
            sealwax.verify(path / "state")
        assert "Verify" in str(caught.value)

    def test_a_checkpoint_of_a_newer_version_is_not_called_damaged(self, path):
        body = b'{"format":99}\n'
        path.joinpath("state/_SEALWAX").write_bytes(body + b"%08x\n" % crc32c(body))
        with pytest.raises(InvalidLayoutError, match="newer version"):
            sealwax.verify(path)

    def test_the_class_of_the_path_is_the_one_that_was_asked_for(self, path):
        context = Context().at.file.path_class.set(str)
        assert sealwax.verify(path, context=context).path == str(path)

    def test_a_handler_sees_its_effects(self, path):
        class Fails(Handler):
            async def perform(self, effect, forward):
                if isinstance(effect, e.CheckExtents):
                    raise OSError(errno.EIO, "boom")
                return await forward(effect)

        with Fails(), pytest.raises(OSError, match="Could not check 14 ranges") as caught:
            sealwax.verify(path)
        assert caught.value.errno == errno.EIO


class TestMemory:
    def test_no_step_reads_more_than_the_budget_or_one_range(self, tmp_path):
        sealwax.save(tmp_path / "c", {f"{n}": np.arange(1000.0) for n in range(30)})
        context = Context().at.memory.read_concurrent_bytes.set(20_000)
        steps = sealwax.plan_verify(tmp_path / "c", context=context).steps[:-1]
        assert len(steps) > 10
        assert all(step.reads <= 20_000 for step in steps)

    def test_a_range_of_any_size_is_read_in_little_memory(self, tmp_path):
        size = 48 << 20
        context = Context().replace(
            {
                "array.saving.storage_options.chunk_byte_size": size,
                "array.saving.use_compression": False,
            }
        )
        sealwax.save(tmp_path / "c", {"w": np.ones(size, np.uint8)}, context=context)
        sealwax.verify(tmp_path / "c")
        tracemalloc.start()
        try:
            assert sealwax.verify(tmp_path / "c").nbytes > size
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()


class _File:
    """One file, of which some bytes cannot be read; reads come in pieces as they like."""

    def __init__(self, data: bytes, bad: range = range(0), most: int = 1 << 20) -> None:
        self.data, self.bad, self.most = data, bad, most

    def open(self, path: str) -> _File:
        return self

    def read(self, parts: list[memoryview], offset: int) -> int:
        end = min(offset + parts[0].nbytes, offset + self.most, len(self.data))
        if offset in self.bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        end = min(end, self.bad.start) if offset < self.bad.start else end
        parts[0][: max(0, end - offset)] = self.data[offset:end]
        return max(0, end - offset)

    def close(self) -> None:
        pass


CUTS = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def ranges_of(data: bytes, cuts: list[int]) -> tuple[e.Extent, ...]:
    """Ranges of so many bytes, each with a checksum behind it; ``data`` is long enough."""
    extents, offset = [], 0
    for size in cuts:
        crc = crc32c(data[offset : offset + size])
        extents.append(e.Extent("f", offset, size + 4, crc, 4))
        offset += size + 4
    return tuple(extents)


def sealed(payload: bytes, cuts: list[int]) -> bytes:
    out, at = b"", 0
    for size in cuts:
        part = (payload * 40)[at : at + size]
        out, at = out + part + trailer(part), at + size
    return out


class TestReadingRanges:
    """What the live handler does for ``CheckExtents``."""

    @given(payload=st.binary(min_size=10, max_size=50), cuts=CUTS, most=st.integers(1, 64))
    def test_what_agrees_gives_no_mismatch_however_reads_are_cut(self, payload, cuts, most):
        data = sealed(payload, cuts)
        effect = e.CheckExtents(directory="/", extents=ranges_of(data, cuts), nbytes=len(data))
        assert check_extents(effect, _File(data, most=most)) == []

    @given(payload=st.binary(min_size=10, max_size=50), cuts=CUTS, data=st.data())
    def test_one_flipped_bit_is_one_mismatch_in_its_range(self, payload, cuts, data):
        whole = sealed(payload, cuts)
        extents = ranges_of(whole, cuts)
        bit = data.draw(st.integers(0, 8 * len(whole) - 1))
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        effect = e.CheckExtents(directory="/", extents=extents, nbytes=len(whole))
        (mismatch,) = check_extents(effect, _File(bytes(changed)))
        extent = extents[mismatch.number]
        assert extent.offset <= bit // 8 < extent.offset + extent.length
        assert mismatch.fault is e.Fault.CHANGED

    @given(payload=st.binary(min_size=10, max_size=50), cuts=CUTS, data=st.data())
    def test_a_place_that_cannot_be_read_costs_only_its_own_ranges(self, payload, cuts, data):
        whole = sealed(payload, cuts)
        extents = ranges_of(whole, cuts)
        bad = data.draw(st.integers(0, len(whole) - 1))
        effect = e.CheckExtents(directory="/", extents=extents, nbytes=len(whole))
        (mismatch,) = check_extents(effect, _File(whole, bad=range(bad, bad + 1)))
        extent = extents[mismatch.number]
        assert extent.offset <= bad < extent.offset + extent.length
        assert (mismatch.fault, mismatch.found) == (e.Fault.UNREADABLE, os.strerror(errno.EIO))

    def test_files_that_are_gone_or_no_files(self, tmp_path):
        tmp_path.joinpath("d").mkdir()
        tmp_path.joinpath("f").write_bytes(b"x")
        extents = tuple(e.Extent(name, 0, 1, crc32c(b"x")) for name in ("f", "d", "no", "f/x"))
        effect = e.CheckExtents(directory=str(tmp_path), extents=extents, nbytes=4)
        found = [(m.number, m.fault) for m in check_extents(effect)]
        assert found == [
            (1, e.Fault.UNREADABLE),
            (2, e.Fault.MISSING),
            (3, e.Fault.MISSING),
        ]


@given(
    pairs=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), max_size=3),
    itemsize=st.sampled_from([1, 4]),
    most=st.integers(1, 300),
)
def test_boxes_cover_an_array_once_in_whole_chunks(pairs, itemsize, most):
    shape = tuple(extent for extent, _ in pairs)
    chunk = tuple(min(extent, size) for extent, size in pairs)
    seen = np.zeros(shape, np.int64)
    one = itemsize * int(np.prod(chunk, dtype=np.int64))
    for box in boxes(e.StoredBoxes("w", shape, chunk, itemsize), most):
        seen[box] += 1
        assert all(part.start % size == 0 for part, size in zip(box, chunk, strict=True))
        assert seen[box].size * itemsize <= max(most, one)
    assert (seen == 1).all()
