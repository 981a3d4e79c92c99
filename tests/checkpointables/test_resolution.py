"""Who saves and loads an item: the order, and what is said when nobody can."""

from __future__ import annotations

import pytest

from sealwax.checkpointables.registry import Registry
from sealwax.checkpointables.resolution import Found, resolve_for_load, resolve_for_save
from sealwax.errors import InvalidCheckpointableError, InvalidHandlerError, NoEntryError
from sealwax.handlers import JsonHandler, global_registry
from tests.opinionated import Iterator, opinionated

A = opinionated("A", saves=(int,), loads=(int,))
B = opinionated("B", saves=(int, str), loads=(int, str))
SELF = opinionated("Self", saves=(Iterator,), loads=(Iterator,))
NEVER = opinionated("Never")


def registry(*entries) -> Registry:
    made = Registry()
    for kind, name in entries:
        made = made.with_handler(kind, checkpointable_name=name)
    return made


def typestring(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def chosen(result) -> tuple[type, Found]:
    resolved = result.unwrap()
    return type(resolved.handler), resolved.found


class TestSaving:
    def test_the_most_recent_that_can(self) -> None:
        known = registry((A, None), (B, None), (NEVER, None))
        assert chosen(resolve_for_save(known, "x", 1)) == (B, Found.ABILITY)

    def test_the_one_for_the_name_even_if_it_says_that_it_cannot(self) -> None:
        known = registry((NEVER, "x"), (A, None))
        assert chosen(resolve_for_save(known, "x", 1)) == (NEVER, Found.NAME)
        assert chosen(resolve_for_save(known, "y", 1)) == (A, Found.ABILITY)

    def test_one_for_another_name_is_never_asked(self) -> None:
        assert isinstance(resolve_for_save(registry((B, "y")), "x", 1).failure(), NoEntryError)

    def test_what_saves_itself_goes_before_the_name(self) -> None:
        known = registry((SELF, None), (NEVER, "x"))
        assert chosen(resolve_for_save(known, "x", Iterator())) == (SELF, Found.ABILITY)
        without = registry((NEVER, "x"))
        assert chosen(resolve_for_save(without, "x", Iterator())) == (NEVER, Found.NAME)

    def test_nothing_cannot_be_saved(self) -> None:
        error = resolve_for_save(global_registry().snapshot, "x", None).failure()
        assert isinstance(error, InvalidCheckpointableError)
        assert "'x' is None" in str(error)

    def test_nobody_can(self) -> None:
        error = resolve_for_save(global_registry().snapshot, "x", {"a": {1, 2}}).failure()
        assert isinstance(error, NoEntryError)
        assert "checkpointable 'x'" in str(error)
        assert "leaf 'a'" in str(error)
        assert "ProtoHandler" not in str(error.hint)

    def test_trees_before_json(self) -> None:
        resolved = resolve_for_save(global_registry().snapshot, "x", {"a": [1, "b"]}).unwrap()
        assert type(resolved.handler).__name__ == "PyTreeHandler"


class TestLoading:
    def test_the_one_for_the_name(self) -> None:
        known = registry((A, "x"), (B, None))
        assert chosen(resolve_for_load(known, "x", None, typestring(B))) == (A, Found.NAME)
        assert chosen(resolve_for_load(known, "x", 1, typestring(B))) == (A, Found.NAME)

    def test_the_recorded_one_where_that_refuses_the_template(self) -> None:
        known = registry((A, "x"), (B, None))
        assert chosen(resolve_for_load(known, "x", "s", typestring(B))) == (B, Found.TYPESTRING)

    def test_the_most_recent_that_accepts_the_template(self) -> None:
        known = registry((A, None), (B, None), (NEVER, None))
        assert chosen(resolve_for_load(known, "x", 1, "gone.Handler")) == (B, Found.ABILITY)
        assert chosen(resolve_for_load(known, "x", 1)) == (B, Found.ABILITY)

    def test_the_one_for_the_name_after_all(self) -> None:
        known = registry((A, "x"), (NEVER, None))
        assert chosen(resolve_for_load(known, "x", 1.5)) == (A, Found.NAME)

    def test_the_one_for_trees_at_last(self) -> None:
        known = registry((NEVER, "state"))
        assert chosen(resolve_for_load(known, "x")) == (NEVER, Found.FALLBACK)

    def test_what_loads_itself_goes_to_the_recorded_one_first(self) -> None:
        known = registry((opinionated("Other", loads=(Iterator,)), "x"), (SELF, None))
        found = chosen(resolve_for_load(known, "x", Iterator(), typestring(SELF)))
        assert found == (SELF, Found.TYPESTRING)

    def test_nobody_can(self) -> None:
        error = resolve_for_load(registry((A, None)), "x", None, "mine.Special").failure()
        assert isinstance(error, NoEntryError)
        assert "mine.Special" in str(error)
        assert "local_registry().add(Special)" in str(error)


class TestBrokenHandlers:
    class Fails(JsonHandler):
        def is_handleable(self, checkpointable):
            return checkpointable.size > 10

        def is_abstract_handleable(self, abstract_checkpointable):
            raise RuntimeError("no idea")

    class CannotBeMade(JsonHandler):
        def __init__(self):
            raise OSError("no connection")

    def test_one_that_fails_when_asked_is_named(self) -> None:
        known = registry((A, None), (self.Fails, None))
        error = resolve_for_save(known, "x", 1).failure()
        assert isinstance(error, InvalidHandlerError)
        for part in ("Fails", "is_handleable", "'x'", "has no attribute 'size'", "type int"):
            assert part in str(error)
        assert isinstance(error.__cause__, AttributeError)
        error = resolve_for_load(known, "x", 1).failure()
        assert "is_abstract_handleable" in str(error)
        assert "no idea" in str(error)

    def test_one_that_cannot_be_made_is_named(self) -> None:
        error = resolve_for_save(registry((self.CannotBeMade, "x")), "x", 1).failure()
        assert isinstance(error, InvalidHandlerError)
        for part in ("CannotBeMade", "'x'", "OSError: no connection"):
            assert part in str(error)

    @pytest.mark.parametrize("broken", [Fails, CannotBeMade])
    def test_one_that_nobody_has_to_ask_is_in_nobodys_way(self, broken) -> None:
        known = registry((broken, None), (A, None), (B, "y"))
        assert chosen(resolve_for_save(known, "x", 1)) == (A, Found.ABILITY)
        assert chosen(resolve_for_save(known, "y", object())) == (B, Found.NAME)
        assert chosen(resolve_for_load(known, "y")) == (B, Found.NAME)

    def test_one_that_implements_nothing_is_passed_over(self) -> None:
        from sealwax.handlers import CheckpointableHandler

        class Nothing(CheckpointableHandler):
            pass

        known = registry((A, None), (Nothing, None))
        assert chosen(resolve_for_save(known, "x", 1)) == (A, Found.ABILITY)
