"""What a cast can lose, checked against what it does lose."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.arrays import dtypes
from sealwax.arrays.casts import Cast, classify_cast

from .test_dtypes import EVERY

SMALL = [
    n for n in EVERY if dtypes.from_name(n).itemsize <= 2 and not n.startswith(("int1", "uint1"))
] + ["int16", "uint16"]


def every_value(name):
    """All values of a dtype of at most two bytes."""
    dtype = dtypes.from_name(name)
    if name == "bool":
        return np.array([False, True])
    if dtype.kind in "iu" or name.startswith(("int", "uint")):
        info = ml_dtypes.iinfo(dtype)
        return np.arange(int(info.min), int(info.max) + 1).astype(dtype)
    bits = int(ml_dtypes.finfo(dtype).bits)
    return np.arange(1 << bits).astype(np.uint8 if bits <= 8 else np.uint16).view(dtype)


def same_number(a, b):
    """Equal, with the sign of zero, or both not a number."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return bool(np.all((np.isnan(a) & np.isnan(b)) | ((a == b) & (np.signbit(a) == np.signbit(b)))))


@pytest.mark.parametrize("src", sorted(set(SMALL)))
def test_widening_is_exactly_what_keeps_every_value(src):
    values = every_value(src)
    for dst in EVERY:
        verdict = classify_cast(src, dst)
        if verdict is Cast.IDENTICAL:
            assert src == dst
            continue
        target = dtypes.from_name(dst)
        with np.errstate(all="ignore"):
            real = values.astype(np.float64) if target.kind != "c" else values
            kept = same_number(values, real.astype(target).real)
        if verdict is Cast.WIDENING:
            assert kept, (src, dst)
        elif rank(dst) >= rank(src):
            assert not kept, (src, dst)


def rank(name):
    kinds = [("bool",), ("int", "uint"), ("float", "bfloat"), ("complex",)]
    return next(i for i, prefixes in enumerate(kinds) if name.startswith(prefixes))


@given(st.sampled_from(EVERY), st.sampled_from(EVERY), st.sampled_from(EVERY))
def test_widening_composes(a, b, c):
    exact = (Cast.IDENTICAL, Cast.WIDENING)
    if classify_cast(a, b) in exact and classify_cast(b, c) in exact:
        assert classify_cast(a, c) in exact


def test_no_cast_widens_in_both_directions():
    for a, b in itertools.combinations(EVERY, 2):
        assert {classify_cast(a, b), classify_cast(b, a)} != {Cast.WIDENING}


@pytest.mark.parametrize(
    ("src", "dst", "expected"),
    [
        ("float32", "float32", Cast.IDENTICAL),
        (">f4", "<f4", Cast.IDENTICAL),
        ("bfloat16", "float32", Cast.WIDENING),
        ("int32", "float64", Cast.WIDENING),
        ("float32", "complex64", Cast.WIDENING),
        ("bool", "int8", Cast.WIDENING),
        ("uint8", "int16", Cast.WIDENING),
        ("float32", "bfloat16", Cast.SAME_KIND),
        ("float16", "bfloat16", Cast.SAME_KIND),
        ("float64", "complex64", Cast.SAME_KIND),
        ("complex128", "complex64", Cast.SAME_KIND),
        ("int32", "float32", Cast.SAME_KIND),
        ("float32", "float8_e8m0fnu", Cast.LOSSY),
        ("float32", "int64", Cast.LOSSY),
        ("complex64", "float64", Cast.LOSSY),
        ("int32", "bool", Cast.LOSSY),
        ("int64", "int32", Cast.LOSSY),
        ("uint32", "int32", Cast.LOSSY),
        ("int8", "uint64", Cast.LOSSY),
    ],
)
def test_the_documented_cases(src, dst, expected):
    source = src if src.isidentifier() else np.dtype(src)
    target = dst if dst.isidentifier() else np.dtype(dst)
    assert classify_cast(source, target) is expected
