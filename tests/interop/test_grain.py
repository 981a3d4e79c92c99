"""Grain's iterators are resumed exactly: alone, beside a state, and from and to Orbax."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grain
import grain.checkpoint
import numpy as np
import orbax.checkpoint as v0
import pytest
from orbax.checkpoint import v1 as orbax

import sealwax as ocp
from sealwax.errors import SealwaxError


@dataclasses.dataclass(frozen=True)
class Records:
    """Grain knows a source again by its ``repr``."""

    count: int = 50

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full(3, index, np.int64)


class Noise(grain.transforms.RandomMap):
    def random_map(self, element: Any, rng: np.random.Generator) -> Any:
        return element + rng.normal(size=3)


def shuffled() -> Any:
    return grain.MapDataset.source(Records()).seed(3).shuffle().random_map(Noise()).repeat()


def loader(workers: int = 0) -> Any:
    return grain.DataLoader(
        data_source=Records(),
        sampler=grain.samplers.IndexSampler(50, shuffle=True, seed=3),
        operations=[Noise(), grain.transforms.Batch(4)],
        worker_count=workers,
    )


def mixed() -> Any:
    parts = [shuffled(), grain.MapDataset.source(Records(7)).repeat()]
    return grain.MapDataset.mix(parts, weights=[0.7, 0.3]).batch(4)


def windowed() -> Any:
    dataset = shuffled().to_iter_dataset().filter(lambda x: x[0] > 0)
    return grain.experimental.WindowShuffleIterDataset(dataset, window_size=10, seed=1).batch(4)


PIPELINES: dict[str, Callable[[], Any]] = {
    "MapDataset": lambda: shuffled().batch(4),
    "IterDataset": lambda: shuffled().to_iter_dataset().batch(4),
    "mixture": mixed,
    "filtered, shuffled in windows": windowed,
    "DataLoader": loader,
}
pipelines = pytest.mark.parametrize("make", PIPELINES.values(), ids=PIPELINES)


def take(data: Iterator[Any], count: int = 6) -> list[bytes]:
    return [np.asarray(batch).tobytes() for batch in itertools.islice(data, count)]


def iterator(make: Callable[[], Any], done: int = 0) -> Any:
    found = iter(make())
    take(found, done)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


@pipelines
@pytest.mark.parametrize("done", [0, 1, 17])
def test_alone(path: Path, make: Any, done: int) -> None:
    data = iterator(make, done)
    ocp.save_checkpointables(path, {"data": data})
    after = take(data)
    fresh = iterator(make)
    assert ocp.load_checkpointables(path, {"data": fresh})["data"] is fresh
    assert take(fresh) == after


@pipelines
def test_beside_a_state_while_it_goes_on(path: Path, make: Any) -> None:
    data = iterator(make, 5)
    response = ocp.save_checkpointables_async(path, {"state": {"step": 5}, "data": data})
    after = take(data)  # what is saved is where it was
    response.result()
    fresh = iterator(make, 2)
    loaded = ocp.load_checkpointables(path, {"state": {"step": 0}, "data": fresh})
    assert loaded["state"] == {"step": 5}
    assert take(fresh) == after
    assert ocp.load(path) == {"step": 5}


@pipelines
@pytest.mark.parametrize(("saver", "reader"), [(ocp, orbax), (orbax, ocp)], ids=["to", "from"])
def test_orbax(path: Path, make: Any, saver: Any, reader: Any) -> None:
    data = iterator(make, 5)
    saver.save_checkpointables(path, {"state": {"step": 5}, "data": data})
    after = take(data)
    fresh = iterator(make)
    loaded = reader.load_checkpointables(path, {"state": {"step": 0}, "data": fresh})
    assert loaded["state"] == {"step": 5}
    assert take(fresh) == after


def test_what_grain_s_own_handler_saved_through_orbax_v0(path: Path) -> None:
    data = iterator(PIPELINES["IterDataset"], 5)
    with v0.Checkpointer(v0.CompositeCheckpointHandler()) as checkpointer:
        saved = v0.args.Composite(
            data=grain.checkpoint.CheckpointSave(data),
            state=v0.args.PyTreeSave({"w": np.ones(2)}),
        )
        checkpointer.save(path, saved)
    fresh = iterator(PIPELINES["IterDataset"])
    ocp.load_checkpointables(path, {"data": fresh})
    assert take(fresh) == take(data)


def test_grain_s_own_handler_reads_what_sealwax_saved(path: Path) -> None:
    data = iterator(PIPELINES["IterDataset"], 5)
    ocp.save_checkpointables(path, {"data": data})
    fresh = iterator(PIPELINES["IterDataset"])
    grain.checkpoint.CheckpointHandler().restore(path / "data", fresh)
    assert take(fresh) == take(data)


@pipelines
def test_a_training_loop_that_is_stopped(tmp_path: Path, make: Any) -> None:
    def step_fn(total: Any, batch: Any) -> Any:
        return total * 0.9 + np.asarray(batch).sum(), None

    def run(directory: Path, steps: int) -> Any:
        with ocp.training.Checkpointer(directory) as checkpointer:
            return ocp.training.run(step_fn, np.zeros(1), make(), checkpointer, steps=steps)[
                0
            ].tobytes()

    for steps in (1, 5, 12):
        stopped = run(tmp_path / "stopped", steps)
    assert stopped == run(tmp_path / "whole", 12)


def test_it_is_verified(path: Path) -> None:
    ocp.save_checkpointables(path, {"data": iterator(loader, 3)})
    (file,) = (path / "data").glob("*.json")
    assert ocp.verify(path)
    file.write_text(file.read_text().replace("11", "12"))
    assert not ocp.verify(path)
    with pytest.raises(SealwaxError):
        ocp.verify(path).raise_for_damage()


def test_another_source_is_refused_by_grain_and_told_of_by_us(path: Path) -> None:
    ocp.save_checkpointables(path, {"data": iterator(loader, 3)})
    other = grain.DataLoader(
        data_source=Records(49),
        sampler=grain.samplers.IndexSampler(50, shuffle=True, seed=3),
        operations=[],
    )
    with pytest.raises(ValueError, match="does not match datasource") as caught:
        ocp.load_checkpointables(path, {"data": iter(other)})
    assert "checkpointable 'data'" in caught.value.__notes__[0]


def test_it_needs_an_iterator_to_load_into(path: Path) -> None:
    ocp.save_checkpointables(path, {"data": iterator(loader, 3)})
    with pytest.raises(ValueError, match="data"):
        ocp.load_checkpointables(path, {"data": None})
