"""What there is to save: the leaves of a tree, sorted by where they will be stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from returns.result import Failure, Result, Success

from sealwax.arrays.forms import Form, Source
from sealwax.arrays.leafforms import Placement, inline_record, placement
from sealwax.arrays.leafkinds import LeafKind, classify
from sealwax.errors import OptionError, SealwaxError, UnsupportedLeafError
from sealwax.layouts import orbax
from sealwax.layouts.manifest import Composite
from sealwax.options import DEFAULTS, ArrayOptions, MemoryOptions
from sealwax.planning.cutter import CHUNK_BYTES, Cutter
from sealwax.planning.priorities import NO_TRANSFERS, Transfers, transfers
from sealwax.trees.flatten import Flat, forget
from sealwax.trees.structure import EmptyKind


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inventory:
    """The leaves of a tree and where each will be stored.

    Attributes:
      flat: The tree's leaves and structure.
      names: The names of the arrays.
      kinds: The kind of every leaf; ``EMPTY_NODE`` for what the structure says by itself.
      array_of: For every leaf, the number of its array, or -1.
      arrays: The forms of the arrays, in the order of the leaves.
      inline: Records of leaves that only the manifest holds, by number of the leaf.
      strings: The document in which Orbax keeps string leaves.
      transfers: When each array is brought to the host.
      composites: Which leaves are parts of others, that were taken apart.
    """

    flat: Flat
    names: tuple[str, ...]
    kinds: tuple[LeafKind, ...]
    array_of: tuple[int, ...]
    arrays: tuple[Form, ...]
    inline: dict[int, Any]
    strings: dict[str, Any]
    transfers: Transfers = NO_TRANSFERS
    composites: tuple[Composite, ...] = ()


def take_inventory(
    flat: Flat,
    saving: ArrayOptions.Saving = DEFAULTS.array.saving,
    memory: MemoryOptions = DEFAULTS.memory,
    *,
    key_paths: Sequence[tuple[object, ...]] = (),
    chunk_bytes: int = CHUNK_BYTES,
) -> Result[tuple[Inventory, tuple[Source, ...]], SealwaxError]:
    """Sorts leaves by where they go, and cuts the arrays among them.

    Args:
      flat: The leaves.
      saving: How arrays are to be stored.
      memory: When they are to be brought to the host.
      key_paths: JAX's key path of every leaf, where the settings ask something about each.
      chunk_bytes: The most bytes of a chunk where the settings ask for nothing else.

    Returns:
      The inventory, and for each of its arrays the data; a ``LeafError`` for the first leaf that
      cannot be stored, an ``OptionError`` for the first that cannot be stored as the settings ask.
    """
    try:
        return _take_inventory(flat, Cutter(saving, key_paths, chunk_bytes), memory, key_paths)
    except OptionError as error:
        return Failure(error)


def _take_inventory(
    flat: Flat, cutter: Cutter, memory: MemoryOptions, key_paths: Sequence[tuple[object, ...]]
) -> Result[tuple[Inventory, tuple[Source, ...]], SealwaxError]:
    kinds: list[LeafKind] = []
    array_of: list[int] = []
    sources: list[Source] = []
    inline: dict[int, Any] = {}
    strings: dict[str, Any] = {}
    unwritable = _unwritable(flat)
    if unwritable is not None:
        return Failure(unwritable)
    for number, leaf in enumerate(flat.leaves):
        value: Any = leaf.value
        if isinstance(value, EmptyKind):
            kinds.append(LeafKind.EMPTY_NODE)
            array_of.append(-1)
            continue
        alike = cutter.alike(value)
        if alike is not None:
            kinds.append(LeafKind.JAX_ARRAY)
            array_of.append(len(sources))
            sources.append(Source(value, alike))
            continue
        verdict = classify(value)
        if isinstance(verdict, Failure):
            return Failure(verdict.failure().located(leaf=leaf.name))
        kind = verdict.unwrap()
        kinds.append(kind)
        if kind is LeafKind.JAX_ARRAY:
            array_of.append(len(sources))
            sources.append(cutter.cut(number, leaf, kind))
            continue
        match placement(kind, value):
            case Placement.ARRAY:
                array_of.append(len(sources))
                sources.append(cutter.cut(number, leaf, kind))
                continue
            case Placement.STRING if orbax.place_string(strings, leaf.name, str(value)):
                inline[number] = str(value)
            case Placement.STRING:
                inline[number] = {"hidden": str(value)}
            case Placement.INLINE | Placement.STRUCTURE:
                inline[number] = inline_record(value)
        array_of.append(-1)
    forms = tuple([source.form for source in sources])
    stored = [number for number, array in enumerate(array_of) if array >= 0]
    own_paths = [key_paths[number] for number in stored] if key_paths else []
    inventory = Inventory(
        flat=forget(flat),
        names=tuple([flat.leaves[number].name for number in stored]),
        kinds=tuple(kinds),
        array_of=tuple(array_of),
        arrays=forms,
        inline=inline,
        strings=strings,
        transfers=transfers(memory, own_paths, forms),
    )
    return Success((inventory, tuple(sources)))


def _unwritable(flat: Flat) -> UnsupportedLeafError | None:
    """The error for the first leaf whose name or text is not Unicode that a file can hold."""
    texts = [leaf.name for leaf in flat.leaves]
    texts += [leaf.value for leaf in flat.leaves if isinstance(leaf.value, str)]
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        pass
    else:
        return None
    for leaf in flat.leaves:
        for what, text in (("The name", leaf.name), ("The text", leaf.value)):
            if isinstance(text, str) and text.encode(errors="replace").decode() != text:
                return UnsupportedLeafError(
                    f"{what} of a leaf holds half a surrogate pair, which no file can hold",
                    leaf=leaf.name,
                    found=ascii(text),
                    hint="Save `text.encode(errors='surrogatepass')`, which is bytes.",
                )
    return None
