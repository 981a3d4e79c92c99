"""A chunk that is decoded as it is read is what TensorStore makes of it, or is left to that."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import tensorstore as ts
import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st

from sealwax.checksum import trailer
from sealwax.effects import ChunkStream, ReadRegions
from sealwax.runtime import streams
from sealwax.runtime.values import Values

KEY = "w/c/0"
PIECE, ROWS = 64, 48


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    """Small arrays are then read in many pieces, and copied in many groups of rows."""
    monkeypatch.setattr(streams, "_PIECE_BYTES", PIECE)
    monkeypatch.setattr(streams, "_ROWS_BYTES", ROWS)


def encode(data: bytes, compressed: bool, indexed: bool, **options: bool) -> bytes:
    payload = zstandard.ZstdCompressor(3, **options).compress(data) if compressed else data
    numbers = bytes(8) + len(payload).to_bytes(8, "little")
    return payload + (numbers + trailer(numbers) if indexed else b"")


class OneFile:
    """A file system of one file, or of none."""

    def __init__(self, content: bytes | None) -> None:
        self.content = content

    def open(self, path: str) -> OneFile:
        if self.content is None:
            raise FileNotFoundError(path)
        return self

    def read(self, parts: list[memoryview], offset: int) -> int:
        (part,) = parts
        data = self.content[offset : offset + min(part.nbytes, 2 * PIECE)]
        part[: len(data)] = data
        return len(data)

    def take(self, nbytes: int, offset: int) -> bytes:
        return self.content[offset : offset + nbytes]

    def size(self) -> int:
        return len(self.content)

    def close(self) -> None:
        pass


EFFECT = ReadRegions(
    directory="/p", database=False, driver="zarr3", leaves=("w",), regions=((),), targets=(0,),
    buffers=(), fill_missing=False, nbytes=0,
)  # fmt: skip


def read(value: bytes | None, stream: ChunkStream, target: np.ndarray) -> bool:
    return streams.read_chunk(Values(OneFile(value)), EFFECT, stream, target)


def stream_of(shape, source=None, *, compressed=True, indexed=True) -> ChunkStream:
    source = tuple(map(slice, [0] * len(shape), shape)) if source is None else source
    return ChunkStream(KEY, shape, source, (), compressed, indexed)


@st.composite
def boxes(draw):
    shape = tuple(draw(st.lists(st.integers(1, 9), max_size=3)))
    ends = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in shape]
    assume(all(low < high for low, high in ends))
    return shape, tuple([slice(*end) for end in ends])


@given(
    boxes(),
    st.sampled_from(["<u1", "<i2", "<f4", "<c16"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 9),
)
def test_any_box_of_a_chunk_is_put_where_it_belongs(box, dtype, compressed, indexed, strided, seed):
    shape, source = box
    rng = np.random.default_rng(seed)
    size = math.prod(shape) * np.dtype(dtype).itemsize
    data = rng.integers(0, 256 if seed % 2 else 2, size).astype(np.uint8).tobytes()
    wanted = np.frombuffer(data, dtype).reshape(shape)[source]
    outer = np.full([n + 2 for n in wanted.shape], 7, dtype)
    if strided:  # A box in a larger buffer, which is not touched around it.
        target = outer[(*[slice(1, -1)] * outer.ndim, ...)]
    else:
        target = np.full(wanted.shape, 7, dtype)
    stream = stream_of(shape, source, compressed=compressed, indexed=indexed)
    assert read(encode(data, compressed, indexed), stream, target)
    assert target.tobytes() == wanted.tobytes()
    if strided:
        target[...] = 7
        assert outer.tobytes() == np.full(outer.shape, 7, dtype).tobytes()


def by_tensorstore(value: bytes, size: int, compressed: bool, indexed: bool) -> bytes | None:
    """The bytes of a chunk as TensorStore decodes them; ``None`` where it finds them damaged."""
    order = {"name": "bytes"}
    codecs = [order, {"name": "zstd"}] if compressed else [order]
    if indexed:
        index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        shard = {"chunk_shape": [size], "codecs": codecs, "index_codecs": index}
        codecs = [{"name": "sharding_indexed", "configuration": shard}]
    grid = {"name": "regular", "configuration": {"chunk_shape": [size]}}
    metadata = {"shape": [size], "chunk_grid": grid, "data_type": "uint8", "codecs": codecs}
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "memory", "path": "w/"},
        "metadata": metadata,
        "fill_missing_data_reads": False,
    }
    context = ts.Context()
    array = ts.open(spec, create=True, context=context).result()
    ts.KvStore.open({"driver": "memory"}, context=context).result()[KEY] = value
    try:
        return array.read().result().tobytes()
    except ValueError:
        return None


@st.composite
def damages(draw, value: bytes):
    kind = draw(st.sampled_from(["flip", "cut", "grow", "swap", "nothing"]))
    at = draw(st.integers(0, len(value) - 1))
    match kind:
        case "flip":
            return value[:at] + bytes([value[at] ^ draw(st.integers(1, 255))]) + value[at + 1 :]
        case "cut":
            return value[:at]
        case "grow":
            return value + draw(st.binary(min_size=1, max_size=2 * PIECE))
        case "swap":
            return value[at:] + value[:at]
        case _:
            return value


@given(st.data(), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_damage_is_left_to_tensorstore_and_nothing_is_written_past_the_buffer(
    data, compressed, indexed, checksum, sized
):
    size = data.draw(st.integers(1, 500))
    content = data.draw(st.binary(min_size=1, max_size=50)) * size
    value = encode(
        content[:size], compressed, indexed, write_checksum=checksum, write_content_size=sized
    )
    damaged = data.draw(damages(value))
    around = np.full(size + 2 * PIECE, 7, np.uint8)
    target = around[PIECE:-PIECE]
    stream = stream_of((size,), compressed=compressed, indexed=indexed)
    if read(damaged, stream, target):
        assert by_tensorstore(damaged, size, compressed, indexed) == target.tobytes()
    target[...] = 7
    assert (around == 7).all()


@pytest.mark.parametrize(
    ("compressed", "indexed"), list(itertools.product([True, False], repeat=2))
)
class TestWhatIsLeftToTensorStore:
    def test_a_chunk_that_is_not_there(self, compressed, indexed):
        stream = stream_of((100,), compressed=compressed, indexed=indexed)
        assert not read(None, stream, np.zeros(100, np.uint8))

    @pytest.mark.parametrize("other", [0, 99, 101, 99 + PIECE])
    def test_a_chunk_of_another_size(self, compressed, indexed, other):
        stream = stream_of((100,), compressed=compressed, indexed=indexed)
        value = encode(np.random.default_rng(0).bytes(other), compressed, indexed)
        assert not read(value, stream, np.zeros(100, np.uint8))


def test_a_frame_without_the_checksum_that_it_announces_is_left_to_tensorstore():
    value = encode(bytes(100), True, False, write_checksum=True)
    stream = stream_of((100,), indexed=False)
    assert read(value, stream, np.zeros(100, np.uint8))
    assert not read(value[:-1], stream, np.zeros(100, np.uint8))


def test_more_than_one_frame_is_left_to_tensorstore():
    value = encode(bytes(100), True, False) + encode(b"", True, False)
    stream = stream_of((100,), indexed=False)
    assert not read(value, stream, np.zeros(100, np.uint8))
