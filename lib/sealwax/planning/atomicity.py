"""Which of the two ways a checkpoint becomes complete: by a rename, or by a file written last."""

from __future__ import annotations

import re

from sealwax.options import AtomicityMode, AtomicityOptions

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def in_place(options: AtomicityOptions, path: str) -> bool:
    """Whether a checkpoint at ``path`` is written in place, and complete with its commit file.

    Left to itself, that is so where there are only objects, and no directory could be renamed.

    >>> auto = AtomicityOptions()
    >>> in_place(auto, "/runs/1"), in_place(auto, "file:///runs/1"), in_place(auto, "gs://runs/1")
    (False, False, True)
    """
    match options.mode:
        case AtomicityMode.ATOMIC_RENAME:
            return False
        case AtomicityMode.COMMIT_FILE:
            return True
        case AtomicityMode.AUTO:
            scheme = _SCHEME.match(path)
            return scheme is not None and scheme[0].lower() != "file://"


def needs_commit(options: AtomicityOptions, path: str) -> bool:
    """Whether whoever reads takes a checkpoint without a commit file for incomplete."""
    return in_place(options, path) and not options.allow_legacy_atomic_rename
