"""CRC-32C: one value however the bytes are presented."""

import google_crc32c
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.checksum import crc32c, crc32c_flat, extend, trailer


@given(st.binary())
def test_every_presentation_of_the_bytes_has_one_checksum(data: bytes) -> None:
    expected = google_crc32c.value(data)
    array = np.array(bytearray(data), dtype=np.uint8)
    frozen = array.copy()
    frozen.flags.writeable = False
    for same in (data, bytearray(data), memoryview(data), memoryview(bytearray(data)), array):
        assert crc32c(same) == expected
    assert crc32c(frozen) == expected
    assert crc32c_flat(array) == crc32c_flat(frozen) == expected
    assert trailer(data) == expected.to_bytes(4, "little")


def test_the_plain_function_refuses_what_is_not_contiguous() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        crc32c_flat(np.arange(8, dtype=np.uint8)[::2])


@given(st.binary(), st.binary(), st.binary())
def test_extending_is_concatenation(a: bytes, b: bytes, c: bytes) -> None:
    assert extend(extend(crc32c(a), memoryview(b)), c) == crc32c(a + b + c)


def test_published_check_value() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "complex128", ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 4)])
def test_an_array_is_summed_in_c_order(dtype: object, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    assert crc32c(array) == crc32c(array.tobytes())
    assert crc32c(array.T) == crc32c(array.T.tobytes())
    assert crc32c(array[..., ::2] if shape else array) == crc32c(
        (array[..., ::2] if shape else array).tobytes()
    )


def test_a_strided_memoryview_is_summed_as_it_reads() -> None:
    assert crc32c(memoryview(b"abcdefgh")[::2]) == crc32c(b"aceg")


def test_summing_neither_freezes_nor_changes_the_array() -> None:
    array = np.arange(4.0)
    crc32c(array)
    assert array.flags.writeable
    np.testing.assert_array_equal(array, [0.0, 1.0, 2.0, 3.0])
