"""JSON: what comes back is what went in, Orbax reads the file, and errors say where."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import json
import math
import pathlib
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.checkpointables import json_codec
from sealwax.errors import CorruptionError, InvalidCheckpointableError

numbers = st.one_of(
    st.integers(),
    st.integers(-(10**300), 10**300),
    st.floats(),
    st.floats(width=32).map(np.float32),
    st.integers(-128, 127).map(np.int8),
    st.integers(0, 2**64 - 1).map(np.uint64),
    st.booleans().map(np.bool_),
    st.floats(width=16).map(ml_dtypes.bfloat16),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(st.characters()))
keys = st.one_of(st.text(max_size=3), st.integers(-2, 2), st.booleans(), st.none(), st.floats())


def distinct(value: dict[Any, Any]) -> dict[Any, Any]:
    texts = {k if isinstance(k, str) else json.dumps(k): k for k in value}
    return {key: value[key] for key in texts.values()}


documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4).map(distinct),
    ),
    max_leaves=12,
)


def described(value: object) -> object:
    """The value with its types, so that 1, 1.0, True and NaN are told apart."""
    if isinstance(value, dict):
        return dict, [(described(key), described(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [described(item) for item in value]
    return type(value), repr(value)


def through(value: object) -> Any:
    encoded = json_codec.encode(value).unwrap()
    return json_codec.decode(encoded.data, encoded.notes).unwrap()


class TestLaws:
    @given(documents)
    def test_what_comes_back_is_what_went_in(self, value) -> None:
        assert described(through(value)) == described(value)

    @given(documents)
    def test_without_notes_it_is_what_python_reads(self, value) -> None:
        data = json_codec.encode(value).unwrap().data
        assert described(json_codec.decode(data).unwrap()) == described(json.loads(data))

    @given(st.recursive(scalars.filter(lambda v: not isinstance(v, np.generic)), st.lists))
    def test_plain_json_is_written_as_python_writes_it_and_needs_no_notes(self, value) -> None:
        assert json_codec.encode(value).unwrap() == (json.dumps(value).encode(), None)

    @given(st.binary())
    def test_any_bytes_are_json_or_damage(self, data) -> None:
        try:
            expected = json.loads(data)
        except ValueError:
            assert isinstance(json_codec.decode(data).failure(), CorruptionError)
        else:
            assert described(json_codec.decode(data).unwrap()) == described(expected)


class TestValues:
    def test_the_dialect_is_pythons(self) -> None:
        value = {"a": math.inf, "b": -math.inf, "c": math.nan, "d": -0.0, "e": 1 << 200}
        data = json_codec.encode(value).unwrap().data
        assert data.startswith(b'{"a": Infinity, "b": -Infinity, "c": NaN, "d": -0.0, "e": 16069')
        assert math.copysign(1, through(value)["d"]) == -1

    def test_text_is_kept_whatever_it_holds(self) -> None:
        for text in ("", "é / ~ ☃", "\ud800", "\0", "😀", '"\\'):
            assert through([text]) == [text]

    def test_dicts_keep_their_order_and_become_plain(self) -> None:
        ordered = collections.OrderedDict(b=1, a=2)
        assert list(through(ordered)) == ["b", "a"]
        assert type(through(ordered)) is dict

    def test_a_shared_container_is_no_cycle(self) -> None:
        inner = [1]
        assert through([inner, inner]) == [[1], [1]]

    def test_a_file_that_was_changed_by_hand_counts_as_it_is(self) -> None:
        encoded = json_codec.encode({"a": (1, 2)}).unwrap()
        assert json_codec.decode(b'{"a": [3]}', encoded.notes).unwrap() == {"a": [3]}

    def test_damaged_notes_are_noticed(self) -> None:
        encoded = json_codec.encode({"a": (1, 2)}).unwrap()
        for notes in (b"", b"[]", b"{}", encoded.notes[: len(encoded.notes) // 2]):
            error = json_codec.decode(encoded.data, notes, path="/c/data.json").failure()
            assert isinstance(error, CorruptionError)
            assert "/c/data.json" in str(error)


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Config:
    lr: float


Pair = collections.namedtuple("Pair", "a b")


class TestRefusals:
    @pytest.mark.parametrize(
        ("value", "hint"),
        [
            ({1}, "sorted"),
            (b"x", "base64"),
            (1j, "real"),
            (np.complex64(1j), "item"),
            (np.zeros(3), "tolist"),
            (jnp.zeros(3), "tolist"),
            (jnp.float32(1), "item"),
            (Colour.RED, "name"),
            (Level.LOW, "name"),
            (datetime.date(2026, 1, 1), "isoformat"),
            (datetime.timedelta(1), "total_seconds"),
            (pathlib.Path("/x"), "str"),
            (Config(1.0), "asdict"),
            (Pair(1, 2), "_asdict"),
            (object(), "handler"),
            (np.datetime64("2026"), "item"),
            pytest.param(10**5000, "hex", id="long integer"),
        ],
    )
    def test_what_json_lacks_is_named_with_its_place(self, value, hint) -> None:
        error = json_codec.encode({"lr": [0, 1, 2, value]}, "config").failure()
        assert isinstance(error, InvalidCheckpointableError)
        assert isinstance(error, TypeError)
        assert "config['lr'][3]" in str(error)
        assert hint in str(error.hint)
        if not isinstance(value, int):
            assert type(value).__name__ in str(error)

    def test_a_key_that_is_no_json_key(self) -> None:
        error = json_codec.encode({"a": {(1, 2): 3}}, "config").failure()
        assert "A key of config['a']" in str(error)
        assert "tuple: (1, 2)" in str(error)

    def test_keys_that_json_does_not_tell_apart(self) -> None:
        assert "both '1'" in str(json_codec.encode({1: 0, "1": 0}).failure())

    def test_a_cycle(self) -> None:
        value: dict[str, Any] = {"a": [1]}
        value["a"].append(value)
        error = json_codec.encode(value, "config").failure()
        assert "config['a'][1]" in str(error)
        assert "holds itself" in str(error)

    @pytest.mark.parametrize("depth", [json_codec.DEPTH + 1, 100_000])
    def test_too_deep(self, depth) -> None:
        value: list[Any] = []
        for _ in range(depth):
            value = [value]
        assert "too deeply" in str(json_codec.encode(value, "config").failure())

    def test_as_deep_as_it_may_be(self) -> None:
        value: Any = 1
        for _ in range(json_codec.DEPTH):
            value = (value,)
        assert through(value) == value

    @pytest.mark.parametrize("data", [b"", b" ", b"{", b"\xff", b"[" * 100_000])
    def test_a_file_that_is_no_json(self, data) -> None:
        error = json_codec.decode(data, path="/c/data.json").failure()
        assert isinstance(error, CorruptionError)
        assert "/c/data.json" in str(error)


class TestFiles:
    def test_both_generations_find_theirs(self) -> None:
        assert json_codec.written() == ("data.json", "metadata")
        assert json_codec.written("metadata") == ("metadata",)
        assert json_codec.searched("mine.json") == ("mine.json", "data.json", "metadata")
        for name in (None, "mine.json", "metrics"):
            files = json_codec.files(json_codec.encode([1]).unwrap(), name)
            assert set(files) == set(json_codec.written(name))
