"""Chunks cover every element once, and regions are reassembled from them exactly."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.arrays.chunks import chunk_count, chunks_of, overlaps, pieces
from sealwax.arrays.grid import is_row_range
from sealwax.arrays.regions import Region
from sealwax.errors import InternalError

from .test_regions import boxes

extents = st.integers(1, 3)


@st.composite
def sharded_grids(draw):
    """An array cut into equal shards, each cut into equal chunks."""
    rank = draw(st.integers(0, 3))
    chunk, per_shard, shards = (tuple(draw(extents) for _ in range(rank)) for _ in range(3))
    shard = tuple(c * n for c, n in zip(chunk, per_shard, strict=True))
    whole = tuple(c * n for c, n in zip(shard, shards, strict=True))
    regions = [
        Region(start=tuple(i * n for i, n in zip(place, shard, strict=True)), shape=shard)
        for place in itertools.product(*map(range, shards))
    ]
    return whole, regions, chunk


def numbered(shape):
    return np.arange(math.prod(shape), dtype=np.int32).reshape(shape)


@given(sharded_grids())
def test_chunks_of_all_shards_cover_every_element_once(grid):
    whole, shards, shape = grid
    array, seen = numbered(whole), np.zeros(whole, int)
    indices = []
    for shard in shards:
        chunks = list(chunks_of(shard, shape))
        assert len(chunks) == chunk_count(shard, shape)
        for chunk in chunks:
            indices.append(chunk.index)
            at = tuple(slice(i * n, (i + 1) * n) for i, n in zip(chunk.index, shape, strict=True))
            seen[at] += 1
            assert np.array_equal(array[shard.slices][chunk.within.slices], array[at])
    assert np.all(seen == 1)
    assert len(set(indices)) == len(indices)


@given(sharded_grids())
def test_chunks_that_are_row_ranges_follow_one_another_in_the_buffer(grid):
    whole, shards, shape = grid
    array = numbered(whole)
    nbytes = math.prod(shape) * array.itemsize
    for shard in shards:
        if not is_row_range(shape, shard.shape):
            continue
        part = np.ascontiguousarray(array[shard.slices])
        buffer = part.tobytes()
        for number, chunk in enumerate(chunks_of(shard, shape)):
            expected = part[chunk.within.slices].tobytes()
            assert buffer[number * nbytes : (number + 1) * nbytes] == expected


@given(sharded_grids(), st.integers(1, 200))
def test_pieces_give_all_chunks_in_order_and_stay_within_the_limit(grid, limit):
    _, (shard, *_), shape = grid
    count, nbytes = chunk_count(shard, shape), math.prod(shape) * 4
    groups = pieces(count, nbytes, limit)
    assert list(itertools.chain(*groups)) == list(range(count))
    assert all(len(group) == 1 or len(group) * nbytes <= limit for group in groups)
    by_piece = [c for group in groups for c in chunks_of(shard, shape, group)]
    assert by_piece == list(chunks_of(shard, shape))


@given(st.data(), st.lists(st.integers(1, 7), max_size=3).map(tuple))
def test_any_region_is_reassembled_from_any_grid(data, shape):
    chunk_shape = tuple(data.draw(st.integers(1, 8)) for _ in shape)
    wanted = data.draw(boxes(shape))
    array = numbered(shape)
    padding = [(0, -n % c) for n, c in zip(shape, chunk_shape, strict=True)]
    stored = np.pad(array, padding) if shape else array
    result, filled = np.full(wanted.shape, -1, np.int32), np.zeros(wanted.shape, int)
    for part in overlaps(wanted, chunk_shape):
        start = tuple(i * n for i, n in zip(part.index, chunk_shape, strict=True))
        chunk = stored[Region(start=start, shape=chunk_shape).slices]
        assert chunk.shape == chunk_shape
        assert part.whole == (part.source.size == chunk.size)
        result[part.target.slices] = chunk[part.source.slices]
        filled[part.target.slices] += 1
    assert np.array_equal(result, array[wanted.slices])
    assert np.all(filled == 1)


def test_a_region_without_elements_touches_no_chunk():
    assert list(overlaps(Region(start=(1, 0), shape=(2, 0)), (2, 2))) == []


def test_a_shard_off_the_grid_is_a_bug_that_says_so():
    with pytest.raises(InternalError, match="does not end where a chunk does"):
        list(chunks_of(Region(start=(1,), shape=(4,)), (2,)))
