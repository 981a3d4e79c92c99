"""The leaf handlers that are there from the start: NumPy's generators, and dates and times."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import zoneinfo
from typing import Any, TypeVar

import numpy as np

from sealwax.errors import CorruptionError, UnsupportedLeafError
from sealwax.leaf_handlers import LeafHandler, LeafHandlers

M = TypeVar("M", datetime.datetime, datetime.time)

_BIT_GENERATORS: dict[str, type[np.random.BitGenerator]] = {
    kind.__name__: kind
    for kind in (
        np.random.MT19937,
        np.random.PCG64,
        np.random.PCG64DXSM,
        np.random.Philox,
        np.random.SFC64,
    )
}


def _bits(bits: np.random.BitGenerator) -> tuple[Any, Any]:
    state: Any = bits.state
    return state, _seeds(_known(bits, state["bit_generator"]))


def _to_bits(state: Any, seeds: Any) -> np.random.BitGenerator:
    kind = _BIT_GENERATORS.get(state["bit_generator"])
    if kind is None:
        raise CorruptionError(
            "The state of a generator is of a kind that is not known",
            expected=", ".join(_BIT_GENERATORS),
            found=repr(state["bit_generator"]),
        )
    made = kind(0 if seeds is None else np.random.SeedSequence(**seeds))
    made.state = {key: state[key] for key in made.state}
    return made


def _known(bits: np.random.BitGenerator, name: str) -> np.random.BitGenerator:
    if type(bits) is _BIT_GENERATORS.get(name):
        return bits
    raise UnsupportedLeafError(
        "Only NumPy's own bit generators can be stored",
        expected=", ".join(_BIT_GENERATORS),
        found=type(bits).__qualname__,
        hint="Register a LeafHandler for its class.",
    )


def _seeds(bits: np.random.BitGenerator) -> dict[str, Any] | None:
    """What the generators that will be spawned from this one depend on."""
    sequence: Any = bits.seed_seq
    if type(sequence) is not np.random.SeedSequence:
        return None
    entropy: Any = sequence.entropy
    return {
        "entropy": entropy if isinstance(entropy, int) else np.asarray(entropy).tolist(),
        "spawn_key": [int(key) for key in sequence.spawn_key],
        "pool_size": int(sequence.pool_size),
        "n_children_spawned": int(sequence.n_children_spawned),
    }


def _generator(generator: np.random.Generator) -> tuple[Any, Any]:
    return _bits(generator.bit_generator)


def _to_generator(state: Any, seeds: Any) -> np.random.Generator:
    return np.random.Generator(_to_bits(state, seeds))


def _legacy(generator: np.random.RandomState) -> tuple[Any, Any]:
    state = generator.get_state(legacy=False)
    bits: Any = generator
    return state, _seeds(_known(bits._bit_generator, state["bit_generator"]))


def _to_legacy(state: Any, seeds: Any) -> np.random.RandomState:
    made = np.random.RandomState(_to_bits(state, seeds))
    made.set_state(state)
    return made


def _moment(value: datetime.datetime | datetime.time) -> tuple[str, Any]:
    zone: object = value.tzinfo
    data: dict[str, Any] = {"fold": 1} if value.fold else {}
    if isinstance(zone, zoneinfo.ZoneInfo) and zone.key:
        return value.replace(tzinfo=None).isoformat(), data | {"zone": zone.key}
    if zone is None or type(zone) is datetime.timezone:
        name, plain = value.tzname(), value.replace(tzinfo=_unnamed(zone)).tzname()
        return value.isoformat(), (data if name == plain else data | {"name": name}) or None
    raise UnsupportedLeafError(
        "A time in a time zone of this type cannot be stored",
        expected="none, a datetime.timezone or a zoneinfo.ZoneInfo with a key",
        found=type(zone).__qualname__,
        hint="Convert it: value.astimezone(datetime.timezone.utc).",
    )


def _unnamed(zone: datetime.timezone | None) -> datetime.timezone | None:
    return None if zone is None else datetime.timezone(zone.utcoffset(None))


def _to_datetime(text: str, data: Any) -> datetime.datetime:
    return _in_zone(datetime.datetime.fromisoformat(text), data)


def _to_time(text: str, data: Any) -> datetime.time:
    return _in_zone(datetime.time.fromisoformat(text), data)


def _in_zone(moment: M, data: Any) -> M:
    known: dict[str, Any] = data or {}
    zone: datetime.tzinfo | None = moment.tzinfo
    if "zone" in known:
        zone = zoneinfo.ZoneInfo(known["zone"])
    elif "name" in known:
        zone = datetime.timezone(moment.utcoffset() or datetime.timedelta(), known["name"])
    return moment.replace(tzinfo=zone, fold=known.get("fold", 0))


def _date(value: datetime.date) -> tuple[str, None]:
    return value.isoformat(), None


def _to_date(text: str, _: None) -> datetime.date:
    return datetime.date.fromisoformat(text)


def _duration(value: datetime.timedelta) -> tuple[dict[str, int], None]:
    parts = {"days": value.days, "seconds": value.seconds, "microseconds": value.microseconds}
    return parts, None


def _to_duration(parts: dict[str, int], _: None) -> datetime.timedelta:
    return datetime.timedelta(**parts)


STANDARD = LeafHandlers(
    (
        LeafHandler(np.random.Generator, to_leaves=_generator, from_leaves=_to_generator,
                    name="numpy.random.Generator"),
        LeafHandler(np.random.BitGenerator, to_leaves=_bits, from_leaves=_to_bits,
                    name="numpy.random.BitGenerator", derived=True),
        LeafHandler(np.random.RandomState, to_leaves=_legacy, from_leaves=_to_legacy,
                    name="numpy.random.RandomState"),
        LeafHandler(datetime.datetime, to_leaves=_moment,
                    from_leaves=_to_datetime),
        LeafHandler(datetime.date, to_leaves=_date, from_leaves=_to_date),
        LeafHandler(datetime.time, to_leaves=_moment,
                    from_leaves=_to_time),
        LeafHandler(datetime.timedelta, to_leaves=_duration, from_leaves=_to_duration),
    )
)  # fmt: skip


def enum_handler(kind: type[enum.Enum]) -> LeafHandler:
    """A leaf handler for the members of an enumeration: by name, and flags by value.

    Args:
      kind: The enumeration. No class is imported on the word of a file, so each is registered.

    >>> import enum
    >>> Mode = enum.Enum("Mode", "TRAIN EVAL")
    >>> handler = enum_handler(Mode)
    >>> handler.from_leaves(*handler.to_leaves(Mode.EVAL))
    <Mode.EVAL: 2>
    """
    flags = issubclass(kind, enum.Flag)
    apart, together = (_flags, _ToFlags(kind)) if flags else (_member, _ToMember(kind))
    return LeafHandler(kind, to_leaves=apart, from_leaves=together)


def _member(value: enum.Enum) -> tuple[str, None]:
    return value.name, None


def _flags(value: enum.Enum) -> tuple[Any, None]:
    return value.value, None


# Classes, for two handlers of one enumeration to be equal, as closures are not.


@dataclasses.dataclass(frozen=True, slots=True)
class _ToMember:
    kind: type[enum.Enum]

    def __call__(self, name: str, data: None) -> enum.Enum:
        return self.kind[name]


@dataclasses.dataclass(frozen=True, slots=True)
class _ToFlags:
    kind: type[enum.Enum]

    def __call__(self, value: Any, data: None) -> enum.Enum:
        return self.kind(value)
