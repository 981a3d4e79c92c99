"""Buffers for what is read: of every shape, aligned, none upon another."""

import ml_dtypes
import numpy as np
import pytest

from sealwax.effects import Allocate, Buffer
from sealwax.runtime.datafiles import allocate

DTYPES = [np.dtype(kind) for kind in ("int8", "float32", "complex128", ml_dtypes.bfloat16)]
SHAPES = [(), (0,), (3, 0), (5,), (3, 7), (20_000,), (1,) * 32, (1,) * 64]


@pytest.mark.parametrize("count", [1, 3, 40])
def test_what_is_written_to_one_is_not_seen_in_another(count):
    asked = [Buffer("w", shape, dtype) for shape in SHAPES for dtype in DTYPES] * count
    made = allocate(Allocate(buffers=tuple(asked)))
    for number, (buffer, each) in enumerate(zip(made, asked, strict=True)):
        assert (buffer.shape, buffer.dtype) == (each.shape, each.dtype)
        assert buffer.flags.writeable
        assert buffer.flags.c_contiguous
        assert not buffer.size or buffer.ctypes.data % 64 == 0
        buffer[...] = number % 100
    assert all((buffer == number % 100).all() for number, buffer in enumerate(made))
