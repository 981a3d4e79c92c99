"""Registries are values; handles are variables that hold one."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax as ocp
from sealwax.checkpointables.registry import Registry, as_registry
from sealwax.checkpointables.typestrings import JSON, PYTREE, typestrings
from sealwax.errors import AlreadyExistsError, InvalidHandlerError, NoEntryError
from sealwax.handlers import JsonHandler, ProtoHandler, PyTreeHandler
from sealwax.verbs import registration
from tests.opinionated import opinionated

KINDS = [opinionated(name) for name in "ABCD"]
entries = st.tuples(st.sampled_from(KINDS), st.sampled_from([None, "x", "y", "z"]))


def grown(additions) -> Registry:
    """A registry with those of the additions that it takes."""
    made = Registry()
    for kind, name in additions:
        with contextlib.suppress(AlreadyExistsError):
            made = made.with_handler(kind, checkpointable_name=name)
    return made


class TestValues:
    @given(st.lists(entries), entries)
    def test_adding_leaves_the_old_one_alone(self, additions, addition) -> None:
        before = grown(additions)
        kept = before.get_all_entries()
        grown([*before.get_all_entries(), addition])
        assert before.get_all_entries() == kept

    @given(st.lists(entries))
    def test_entries_stay_in_order_and_names_are_unique(self, additions) -> None:
        made = grown(additions).get_all_entries()
        assert list(made) == list(dict.fromkeys(made))
        names = [name for _, name in made if name is not None]
        assert len(names) == len(set(names))

    @given(st.lists(entries))
    def test_a_name_has_the_handler_that_was_first_given_to_it(self, additions) -> None:
        made = grown(additions)
        for name in ("x", "y", "z"):
            first = next((kind for kind, other in additions if other == name), None)
            assert made.has(name) == (first is not None)
            if first is not None:
                assert made.get(name) is first

    @given(st.lists(entries))
    def test_merging_is_idempotent_and_has_a_neutral_element(self, additions) -> None:
        made = grown(additions)
        assert made.merged(made) == made == made.merged(Registry()) == Registry().merged(made)

    def test_a_registry_is_frozen_and_equal_by_value(self) -> None:
        made = Registry().with_handler(JsonHandler)
        assert made == Registry().with_handler(JsonHandler)
        assert hash(made) == hash(Registry().with_handler(JsonHandler))
        assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made
        with pytest.raises(dataclasses.FrozenInstanceError):
            made.entries = ()  # type: ignore[misc]


class TestRefusals:
    def test_an_instance(self) -> None:
        with pytest.raises(InvalidHandlerError, match="without parentheses") as caught:
            Registry().with_handler(JsonHandler())  # type: ignore[arg-type]
        assert isinstance(caught.value, ValueError)

    def test_a_class_that_is_no_handler(self) -> None:
        with pytest.raises(InvalidHandlerError, match="without save, load"):
            Registry().with_handler(int)

    def test_a_constructor_that_needs_arguments(self) -> None:
        class Needy(JsonHandler):
            def __init__(self, root, *, depth):
                super().__init__()

        with pytest.raises(InvalidHandlerError, match=r"Needy .*required parameters root, depth"):
            Registry().with_handler(Needy, checkpointable_name="x")

    def test_the_same_class_twice(self) -> None:
        registry = Registry().with_handler(JsonHandler)
        with pytest.raises(AlreadyExistsError, match="JsonHandler is registered already"):
            registry.with_handler(JsonHandler)
        assert registry.with_handler(JsonHandler, checkpointable_name="a").has("a")

    def test_the_same_name_twice(self) -> None:
        registry = Registry().with_handler(JsonHandler, checkpointable_name="a")
        with pytest.raises(AlreadyExistsError, match=r"'a' has a handler.*Found JsonHandler"):
            registry.with_handler(ProtoHandler, checkpointable_name="a")

    @pytest.mark.parametrize("name", ["", 3])
    def test_a_name_that_is_none(self, name) -> None:
        with pytest.raises(InvalidHandlerError, match="name of a checkpointable"):
            Registry().with_handler(JsonHandler, checkpointable_name=name)

    def test_typestrings_in_one_string(self) -> None:
        with pytest.raises(InvalidHandlerError, match="as a sequence"):
            Registry().with_handler(JsonHandler, secondary_typestrs="a.B")

    def test_asking_for_a_name_without_a_handler(self) -> None:
        with pytest.raises(NoEntryError, match="'b'.*'a'") as caught:
            Registry().with_handler(JsonHandler, checkpointable_name="a").get("b")
        assert isinstance(caught.value, KeyError)


class TestHandles:
    def test_adding_puts_another_value_there(self) -> None:
        handle = ocp.handlers.local_registry(include_global_registry=False)
        before = handle.snapshot
        assert handle.add(JsonHandler) is handle
        assert before == Registry()
        assert handle.snapshot == Registry().with_handler(JsonHandler)

    def test_concurrent_additions_lose_none(self) -> None:
        handle = ocp.handlers.local_registry(include_global_registry=False)
        start = threading.Barrier(8)

        def add(worker: int) -> None:
            start.wait()
            for number in range(20):
                handle.add(JsonHandler, checkpointable_name=f"{worker}.{number}")

        threads = [threading.Thread(target=add, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(handle.get_all_entries()) == 160

    def test_a_local_registry_starts_as_the_global_one_and_goes_its_own_way(self) -> None:
        local = ocp.handlers.local_registry()
        assert local.snapshot == ocp.handlers.global_registry().snapshot
        local.add(opinionated("Mine"))
        assert local.snapshot != ocp.handlers.global_registry().snapshot

    def test_a_local_registry_of_the_global_one_is_the_same_again(self) -> None:
        local = ocp.handlers.local_registry(ocp.handlers.global_registry())
        assert local.snapshot == ocp.handlers.global_registry().snapshot

    def test_a_local_registry_of_another_has_its_handlers_last(self) -> None:
        mine = opinionated("Mine")
        other = ocp.handlers.local_registry(include_global_registry=False).add(mine)
        assert ocp.handlers.local_registry(other).get_all_entries()[-1] == (mine, None)
        assert as_registry(other) is other.snapshot

    def test_registering_decorates(self, monkeypatch) -> None:
        monkeypatch.setattr(registration, "_GLOBAL", registration.RegistryHandle())
        mine = opinionated("Mine")
        assert ocp.handlers.register_handler(mine, checkpointable_name="x") is mine
        assert ocp.handlers.global_registry().get("x") is mine

    def test_the_standard_handlers_in_their_order(self) -> None:
        kinds = [(k.__name__, n) for k, n in ocp.handlers.global_registry().get_all_entries()]
        assert kinds == [
            ("ProtoHandler", None),
            ("JsonHandler", None),
            ("StatefulCheckpointableHandler", None),
            ("MetricsHandler", "metrics"),
            ("PyTreeHandler", None),
            ("PyTreeHandler", "state"),
        ]


class TestContexts:
    def test_a_context_carries_a_value_or_a_handle(self) -> None:
        value = Registry().with_handler(JsonHandler)
        handle = registration.RegistryHandle(value)
        for registry in (value, handle):
            ctx = ocp.Context()
            ctx.checkpointables.registry = registry
            assert ctx.checkpointables.registry is registry
            assert registration.registry_of(ctx.options) == value

    def test_without_one_the_global_registry_applies(self) -> None:
        everybodys = ocp.handlers.global_registry().snapshot
        assert registration.registry_of(ocp.Context().options) is everybodys

    def test_what_an_operation_holds_does_not_change(self) -> None:
        ctx = ocp.Context()
        handle = ctx.checkpointables.registry = ocp.handlers.local_registry()
        held = registration.registry_of(ctx.options)
        handle.add(JsonHandler, checkpointable_name="late")
        assert not held.has("late")
        assert registration.registry_of(ctx.options).has("late")

    def test_any_object_with_the_methods_is_read(self) -> None:
        class Foreign:
            def get(self, checkpointable_name):
                return JsonHandler

            def has(self, checkpointable_name):
                return True

            def get_all_entries(self):
                return [(JsonHandler, "a"), (ProtoHandler, None)]

            def get_secondary_typestrs(self, handler_type):
                return ["old.Proto"] if handler_type is ProtoHandler else []

        ctx = ocp.Context()
        ctx.checkpointables.registry = Foreign()
        read = registration.registry_of(ctx.options)
        assert read.get_all_entries() == ((JsonHandler, "a"), (ProtoHandler, None))
        assert read.by_typestring("old.Proto") is ProtoHandler


class TestTypestrings:
    def test_what_is_written_is_what_both_generations_resolve(self) -> None:
        assert PYTREE[0].endswith("src.handlers.pytree_checkpoint_handler.PyTreeCheckpointHandler")
        assert JSON[0] == (
            "orbax.checkpoint._src.handlers.json_checkpoint_handler.JsonCheckpointHandler"
        )

    def test_a_standard_class_answers_to_all_its_counterparts(self) -> None:
        registry = Registry().with_handler(PyTreeHandler)
        for name in (*PYTREE, "sealwax.verbs.tree_handler.PyTreeHandler"):
            assert registry.by_typestring(name) is PyTreeHandler
        assert registry.by_typestring(JSON[0]) is None

    def test_a_subclass_answers_to_its_own_name_only(self) -> None:
        class Derived(JsonHandler):
            pass

        assert typestrings(Derived) == (f"{Derived.__module__}.{Derived.__qualname__}",)

    def test_the_most_recent_answers(self) -> None:
        a, b = opinionated("A"), opinionated("B")
        registry = (
            Registry()
            .with_handler(a, secondary_typestrs=["old"])
            .with_handler(b, checkpointable_name="b", secondary_typestrs=["old"])
        )
        assert registry.by_typestring("old") is b
        assert registry.get_secondary_typestrs(a) == ("old",)
