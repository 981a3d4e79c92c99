"""The content of Orbax's files."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.errors import CorruptionError
from sealwax.layouts.orbax import (
    ArrayFacts,
    Facts,
    array_metadatas,
    checkpoint_metadata,
    find_string,
    parse,
    place_string,
    read_checkpoint_metadata,
    read_key_impls,
    read_shardings,
    shardings,
)

NAMES = st.lists(st.sampled_from(["a", "b", "", "/", "~", "é", "."]), max_size=4).map("".join)


@given(
    start=st.none() | st.integers(0, 2**63),
    end=st.none() | st.integers(0, 2**63),
    custom=st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=3),
)
def test_checkpoint_metadata(start: int | None, end: int | None, custom: dict[str, Any]) -> None:
    data = checkpoint_metadata({"state": "Handler"}, Facts(start, end, custom))
    found = read_checkpoint_metadata(data, "/x")
    assert found == Facts(start, end, custom, {"state": "Handler"})


def test_only_keys_that_orbax_knows_are_written() -> None:
    assert set(json.loads(checkpoint_metadata({}, Facts()))) == {
        *("item_handlers", "metrics", "performance_metrics", "custom_metadata"),
        *("init_timestamp_nsecs", "commit_timestamp_nsecs"),
    }


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (None, Facts()),
        (b"{}", Facts()),
        (b'{"custom_metadata": null, "unknown": 1}', Facts()),
        (b'{"init_timestamp_nsecs": 5}', Facts(5)),
    ],
)
def test_what_is_absent_says_nothing(data: bytes | None, facts: Facts) -> None:
    assert read_checkpoint_metadata(data, "/x") == facts


@pytest.mark.parametrize("data", [b"", b" \n", b"{", b"[]", b"3", b"\xff", b'"x"', b"nul"])
def test_damaged_json_names_the_file(data: bytes) -> None:
    with pytest.raises(CorruptionError) as caught:
        parse(data, "/ckpt/file")
    assert caught.value.path == "/ckpt/file"


@given(records=st.dictionaries(NAMES, st.text(max_size=5), max_size=4))
def test_shardings_are_named_in_base64(records: dict[str, str]) -> None:
    data = shardings(records.items())
    keys = {base64.urlsafe_b64encode(name.encode()).decode() for name in records}
    assert set(json.loads(data)) == keys
    assert read_shardings(data, "/x") == records
    assert read_shardings(None, "/x") == {}


@given(impls=st.dictionaries(NAMES, st.none() | st.sampled_from(["rbg", "x"]), max_size=4))
def test_key_implementations_are_noted_beside_shapes(impls: dict[str, str | None]) -> None:
    data = array_metadatas(ArrayFacts(name, (4,), (2,), impl) for name, impl in impls.items())
    assert read_key_impls(data, "/x") == {n: impl for n, impl in impls.items() if impl}
    assert read_key_impls(None, "/x") == {}


@given(strings=st.dictionaries(NAMES, st.text(max_size=3), max_size=6))
def test_every_string_that_can_be_placed_is_found(strings: dict[str, str]) -> None:
    document: dict[str, Any] = {}
    placed = [name for name, value in strings.items() if place_string(document, name, value)]
    assert {name: find_string(document, name) for name in placed} == {
        name: strings[name] for name in placed
    }
    for name in strings.keys() - placed:
        overlaps = any(
            name == other
            or f"{name}/".startswith(f"{other}/")
            or f"{other}/".startswith(f"{name}/")
            for other in placed
        )
        assert "~" in name or overlaps, name


@pytest.mark.parametrize(
    ("name", "found"),
    [("a/b", "x"), ("a", None), ("a/b/c", None), ("z", None), ("t~1u", "y"), ("v~0", "w")],
)
def test_strings_are_found_as_a_json_pointer_finds_them(name: str, found: str | None) -> None:
    assert find_string({"a": {"b": "x"}, "t/u": "y", "v~": "w"}, name) == found
