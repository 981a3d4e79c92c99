"""Where the values of a database lie, so that they are read from their files in pieces."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from sealwax.effects import ReadRegions
from sealwax.errors import SealwaxError
from sealwax.layouts.ocdbt_decode import decode_manifest, entries
from sealwax.layouts.ocdbt_format import MANIFEST_NAME, DataRef
from sealwax.planning.names import leads_outside
from sealwax.runtime.filesystem import LOCAL, FileSystem, Readable


class EndOfValue(ValueError):
    """A file has less than was to be read of it."""


class Value:
    """A range of an open file: ``length`` bytes from ``start`` on."""

    __slots__ = ("_file", "_start", "length")

    def __init__(self, file: Readable, start: int, length: int) -> None:
        self._file = file
        self._start = start
        self.length = length

    def take(self, nbytes: int, at: int) -> bytes:
        """At most so many bytes, from the given one on; none at the end.

        Raises:
          EndOfValue: The file ends before the value does.
        """
        wanted = min(nbytes, self.length - at)
        data = self._file.take(wanted, self._start + at) if wanted > 0 else b""
        if wanted > 0 and not data:
            raise EndOfValue
        return data

    def read_into(self, view: memoryview, at: int) -> None:
        """Fills a buffer with what is there from the given byte on; raises as ``take`` does."""
        if at + view.nbytes > self.length:
            raise EndOfValue
        while view.nbytes:
            done = self._file.read([view], self._start + at)
            if not done:
                raise EndOfValue
            at, view = at + done, view[done:]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Values:
    """The values that one operation reads: what lies where is looked up once for each database."""

    def __init__(self, files: FileSystem = LOCAL) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._known: dict[str, Mapping[bytes, DataRef]] = {}

    def open(self, effect: ReadRegions, key: str) -> Value | None:
        """The value of a key, as a range of a file; ``None`` where it is none that is known here.

        Raises:
          OSError: The file cannot be opened.
        """
        if not effect.database:
            return self._range(f"{effect.directory}/{key}", 0, None)
        ref = self._places(effect.directory).get(key.encode())
        if ref is None or leads_outside(ref.path):
            return None
        return self._range(f"{effect.directory}/{ref.path}", ref.offset, ref.length)

    def _range(self, path: str, start: int, length: int | None) -> Value | None:
        file = self._files.open(path)
        size = file.size()
        length = size if length is None else length
        if start + length <= size:
            return Value(file, start, length)
        file.close()
        return None

    def _places(self, directory: str) -> Mapping[bytes, DataRef]:
        with self._lock:
            if directory not in self._known:
                try:
                    self._known[directory] = self._look_up(directory)
                except (SealwaxError, OSError, EndOfValue):
                    # TensorStore, which reads more kinds of them, will tell what is wrong.
                    self._known[directory] = {}
            return self._known[directory]

    def _look_up(self, directory: str) -> Mapping[bytes, DataRef]:
        def read(ref: DataRef) -> bytes:
            if leads_outside(ref.path):
                raise EndOfValue
            return self._read(f"{directory}/{ref.path}", ref.offset, ref.length)

        manifest = decode_manifest(self._read(f"{directory}/{MANIFEST_NAME}", 0, None))
        # Numbered manifests lie elsewhere, and this one tells of no version then.
        found = entries(manifest.versions[-1], read) if manifest.versions else ()
        return {key: value for key, value in found if isinstance(value, DataRef)}

    def _read(self, path: str, start: int, length: int | None) -> bytes:
        value = self._range(path, start, length)
        if value is None:
            raise EndOfValue
        try:
            return value.take(value.length, 0)
        finally:
            value.close()
