"""Writes a golden checkpoint with the code as it is: ``python -m tests.golden v2``."""

from __future__ import annotations

import sys
from pathlib import Path

import sealwax
from sealwax.effect_handlers import memory
from tests.golden.states import CUSTOM_METADATA, HERE, STATES


def main(name: str) -> None:
    # It holds the path at which it was written, and where this was is nobody's business.
    with memory() as files:
        sealwax.save(f"/{name}", STATES[name](), custom_metadata=CUSTOM_METADATA)
    write(HERE / name, files.tree(f"/{name}"))


def write(path: Path, tree: object) -> None:
    if isinstance(tree, bytes):
        path.write_bytes(tree)
        return
    path.mkdir()
    assert isinstance(tree, dict)
    for name, below in tree.items():
        write(path / name, below)


if __name__ == "__main__":
    main(*sys.argv[1:])
