"""Chunk shapes: they divide, they fit, and ours are runs of bytes where that is possible."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sealwax.arrays.grid import chunk_shape, is_row_range, orbax_chunk_shape
from sealwax.errors import OptionValueError

shapes = st.lists(st.integers(1, 300), max_size=4).map(tuple)
itemsizes = st.sampled_from([1, 2, 4, 8, 16])
targets = st.integers(16, 100_000)


@st.composite
def global_and_write(draw):
    write = draw(shapes)
    parts = draw(st.lists(st.integers(1, 3), min_size=len(write), max_size=len(write)))
    return tuple(n * p for n, p in zip(write, parts, strict=True)), write


def divides(part, whole):
    return len(part) == len(whole) and all(n % d == 0 for d, n in zip(part, whole, strict=True))


@given(global_and_write(), itemsizes, targets)
def test_orbax_chunks_divide_and_fit(both, itemsize, target):
    chunk = orbax_chunk_shape(*both, itemsize, target)
    assert divides(chunk, both[1])
    assert math.prod(chunk) * itemsize <= target


@given(global_and_write(), itemsizes)
def test_orbax_without_a_target_writes_one_chunk(both, itemsize):
    assert orbax_chunk_shape(*both, itemsize, None) == both[1]


@given(global_and_write(), itemsizes, targets, st.data())
def test_orbax_cuts_shard_axes_to_single_elements(both, itemsize, target, data):
    axes = data.draw(st.sets(st.integers(0, len(both[1]) - 1)) if both[1] else st.just(set()))
    chunk = orbax_chunk_shape(*both, itemsize, target, tuple(axes))
    assert all(chunk[axis] == 1 for axis in axes)
    assert divides(chunk, both[1])


@pytest.mark.parametrize(
    ("whole", "write", "target", "axes", "expected"),
    [
        ((8, 8), (8, 8), 64, (), (4, 4)),
        ((12, 10), (12, 10), 100, (), (4, 5)),
        ((7, 11), (7, 11), 40, (), (7, 1)),
        ((1024, 1024), (256, 1024), 65536, (), (16, 1024)),
        ((512, 512), (512, 512), 65536, (0,), (1, 512)),
        ((512, 512), (512, 512), 65536, (), (128, 128)),
        ((), (), 4, (), ()),
    ],
)
def test_orbax_examples(whole, write, target, axes, expected):
    assert orbax_chunk_shape(whole, write, 4, target, axes) == expected


def test_a_chunk_holds_at_least_one_element():
    with pytest.raises(OptionValueError, match="at least 4, found 3"):
        orbax_chunk_shape((8,), (8,), 4, 3)


@given(shapes, itemsizes, targets)
@example((7919, 25), 4, 65536)
@example((7919,), 4, 1024)
def test_our_chunks_divide_and_are_of_a_good_size(shape, itemsize, target):
    chunk = chunk_shape(shape, itemsize, target)
    assert divides(chunk, shape)
    size, whole = math.prod(chunk) * itemsize, math.prod(shape) * itemsize
    if whole <= target:
        assert chunk == shape
    elif size > target:
        assert not wanted_rows(shape, itemsize, target)
    else:
        assert size >= target / 8


@given(shapes, itemsizes, targets)
def test_our_chunks_are_row_ranges_whenever_one_is_in_bounds(shape, itemsize, target):
    wanted = wanted_rows(shape, itemsize, target)
    if wanted:
        chunk = chunk_shape(shape, itemsize, target)
        assert is_row_range(chunk, shape)
        assert math.prod(chunk) == max(map(math.prod, wanted))


def wanted_rows(shape, itemsize, target):
    elements = target / itemsize
    return [c for c in row_ranges(shape) if elements / 8 <= math.prod(c) <= elements]


def row_ranges(shape):
    yield (1,) * len(shape)
    for axis, extent in enumerate(shape):
        for rows in range(1, extent + 1):
            if extent % rows == 0:
                yield (*(1,) * axis, rows, *shape[axis + 1 :])


@pytest.mark.parametrize(
    ("shape", "target", "expected"),
    [
        ((1024, 1024), 2**20, (256, 1024)),
        ((50257, 768), 2**25, (1733, 768)),
        ((4, 1024, 1024), 2**20, (1, 256, 1024)),
        ((32003, 768), 2**25, (32003, 256)),
        ((104729,), 2**10, (104729,)),
        ((2003, 2**19), 2**25, (1, 2**19)),
        ((), 1, ()),
    ],
)
def test_our_choices(shape, target, expected):
    assert chunk_shape(shape, 4, target) == expected


@given(shapes, st.data())
def test_a_row_range_is_one_run_of_a_buffer(shape, data):
    part = tuple(data.draw(st.integers(1, n)) for n in shape)
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    last = sum((n - 1) * stride for n, stride in zip(part, strides, strict=True))
    assert is_row_range(part, shape) == (last + 1 == math.prod(part))
