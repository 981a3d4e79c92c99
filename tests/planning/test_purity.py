"""The purity contract: planning touches no file, clock, device or thread."""

from __future__ import annotations

import contextlib
import datetime
import random
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import sealwax
from sealwax.context import Context
from sealwax.planning.load import LoadRequest, plan_load
from sealwax.planning.requests import SaveRequest, Site
from sealwax.planning.save import plan_save
from sealwax.runtime import background
from sealwax.runtime.observe import find, read_contents
from sealwax.runtime.operation import Operation
from tests.planning.requests import FREE, TAKEN, request_for

HARMLESS = {"builtins.id", "code.__new__", "object.__getattr__", "object.__setattr__"}
CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns",
          "process_time", "sleep", "gmtime", "localtime")  # fmt: skip

_seen: list[str] = []
_watched: int | None = None


def _audit(event: str, _: tuple[Any, ...]) -> None:
    if _watched == threading.get_ident() and event not in HARMLESS:
        _seen.append(event)


# An audit hook cannot be taken back, so there is one, with a switch.
sys.addaudithook(_audit)


@contextlib.contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Collects what the block does to the world: a name for each thing done."""
    global _watched
    _seen.clear()

    def told(name: str) -> Any:
        def do(*_: Any, **__: Any) -> Any:
            _seen.append(name)
            raise AssertionError(f"{name} was called")

        return do

    with monkeypatch.context() as patch:
        for name in CLOCKS:
            patch.setattr(time, name, told(f"time.{name}"))
        patch.setattr(datetime, "datetime", told("datetime"))
        patch.setattr(threading.Thread, "start", told("Thread.start"))
        patch.setattr(jax, "device_put", told("jax.device_put"))
        patch.setattr(jax, "device_get", told("jax.device_get"))
        patch.setattr(jax, "devices", told("jax.devices"))
        for module in (secrets, random):
            patch.setattr(module, "randbytes" if module is random else "token_hex", told("random"))
        threads = set(threading.enumerate())
        with jax.transfer_guard("disallow"):
            _watched = threading.get_ident()
            try:
                yield _seen
            finally:
                _watched = None
        assert set(threading.enumerate()) <= threads  # those of other tests may end meanwhile


def sharded() -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.devices()), "x"), PartitionSpec("x"))


def state() -> dict[str, Any]:
    return {
        "jax": jax.device_put(np.arange(8, dtype=np.float32), sharded()),
        "key": jax.random.key(0),
        "bf16": jnp.zeros((4, 4), jnp.bfloat16),
        "numpy": np.arange(100_000.0),
        "fortran": np.zeros((8, 8), order="F"),
        "step": 3,
        "text": "hello",
        "raw": b"raw",
        "nested": ({"none": None, "empty": {}}, [1.5]),
    }


def save_request(**parts: Any) -> SaveRequest:
    """A request whose JAX arrays have no data any more: planning must not ask for it."""
    tree = state()
    request = request_for(tree, **parts)
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array):
            leaf.delete()
    return request


def load_request(template: Any = None, **parts: Any) -> LoadRequest:
    return LoadRequest(path="/c", options=Context().options, template=template, **parts)


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = str(tmp_path_factory.mktemp("purity") / "c")
    sealwax.save(path, state())

    async def read() -> Any:
        async with Operation(
            title="save", path=path, options=Context().options
        ).performing() as perform:
            return await read_contents(perform, await find(perform, path), "state")

    return background.run(read, "read")


def templates() -> list[Any]:
    given = state()
    abstract = jax.tree.map(
        lambda leaf: (
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            if isinstance(leaf, jax.Array)
            else leaf
        ),
        given,
    )
    skipping = dict.fromkeys(given, ...) | {"numpy": np.zeros(100_000)}
    deleted = state()
    for leaf in jax.tree.leaves(deleted):
        if isinstance(leaf, jax.Array):
            leaf.delete()
    return [None, abstract, skipping, deleted]


@pytest.mark.parametrize(
    "site", [FREE, TAKEN, Site(entry=None, missing=("/runs",), token="0" * 32, now=1)]
)
@pytest.mark.parametrize("background_save", [False, True])
def test_planning_a_save_touches_nothing(monkeypatch, site, background_save):
    parts = {"overwrite": True, "background": background_save}
    warm = plan_save(save_request(**parts), site).unwrap()
    request = save_request(**parts)
    with watched(monkeypatch) as seen:
        made = plan_save(request, site)
    assert seen == []
    assert made.unwrap().effects == warm.effects


def test_refusing_a_save_touches_nothing(monkeypatch):
    request = save_request()
    plan_save(request, TAKEN).failure()
    with watched(monkeypatch) as seen:
        made = plan_save(request, TAKEN)
    assert seen == []
    assert made.failure().path == request.path


@pytest.mark.parametrize("number", range(4), ids=["as saved", "abstract", "part", "deleted"])
def test_planning_a_load_touches_nothing(monkeypatch, contents, number):
    request = load_request(templates()[number], x64=True, devices=tuple(jax.devices()))
    warm = plan_load(request, contents).unwrap()
    with watched(monkeypatch) as seen:
        made = plan_load(request, contents)
    assert seen == []
    assert str(made.unwrap()) == str(warm)
    assert made.unwrap().bytes > 0


def test_refusing_a_load_touches_nothing(monkeypatch, contents):
    request = load_request({"jax": np.zeros(3)})
    plan_load(request, contents).failure()
    with watched(monkeypatch) as seen:
        made = plan_load(request, contents)
    assert seen == []
    made.failure()


@pytest.mark.parametrize(
    ("does", "seen_as"),
    [
        (lambda: open("/dev/null").close(), "open"),
        (lambda: time.time_ns(), "time.time_ns"),
        (lambda: threading.Thread(target=print).start(), "Thread.start"),
        (lambda: jax.device_put(np.zeros(2)), "jax.device_put"),
        (lambda: __import__("os").listdir("/"), "os.listdir"),
        (lambda: secrets.token_hex(4), "random"),
    ],
    ids=["file", "clock", "thread", "device", "directory", "chance"],
)
def test_the_watch_sees_what_it_watches_for(monkeypatch, does, seen_as):
    with watched(monkeypatch) as seen, contextlib.suppress(AssertionError):
        does()
    assert seen_as in seen


def test_the_watch_refuses_transfers(monkeypatch):
    one = jnp.ones(3)
    one + np.ones(3, np.float32)
    with watched(monkeypatch), pytest.raises(Exception, match="[Dd]isallowed"):
        one + np.ones(3, np.float32)
