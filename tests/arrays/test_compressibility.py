"""Weights are left alone, repetition is compressed."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.arrays.compressibility import sample_blocks, shrinks, take_sample

SIZE = 1 << 18
noise = np.random.default_rng(0).standard_normal(SIZE)
uniform = np.random.default_rng(1).uniform(-1, 1, SIZE)
tokens = np.random.default_rng(2).integers(0, 50_000, SIZE)

WEIGHTS = {
    "float64": noise,
    "float32": noise.astype(np.float32),
    "float16": noise.astype(np.float16),
    "bfloat16": noise.astype(ml_dtypes.bfloat16),
    "small bfloat16": (0.02 * noise).astype(ml_dtypes.bfloat16),
    "uniform bfloat16": uniform.astype(ml_dtypes.bfloat16),
    "bfloat16 of many scales": np.exp(3 * noise).astype(ml_dtypes.bfloat16),
    "squares": (1e-6 * noise**2).astype(ml_dtypes.bfloat16),
    "float8_e4m3fn": noise.astype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": noise.astype(ml_dtypes.float8_e5m2),
    "quantised int8": np.clip(40 * noise, -127, 127).astype(np.int8),
}
REPETITION = {
    "zeros": np.zeros(SIZE, np.float32),
    "a constant": np.full(SIZE, np.pi, np.float32),
    "identity": np.eye(512, dtype=np.float32),
    "arange": np.arange(SIZE, dtype=np.int32),
    "token ids": tokens.astype(np.int32),
    "labels": (tokens % 10).astype(np.int64),
    "a mask": tokens % 2 == 0,
    "float32 from bfloat16": noise.astype(ml_dtypes.bfloat16).astype(np.float32),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_not_compressed(name):
    assert not shrinks(WEIGHTS[name])


@pytest.mark.parametrize("name", REPETITION)
def test_repetition_is_compressed(name):
    assert shrinks(REPETITION[name])


@given(st.integers(0, 1 << 40))
def test_blocks_are_few_and_lie_inside(nbytes):
    blocks = sample_blocks(nbytes)
    assert sum(map(len, blocks)) == min(nbytes, 16 * 1024)
    assert blocks[0].start == 0
    assert all(a.stop <= b.start for a, b in itertools.pairwise(blocks))
    assert blocks[-1].stop <= nbytes
    assert nbytes - blocks[-1].stop < 16


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_and_their_bytes_give_the_same_sample(order):
    array = np.asarray(noise.reshape(512, -1), order=order)
    data = array.tobytes(order="A")
    assert take_sample(array) == take_sample(data) == take_sample(memoryview(data))
    assert take_sample(array[::2, ::2]) != b""


def test_nothing_does_not_shrink():
    assert not shrinks(b"")
    assert not shrinks(np.zeros((), np.float32))
