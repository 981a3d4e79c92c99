"""Columns of variable-length integers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.layouts import varint

integers = st.one_of(
    st.integers(0, 127),
    st.integers(0, 2**64 - 1),
    st.builds(lambda bits, off: max(0, 2**bits - off), st.integers(0, 63), st.integers(0, 1)),
)


def one(value: int) -> bytes:
    """The textbook encoding of one integer."""
    low = [(value >> shift) & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(byte | 0x80 for byte in low[:-1]), low[-1]])


@given(st.lists(integers))
def test_a_column_is_its_integers_one_after_the_other(values: list[int]) -> None:
    assert varint.encode(values) == b"".join(map(one, values))


@given(st.lists(integers), st.binary(max_size=5), st.binary(max_size=20))
def test_decoding_gives_back_what_was_encoded(
    values: list[int], before: bytes, after: bytes
) -> None:
    encoded = varint.encode(values)
    decoded, end = varint.decode(before + encoded + after, len(before), len(values))
    assert decoded.tolist() == values
    assert end == len(before) + len(encoded)


@given(st.lists(integers, min_size=1), st.data())
def test_a_column_cut_short_is_refused(values: list[int], data: st.DataObject) -> None:
    encoded = varint.encode(values)
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    with pytest.raises(ValueError, match="announced"):
        varint.decode(cut, 0, len(values))


@pytest.mark.parametrize("data", [b"\xff" * 9 + b"\x02", b"\x80" * 10 + b"\x01"])
def test_more_than_64_bits_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"64 bits|announced"):
        varint.decode(data, 0, 1)
