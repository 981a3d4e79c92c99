"""What sealwax saves, Orbax 0.12.8 loads: the same values, or the documented stand-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as v0
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from orbax.checkpoint import v1 as orbax

import sealwax
from tests.strategies import (
    NATIVE,
    assert_placed,
    assert_same,
    is_named_apart,
    is_node,
    jax_arrays,
    map_tree,
    through_orbax,
    trees,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@settings(max_examples=60)
@given(tree=trees())
def test_orbax_loads_what_it_can_represent(fresh: Any, tree: Any) -> None:
    assume(is_named_apart(tree))
    sealwax.save(path := fresh(), tree)
    assert_same(orbax.load(path), through_orbax(tree))
