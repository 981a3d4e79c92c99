"""The names of what an operation leaves on disk, and which of them are ours to remove."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sealwax.layouts.orbax import TEMPORARY

_MARK = f"{TEMPORARY}-sealwax-"
_TOKEN = re.compile(r"[0-9a-f]{32}")


def parent(path: str) -> str:
    """The directory that holds ``path``.

    >>> parent("/runs/1"), parent("/1")
    ('/runs', '/')
    """
    return path.rpartition("/")[0] or "/"


def base(path: str) -> str:
    """The last component of ``path``.

    >>> base("/runs/1")
    '1'
    """
    return path.rpartition("/")[2]


def join(directory: str, name: str) -> str:
    """``name`` in ``directory``."""
    return f"{directory.rstrip('/')}/{name}"


def leads_outside(name: str) -> bool:
    """Whether a name, taken for a path below a directory, could lead out of it.

    >>> leads_outside("d/0"), leads_outside("../d"), leads_outside("/d")
    (False, True, True)
    """
    return name.startswith("/") or ".." in name.split("/") or "\0" in name


def temporary(path: str, token: str) -> str:
    """Where a checkpoint grows until it is sealed.

    Orbax takes it for incomplete by the first part of the suffix, and we for ours by the rest.
    """
    return f"{path}{_MARK}{token}"


def is_temporary(name: str) -> bool:
    """Whether readers will take a directory of this name for an unfinished checkpoint."""
    return TEMPORARY in name


def leftovers(path: str, siblings: Iterable[str]) -> tuple[str, ...]:
    """Those of ``siblings`` that saves of ours to ``path`` made and did not finish."""
    prefix = f"{base(path)}{_MARK}"
    return tuple(
        name for name in siblings if name.startswith(prefix) and _TOKEN.fullmatch(name, len(prefix))
    )


def unfinished(siblings: Iterable[str]) -> tuple[str, ...]:
    """Those of ``siblings`` that operations of ours have not finished yet, or never will.

    >>> unfinished(["5", f"5.orbax-checkpoint-tmp-sealwax-{'0' * 32}", "5.orbax-checkpoint-tmp"])
    ('5.orbax-checkpoint-tmp-sealwax-00000000000000000000000000000000',)
    """
    return tuple(
        name for name in siblings if _MARK in name and _TOKEN.fullmatch(name.rpartition(_MARK)[2])
    )
