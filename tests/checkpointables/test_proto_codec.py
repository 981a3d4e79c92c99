"""Protocol buffers: their text and back, and what is missing when it is."""

from __future__ import annotations

import pytest
from google.protobuf import struct_pb2, timestamp_pb2, type_pb2, wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

from sealwax.checkpointables import proto_codec
from sealwax.errors import CorruptionError, InvalidCheckpointableError

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_what_comes_back_is_what_went_in(document) -> None:
    message = struct_pb2.Struct()
    message.update(document)
    data = proto_codec.encode(message).unwrap()
    assert proto_codec.decode(data, struct_pb2.Struct).unwrap() == message


def test_a_message_stands_for_its_class_and_stays_as_it_is() -> None:
    data = proto_codec.encode(timestamp_pb2.Timestamp(seconds=7)).unwrap()
    template = timestamp_pb2.Timestamp(seconds=1)
    assert proto_codec.decode(data, template).unwrap().seconds == 7
    assert template.seconds == 1


def test_not_a_number_is_kept() -> None:
    data = proto_codec.encode(wrappers_pb2.DoubleValue(value=float("nan"))).unwrap()
    assert data == b"value: nan\n"


def test_what_is_a_message_and_what_describes_one() -> None:
    message = wrappers_pb2.StringValue(value="x")
    assert proto_codec.is_message(message)
    assert not proto_codec.is_message(wrappers_pb2.StringValue)
    assert proto_codec.is_abstract_message(message)
    assert proto_codec.is_abstract_message(wrappers_pb2.StringValue)
    assert not proto_codec.is_abstract_message(str)


class TestErrors:
    @pytest.mark.parametrize(("abstract", "found"), [(None, "none"), (dict, "class 'dict'")])
    def test_the_class_is_missing(self, abstract, found) -> None:
        error = proto_codec.decode(b"", abstract, "schedule", path="/c/schedule").failure()
        assert isinstance(error, InvalidCheckpointableError)
        for part in ("schedule", "the class of the message", found, "/c/schedule"):
            assert part in str(error)

    def test_it_is_the_class_of_another_message(self) -> None:
        data = proto_codec.encode(timestamp_pb2.Timestamp(seconds=7)).unwrap()
        error = proto_codec.decode(data, wrappers_pb2.StringValue, "schedule").failure()
        assert isinstance(error, CorruptionError)
        for part in ("schedule", "StringValue", "seconds"):
            assert part in str(error)

    def test_it_is_no_text(self) -> None:
        error = proto_codec.decode(b"\xff", wrappers_pb2.StringValue, "schedule").failure()
        assert isinstance(error, CorruptionError)

    def test_it_is_no_message(self) -> None:
        error = proto_codec.encode({"a": 1}, "schedule").failure()
        assert "'schedule' is not a protocol buffer" in str(error)

    def test_text_would_lose_a_field_that_the_class_does_not_know(self) -> None:
        newer = type_pb2.Field(number=3, name="n", json_name="j").SerializeToString()
        message = wrappers_pb2.StringValue.FromString(newer)
        error = proto_codec.encode(message, "schedule").failure()
        assert "unknown fields" in str(error)
