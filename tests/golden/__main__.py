"""Writes a golden checkpoint with the code as it is: ``python -m tests.golden v2``."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import sealwax
from sealwax.layouts import orbax
from tests.golden.states import CUSTOM_METADATA, HERE, STATES


def main(name: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / name
        sealwax.save(made, STATES[name](), custom_metadata=CUSTOM_METADATA)
        # It has the path at which it was written, which is nobody's business.
        (made / orbax.COMMIT).write_bytes(orbax.commit(f"/{name}"))
        shutil.copytree(made, HERE / name)


if __name__ == "__main__":
    main(sys.argv[1])
