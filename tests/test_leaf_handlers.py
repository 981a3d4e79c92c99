"""Types of leaves that users teach sealwax, and those that it knows from the start."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import enum
import math
import pickle
import zoneinfo
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax as ocp
from sealwax.errors import (
    AlreadyExistsError,
    InvalidHandlerError,
    LeafMismatchError,
    UnregisteredLeafError,
    UnsupportedLeafError,
)
from sealwax.handlers import STANDARD_LEAF_HANDLERS, LeafHandler, LeafHandlers, enum_handler


@dataclasses.dataclass
class Quantized:
    """An array of integers and its scale: no pytree, so that JAX takes it for a leaf."""

    values: jax.Array
    scale: float
    note: Any = None


@dataclasses.dataclass(frozen=True)
class AbstractQuantized:
    shape: tuple[int, ...]
    sharding: Any = None


def apart(leaf: Quantized) -> tuple[Any, Any]:
    return {"values": leaf.values, "scale": leaf.scale}, {"note": leaf.note}


def together(parts: Any, data: Any) -> Quantized:
    return Quantized(parts["values"], parts["scale"], data["note"])


def template(wanted: Any) -> Any:
    if not isinstance(wanted, AbstractQuantized):
        return None
    array = jax.ShapeDtypeStruct(wanted.shape, jnp.int8, sharding=wanted.sharding)
    return {"values": array, "scale": float}


def describe(parts: Any, data: Any) -> AbstractQuantized:
    return AbstractQuantized(parts["values"].shape)


QUANTIZED = LeafHandler(
    Quantized,
    to_leaves=apart,
    from_leaves=together,
    name="quantized",
    abstract=AbstractQuantized,
    template=template,
    describe=describe,
)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@pytest.fixture
def ctx() -> ocp.Context:
    made = ocp.Context()
    made.pytree.leaf_handlers = made.pytree.leaf_handlers.with_handler(QUANTIZED)
    return made


@pytest.fixture
def saved(tmp_path: Path, ctx: ocp.Context) -> Path:
    leaf = Quantized(jnp.arange(6, dtype=jnp.int8).reshape(2, 3), 0.5, ("a", 1))
    ocp.save(tmp_path / "ckpt", {"layers": [{"w": leaf}], "step": 7}, context=ctx)
    return tmp_path / "ckpt"


def is_whole(leaf: Any) -> bool:
    assert type(leaf) is Quantized
    assert isinstance(leaf.values, jax.Array)
    return leaf.values.tolist() == [[0, 1, 2], [3, 4, 5]] and leaf.scale == 0.5


class TestATypeOfOnesOwn:
    def test_it_comes_back_without_a_template(self, saved, ctx) -> None:
        loaded = ocp.load(saved, context=ctx)
        assert is_whole(loaded["layers"][0]["w"])
        assert loaded["layers"][0]["w"].note == ("a", 1)
        assert loaded["step"] == 7

    @pytest.mark.parametrize(
        "wanted",
        [Quantized(jnp.zeros(1), 1.0), Quantized, AbstractQuantized, AbstractQuantized((2, 3))],
    )
    def test_it_comes_back_with_one(self, saved, ctx, wanted) -> None:
        loaded = ocp.load(saved, {"layers": [{"w": wanted}], "step": 0}, context=ctx)
        assert is_whole(loaded["layers"][0]["w"])

    def test_the_template_reaches_its_parts(self, saved, ctx) -> None:
        device = jax.devices()[-1]
        placed = AbstractQuantized((2, 3), jax.sharding.SingleDeviceSharding(device))
        loaded = ocp.load(saved, {"layers": [{"w": placed}], "step": 0}, context=ctx)
        assert loaded["layers"][0]["w"].values.devices() == {device}
        wrong = AbstractQuantized((3, 3))
        with pytest.raises(LeafMismatchError, match="shape") as caught:
            ocp.load(saved, {"layers": [{"w": wrong}], "step": 0}, context=ctx)
        assert caught.value.leaf == "layers.0.w"

    def test_metadata_shows_it_as_a_leaf_and_is_a_template(self, saved, ctx) -> None:
        found = ocp.metadata(saved, context=ctx)
        assert found.metadata["layers"][0]["w"] == AbstractQuantized((2, 3))
        assert is_whole(ocp.load(saved, found, context=ctx)["layers"][0]["w"])

    def test_a_template_of_another_type(self, saved, ctx) -> None:
        for wanted in (1.0, np.zeros((2, 3)), "text"):
            with pytest.raises(LeafMismatchError, match="a leaf of type quantized"):
                ocp.load(saved, {"layers": [{"w": wanted}], "step": 0}, context=ctx)

    def test_a_template_of_its_parts_gives_the_parts(self, saved, ctx) -> None:
        parts = {"values": np.ndarray, "scale": float}
        loaded = ocp.load(saved, {"layers": [{"w": parts}], "step": 0}, context=ctx)
        assert loaded["layers"][0]["w"]["scale"] == 0.5

    def test_it_can_be_skipped_selected_and_loaded_into_a_state(self, saved, ctx) -> None:
        skipped = ocp.load(saved, {"layers": [{"w": ...}], "step": 0}, context=ctx)
        assert skipped == {"layers": [{"w": ...}], "step": 7}
        chosen = ocp.load(saved, select="layers.0.w", context=ctx)
        assert is_whole(chosen["layers"][0]["w"])
        state = {"layers": [{"w": Quantized(jnp.zeros(1), 0.0)}], "other": 1}
        into = ocp.load_into(saved, state, select="layers", context=ctx)
        assert is_whole(into.tree["layers"][0]["w"])
        assert into.tree["other"] == 1

    def test_one_of_several_checkpointables(self, tmp_path, ctx) -> None:
        leaf = Quantized(jnp.arange(6, dtype=jnp.int8).reshape(2, 3), 0.5)
        with ctx:
            ocp.save_checkpointables(tmp_path / "several", {"a": {"w": leaf}, "b": [1]})
            assert is_whole(ocp.load_checkpointables(tmp_path / "several")["a"]["w"])
            found = ocp.checkpointables_metadata(tmp_path / "several").metadata
        assert found["a"]["w"] == AbstractQuantized((2, 3))

    def test_donation_after_an_async_save_alters_nothing(self, tmp_path, ctx) -> None:
        leaf = Quantized(jnp.arange(6, dtype=jnp.int8).reshape(2, 3), 0.5)
        response = ocp.save_async(tmp_path / "ckpt", {"w": leaf}, context=ctx)
        leaf.values.delete()
        response.result()
        assert is_whole(ocp.load(tmp_path / "ckpt", context=ctx)["w"])

    def test_storage_options_are_asked_for_each_part(self, tmp_path, ctx) -> None:
        seen: list[str] = []
        ctx.array.saving.scoped_storage_options_creator = lambda path, _: seen.append(
            jax.tree_util.keystr(path)
        )
        leaf = Quantized(jnp.ones(3), 0.5)
        ocp.save(tmp_path / "ckpt", {"a": np.ones(2), "w": leaf}, context=ctx)
        assert "['w']['values']" in seen


class TestWithoutItsHandler:
    def test_the_error_names_the_type_and_what_to_do(self, saved) -> None:
        with pytest.raises(UnregisteredLeafError) as caught:
            ocp.load(saved)
        assert caught.value.leaf == "layers.0.w"
        for part in ("type quantized", "ctx.pytree.leaf_handlers", '= "parts"', str(saved)):
            assert part in str(caught.value)

    def test_what_else_is_there_can_be_loaded(self, saved) -> None:
        assert ocp.load(saved, {"layers": ..., "step": 0})["step"] == 7
        assert ocp.load(saved, select="step") == {"step": 7}

    def test_its_parts_are_loaded_on_request(self, saved) -> None:
        ctx = ocp.Context()
        ctx.pytree.loading.unregistered_leaves = "parts"
        leaf = ocp.load(saved, context=ctx)["layers"][0]["w"]
        assert leaf["scale"] == 0.5
        assert leaf["values"].shape == (2, 3)
        assert ocp.load(saved, ocp.metadata(saved))["layers"][0]["w"]["scale"] == 0.5

    def test_it_cannot_be_saved(self, tmp_path) -> None:
        with pytest.raises(UnsupportedLeafError, match="LeafHandler"):
            ocp.save(tmp_path / "ckpt", {"w": Quantized(jnp.ones(1), 1.0)})
        assert not (tmp_path / "ckpt").exists()


class TestHandlersThatFail:
    def test_data_that_is_not_plain(self, tmp_path, ctx) -> None:
        leaf = Quantized(jnp.ones(1), 1.0, note=object())
        with pytest.raises(UnsupportedLeafError, match=r"data\['note'\]") as caught:
            ocp.save(tmp_path / "ckpt", {"a": {"w": leaf}}, context=ctx)
        assert caught.value.leaf == "a.w"
        assert not (tmp_path / "ckpt").exists()

    def test_a_part_that_cannot_be_stored(self, tmp_path, ctx) -> None:
        with pytest.raises(UnsupportedLeafError) as caught:
            ocp.save(tmp_path / "ckpt", {"w": Quantized(object(), 1.0)}, context=ctx)  # type: ignore[arg-type]
        assert caught.value.leaf == "w.values"

    def test_what_cannot_be_put_together_again(self, saved) -> None:
        def fails(parts, data):
            raise KeyError("scale")

        ctx = ocp.Context()
        broken = dataclasses.replace(QUANTIZED, from_leaves=fails)
        ctx.pytree.leaf_handlers = LeafHandlers((broken,))
        with pytest.raises(LeafMismatchError, match="quantized failed in from_leaves: KeyError"):
            ocp.load(saved, context=ctx)
        assert ocp.load(saved, select="step", context=ctx) == {"step": 7}


class TestHandlersAreValues:
    def test_adding_gives_another_one(self) -> None:
        more = STANDARD_LEAF_HANDLERS.with_handler(QUANTIZED)
        assert STANDARD_LEAF_HANDLERS.find(Quantized) is None
        assert more.find(Quantized) is QUANTIZED
        assert more.named("quantized") is QUANTIZED
        assert hash(more) == hash(STANDARD_LEAF_HANDLERS.with_handler(QUANTIZED))
        assert copy.deepcopy(more) == pickle.loads(pickle.dumps(more)) == more

    def test_two_for_one_enumeration_are_equal(self) -> None:
        assert enum_handler(Colour) == enum_handler(Colour)
        assert pickle.loads(pickle.dumps(enum_handler(Access))) == enum_handler(Access)

    def test_one_for_the_same_type_takes_its_place(self) -> None:
        other = dataclasses.replace(QUANTIZED, name="other")
        both = LeafHandlers().with_handler(QUANTIZED).with_handler(other)
        assert both.handlers == (other,)

    def test_a_name_is_that_of_one_type(self) -> None:
        with pytest.raises(AlreadyExistsError, match="'quantized'"):
            LeafHandlers((QUANTIZED,)).with_handler(dataclasses.replace(QUANTIZED, type=Colour))

    def test_a_type_is_needed(self) -> None:
        with pytest.raises(InvalidHandlerError, match="for a type"):
            dataclasses.replace(QUANTIZED, type="Quantized")

    def test_derived_types_only_where_that_is_said(self) -> None:
        class Derived(Quantized):
            pass

        assert LeafHandlers((QUANTIZED,)).find(Derived) is None
        wide = dataclasses.replace(QUANTIZED, derived=True)
        assert LeafHandlers((wide,)).find(Derived) is wide


def through(tmp_path: Path, value: Any, **kwargs: Any) -> Any:
    ocp.save(tmp_path / "ckpt", {"x": value}, overwrite=True, **kwargs)
    return ocp.load(tmp_path / "ckpt", **kwargs)["x"]


BITS = [
    np.random.MT19937,
    np.random.PCG64,
    np.random.PCG64DXSM,
    np.random.Philox,
    np.random.SFC64,
]


class TestNumpysGenerators:
    @pytest.mark.parametrize("bits", BITS)
    def test_a_generator_goes_on_where_it_was(self, tmp_path, bits) -> None:
        old = np.random.Generator(bits(np.random.SeedSequence([1, 2], spawn_key=(3,))))
        old.spawn(2)
        old.integers(0, 5, dtype=np.int32)  # Leaves half of a draw for the next one.
        new = through(tmp_path, old)
        assert type(new.bit_generator) is bits
        assert new.integers(0, 5, 9, dtype=np.int32).tolist() == (
            old.integers(0, 5, 9, dtype=np.int32).tolist()
        )
        assert new.normal(size=5).tolist() == old.normal(size=5).tolist()
        assert new.spawn(1)[0].random() == old.spawn(1)[0].random()

    @pytest.mark.parametrize("bits", BITS)
    def test_so_does_a_random_state(self, tmp_path, bits) -> None:
        old = np.random.RandomState(bits(7))
        old.normal()  # Leaves a second deviate for the next call.
        new = through(tmp_path, old)
        assert new.normal(size=3).tolist() == old.normal(size=3).tolist()
        assert new.random_sample(4).tolist() == old.random_sample(4).tolist()

    def test_and_a_bit_generator_alone(self, tmp_path) -> None:
        old = np.random.PCG64(7)
        assert through(tmp_path, old).random_raw() == old.random_raw()

    def test_one_of_another_library_is_refused(self, tmp_path) -> None:
        class Mine(np.random.PCG64):
            pass

        with pytest.raises(UnsupportedLeafError, match="NumPy's own"):
            through(tmp_path, np.random.Generator(Mine(1)))


zones = st.one_of(
    st.none(),
    st.just(datetime.UTC),
    st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)).map(
        datetime.timezone
    ),
    st.just(datetime.timezone(datetime.timedelta(hours=1), "CET")),
)
NAMED = zoneinfo.ZoneInfo("UTC")


class TestTimes:
    @given(
        st.one_of(
            st.datetimes(timezones=zones),
            st.dates(),
            st.times(timezones=zones),
            st.timedeltas(),
        )
    )
    def test_the_parts_give_the_same_back(self, value) -> None:
        handler = STANDARD_LEAF_HANDLERS.find(type(value))
        assert handler is not None
        again = handler.from_leaves(*handler.to_leaves(value))
        assert repr(again) == repr(value)

    def test_they_come_back(self, tmp_path) -> None:
        values = [
            datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=NAMED),
            datetime.date(2026, 1, 2),
            datetime.time(1, 2, 3),
            datetime.timedelta(-3, 5, 7),
        ]
        assert repr(through(tmp_path, values)) == repr(values)

    def test_a_zone_that_cannot_be_named_is_refused(self, tmp_path) -> None:
        class Zone(datetime.tzinfo):
            def utcoffset(self, dt):
                return datetime.timedelta(0)

        with pytest.raises(UnsupportedLeafError, match="time zone"):
            through(tmp_path, datetime.datetime(2026, 1, 1, tzinfo=Zone()))

    def test_a_derived_type_is_not_turned_into_its_base(self, tmp_path) -> None:
        class Stamp(datetime.datetime):
            pass

        with pytest.raises(UnsupportedLeafError):
            through(tmp_path, Stamp(2026, 1, 1))


class TestEnumerations:
    @pytest.mark.parametrize("member", [Colour.RED, Access.READ | Access.WRITE, Access(0)])
    def test_members_come_back_once_registered(self, tmp_path, member) -> None:
        ctx = ocp.Context()
        ctx.pytree.leaf_handlers = ctx.pytree.leaf_handlers.with_handler(enum_handler(type(member)))
        assert through(tmp_path, member, context=ctx) is member
        with pytest.raises(UnregisteredLeafError, match=type(member).__name__):
            ocp.load(tmp_path / "ckpt")

    def test_a_member_that_is_gone(self, tmp_path) -> None:
        ctx = ocp.Context(
            pytree_options=ocp.options.PyTreeOptions(
                leaf_handlers=LeafHandlers((enum_handler(Colour),))
            )
        )
        ocp.save(tmp_path / "ckpt", {"c": Colour.BLUE}, context=ctx)
        later = dataclasses.replace(
            enum_handler(enum.Enum("Colour", "RED")), name=enum_handler(Colour).name
        )
        ctx.pytree.leaf_handlers = LeafHandlers((later,))
        with pytest.raises(LeafMismatchError, match="KeyError: 'BLUE'"):
            ocp.load(tmp_path / "ckpt", context=ctx)


def test_a_load_of_standard_leaves_costs_nothing_for_handlers(tmp_path) -> None:
    ocp.save(tmp_path / "ckpt", {"w": np.ones(2)})
    manifest = (tmp_path / "ckpt" / "state" / "_SEALWAX").read_bytes()
    assert b"composites" not in manifest
    assert math.isclose(ocp.load(tmp_path / "ckpt")["w"].sum(), 2)
