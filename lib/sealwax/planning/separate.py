"""One directory per leaf: which names can be paths, and which would get in each other's way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from returns.result import Failure, Result, Success

from sealwax.arrays.forms import Form
from sealwax.arrays.zarr import ZarrFormat, chunk_key, metadata_key
from sealwax.errors import LeafError, NameCollisionError, SealwaxError, UnsupportedLeafError
from sealwax.layouts import manifest, orbax
from sealwax.options import ArrayOptions
from sealwax.planning.inventory import Inventory
from sealwax.planning.store import zarr_format

_TAKEN = frozenset(
    {
        orbax.TREE_METADATA,
        orbax.SHARDING,
        orbax.STRINGS,
        orbax.ARRAY_METADATAS,
        orbax.DATABASE,
        manifest.NAME,
    }
)
_COMPONENT_BYTES = 255
_PATH_BYTES = 4095
_DATABASE = "array.saving.use_ocdbt"


def check_paths(
    inventory: Inventory, saving: ArrayOptions.Saving, directory: str
) -> Result[None, SealwaxError]:
    """Refuses leaves that cannot have a directory of their own, before anything is written.

    Returns:
      Nothing; an ``UnsupportedLeafError`` for the first name that is no path below the item's
      directory, a ``NameCollisionError`` where a directory would lie where a file must be.
    """
    if saving.use_ocdbt:
        return Success(None)
    format = zarr_format(saving)
    forms = dict(zip(inventory.names, inventory.arrays, strict=True))
    above = len(directory.encode()) + 1
    for name, form in forms.items():
        problem = _unsafe(name) or _too_long(name, above, form, format)
        if problem is not None:
            return Failure(problem)
    overlap = next(_overlaps(forms, format), None)
    return Success(None) if overlap is None else Failure(overlap)


def _unsafe(name: str) -> LeafError | None:
    if not name:
        return None
    parts = name.split("/")
    reason = None
    if not {"", ".", ".."}.isdisjoint(parts):
        reason = "it has a component that is empty, '.' or '..'"
    elif "\0" in name:
        reason = "it holds a null character"
    elif "\\" in name:
        reason = "it holds a backslash, which TensorStore takes for a slash"
    elif parts[0] in _TAKEN:
        reason = f"{parts[0]!r} is a file of the checkpoint itself"
    return None if reason is None else _refused(name, reason)


def _too_long(name: str, above: int, form: Form, format: ZarrFormat) -> LeafError | None:
    last = tuple(n // c - 1 for n, c in zip(form.shape, form.chunk_shape, strict=True))
    for key in (metadata_key(name, format), chunk_key(name, last, format)):
        encoded = key.encode()
        if max(map(len, encoded.split(b"/"))) > _COMPONENT_BYTES:
            return _refused(name, f"a component has more than {_COMPONENT_BYTES} bytes")
        if above + len(encoded) > _PATH_BYTES:
            return _refused(name, f"the path would have more than {_PATH_BYTES} bytes")
    return None


def _refused(name: str, reason: str) -> UnsupportedLeafError:
    return UnsupportedLeafError(
        f"The name of a leaf cannot be a directory: {reason}",
        leaf=name,
        hint=f"Rename the key, or leave {_DATABASE!r} at True: a database holds any name.",
    )


def _overlaps(forms: Mapping[str, Form], format: ZarrFormat) -> Iterator[NameCollisionError]:
    """Leaves of which one would have a directory where another one has a file."""
    files: dict[str, frozenset[str]] = {}
    for name in forms:
        parts = name.split("/") if name else []
        for at in range(len(parts)):
            # A leaf without a name has its files beside the directories of the others.
            other = "/".join(parts[:at])
            if other not in forms:
                continue
            if other not in files:
                files[other] = frozenset(_files(forms[other], format))
            for end in range(at + 1, len(parts) + 1):
                if "/".join(parts[at:end]) in files[other]:
                    yield NameCollisionError(
                        f"The directory of a leaf would lie where leaf {other!r} has a file",
                        leaf=name,
                        hint=f"Rename one of the keys, or leave {_DATABASE!r} at True.",
                    )


def _files(form: Form, format: ZarrFormat) -> Iterator[str]:
    yield metadata_key("", format)
    for chunks in form.chunks:
        for chunk in chunks:
            yield chunk_key("", chunk.index, format)
