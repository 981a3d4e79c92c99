"""Where a Zstandard frame ends, told from the headers of its blocks while it passes by."""

from __future__ import annotations

import zstandard

_BLOCK_HEADER_BYTES = 3
_CHECKSUM_BYTES = 4
_REPEATED = 1


class FrameEnd:
    """Follows one frame from its start.

    Attributes:
      end: Size of the frame in bytes, once the header of its last block was seen.

    >>> frame, data = FrameEnd(), zstandard.compress(bytes(1000))
    >>> frame.feed(data + b"and more")
    >>> frame.end == len(data)
    True
    """

    def __init__(self) -> None:
        self.end: int | None = None
        self._block = 0
        self._trailer = 0
        self._seen = 0
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of it; the first ones must have its whole header.

        Raises:
          ZstdError: It does not begin like a frame.
        """
        if not data:
            return
        if not self._seen:
            self._block = zstandard.frame_header_size(data)
            checked = zstandard.get_frame_parameters(data).has_checksum
            self._trailer = _CHECKSUM_BYTES if checked else 0
        start = self._seen - len(self._rest)
        self._seen += len(data)
        data = self._rest + data
        while self.end is None and self._block + _BLOCK_HEADER_BYTES <= self._seen:
            at = self._block - start
            header = int.from_bytes(data[at : at + _BLOCK_HEADER_BYTES], "little")
            last, kind, size = header & 1, header >> 1 & 3, header >> 3
            self._block += _BLOCK_HEADER_BYTES + (1 if kind == _REPEATED else size)
            if last:
                self.end = self._block + self._trailer
        self._rest = data[max(0, self._block - start) :] if self.end is None else b""
