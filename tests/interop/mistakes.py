"""Mistakes that users make: the rows of sections 1 to 6 of the catalogue that concern the verbs.

Each mistake is made with the module that it is given, so that the same one can be made with
sealwax and with Orbax.
"""

from __future__ import annotations

import dataclasses
import decimal
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sealwax import errors

STATE = {"a": np.arange(3.0), "j": jnp.ones((2, 3)), "i": 7, "s": "text"}
Make = Callable[[Any, Path], object]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mistake:
    """One mistake and the error that it deserves.

    Attributes:
      title: What is done wrong.
      make: Does it, with a module and in an empty directory.
      raises: The error and the builtin that it also is.
      leaf: The leaf that the error names.
      path: The path that the error names, below the directory.
    """

    title: str
    make: Make
    raises: tuple[type[BaseException], ...]
    leaf: str | None = None
    path: str | None = None


MISTAKES: list[Mistake] = []


def mistake(
    title: str, *raises: type[BaseException], leaf: str | None = None, path: str | None = None
) -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        MISTAKES.append(Mistake(title=title, make=make, raises=raises, leaf=leaf, path=path))
        return make

    return register


# ---------------------------------------------------------------- 1. paths

_EXISTS = (errors.CheckpointExistsError, FileExistsError, ValueError)
_LAYOUT = (errors.InvalidLayoutError, ValueError)
_PATH = (errors.InvalidPathError, ValueError)
_NOWHERE = (errors.CheckpointNotFoundError, FileNotFoundError)


@mistake("save to ''", *_PATH)
def _(ocp: Any, here: Path) -> object:
    return ocp.save("", STATE)


@mistake("save over a checkpoint", *_EXISTS, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "ckpt", STATE)
    return ocp.save(here / "ckpt", STATE)


@mistake("save to an empty directory", *_EXISTS, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    (here / "ckpt").mkdir()
    return ocp.save(here / "ckpt", STATE)


@mistake("overwrite=True on a plain file", *_EXISTS, path="file")
def _(ocp: Any, here: Path) -> object:
    (here / "file").write_text("precious")
    return ocp.save(here / "file", STATE, overwrite=True)


@mistake("overwrite=True on a directory of other things", *_EXISTS, path="home")
def _(ocp: Any, here: Path) -> object:
    (here / "home").mkdir()
    (here / "home" / "thesis.tex").write_text("precious")
    return ocp.save(here / "home", STATE, overwrite=True)


@mistake("save below a regular file", *_PATH, path="file/ckpt")
def _(ocp: Any, here: Path) -> object:
    (here / "file").write_text("x")
    return ocp.save(here / "file" / "ckpt", STATE)


@mistake("save under the name of an unfinished checkpoint", *_PATH, path="x.orbax-checkpoint-tmp")
def _(ocp: Any, here: Path) -> object:
    return ocp.save(here / "x.orbax-checkpoint-tmp", STATE)


@mistake("load from a path with a typing error", *_NOWHERE, path="chekpoint")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "checkpoint", STATE)
    return ocp.load(here / "chekpoint")


