"""What a handler's ``plan_save`` gives: values that say what is written for a checkpointable."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, cast

from returns.result import Failure, Result, Success

from sealwax.errors import SealwaxError
from sealwax.options import Options
from sealwax.planning.capture_tree import Captured, capture_tree
from sealwax.planning.file_names import file_names_problem
from sealwax.planning.handler_faults import guarded, nonsense
from sealwax.planning.small_items import FilesItem, HandledItem
from sealwax.trees.structure import PyTree

Content: TypeAlias = bytes | bytearray | memoryview | Callable[[], bytes]
"""What a file holds: bytes, or a pure function that makes them in the background."""

_BYTES = (bytes, bytearray, memoryview)
_EXPECTED = "bytes, or a function without arguments that returns bytes"


class Writing(Protocol):
    """What is written for a checkpointable."""

    def captured(self, name: str, typestring: str, by: str) -> Result[Captured, SealwaxError]:
        """The item that it becomes, and what the steps of it are given.

        Args:
          name: The name of the item.
          typestring: The name by which its handler is found again.
          by: The handler that planned it, for errors.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Files:
    """These files with these bytes.

    Attributes:
      contents: The content of each file, by its path below the item's directory. Bytes are those
        of now. A function is called in the background, when a ``save_async`` has returned: what
        it closes over must be what nobody changes.

    >>> Files({"words.txt": b"a b", "more/count.txt": lambda: b"2"}).contents["words.txt"]
    b'a b'
    """

    contents: Mapping[str, Content]

    def captured(self, name: str, typestring: str, by: str) -> Result[Captured, SealwaxError]:
        """The files, once their names and contents are known for such."""
        given: Any = self.contents
        if not isinstance(given, Mapping):
            return Failure(nonsense(by, "the files that it plans", "a dict by name", given))
        listed = guarded(by, "the files that it plans", dict)
        contents: dict[str, object] = listed(cast("Mapping[str, object]", given))
        problem = file_names_problem(contents)
        if problem is not None:
            return Failure(problem)
        files: dict[str, bytes | None] = {}
        later: dict[str, Callable[[], bytes]] = {}
        for file, content in contents.items():
            if callable(content):
                files[file], later[file] = None, _checked(by, file, content)
            elif isinstance(content, _BYTES):
                taken = guarded(by, f"the content of {file}", bytes)
                files[file] = taken(cast("bytes", content))
            else:
                return Failure(nonsense(by, f"the content of {file}", _EXPECTED, content))
        return Success(Captured(FilesItem(name=name, typestring=typestring, files=files), later))


def _checked(by: str, file: str, make: Callable[[], object]) -> Callable[[], bytes]:
    """A function that makes a file's content, and is held to it."""
    made = guarded(by, f"the content of {file}", make)

    def content() -> bytes:
        found = made()
        if not isinstance(found, _BYTES):
            raise nonsense(by, f"the content of {file}", "bytes", found)
        return bytes(cast("bytes", found))

    return content


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A tree, stored as ``save`` stores one.

    Attributes:
      state: The tree.
      options: The settings by which it is stored.
    """

    state: PyTree
    options: Options

    def captured(self, name: str, typestring: str, by: str) -> Result[Captured, SealwaxError]:
        """Its leaves, and where each of them is."""
        return capture_tree(name, self.state, self.options, typestring)


@dataclasses.dataclass(frozen=True, slots=True)
class Called:
    """Whatever a handler of Orbax's protocol writes when it is called.

    Attributes:
      handler: The handler.
      checkpointable: What it is to save.
    """

    handler: Any
    checkpointable: object

    def captured(self, name: str, typestring: str, by: str) -> Result[Captured, SealwaxError]:
        """The handler, and what it is to save."""
        item = HandledItem(name=name, typestring=typestring, handler=self.handler)
        return Success(Captured(item, self.checkpointable))
