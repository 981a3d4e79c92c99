"""Requests and sites to plan for: by hand, and drawn by hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from sealwax.context import Context
from sealwax.effects import Entry, Plan
from sealwax.options import Options
from sealwax.planning.inventory import take_inventory
from sealwax.planning.names import temporary
from sealwax.planning.requests import SaveRequest, Site
from sealwax.planning.save import plan_save
from sealwax.planning.tree_item import TreeItem
from sealwax.trees.flatten import flatten

PATH = "/runs/a/7"
TOKEN = "0123456789abcdef" * 2
ROOT = temporary(PATH, TOKEN)
LEFTOVER = temporary(PATH, "f" * 32)
FREE = Site(entry=None, token=TOKEN, now=1_000_000_000)
TAKEN = Site(entry=Entry.DIRECTORY, names=("_CHECKPOINT_METADATA",), token=TOKEN, now=1)


def request_for(tree: Any, options: Options | None = None, **parts: Any) -> SaveRequest:
    inventory, _ = take_inventory(flatten(tree).unwrap()).unwrap()
    options = Context().options if options is None else options
    item = TreeItem(name="state", inventory=inventory, options=options)
    return SaveRequest(path=PATH, items=(item,), options=options, **parts)


def planned(tree: Any, site: Site = FREE, options: Options | None = None, **parts: Any) -> Plan:
    return plan_save(request_for(tree, options, **parts), site).unwrap()


def virtual(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """An array of any size that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _nothing() -> None:
    pass


_BYTES = st.none() | st.integers(1, 1 << 26)
LEAVES = st.one_of(
    st.builds(
        virtual,
        st.lists(st.sampled_from([0, 1, 3, 64, 1000, 4096]), max_size=2).map(tuple),
        st.sampled_from([np.int8, np.float32, np.complex128]),
    ),
    st.integers(),
    st.text("ab/~", max_size=3),
    st.binary(max_size=3),
    st.none(),
)
TREES = st.one_of(
    LEAVES, st.dictionaries(st.text("abc", min_size=1, max_size=2), LEAVES, max_size=6)
)


@st.composite
def options(draw: st.DrawFn, durability: str | None = None) -> Options:
    change = {
        "file.durability": durability or draw(st.sampled_from(["durable", "atomic"])),
        "file.path_permission_mode": draw(st.none() | st.just(0o750)),
        "asynchronous.create_directories_asynchronously": draw(st.booleans()),
        "asynchronous.post_finalization_callback": draw(st.none() | st.just(_nothing)),
        "array.saving.use_compression": draw(st.booleans()),
        "array.saving.compression": draw(st.sampled_from(["auto", "always"])),
        "array.saving.enable_write_sharding_file": draw(st.booleans()),
        "array.saving.use_ocdbt": draw(st.booleans()),
        "array.saving.use_zarr3": draw(st.booleans()),
        "memory.write_concurrent_bytes": draw(_BYTES),
        "memory.transfer_concurrent_bytes": draw(_BYTES),
        "memory.deepcopy_host_arrays": draw(st.booleans()),
    }
    return Context().replace(change).options


@st.composite
def sites(draw: st.DrawFn) -> Site:
    if draw(st.booleans()):
        names = draw(st.sampled_from([(), ("_CHECKPOINT_METADATA", "state"), ("_SEALWAX",)]))
        missing, entry = (), Entry.DIRECTORY
    else:
        names, entry = (), None
        missing = draw(st.sampled_from([(), ("/runs/a",), ("/runs", "/runs/a")]))
    own = [LEFTOVER.rpartition("/")[2]]
    foreign = ["7.orbax-checkpoint-tmp-1", "70", f"6.orbax-checkpoint-tmp-sealwax-{TOKEN}"]
    siblings = () if missing else tuple(draw(st.sets(st.sampled_from(own + foreign))))
    return Site(
        entry=entry, names=names, missing=missing, siblings=siblings, token=TOKEN, now=10**18
    )


@st.composite
def saves(draw: st.DrawFn, durability: str | None = None) -> tuple[SaveRequest, Site]:
    site = draw(sites())
    request = request_for(
        draw(TREES),
        draw(options(durability)),
        overwrite=site.entry is not None or draw(st.booleans()),
        custom_metadata=draw(st.dictionaries(st.text("k", max_size=1), st.integers(), max_size=1)),
        background=draw(st.booleans()),
    )
    return request, site
