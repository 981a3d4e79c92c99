"""Damaging what is stored: flipped bits, cut, missing and overwritten files."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

from sealwax.errors import OptionValueError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """One damage that is done while it is looked at.

    Attributes:
      file: The damaged file.
      what: What was done to it, such as ``bit 3 of byte 17``.
    """

    file: Path
    what: str


def corrupt(file: str | Path, *, bit: int | None = None, cut: int | None = None) -> Corruption:
    """Damages a file: flips one bit, or cuts it.

    Args:
      file: The file.
      bit: The bit to flip, counted from the start of the file; negative ones from its end.
      cut: The bytes to leave; with a negative number, so many are taken from the end.

    Raises:
      OptionValueError: Both or neither were asked for, or the file is not so long.

    >>> import sealwax as ocp
    >>> file = getfixture("tmp_path") / "file"
    >>> _ = file.write_bytes(b"abc")
    >>> ocp.testing.corrupt(file, bit=9).what, file.read_bytes()
    ('bit 1 of byte 1', b'a`c')
    >>> ocp.testing.corrupt(file, cut=-1).what, file.read_bytes()
    ('cut after 2 of 3 bytes', b'a`')
    """
    file = Path(file)
    data = bytearray(file.read_bytes())
    if (bit is None) == (cut is None):
        raise OptionValueError("One damage at a time", expected="a bit or a cut", path=file)
    if bit is not None:
        place, which = divmod(_inside(bit, 8 * len(data), file), 8)
        data[place] ^= 1 << which
        what = f"bit {which} of byte {place}"
    else:
        left = _inside(cut or 0, len(data), file)
        what = f"cut after {left} of {len(data)} bytes"
        del data[left:]
    file.write_bytes(data)
    return Corruption(file=file, what=what)


def _inside(place: int, length: int, file: Path) -> int:
    if not -length <= place < length:
        raise OptionValueError(
            "The file is not so long", expected=f"below {length}", found=str(place), path=file
        )
    return place % length


def corruptions(
    directory: str | Path, *, per_file: int = 40, seed: int = 0
) -> Iterator[Corruption]:
    """Damages each file below a directory in many ways, and mends each before the next.

    Bits are flipped, at ``per_file`` places or all if there are no more; the file is cut, made
    longer, filled with zeros, and removed.

    Args:
      directory: A checkpoint, or anything else.
      per_file: Bits to flip in each file.
      seed: Which bits those are.

    >>> import numpy as np, sealwax as ocp
    >>> path = getfixture("tmp_path") / "ckpt"
    >>> ocp.save(path, {"w": np.arange(3)})
    >>> for corruption in ocp.testing.corruptions(path, per_file=4):
    ...     try:
    ...         assert ocp.load(path)["w"].tolist() == [0, 1, 2], corruption
    ...     except (ocp.errors.CorruptionError, ocp.errors.InvalidLayoutError):
    ...         pass
    """
    root = Path(directory)
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        data = file.read_bytes()
        for what, damaged in _damages(data, per_file, random.Random(f"{seed} {file.name}")):
            try:
                if damaged is None:
                    file.unlink()
                else:
                    file.write_bytes(damaged)
                yield Corruption(file=file, what=what)
            finally:
                file.write_bytes(data)


def _damages(data: bytes, per_file: int, rng: random.Random) -> Iterator[tuple[str, bytes | None]]:
    size = len(data)
    places = range(size) if size <= per_file else sorted(rng.sample(range(size), per_file))
    for place in places:
        which = rng.randrange(8)
        changed = data[place] ^ 1 << which
        yield f"bit {which} of byte {place}", data[:place] + bytes([changed]) + data[place + 1 :]
    cuts = {0, 1, size // 2, size - 1, rng.randrange(size + 1)}
    for left in sorted(cut for cut in cuts if 0 <= cut < size):
        yield f"cut after {left} of {size} bytes", data[:left]
    yield "one byte longer", data + b"\0"
    if size:
        yield "all zeros", bytes(size)
    yield "missing", None