@mistake("load what was never saved", *_NOWHERE, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    return ocp.load(here / "ckpt")


@mistake("load while the save is under way, or was killed", *_NOWHERE, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    (here / "ckpt.orbax-checkpoint-tmp-123").mkdir()
    return ocp.load(here / "ckpt")


@mistake("load a regular file", *_LAYOUT, path="file")
def _(ocp: Any, here: Path) -> object:
    (here / "file").write_text("x")
    return ocp.load(here / "file")


@mistake("load the item instead of the checkpoint", *_LAYOUT, path="ckpt/state")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "ckpt", STATE)
    return ocp.load(here / "ckpt" / "state")


@mistake("load the root of a training run", *_LAYOUT, path="run")
def _(ocp: Any, here: Path) -> object:
    for step in (1, 2, 10):
        ocp.save(here / "run" / str(step), STATE)
    return ocp.load(here / "run")


@mistake("load a random directory", *_LAYOUT, path="dir")
def _(ocp: Any, here: Path) -> object:
    (here / "dir").mkdir()
    (here / "dir" / "notes.txt").write_text("x")
    return ocp.load(here / "dir")


@mistake("load an empty directory", *_LAYOUT, path="dir")
def _(ocp: Any, here: Path) -> object:
    (here / "dir").mkdir()
    return ocp.load(here / "dir")


@mistake("is_orbax_checkpoint(None)", *_PATH)
def _(ocp: Any, here: Path) -> object:
    return ocp.is_orbax_checkpoint(None)


# ---------------------------------------------------------------- 2. names and metadata


def _item(name: Any) -> Make:
    return lambda ocp, here: ocp.save(here / "ckpt", STATE, checkpointable_name=name)


for _name in ("../x", "..", "a/b", "", 1, None, "metrics", "AUTO", "_CHECKPOINT_METADATA"):
    mistake(f"item named {_name!r}", *_PATH, path="ckpt")(_item(_name))

_METADATA = (errors.InvalidMetadataError, TypeError, ValueError)


def _custom(metadata: Any) -> Make:
    return lambda ocp, here: ocp.save(here / "ckpt", STATE, custom_metadata=metadata)


mistake("custom_metadata with an np.float32", *_METADATA, path="ckpt")(
    _custom({"loss": np.float32(1)})
)
mistake("custom_metadata with an object", *_METADATA, path="ckpt")(_custom({"model": object()}))
mistake("custom_metadata a list", *_METADATA, path="ckpt")(_custom([1, 2]))
mistake("custom_metadata with integer keys", *_METADATA, path="ckpt")(_custom({1: 2}))

# ---------------------------------------------------------------- 3. leaves

_LEAF = (errors.UnsupportedLeafError, TypeError, ValueError)


def _leaf(value: Any) -> Make:
    return lambda ocp, here: ocp.save(here / "ckpt", {"net": [1, {"x": value}]})


_LEAVES: dict[str, Any] = {
    "an arbitrary object": object(),
    "a set": {1, 2},
    "a decimal": decimal.Decimal("1.5"),
    "a function": print,
    "the placeholder": ...,
    "an array of strings": np.array(["a"]),
    "an array of objects": np.array([None]),
    "an array of dates": np.array(["2024-01-31"], "M8[D]"),
    "a structured array": np.zeros(2, [("f", "f4"), ("i", "i4")]),
    "a masked array": np.ma.masked_array([1, 2], [True, False]),
    "a longdouble": np.longdouble(1),
    "a ShapeDtypeStruct": jax.ShapeDtypeStruct((2,), jnp.float32),
    "a text with half a surrogate pair": "\ud800",
}
for _title, _value in _LEAVES.items():
    mistake(f"save {_title}", *_LEAF, leaf="net.1.x", path="ckpt")(_leaf(_value))


@mistake("save a deleted array", *_LEAF, leaf="w", path="ckpt")
def _(ocp: Any, here: Path) -> object:
    array = jnp.ones(3)
    array.delete()
    return ocp.save(here / "ckpt", {"w": array})


@mistake("save inside jit", *_LEAF, leaf="w", path="ckpt")
def _(ocp: Any, here: Path) -> object:
    return jax.jit(lambda w: ocp.save(here / "ckpt", {"w": w}))(1.0)


@mistake(
    "keys 'a.b' and 'a' -> 'b'", errors.NameCollisionError, ValueError, leaf="a.b", path="ckpt"
)
def _(ocp: Any, here: Path) -> object:
    return ocp.save(here / "ckpt", {"a.b": np.ones(2), "a": {"b": np.zeros(2)}})


@mistake("a dict that holds itself", *_LEAF, leaf="a.b", path="ckpt")
def _(ocp: Any, here: Path) -> object:
    inner: dict[str, Any] = {}
    inner["a"] = {"b": inner}
    return ocp.save(here / "ckpt", inner)


@mistake("keys that have no order", *_LEAF, leaf="d", path="ckpt")
def _(ocp: Any, here: Path) -> object:
    return ocp.save(here / "ckpt", {"d": {1: 1, "a": 2}})


# ---------------------------------------------------------------- 4. templates

_TREE = (errors.TreeMismatchError, ValueError)
_FIT = (errors.LeafMismatchError, ValueError)


def _template(saved: Any, template: Any) -> Make:
    def make(ocp: Any, here: Path) -> object:
        ocp.save(here / "ckpt", saved)
        return ocp.load(here / "ckpt", template)

    return make


def _struct(*shape: int, dtype: Any = jnp.float32, sharding: Any = None) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


_W = {"w": jnp.ones((8, 4)), "b": np.ones(3)}
_TREES: dict[str, tuple[Any, Any]] = {
    "a list for a dict": ({"l": {"a": 1}}, {"l": [int]}),
    "a list that is too short": ({"l": [1, 2, 3]}, {"l": [int, int]}),
    "a misspelt key": ({"kernel": 1, "bias": 2}, {"kernal": int, "bias": int}),
    "missing and unexpected leaves": ({"a": 1, "b": {"c": 2, "d": 3}}, {"a": int, "e": int}),
    "None for a leaf": ({"a": 1, "b": 2}, {"a": int, "b": None}),
    "the placeholder for a key that is not there": ({"a": 1}, {"a": int, "b": ...}),
    "a leaf for a container": ({"a": {"b": 1}}, {"a": int}),
}
for _title, (_saved, _wanted) in _TREES.items():
    mistake(f"template: {_title}", *_TREE, path="ckpt")(_template(_saved, _wanted))


def _part(saved: Any, template: Any) -> Make:
    def make(ocp: Any, here: Path) -> object:
        ocp.save(here / "ckpt", saved)
        context = ocp.Context()
        context.pytree.loading.partial_load = True
        with context:
            return ocp.load(here / "ckpt", template)

    return make


_PARTS: dict[str, tuple[Any, Any]] = {
    "a misspelt key": ({"kernel": 1, "bias": 2}, {"kernal": int}),
    "the beginning of a list": ({"l": [1, 2, 3]}, {"l": [int, int]}),
}
for _title, (_saved, _wanted) in _PARTS.items():
    mistake(f"partial_load: {_title}", *_TREE, path="ckpt")(_part(_saved, _wanted))

_LEAF_TEMPLATES: dict[str, tuple[Any, Any]] = {
    "another shape": (_W, {"w": _struct(4, 8), "b": np.ones(3)}),
    "another shape of a NumPy array": (_W, {"w": np.ones((4, 8), np.float32), "b": np.ones(3)}),
    "another rank": (_W, {"w": _struct(32), "b": np.ones(3)}),
    "float to int": (_W, {"w": _struct(8, 4, dtype=jnp.int32), "b": np.ones(3)}),
    "float to bool": (_W, {"w": np.ones((8, 4), bool), "b": np.ones(3)}),
    "2.5 as an int": ({"w": 2.5}, {"w": int}),
    "300 as an int8": ({"w": 300}, {"w": np.int8}),
    "int64 without x64": ({"w": np.arange(3)}, {"w": jax.Array}),
    "an int for a string": ({"w": "text"}, {"w": int}),
    "a string for an int": ({"w": 3}, {"w": str}),
    "a float for an array": (_W, {"w": float, "b": np.ones(3)}),
    "an array for typed keys": ({"w": jax.random.key(0)}, {"w": _struct(3, dtype=jnp.uint32)}),
    "typed keys for an array": (_W, {"w": jax.random.key(0), "b": np.ones(3)}),
    "keys of another kind": (
        {"w": jax.random.key(0)},
        {"w": jax.random.key(0, impl="rbg")},
    ),
    "a sharding that does not divide": (
        _W,
        {
            "w": _struct(
                8,
                4,
                sharding=NamedSharding(
                    Mesh(np.array(jax.devices()[:3]), ("x",)), PartitionSpec("x")
                ),
            ),
            "b": np.ones(3),
        },
    ),
    "a sharding on an abstract mesh": (
        _W,
        {
            "w": _struct(
                8,
                4,
                sharding=NamedSharding(
                    Mesh(np.array(jax.devices()), ("x",)).abstract_mesh, PartitionSpec("x")
                ),
            ),
            "b": np.ones(3),
        },
    ),
}
for _title, (_saved, _wanted) in _LEAF_TEMPLATES.items():
    mistake(f"template: {_title}", *_FIT, leaf="w", path="ckpt")(_template(_saved, _wanted))

for _title, _value in {"an object": object(), "a function": print}.items():
    mistake(f"template: {_title}", *_LEAF, leaf="a", path="ckpt")(
        _template({"a": 1}, {"a": _value})
    )


_MANY = {"w": np.ones((2, 3)), "b": np.ones(3), "n": 2.5}
mistake("template: several leaves that do not fit", *_FIT, path="ckpt")(
    _template(_MANY, {"w": np.ones((3, 2)), "b": np.ones(3, np.int64), "n": int})
)


@mistake("an item that is not there", *_LAYOUT, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "ckpt", STATE, checkpointable_name="params")
    return ocp.load(here / "ckpt", checkpointable_name="parms")


@mistake("a list where a dict of items should be", errors.InvalidCheckpointableError, TypeError)
def _(ocp: Any, here: Path) -> object:
    return ocp.save_checkpointables(here / "ckpt", [STATE])


@mistake("an item that is None", errors.InvalidCheckpointableError, ValueError)
def _(ocp: Any, here: Path) -> object:
    return ocp.save_checkpointables(here / "ckpt", {"state": STATE, "iterator": None})


@mistake("items of which one is not there", *_LAYOUT, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "ckpt", STATE)
    return ocp.load_checkpointables(here / "ckpt", {"state": None, "sate": None})


@mistake("items of a checkpoint that has none", *_LAYOUT, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "whole", STATE)
    (here / "whole" / "state").rename(here / "ckpt")
    return ocp.load_checkpointables(here / "ckpt")


@mistake("load an item named 1", *_PATH, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "ckpt", STATE)
    return ocp.load(here / "ckpt", checkpointable_name=1)


@mistake("no item for a checkpoint that has items", *_LAYOUT, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "ckpt", STATE)
    return ocp.load(here / "ckpt", checkpointable_name=None)


# ---------------------------------------------------------------- deleting


@mistake("delete what is not there", *_NOWHERE, path="chekpoint")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "checkpoint", STATE)
    return ocp.delete(here / "chekpoint")


