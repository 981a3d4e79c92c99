"""Batches: every chunk once, none too large, and few of them."""

from __future__ import annotations

import collections
import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sealwax.arrays import dtypes
from sealwax.arrays.forms import WHOLE, Form, Shard
from sealwax.arrays.grid import chunk_shape
from sealwax.arrays.regions import Region
from sealwax.planning.batches import BATCH_BYTES, batches


@st.composite
def forms(draw: st.DrawFn) -> Form:
    storage = dtypes.storage_dtype(draw(st.sampled_from([np.int8, np.float32, np.complex128])))
    shard = draw(st.lists(st.integers(0, 12), max_size=3).map(tuple))
    count = draw(st.integers(1, 4)) if shard and shard[0] else 1
    shape = (shard[0] * count, *shard[1:]) if shard else ()
    regions = [
        Region(start=(number * shard[0], *[0] * (len(shard) - 1)) if shard else (), shape=shard)
        for number in range(count)
    ]
    return Form(
        shape=shape,
        storage=storage,
        chunk_shape=chunk_shape(shard, storage.carrier.itemsize, draw(st.integers(16, 400))),
        shards=tuple(Shard(n if count > 1 else WHOLE, region) for n, region in enumerate(regions)),
        on_host=True,
        value_type="np.ndarray",
    )


LIMITS = st.integers(1, 2000)


@given(st.lists(forms(), max_size=6), LIMITS)
def test_every_chunk_of_every_array_is_in_exactly_one_batch(drawn, limit):
    found = collections.Counter(
        (slab.leaf, slab.shard, chunk)
        for batch in batches(drawn, limit)
        for slab in batch.slabs
        for chunk in range(slab.first, slab.last)
    )
    wanted = {
        (leaf, shard, chunk)
        for leaf, form in enumerate(drawn)
        for shard, chunks in enumerate(form.chunks)
        for chunk in range(len(chunks))
    }
    assert set(found) == wanted
    assert set(found.values()) <= {1}


@given(st.lists(forms(), max_size=6), LIMITS)
def test_no_batch_is_larger_than_the_limit_unless_it_is_one_chunk(drawn, limit):
    for batch in batches(drawn, limit):
        sizes = [(s.last - s.first) * drawn[s.leaf].chunk_bytes for s in batch.slabs]
        assert batch.nbytes == sum(sizes)
        chunks = sum(slab.last - slab.first for slab in batch.slabs)
        assert batch.nbytes <= limit or chunks == 1


@given(st.lists(forms(), max_size=6), LIMITS)
def test_two_neighbours_would_not_fit_into_one_batch(drawn, limit):
    made = list(batches(drawn, limit))
    for one, two in itertools.pairwise(made):
        first = two.slabs[0]
        size = (first.last - first.first) * drawn[first.leaf].chunk_bytes
        assert one.nbytes + size > limit


@given(st.lists(forms(), max_size=6), LIMITS)
def test_the_first_chunk_of_every_array_is_in_one_batch(drawn, limit):
    made = list(batches(drawn, limit))
    owners = [leaf for batch in made for leaf in batch.first]
    assert sorted(owners) == [n for n, form in enumerate(drawn) if form.chunks[0]]


def test_the_default_batch_holds_a_thousand_small_arrays():
    storage = dtypes.storage_dtype(np.float32)
    region = Region.whole((256,))
    form = Form(
        shape=(256,),
        storage=storage,
        chunk_shape=(256,),
        shards=(Shard(WHOLE, region),),
        on_host=True,
        value_type="np.ndarray",
    )
    (batch,) = batches([form] * 1000)
    assert batch.nbytes == 1000 << 10 < BATCH_BYTES
