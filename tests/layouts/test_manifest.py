"""The manifest is read as it was written, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.checksum import crc32c, trailer
from sealwax.errors import CorruptionError, InvalidLayoutError
from sealwax.layouts.manifest import Checkpoint, Form, Item, Row, agrees, decode, digest, encode

TEXT = st.text(max_size=5)
SHAPES = st.lists(st.integers(0, 2**40), max_size=3).map(tuple)
COUNTS = st.integers(0, 2**63)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
FORMS = st.builds(
    Form, TEXT, TEXT, SHAPES, SHAPES, TEXT, key_impl=st.none() | TEXT, sharding=st.none() | TEXT
)
ROWS = st.builds(
    Row, TEXT, TEXT, form=st.integers(-1, 9), chunks=st.lists(COUNTS, max_size=8), data=PLAIN
)
SUMS = st.integers(0, 2**32 - 1)
DIGESTS = st.dictionaries(TEXT, st.tuples(COUNTS, SUMS) | st.tuples(COUNTS, SUMS, SUMS), max_size=2)
ITEMS = st.builds(
    Item,
    structure=PLAIN,
    forms=st.lists(FORMS, max_size=2),
    rows=st.lists(ROWS, max_size=3),
    files=st.lists(TEXT, max_size=2),
    digests=DIGESTS,
)
CHECKPOINTS = st.builds(
    Checkpoint,
    writer=TEXT,
    settings=st.dictionaries(TEXT, PLAIN, max_size=3),
    digests=DIGESTS,
)


@given(manifest=ITEMS | CHECKPOINTS)
def test_what_is_written_is_read(manifest: Item | Checkpoint) -> None:
    assert decode(encode(manifest), type(manifest), "/x") == manifest


@given(manifest=ITEMS | CHECKPOINTS)
def test_it_is_one_line_of_json_and_its_checksum(manifest: Item | Checkpoint) -> None:
    body, checksum, rest = encode(manifest).split(b"\n")
    assert int(checksum, 16) == crc32c(body + b"\n")
    assert rest == b""


@given(manifest=CHECKPOINTS, data=st.data())
def test_every_flipped_bit_and_every_cut_is_noticed(manifest: Checkpoint, data: st.DataObject):
    whole = bytearray(encode(manifest))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for damaged in (flipped, cut, whole + b"\n", b""):
        with pytest.raises(CorruptionError, match="differs from its checksum") as caught:
            decode(bytes(damaged), Checkpoint, "/ckpt/_SEALWAX")
        assert caught.value.path == "/ckpt/_SEALWAX"


@given(item=ITEMS, checkpoint=CHECKPOINTS)
def test_one_is_not_taken_for_the_other(item: Item, checkpoint: Checkpoint) -> None:
    with pytest.raises(CorruptionError, match="not the one that belongs here"):
        decode(encode(item), Checkpoint, "/x")
    with pytest.raises(CorruptionError, match="not the one that belongs here"):
        decode(encode(checkpoint), Item, "/x")


def test_a_newer_format_is_refused_whatever_else_it_holds() -> None:
    body = b'{"format":2,"unknown":[]}\n'
    with pytest.raises(InvalidLayoutError, match="A newer version") as caught:
        decode(body + b"%08x\n" % crc32c(body), Item, "/x")
    assert (caught.value.expected, caught.value.found) == ("format 1 or less", "format 2")


def test_a_digest_is_size_and_two_checksums() -> None:
    assert digest(b"123456789") == (9, 0xE3069283, 0xCBF43926)


@given(first=st.binary(min_size=1), data=st.data())
def test_a_digest_tells_records_apart_that_end_in_their_own_checksum(first: bytes, data) -> None:
    """One checksum cannot: that of the whole is the same for all of them."""
    size = len(first)
    second = data.draw(st.binary(min_size=size, max_size=size).filter(lambda other: other != first))
    one, other = (record + trailer(record) for record in (first, second))
    assert crc32c(one) == crc32c(other)
    assert digest(one) != digest(other)


def test_a_digest_of_another_length_is_none() -> None:
    body = b'{"format":1,"writer":"x","settings":{},"digests":{"f":[1]}}\n'
    with pytest.raises(CorruptionError):
        decode(body + b"%08x\n" % crc32c(body), Checkpoint, "/x")


def test_the_oldest_manifests_have_one_checksum_of_each_file() -> None:
    assert agrees((9, 0xE3069283), b"123456789")
    assert not agrees((9, 0xE3069283), b"123456780")
