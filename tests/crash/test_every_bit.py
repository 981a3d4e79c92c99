"""Every bit counts: none changes without ``verify`` telling, and none is loaded wrong."""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import numpy as np
import pytest

import sealwax
from sealwax import effects as e
from sealwax.context import Context
from sealwax.effect_handlers import record
from sealwax.errors import CorruptionError
from sealwax.layouts import manifest
from sealwax.runtime.checking import check_extents
from tests.crash.damage import Files, examined, files_of, flipped, loaded, others
from tests.crash.states import LAYOUTS

STATE = {
    "keys": [np.arange(5, dtype=np.int16), np.full(900, 7, np.int32)],
    "n": 3,
    "s": "text",
    "w": np.linspace(0, 1, 60, dtype=np.float32).reshape(4, 15),
}
KINDS = {
    "database": {"array.saving.compression": "always"},
    "files": LAYOUTS["files"],
    "zarr2": {"array.saving.use_zarr3": False},
}
FLIPS = 1000
LONG = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module", params=KINDS)
def path(request, tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("bits") / "c"
    sealwax.save(made, STATE, context=Context().replace(KINDS[request.param]))
    return made


@pytest.fixture(scope="module")
def files(path) -> Files:
    return files_of(path)


def is_data(name: str) -> bool:
    """Whether a file holds chunks of arrays, and nothing else."""
    inside, _, last = name.rpartition("/")
    if inside == "state/d":
        return last == "00000000"
    return "/c/" in name or last == "c" or last.replace(".", "").isdecimal()


class _Overlay:
    """A file system of one file, for the function that checks."""

    def __init__(self) -> None:
        self.data = b""

    def open(self, path: str) -> _Overlay:
        return self

    def read(self, parts: list[memoryview], offset: int) -> int:
        piece = self.data[offset : offset + parts[0].nbytes]
        parts[0][: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        pass


def test_every_bit_of_every_file_is_held_against_a_checksum(path, files):
    """By the very effects that ``verify`` performs, and the decoder of manifests."""
    plan = sealwax.plan_verify(path)
    checks = [step.effect for step in plan.steps if isinstance(step.effect, e.CheckExtents)]
    bits = 0
    for name, data in files.items():
        mine = tuple(x for effect in checks for x in effect.extents if x.file == name)
        effect = e.CheckExtents(directory="", extents=mine, nbytes=len(data))
        overlay = _Overlay()
        overlay.data = data
        assert not check_extents(effect, overlay)
        for bit in range(8 * len(data)) if not is_data(name) else ():
            bits += 1
            overlay.data = flipped(data, bit)
            if name.endswith(manifest.NAME):
                kind = manifest.Item if "/" in name else manifest.Checkpoint
                with pytest.raises(CorruptionError):
                    manifest.decode(overlay.data, kind, name)
            else:
                assert len(check_extents(effect, overlay)) == 1, f"bit {bit} of {name}"
    print(f"{bits} bits of metadata flipped, 0 silent")


def test_a_load_reads_nothing_of_which_it_could_not_tell_that_it_changed(path, files):
    with record() as trace:
        sealwax.load(path)
    read = {effect.path for effect in trace.effects if type(effect) is e.ReadFile}
    needed = {"_CHECKPOINT_METADATA", "_SEALWAX", "state/_SEALWAX"}
    assert read & {f"{path}/{name}" for name in files} == {f"{path}/{name}" for name in needed}
    batches = [effect for effect in trace.effects if type(effect) is e.ReadBatch]
    assert batches
    assert all(batch.verify for batch in batches)


def test_random_bits_of_the_data_are_told_and_never_loaded(files):
    rng = random.Random(0)
    data_files = [name for name in files if is_data(name)]

    async def flip() -> None:
        for _ in range(FLIPS // len(KINDS) + 1):
            name = rng.choices(data_files, [len(files[name]) for name in data_files])[0]
            bit = rng.randrange(8 * len(files[name]))
            damaged = files | {name: flipped(files[name], bit)}
            found = await examined(damaged)
            assert [problem.file for problem in found.problems] == [name], f"bit {bit} of {name}"
            (problem,) = found.problems
            assert problem.leaf
            assert problem.offset <= bit // 8 < problem.offset + problem.length
            assert await loaded(damaged, STATE) == "error", f"bit {bit} of {name}"

    anyio.run(flip)


@pytest.mark.parametrize(
    "every", [pytest.param(256, id="some"), pytest.param(1, id="all", marks=LONG)]
)
def test_a_flipped_bit_of_metadata_is_told_and_harmless(files, every):
    async def flip() -> None:
        for name, data in files.items():
            for bit in range(len(name) % every, 0 if is_data(name) else 8 * len(data), every):
                damaged = files | {name: flipped(data, bit)}
                found = await examined(damaged)
                assert name in {problem.file for problem in found.problems}, f"{bit} of {name}"
                wanted = {"error"} if name.endswith("_SEALWAX") else {"right"}
                assert await loaded(damaged, STATE) in wanted, f"bit {bit} of {name}"

    anyio.run(flip)


def test_other_damage_is_told_and_never_loaded_wrong(files):
    outcomes: dict[str, int] = {}

    async def damage() -> None:
        assert (await examined(files)).ok
        for what, damaged in others(files):
            found = await examined(damaged)
            assert not found.ok, what
            outcome = await loaded(damaged, STATE)
            assert outcome in ("right", "error"), what
            outcomes[outcome] = outcomes.get(outcome, 0) + 1

    anyio.run(damage)
    print(f"0 silent of {sum(outcomes.values())} damages: {outcomes}")
    assert set(outcomes) == {"right", "error"}


def test_files_of_another_save_of_the_same_state_are_told(tmp_path):
    """Same names, sizes and structure: only the values differ."""
    for name, value in ("one", 1.0), ("two", 2.0):
        sealwax.save(tmp_path / name, {"w": np.full(64, value), "v": np.full(64, -value)})
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    assert one.keys() == two.keys()
    state = {"w": np.full(64, 1.0), "v": np.full(64, -1.0)}

    async def mix() -> None:
        for name in one:
            if one[name] == two[name]:
                continue
            damaged = one | {name: two[name]}
            found = await examined(damaged)
            assert not found.ok, name
            assert await loaded(damaged, state) in ("right", "error"), name
            if is_data(name):
                assert {problem.leaf for problem in found.problems} == {"v", "w"}

    anyio.run(mix)
