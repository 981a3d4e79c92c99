"""Every dtype has a stored form, and comes back from it bit for bit."""

import ml_dtypes
import numpy as np
import pytest
import tensorstore as ts
from hypothesis import given
from hypothesis import strategies as st

from sealwax.arrays import dtypes
from sealwax.errors import UnsupportedLeafError

NATIVE = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
]
EXTENDED = [
    name
    for name in dir(ml_dtypes)
    if name.startswith(("bfloat", "float", "int", "uint"))
    and isinstance(getattr(ml_dtypes, name), type)
]
EVERY = NATIVE + EXTENDED
CARRIED = {"int1", "uint1", "uint2", "uint4", "float8_e4m3", "float6_e2m3fn", "float6_e3m2fn"}


def some(dtype, size=12):
    values = np.random.default_rng(0).integers(0, 2, size)
    return values.astype(dtype).reshape(3, -1)


@pytest.mark.parametrize("name", EVERY)
def test_names_and_dtypes_are_one_to_one(name):
    dtype = dtypes.from_name(name)
    storage = dtypes.storage_dtype(dtype)
    assert dtype.name == name == storage.logical
    assert storage == dtypes.storage_dtype(name) == dtypes.find_storage(dtype)
    assert storage.carrier.itemsize == dtype.itemsize
    assert storage.carried == (name in CARRIED)


@pytest.mark.parametrize("name", EVERY)
def test_elements_survive_the_stored_form(name):
    array = some(dtypes.from_name(name))
    storage = dtypes.storage_dtype(array.dtype)
    stored = storage.encode(array)
    assert stored.dtype == storage.carrier
    assert np.shares_memory(stored, array)
    back = storage.decode(stored)
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("name", EVERY)
def test_tensorstore_knows_what_we_call_it_and_agrees_on_the_bytes(name):
    array = some(dtypes.from_name(name))
    storage = dtypes.storage_dtype(array.dtype)
    for driver, zarr_name, key in (
        ("zarr3", storage.zarr_name, "c/0/0"),
        ("zarr", storage.zarr2_name, "0.0"),
    ):
        field = "data_type" if driver == "zarr3" else "dtype"
        codecs = {"codecs": [{"name": "bytes"}]} if driver == "zarr3" else {"compressor": None}
        spec = {
            "driver": driver,
            "kvstore": {"driver": "memory"},
            "metadata": {"shape": list(array.shape), field: zarr_name, **codecs},
        }
        store = ts.open(spec, create=True).result()
        assert store.dtype.numpy_dtype == storage.carrier
        store.write(storage.encode(array)).result()
        assert store.kvstore.read(key).result().value == array.tobytes()


@pytest.mark.parametrize("name", sorted(CARRIED))
def test_only_what_tensorstore_lacks_is_carried(name):
    with pytest.raises(ValueError, match="No TensorStore data type"):
        ts.dtype(name)


@given(name=st.sampled_from(EVERY))
def test_big_endian_arrays_are_stored_little_endian(name):
    array = some(dtypes.from_name(name))
    swapped = array.astype(array.dtype.newbyteorder(">"))
    storage = dtypes.storage_dtype(swapped.dtype)
    assert (
        storage.encode(swapped).tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()
    )


@pytest.mark.parametrize("name", [n for n in EVERY if n not in CARRIED])
def test_zarr2_names_are_read_back(name):
    storage = dtypes.storage_dtype(name)
    assert dtypes.from_zarr2_name(storage.zarr2_name) == storage.dtype


def test_zarr2_reads_big_endian_and_refuses_what_it_does_not_know():
    assert dtypes.from_zarr2_name(">f4") == np.dtype(">f4")
    assert dtypes.from_zarr2_name("|S3") is None
    assert dtypes.from_zarr2_name(">nothing") is None


@pytest.mark.parametrize("dtype", ["U3", "S3", "O", "M8[s]", "m8[s]", "V4", "longdouble", "i4,i4"])
def test_other_dtypes_are_refused(dtype):
    dtype = np.dtype(dtype)
    assert dtypes.find_storage(dtype) is None
    with pytest.raises(UnsupportedLeafError, match="No checkpoint can hold this dtype"):
        dtypes.storage_dtype(dtype)


def test_an_unknown_name_is_answered_with_its_neighbours():
    with pytest.raises(UnsupportedLeafError, match=r"float32 or float.*found 'float31'"):
        dtypes.from_name("float31")