@mistake("delete a random directory", *_LAYOUT, path="home")
def _(ocp: Any, here: Path) -> object:
    (here / "home").mkdir()
    (here / "home" / "thesis.tex").write_text("precious")
    return ocp.delete(here / "home")


@mistake("delete the root of a training run", *_LAYOUT, path="run")
def _(ocp: Any, here: Path) -> object:
    for step in ("1", "2", "10"):
        ocp.save(here / "run" / step, STATE)
    return ocp.delete(here / "run")


@mistake("delete the item instead of the checkpoint", *_LAYOUT, path="ckpt/state")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "ckpt", STATE)
    return ocp.delete(here / "ckpt" / "state")


@mistake("delete a regular file", errors.InvalidLayoutError, NotADirectoryError, path="file")
def _(ocp: Any, here: Path) -> object:
    (here / "file").write_text("x")
    return ocp.delete(here / "file")


@mistake("delete a symbolic link", *_PATH, path="link")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "ckpt", STATE)
    (here / "link").symlink_to("ckpt")
    return ocp.delete(here / "link")


@mistake("delete the last item", *_LAYOUT, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "ckpt", STATE)
    return ocp.delete(here / "ckpt", checkpointable_name="state")


@mistake("delete an item that is not there", *_NOWHERE, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "ckpt", STATE)
    return ocp.delete(here / "ckpt", checkpointable_name="opt")


@mistake("delete a checkpoint with a thesis in it", *_LAYOUT, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "ckpt", STATE)
    (here / "ckpt" / "thesis.tex").write_text("precious")
    return ocp.delete(here / "ckpt")


@mistake("load while an item's deletion is unfinished", errors.DeletionInProgressError, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "ckpt", STATE)
    _begin_deletion(here / "ckpt")
    return ocp.load(here / "ckpt", checkpointable_name="state")


@mistake("save while an item's deletion is unfinished", errors.DeletionInProgressError, path="ckpt")
def _(ocp: Any, here: Path) -> object:
    ocp.save(here / "ckpt", STATE)
    _begin_deletion(here / "ckpt")
    return ocp.save(here / "ckpt", STATE, overwrite=True)


def _begin_deletion(path: Path) -> None:
    metadata = json.loads((path / "_CHECKPOINT_METADATA").read_bytes())
    record = {
        "checkpointable_name": "state",
        "destination": None,
        "operation_id": "0" * 32,
        "original_metadata": metadata,
        "updated_metadata": metadata | {"item_handlers": {}},
    }
    (path / "_CHECKPOINT_DELETION").write_text(json.dumps(record))
