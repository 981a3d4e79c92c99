"""The end of a frame is where the compressor stopped, in whatever pieces it comes."""

import itertools

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sealwax.runtime.zstdframes import FrameEnd

HEADER_BYTES = 18


@st.composite
def contents(draw):
    """A few blocks of all kinds: noise, runs, and what can be compressed."""
    seed = draw(st.binary(min_size=1, max_size=64))
    return seed * draw(st.integers(0, 8000)) + draw(st.binary(max_size=100))


@given(contents(), st.integers(-5, 6), st.booleans(), st.booleans(), st.data())
def test_the_end_is_known_when_the_last_block_was_seen(content, level, checksum, sized, data):
    compressor = zstandard.ZstdCompressor(
        level=level, write_checksum=checksum, write_content_size=sized
    )
    frame = compressor.compress(content)
    cuts = data.draw(st.lists(st.integers(min(HEADER_BYTES, len(frame)), len(frame))))
    follower = FrameEnd()
    for start, stop in itertools.pairwise([0, *sorted(cuts), len(frame)]):
        follower.feed(frame[start:stop])
    assert follower.end == len(frame)
    follower.feed(b"what follows is not looked at")
    assert follower.end == len(frame)


@given(contents(), st.data())
def test_a_frame_that_is_cut_short_has_not_ended_in_what_there_is(content, data):
    frame = zstandard.compress(content)
    some = data.draw(st.integers(min(HEADER_BYTES, len(frame) - 1), len(frame) - 1))
    follower = FrameEnd()
    try:
        follower.feed(frame[:some])
    except zstandard.ZstdError:  # Not even the header is whole.
        return
    assert follower.end is None or follower.end > some


def test_what_does_not_begin_like_a_frame_is_told():
    with pytest.raises(zstandard.ZstdError):
        FrameEnd().feed(b"x" * 100)
