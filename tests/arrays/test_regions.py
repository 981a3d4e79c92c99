"""Boxes agree with NumPy's indexing, and runs with a buffer's bytes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sealwax.arrays.regions import Region

shapes = st.lists(st.integers(1, 6), max_size=4).map(tuple)


@st.composite
def boxes(draw, shape):
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    extents = [draw(st.integers(1, n - a)) for a, n in zip(starts, shape, strict=True)]
    return Region(start=tuple(starts), shape=tuple(extents))


@given(st.data(), shapes)
def test_a_region_is_read_from_an_index_and_gives_it_back(data, shape):
    region = data.draw(boxes(shape))
    assert Region.of(region.slices, shape) == region
    assert Region.of((slice(None),) * len(shape), shape) == Region.whole(shape)
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    assert array[region.slices].shape == region.shape
    assert array[region.slices].size == region.size


@given(st.data(), shapes)
def test_intersections_hold_what_both_hold(data, shape):
    a, b = data.draw(boxes(shape)), data.draw(boxes(shape))
    in_a, in_b = np.zeros(shape, bool), np.zeros(shape, bool)
    in_a[a.slices], in_b[b.slices] = True, True
    expected = in_a & in_b
    common = a.intersect(b)
    assert common == b.intersect(a)
    found = np.zeros(shape, bool)
    if common is not None:
        found[common.slices] = True
        array = np.arange(found.size).reshape(shape)
        inner = array[a.slices][common.relative_to(a).slices]
        assert np.array_equal(inner, array[common.slices])
    assert np.array_equal(found, expected)


@given(st.data(), shapes)
def test_a_run_is_where_the_elements_lie(data, shape):
    region = data.draw(boxes(shape))
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    elements = array[region.slices].ravel()
    run = region.run_in(shape)
    consecutive = bool(np.all(np.diff(elements) == 1))
    assert (run is not None) == consecutive
    if run is not None:
        first, count = run
        assert np.array_equal(array.ravel()[first : first + count], elements)
