"""Whether what a checkpoint says of its arrays can be true, before anything is read by it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from sealwax.arrays.prng import key_dtype, key_words
from sealwax.errors import CorruptionError, LeafMismatchError, SealwaxError
from sealwax.layouts import manifest, orbax

_LARGEST_FILE = 1 << 62


def count_chunks(form: manifest.Form) -> int:
    """How many chunks an array of this form has.

    Raises:
      ValueError: The chunks do not divide the array.
    """
    count = 1
    for extent, chunk in zip(form.shape, form.chunk_shape, strict=True):
        if not 0 < chunk <= extent or extent % chunk:
            raise ValueError(f"{form.chunk_shape} does not divide {form.shape}")
        count *= extent // chunk
    return count


def check_chunks(rows: Sequence[manifest.Row], counts: Sequence[int], files: int) -> None:
    """Checks that the rows of leaves say of each chunk in which of the files it lies.

    Args:
      rows: The rows.
      counts: The number of chunks of each form.
      files: The number of data files.

    Raises:
      ValueError: They do not.
      IndexError: One is of a form that there is not.
    """
    for row in rows:
        expected = 4 * counts[row.form] if row.form >= 0 else 0
        if len(row.chunks) != expected:
            raise ValueError(f"{len(row.chunks)} numbers for the chunks, not {expected}")
    # Four for each chunk, so that every fourth of all of them is the number of a file.
    numbers = list(itertools.chain.from_iterable([row.chunks for row in rows]))
    if min(numbers, default=0) < 0 or max(numbers, default=0) > _LARGEST_FILE:
        raise ValueError("a chunk that lies or ends where no file can be")
    if max(numbers[3::4], default=0) >> 32:
        raise ValueError("a checksum of more than 32 bits")
    if max(numbers[::4], default=-1) >= files:
        raise ValueError(f"a chunk in a file that is none of {files}")


def wrong_keys(
    impl: str | None, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> SealwaxError | None:
    """Why an array is not the data of typed keys of this implementation, if it is not."""
    if impl is None:
        return None
    try:
        words = key_words(key_dtype(impl))
    except ValueError:
        return LeafMismatchError(
            "JAX does not know this kind of typed PRNG keys",
            expected="an implementation that this version of JAX has",
            found=repr(impl),
            hint="Load them where JAX has it, or skip the leaf with ... in a template.",
        )
    if dtype != np.uint32 or shape[-len(words) :] != words:
        return CorruptionError(
            "The array is not the data of typed PRNG keys",
            expected=f"uint32 of a shape that ends in {words}",
            found=f"{dtype} of shape {shape}",
            hint=orbax.DAMAGED,
        )
    return None
