"""Resolution and typestrings, against Orbax's own."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from orbax.checkpoint.experimental.v1 import handlers as orbax
from orbax.checkpoint.experimental.v1._src.handlers import registration as theirs
from orbax.checkpoint.experimental.v1._src.handlers import resolution as their_resolution
from orbax.checkpoint.experimental.v1._src.handlers import types as their_types

import sealwax as ocp
from sealwax.checkpointables.registry import Registry, as_registry
from sealwax.checkpointables.resolution import resolve_for_load, resolve_for_save
from sealwax.checkpointables.typestrings import typestrings
from sealwax.errors import NoEntryError
from tests.opinionated import Iterator, opinionated

VALUES = [1, "s", 1.5, Iterator()]
TYPES = (int, str, float, Iterator)
KINDS = [
    opinionated(
        f"K{number}",
        saves=tuple(kind for bit, kind in enumerate(TYPES) if number >> bit & 1),
        loads=tuple(kind for bit, kind in enumerate(TYPES) if (number * 7) >> bit & 1),
    )
    for number in range(16)
]
entries = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from([None, None, "x", "y", "state"]),
        st.lists(st.sampled_from(["old.A", "old.B"]), max_size=1),
    ),
    max_size=6,
)


def both(additions) -> tuple[Registry, Any]:
    """The same registry in both libraries, of the additions that both take."""
    ours, registry = Registry(), theirs.local_registry(include_global_registry=False)
    for kind, name, old in additions:
        # Orbax refuses a class for any name once it is there for one, and keeps its last names.
        if any(kind is other for other, _ in ours.get_all_entries()):
            continue
        with contextlib.suppress(ocp.handlers.AlreadyExistsError):
            ours = ours.with_handler(kind, checkpointable_name=name, secondary_typestrs=old)
            registry.add(kind, checkpointable_name=name, secondary_typestrs=old)
    return ours, registry


@settings(max_examples=200)
@given(entries, st.sampled_from(VALUES), st.sampled_from(["x", "y", "z"]))
def test_saving_resolves_as_orbax_does(additions, value, name) -> None:
    ours, registry = both(additions)
    try:
        expected = type(theirs.resolve_handler_for_save(registry, value, name=name))
    except theirs.NoEntryError:
        assert isinstance(resolve_for_save(ours, name, value).failure(), NoEntryError)
    else:
        assert type(resolve_for_save(ours, name, value).unwrap().handler) is expected


@settings(max_examples=200)
@given(
    entries,
    st.sampled_from([None, *VALUES]),
    st.sampled_from(["x", "y", "z"]),
    st.sampled_from([None, "old.A", "gone", *(their_types.typestr(kind) for kind in KINDS)]),
)
def test_loading_resolves_as_orbax_does(additions, abstract, name, recorded) -> None:
    ours, registry = both(additions)
    try:
        expected = type(
            their_resolution._resolve_single_handler_for_load(name, registry, abstract, recorded)
        )
    except theirs.NoEntryError:
        assert isinstance(resolve_for_load(ours, name, abstract, recorded).failure(), NoEntryError)
    else:
        found = resolve_for_load(ours, name, abstract, recorded).unwrap()
        assert type(found.handler) is expected


def test_the_standard_registries_have_the_same_order() -> None:
    def order(registry: Any) -> list[tuple[str, str | None]]:
        return [(kind.__name__, name) for kind, name in registry.get_all_entries()]

    assert order(ocp.handlers.global_registry()) == order(orbax.global_registry())


def test_orbax_finds_the_handler_of_what_we_record_and_we_of_what_orbax_has() -> None:
    registry = orbax.global_registry()
    for kind, name in ocp.handlers.global_registry().get_all_entries():
        their_kind = next(
            k for k, n in registry.get_all_entries() if (k.__name__, n) == (kind.__name__, name)
        )
        found = theirs.resolve_handler_for_load(
            registry, None, name="other", handler_typestr=typestrings(kind)[0]
        )
        # Metrics are recognised by their name, and their files are those of JSON.
        wanted = "JsonHandler" if name == "metrics" else kind.__name__
        assert type(found).__name__ == wanted
        accepted = [their_types.typestr(their_kind), *registry.get_secondary_typestrs(their_kind)]
        assert set(accepted) <= set(typestrings(kind))


def test_a_registry_of_orbax_can_be_read() -> None:
    registry = orbax.local_registry(include_global_registry=False)
    registry.add(KINDS[3], checkpointable_name="x", secondary_typestrs=["old.A"])
    read = as_registry(registry)
    assert read.get("x") is KINDS[3]
    assert read.by_typestring("old.A") is KINDS[3]
    assert as_registry(orbax.global_registry()).has("state")


def test_classes_are_named_as_orbax_names_them() -> None:
    for kind in KINDS:
        assert typestrings(kind)[0] == their_types.typestr(kind)
