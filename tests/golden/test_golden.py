"""Readable for ever: what every earlier release wrote is read, by name and to the bit."""

from __future__ import annotations

import jax
import pytest

import sealwax
from tests.golden.states import CUSTOM_METADATA, HERE, STATES
from tests.strategies import assert_same


@pytest.mark.parametrize("name", STATES)
class TestEveryVersion:
    def test_it_loads(self, name: str) -> None:
        path, state = HERE / name, STATES[name]()
        loaded = sealwax.load(path)
        assert jax.tree.structure(loaded) == jax.tree.structure(state)
        assert_same(loaded, state)

    def test_it_loads_into_a_template(self, name: str) -> None:
        path, state = HERE / name, STATES[name]()
        assert_same(sealwax.load(path, state), state)

    def test_it_can_be_looked_at(self, name: str) -> None:
        path, state = HERE / name, STATES[name]()
        found = sealwax.metadata(path)
        assert found.custom_metadata == CUSTOM_METADATA
        assert found.settings
        assert_same(sealwax.load(path, found), state)
        assert not sealwax.tree.diff(state, path)
        assert sealwax.open(path)["params"]["kernel"][1].tolist() == [3, 4, 5]


def test_none_is_forgotten() -> None:
    assert {path.name for path in HERE.glob("v*")} == set(STATES) != set()


def test_they_are_small() -> None:
    assert sum(file.stat().st_size for file in HERE.glob("v*/**/*") if file.is_file()) < 200_000
